"""Reading a value out of evidence: one short answer to a look-up or a question, verbatim in what was shown.

The reader sees distilled sentences with the titles of their passages and says "none" when they do not tell.
What it says is checked: a value that does not stand in the context is no value.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from ragpool import prompts
from ragpool.distil import folded_words
from ragpool.errors import ModelError
from ragpool.plan import reply_usage
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
TOLD, SUPPOSED = 0.5, 0.001
PROMPTED_CONFIDENCE = 0.8  # a chat model gives no probability; its verified value counts as likely

_PROPOSED = 3  # values of the span model that the adapter weighs at most
_BEHIND = 4.0  # and how far behind its likeliest they may be, in nats

Context = tuple[str, str]

_DATES = re.compile(
    r"(?:\d{1,2}(?:st|nd|rd|th)? (?:of )?[A-Z][a-z]+,? \d{3,4}|[A-Z][a-z]+ \d{1,2}(?:st|nd|rd|th)?,? \d{3,4}"
    r"|[A-Z][a-z]+,? \d{4}|\b\d{4}\b)"
)


@dataclass(frozen=True, slots=True)
class Reading:
    """What the evidence says: ``value`` is None when it does not. ``confidence`` in [0, 1], of the value being right;
    ``told`` in [0, 1], of anything being told, right or not: under TOLD the value is a supposition, under SUPPOSED there is none."""

    value: str | None
    confidence: float
    usage: Usage = field(default_factory=Usage)
    told: float = 1.0


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
        found = re.search(rf"(?<!\w){re.escape(value)}(?!\w)", text, re.IGNORECASE)
        return found.group() if found else value
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
    """Log-probability -> probability that it is right: a logistic curve fitted on the dev split."""

    slope: float = 1.0
    offset: float = 0.0

    def __call__(self, logprob: float) -> float:
        return 1.0 / (1.0 + math.exp(-max(-30.0, min(30.0, self.slope * logprob + self.offset))))


@dataclass(frozen=True, slots=True)
class Weighing:
    """How ``PairReader`` weighs its two readers, fitted on the dev split.

    A candidate's weight is its log-probability by the span model plus ``share`` times that by the adapter. The passages
    tell an answer (probability .5) when "none" outweighs all the values together by ``doubt``: two likely values that
    differ are a reason to doubt either, but not that one is told. ``curve`` gives the confidence of the likeliest.
    """

    share: float
    doubt: float
    curve: Calibration

    def weights(self, proposed: Mapping[str, float], heard: Mapping[str, float]) -> dict[str, float]:
        """The weights of all candidates. What the span model did not propose is less likely to it than all it did."""
        floor = min(proposed.values()) - 1.0
        return {text: proposed.get(text, floor) + self.share * logprob for text, logprob in heard.items()}

    def likeliest(self, weights: Mapping[str, float]) -> tuple[str | None, float, float]:
        """(value, its log-probability, told) of the likeliest value; of "none", as None, when not even a guess is told."""
        total = log_sum(weights.values())
        values = {text: weight for text, weight in weights.items() if text != NONE}
        told = Calibration()(self.doubt + log_sum(values.values()) - weights[NONE]) if values else 0.0
        if told < SUPPOSED:
            return None, weights[NONE] - total, told
        best = max(values, key=lambda text: values[text])
        return best, values[best] - total, told

    @staticmethod
    def load(file: Path) -> Weighing:
        """The numbers shipped with the span model. Raises ModelError when they are not there."""
        try:
            fitted = json.loads(file.read_text(encoding="utf-8"))
            curve = Calibration(float(fitted["slope"]), float(fitted["offset"]))
            return Weighing(float(fitted["share"]), float(fitted["doubt"]), curve)
        except (OSError, ValueError, KeyError) as error:
            raise ModelError(
                f"{file}: no weighing of readers ({error}); 'ragpool train spans' writes one"
            ) from error


class PairReader:
    """The span model and the embedded model with the reader adapter, as one reader.

    The span model proposes; the adapter reads the passages in which a proposal stands and weighs every proposal and
    "none". The likeliest by both is the value. What one of them misreads the other often does not, so that their agreement
    tells right values from wrong ones better than the probability of either. Where nothing is told so, the adapter reads
    all passages and writes what it would say, which is weighed too.
    """

    def __init__(
        self,
        spans: SpanModel,
        model: LocalModel,
        folder: Path,
        adapter: Path,
        kv: KVChoice | None = None,
        *,
        weighing: Weighing | None = None,
    ) -> None:
        self._spans = spans
        self._model = model
        self._kv = kv
        self._weighing = weighing or Weighing.load(folder / "weighing.json")
        adapted = model.load_adapter("reader", adapter)
        fitted = hashlib.sha256(repr(self._weighing).encode()).hexdigest()[:6]
        self.name = f"pair:spans@{spans.version}+{adapted}+{fitted}+{READ_PROMPT_VERSION}"

    def read(self, query: str, contexts: Sequence[Context]) -> Reading:
        if not contexts:
            return Reading(None, 0.0)
        proposed, usage = self.proposals(query, contexts)
        heard, spent = self.heard(query, contexts, list(proposed))
        usage += spent
        best, logprob, told = self._weighing.likeliest(self._weighing.weights(proposed, heard))
        if told < TOLD or self._kv is not None:  # only what is written runs with a compressed cache
            own, spent = self.written(query, contexts)
            usage += spent
            if own is not None and folded_words(own) not in {folded_words(text) for text in proposed}:
                heard, spent = self.heard(query, contexts, [*proposed, own])
                usage += spent
                best, logprob, told = self._weighing.likeliest(self._weighing.weights(proposed, heard))
        if best is None:
            return Reading(None, 0.0, usage, told)
        return replace(verified(best, self._weighing.curve(logprob), contexts, usage), told=told)

    def proposals(self, query: str, contexts: Sequence[Context]) -> tuple[dict[str, float], Usage]:
        """Log-probabilities by the span model of the likeliest values and of "none"; and the cost."""
        shown = [(_line(title), _line(text)) for title, text in contexts]
        found = self._spans.read(_line(query), shown, _PROPOSED)
        least = max((value.logprob for value in found.values), default=0.0) - _BEHIND
        weights = {v.text: v.logprob for v in found.values if v.logprob >= least} | {NONE: found.none}
        return weights, Usage(llm_calls=1, prompt_tokens=found.tokens)

    def heard(
        self, query: str, contexts: Sequence[Context], proposed: list[str]
    ) -> tuple[dict[str, float], Usage]:
        """Log-probabilities by the adapter over the proposals, from the passages in which one stands; and the cost."""
        telling = [c for c in contexts if any(stands_in(text, [c]) for text in proposed if text != NONE)]
        prompt = self._prompt(query, telling or contexts)
        end = self._model.tokenizer.eos_token
        scores = self._model.score(prompt, [f" {text}{end}" for text in proposed], adapter="reader")
        total = log_sum(scores)
        usage = Usage(llm_calls=1, prompt_tokens=self._model.count_tokens(prompt))
        return {text: score - total for text, score in zip(proposed, scores, strict=True)}, usage

    def written(self, query: str, contexts: Sequence[Context]) -> tuple[str | None, Usage]:
        """What the adapter says of all passages by itself, where that stands in them; and the cost."""
        reply = self._model.complete(
            self._prompt(query, contexts), adapter="reader", max_new_tokens=MAX_NEW_TOKENS, kv=self._kv
        )
        return verified(parse_reading(reply.text), 1.0, contexts, reply.usage).value, reply.usage

    def _prompt(self, query: str, contexts: Sequence[Context]) -> str:
        escape = self._model.escape
        return reader_prompt(escape(query), [(escape(title), escape(text)) for title, text in contexts])


def log_sum(logs: Iterable[float]) -> float:
    """log(sum(exp(x)))."""
    values = list(logs)
    top = max(values)
    return top + math.log(sum(math.exp(value - top) for value in values))


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
