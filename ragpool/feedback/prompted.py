"""The prompted judge: any chat model. What does not parse is insufficient, never sufficient."""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ragpool import prompts
from ragpool.feedback.base import insufficient
from ragpool.feedback.gaps import open_gaps
from ragpool.prompts.delimiter import delimiter
from ragpool.types import Binding, Evidence, Gap, Judgement, Question, Usage

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel

MAX_GAPS = 4
MAX_GAP_LENGTH = 200

_FENCE = re.compile(r"\A```(?:json)?\s*\n(.*)\n\s*```\Z", re.DOTALL)
_THOUGHT = re.compile(r"\A\s*<think>.*?</think>", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the model said. ``missing`` are its gap items, one line each."""

    sufficient: bool
    probability: float
    missing: tuple[str, ...] = ()


def parse_verdict(reply: str) -> Verdict | None:
    """Read a reply strictly; None when it is anything but the one JSON object that was asked for.

    A code fence around the object and a leading ``<think>`` block are allowed. The object has exactly the
    keys ``sufficient`` (true or false), ``probability`` (a number from 0 to 1) and ``missing`` (a list of
    strings), each once. A reply that calls the evidence sufficient and lists something missing, be it a blank,
    contradicts itself and counts as insufficient.
    """
    text = _THOUGHT.sub("", reply, count=1).strip()
    fenced = _FENCE.match(text)
    try:
        value = json.loads(
            fenced.group(1) if fenced else text, object_pairs_hook=_unique, parse_constant=_refuse
        )
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, dict) or set(value) != {"sufficient", "probability", "missing"}:
        return None
    sufficient, probability, missing = value["sufficient"], value["probability"], value["missing"]
    if not isinstance(sufficient, bool) or isinstance(probability, bool):
        return None
    if not isinstance(probability, int | float) or not 0 <= probability <= 1:
        return None
    if not isinstance(missing, list) or not all(isinstance(item, str) for item in missing):
        return None
    items = tuple(dict.fromkeys(line for item in missing if (line := _one_line(item))))[:MAX_GAPS]
    return Verdict(sufficient and not missing, float(probability), items)


class PromptedJudge:
    """Asks ``chat`` with the prompt ``judge.md``. ``threshold`` is the probability that counts as sufficient.

    Evidence stands between two lines that carry a word which nobody can guess, so that no passage can close
    its block and speak as the prompt; it stays from round to round, so that a local model re-uses what it
    read. Errors of the chat model pass through.
    """

    def __init__(
        self,
        chat: BaseChatModel,
        *,
        threshold: float = 0.5,
        nonce: Callable[[str], str] = delimiter,
    ) -> None:
        self._chat = chat
        self._threshold = threshold
        self._nonce = nonce
        self._prompt = prompts.load("judge")

    @property
    def name(self) -> str:
        return f"prompted@{self._prompt.sha}"

    def judge(
        self, question: Question, evidence: Sequence[Evidence], bindings: Sequence[Binding] = ()
    ) -> tuple[Judgement, Usage]:
        if not evidence:
            return insufficient(question, bindings, self.name), Usage()
        message = self._chat.invoke(self._text(question, evidence))
        counted = getattr(message, "usage_metadata", None) or {}
        usage = Usage(1, counted.get("input_tokens", 0), counted.get("output_tokens", 0))
        verdict = parse_verdict(message.text)
        if verdict is None:
            return insufficient(question, bindings, self.name), usage
        sufficient = verdict.sufficient and verdict.probability >= self._threshold
        gaps = tuple(Gap(item) for item in verdict.missing)
        if not gaps and not sufficient:
            gaps = open_gaps(question, bindings)
        # A verdict of "no" with probability .9 means a sure no, whichever way the model read the field.
        probability = verdict.probability if verdict.sufficient else min(verdict.probability, 0.5)
        return Judgement(sufficient, probability, gaps, self.name, tuple(bindings)), usage

    def _text(self, question: Question, evidence: Sequence[Evidence]) -> str:
        blocks = [f"[{i}] {e.title}\n{e.text}" for i, e in enumerate(evidence, 1)]
        body = "\n\n".join(blocks)
        nonce = self._nonce(f"{question.text}\n{evidence[0].text}")
        while nonce in body:
            nonce = secrets.token_hex(8)
        return self._prompt.fill(nonce=nonce, question=" ".join(question.text.split()), evidence=body)


def _one_line(item: str) -> str:
    return " ".join(item.split())[:MAX_GAP_LENGTH].strip()


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("a key occurs twice")
    return value


def _refuse(constant: str) -> float:
    raise ValueError(f"{constant} is not JSON")
