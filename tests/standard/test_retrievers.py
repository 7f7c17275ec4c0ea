"""LangChain's own suite for retrievers, unmodified."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from fakes import HashEmbedder
from langchain_core.retrievers import BaseRetriever
from langchain_tests.integration_tests import RetrieversIntegrationTests

from ragpool.index import Index
from ragpool.retrieve import BM25Retriever, DenseRetriever, HybridRetriever
from ragpool.settings import Settings
from ragpool.types import Document


class Standard(RetrieversIntegrationTests):
    """What the three have in common; not collected by itself."""

    kind: type[BaseRetriever]
    index: Index

    @pytest.fixture(autouse=True, scope="class")
    @classmethod
    def _index(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
        folder = tmp_path_factory.mktemp("standard") / "store"
        with Index.open(folder, Settings(), write=True, create=True, embedder=HashEmbedder()) as index:
            index.add(
                [Document(str(n), f"Boat {n}", f"A boat with {n} oars and a red sail.") for n in range(6)]
            )
            cls.index = index
            yield

    @property
    def retriever_constructor(self) -> type[BaseRetriever]:
        return self.kind

    @property
    def retriever_constructor_params(self) -> dict[str, Any]:
        return {"index": self.index}

    @property
    def retriever_query_example(self) -> str:
        return "boat with a red sail"


class TestDenseRetriever(Standard):
    kind = DenseRetriever


class TestBM25Retriever(Standard):
    kind = BM25Retriever


class TestHybridRetriever(Standard):
    kind = HybridRetriever
