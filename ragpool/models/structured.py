"""Decoding under a JSON schema: at each step only the tokens that keep the text valid may be chosen.

The grammar is llguidance's, which computes the set of valid tokens in well under a millisecond; the model's probabilities
decide among them.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any, cast

from ragpool.errors import MissingExtraError, SettingsError

if TYPE_CHECKING:
    import torch
    from langchain_core.language_models import BaseChatModel, LanguageModelInput
    from langchain_core.runnables import Runnable
    from transformers import PreTrainedTokenizerBase


class Grammar:
    """A tokenizer's view of schemas. ``vocabulary`` is the width of the logits, ``ends`` the tokens that may end a text.

    Raises MissingExtraError without llguidance.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, vocabulary: int, ends: Collection[int]) -> None:
        try:
            from llguidance.hf import from_tokenizer
        except ImportError as error:
            raise MissingExtraError("llguidance", "structured", "structured output") from error
        self._vocabulary = vocabulary
        self._tokenizer = from_tokenizer(cast(Any, tokenizer), n_vocab=vocabulary, eos_token=sorted(ends))
        self._compiled = lru_cache(maxsize=64)(self._compile)

    def constraint(self, schema: str) -> Constraint:
        """A fresh constraint for one text. ``schema`` is JSON Schema as JSON.

        Raises SettingsError for a schema that cannot be followed.
        """
        from llguidance import LLMatcher

        return Constraint(LLMatcher(self._tokenizer, self._compiled(schema)), self._vocabulary)

    def _compile(self, schema: str) -> str:
        from llguidance import LLMatcher

        compact: Any = {"whitespace_flexible": False}  # a small model would write blanks for ever
        try:
            grammar = str(LLMatcher.grammar_from_json_schema(schema, overrides=compact))
        except ValueError as error:
            raise SettingsError(f"the JSON schema cannot be read: {error}") from error
        if problem := LLMatcher.validate_grammar(grammar, self._tokenizer):
            raise SettingsError(f"the JSON schema cannot be followed: {problem}")
        return grammar


class Constraint:
    """Follows one text: which tokens may come next, and which one came."""

    def __init__(self, matcher: Any, vocabulary: int) -> None:
        self._matcher = matcher
        self._vocabulary = vocabulary

    def allowed(self, logprobs: torch.Tensor) -> torch.Tensor:
        """``logprobs`` [vocabulary] with minus infinity where a token would break the schema."""
        import numpy as np
        import torch

        bits = np.frombuffer(self._matcher.compute_bitmask(), np.uint8)
        valid = torch.from_numpy(np.unpackbits(bits, bitorder="little")[: self._vocabulary].astype(bool))
        return logprobs.masked_fill(~valid, -torch.inf)

    def take(self, token: int) -> None:
        """The token that was chosen."""
        self._matcher.consume_token(token)


def schema_of(response_format: Mapping[str, Any]) -> str:
    """The JSON schema of an OpenAI ``response_format``, or the schema itself, as JSON.

    Raises SettingsError for a format that is not one of JSON.
    """
    kind = response_format.get("type")
    if kind == "json_object":
        return json.dumps({"type": "object"})
    if kind == "json_schema":
        found = response_format.get("json_schema", {}).get("schema")
        if not isinstance(found, Mapping):
            raise SettingsError("response_format json_schema needs json_schema.schema, a JSON schema")
        return json.dumps(_closed(found))
    if kind == "text":
        raise SettingsError("response_format text is what comes without one; leave it out")
    return json.dumps(_closed(response_format))


def _closed(schema: Any) -> Any:
    """Objects that list their properties have no others unless the schema says so: a small model would invent them on and on."""
    if isinstance(schema, Mapping):
        inner = {key: _closed(value) for key, value in schema.items()}
        if inner.get("type") == "object" and "properties" in inner:
            inner.setdefault("additionalProperties", False)
        return inner
    return [_closed(item) for item in schema] if isinstance(schema, list) else schema


def structured(
    chat: BaseChatModel, schema: Mapping[str, Any] | type, include_raw: bool
) -> Runnable[LanguageModelInput, Any]:
    """``chat`` under ``schema``, with its replies parsed: a text that was cut short raises OutputParserException."""
    from langchain_core.exceptions import OutputParserException
    from langchain_core.messages import AIMessage
    from langchain_core.runnables import RunnableLambda, RunnableParallel
    from langchain_core.utils.function_calling import convert_to_json_schema
    from pydantic import BaseModel

    if isinstance(schema, Mapping):
        wanted = dict(schema)
    elif issubclass(schema, BaseModel):
        wanted = schema.model_json_schema()
    else:
        wanted = convert_to_json_schema(schema)
    asked = chat.bind(response_format={"type": "json_schema", "json_schema": {"schema": wanted}})

    def parse(message: AIMessage) -> Any:
        try:
            if isinstance(schema, type) and issubclass(schema, BaseModel):
                return schema.model_validate_json(message.text)
            return json.loads(message.text)
        except ValueError as error:  # pydantic's ValidationError is one
            reason = f"the reply is no {wanted.get('title', 'JSON')} (raise max_tokens if it was cut short): {error}"
            raise OutputParserException(reason, llm_output=message.text) from error

    def both(replies: dict[str, Any]) -> dict[str, Any]:
        try:
            return {**replies, "parsed": parse(replies["raw"]), "parsing_error": None}
        except OutputParserException as error:
            return {**replies, "parsed": None, "parsing_error": error}

    if include_raw:
        return RunnableParallel(raw=asked) | RunnableLambda(both)
    return asked | RunnableLambda(parse)
