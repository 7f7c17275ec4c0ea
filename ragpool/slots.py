"""Reading a value out of evidence: one short answer to a look-up or a question, verbatim in what was shown.

The reader sees distilled sentences with the titles of their passages and says "none" when they do not tell.
What it says is checked: a value that does not stand in the context is no value.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from ragpool import prompts
from ragpool.distil import folded_words
from ragpool.plan import adapter_folder, reply_usage
from ragpool.types import Triple, Usage
from ragpool.values import parse_date

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel

    from ragpool.kvcache import KVChoice
    from ragpool.models import LocalModel
    from ragpool.models.spans import SpanModel

READ_PROMPT_VERSION = "1"
"""Goes up when the prompt changes; an adapter names the version it was trained for."""

MAX_NEW_TOKENS = 32
NONE = "none"
PROMPTED_CONFIDENCE = 0.8  # a chat model gives no probability; its verified value counts as likely

Context = tuple[str, str]

_DATES = re.compile(
    r"(?:\d{1,2}(?:st|nd|rd|th)? (?:of )?[A-Z][a-z]+,? \d{3,4}|[A-Z][a-z]+ \d{1,2}(?:st|nd|rd|th)?,? \d{3,4}"
    r"|[A-Z][a-z]+,? \d{4}|\b\d{4}\b)"
)


@dataclass(frozen=True, slots=True)
class Reading:
    """What the evidence says: ``value`` is None when it does not. ``confidence`` in [0, 1], of the value being right."""

    value: str | None
    confidence: float
    usage: Usage = field(default_factory=Usage)


def subquestion(triple: Triple) -> str:
    """A look-up as the question the reader was trained on."""
    return f"{triple.subject}, {triple.relation}?"


def reader_prompt(question: str, contexts: Sequence[Context]) -> str:
    """The prompt of the trained reader. ``contexts`` are (title, distilled text); the question stands on both sides."""
    lines = [f"[{_line(title)}] {_line(text)}" for title, text in contexts]
    return prompts.load("read").fill(question=_line(question), context="\n".join(lines))


def parse_reading(text: str) -> str | None:
    """The value in a completion: its first line without quotes and full stop; None for "none" or nothing."""
    line = next((line.strip() for line in text.splitlines() if line.strip()), "").strip(" \"'`")
    if line.endswith(".") and not re.search(r"\b\w\.$|\b(?:Jr|Sr|Inc|Ltd|Co|St)\.$", line):
        line = line[:-1].rstrip("\"'`")
    return None if not line or line.casefold() in (NONE, "unknown", "not stated") else line


def stands_in(value: str, contexts: Sequence[Context]) -> bool:
    """Whether the words of ``value`` occur in one context or its title, case and spacing aside, or it is yes or no."""
    wanted = folded_words(value)
    if wanted in ("yes", "no"):
        return True
    return bool(wanted) and any(
        f" {wanted} " in f" {folded_words(part)} " for context in contexts for part in context
    )


def as_written(value: str, text: str) -> str | None:
    """``value`` in the spelling of ``text``; the same date written in another order counts. None when not there."""
    if stands_in(value, [("", text)]) and value.casefold() not in ("yes", "no"):
        at = text.casefold().find(value.casefold())
        return text[at : at + len(value)] if at >= 0 else value
    date = parse_date(value)
    return (
        next((found for found in _DATES.findall(text) if parse_date(found) == date), None) if date else None
    )


class SlotReader(Protocol):
    """Reads the answer to ``query`` (a look-up or a whole question) from ``contexts``."""

    name: str

    def read(self, query: str, contexts: Sequence[Context]) -> Reading: ...


@dataclass(frozen=True, slots=True)
class Calibration:
    """Log-probability of a completion -> probability that it is right: a logistic curve fitted on the dev split."""

    slope: float = 1.0
    offset: float = 0.0

    @staticmethod
    def load(file: Path) -> Calibration:
        """The curve shipped beside an adapter; the plain one where there is no such file."""
        if not file.is_file():
            return Calibration(1.0, 0.0)
        fitted = json.loads(file.read_text(encoding="utf-8"))
        return Calibration(float(fitted["slope"]), float(fitted["offset"]))

    def __call__(self, logprob: float) -> float:
        return 1.0 / (1.0 + math.exp(-max(-30.0, min(30.0, self.slope * logprob + self.offset))))


class TrainedReader:
    """The embedded model with the reader adapter."""

    def __init__(self, model: LocalModel, folder: Path | None = None, kv: KVChoice | None = None) -> None:
        folder = folder or adapter_folder("reader")
        self._kv = kv
        self.name = f"trained@{READ_PROMPT_VERSION}"
        self._model = model
        self._calibration = Calibration.load(folder / "calibration.json")
        model.load_adapter("reader", folder)

    def read(self, query: str, contexts: Sequence[Context]) -> Reading:
        if not contexts:
            return Reading(None, 0.0)
        escape = self._model.escape
        prompt = reader_prompt(escape(query), [(escape(title), escape(text)) for title, text in contexts])
        completion = self._model.complete(
            prompt, adapter="reader", max_new_tokens=MAX_NEW_TOKENS, kv=self._kv
        )
        confidence = self._calibration(completion.logprob)
        return verified(parse_reading(completion.text), confidence, contexts, completion.usage)


class SpanReader:
    """The span model: points at the value, or at nothing, in a tenth of the time of a generated reply."""

    def __init__(self, model: SpanModel, folder: Path | None = None) -> None:
        self.name = f"spans@{model.version}"
        self._model = model
        self._calibration = Calibration.load((folder or adapter_folder("spans")) / "calibration.json")

    def read(self, query: str, contexts: Sequence[Context]) -> Reading:
        if not contexts:
            return Reading(None, 0.0)
        found = self._model.read(_line(query), [(_line(title), _line(text)) for title, text in contexts])
        usage = Usage(llm_calls=1, prompt_tokens=found.tokens)
        best = found.values[0] if found.values else None
        if best is None or best.logprob <= found.none:
            return Reading(None, 0.0, usage)
        return verified(best.text, self._calibration(best.logprob), contexts, usage)


class PromptedReader:
    """Any large chat model, told to copy the value or to say none."""

    def __init__(self, chat: BaseChatModel) -> None:
        self.name = f"prompted@{prompts.load('extract').sha}"
        self._chat = chat

    def read(self, query: str, contexts: Sequence[Context]) -> Reading:
        if not contexts:
            return Reading(None, 0.0)
        shown = "\n".join(f"[{_line(title)}] {_line(text)}" for title, text in contexts)
        reply = self._chat.invoke(prompts.load("extract").fill(question=_line(query), context=shown))
        return verified(parse_reading(reply.text), PROMPTED_CONFIDENCE, contexts, reply_usage(reply))


def verified(value: str | None, confidence: float, contexts: Sequence[Context], usage: Usage) -> Reading:
    """A reading whose value stands in the context; otherwise one without a value and with confidence 0.

    A date that the model wrote in its own order becomes the context's.
    """
    if value is not None and not stands_in(value, contexts):
        value = next((found for _, text in contexts if (found := as_written(value, text))), None)
    return Reading(None, 0.0, usage) if value is None else Reading(value, confidence, usage)


def _line(text: str) -> str:
    return " ".join(text.split())
