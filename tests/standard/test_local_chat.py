"""LangChain's own suites, unmodified, on LocalChat and on the embedder."""

from __future__ import annotations

from typing import Any

import pytest
from langchain_core.embeddings import Embeddings
from langchain_core.language_models import BaseChatModel
from langchain_tests.integration_tests import ChatModelIntegrationTests, EmbeddingsIntegrationTests
from langchain_tests.unit_tests import ChatModelUnitTests

from ragpool.models import LocalChat, load_embedder, local_model
from ragpool.models.langchain import LocalEmbeddings
from ragpool.settings import ModelSettings


class _Supported:
    """What LocalChat is and is not: text in, text out."""

    @property
    def chat_model_class(self) -> type[BaseChatModel]:
        return LocalChat

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {"local": local_model(ModelSettings())}  # the one that the whole session shares

    @property
    def has_tool_calling(self) -> bool:
        return False

    @property
    def has_structured_output(self) -> bool:
        # The unit suite wants function calls too, and in the other's jokes of any length the small model goes on for ever;
        # tests/test_models_structured.py has schemas that end.
        return False

    @property
    def supports_image_inputs(self) -> bool:
        return False


class TestLocalChatUnit(_Supported, ChatModelUnitTests):
    pass


@pytest.mark.model
class TestLocalChatIntegration(_Supported, ChatModelIntegrationTests):
    @property
    def standard_chat_model_params(self) -> dict[str, Any]:
        # the suite asks for stories and haikus
        return {**super().standard_chat_model_params, "max_tokens": 8}


class TestLocalEmbeddings(EmbeddingsIntegrationTests):
    @property
    def embeddings_class(self) -> type[Embeddings]:
        return LocalEmbeddings

    @property
    def embedding_model_params(self) -> dict[str, Any]:
        return {"embedder": load_embedder(ModelSettings())}
