"""A sentence of reasoning over the evidence so far, from whatever model there is.

A chat model is prompted for it (thought.md). The embedded model cannot reason in sentences, so there the thought is
*borrowed*: the sentence of the evidence that holds what the trained reader reads for the question, however unsure it
is, else the sentence most like the question. That is kinder to the methods that live on thoughts than prompting a
model of 135 million parameters would be.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass

from ragpool import prompts
from ragpool.corpus import sentences
from ragpool.distil import fold
from ragpool.evaluate.trial import Trial
from ragpool.types import Evidence

_READ = 6  # passages that the trained reader is shown at a time, as by the generator


@dataclass(frozen=True, slots=True)
class Thought:
    """A sentence of reasoning. ``value`` is the answer that it arrives at, ``final`` says that it is the last."""

    text: str
    value: str = ""
    final: bool = False


def think(trial: Trial, given: Sequence[Evidence], before: Sequence[Thought] = ()) -> Thought | None:
    """The next thought after those ``before``, not one of them again; None when there is none.

    It is final when a chat model writes "the answer is", and when two readings of the trained reader agree.
    """
    return _said(trial, given, before) if trial.chat else _borrowed(trial, given, before)


def _said(trial: Trial, given: Sequence[Evidence], thoughts: Sequence[Thought]) -> Thought | None:
    """The next sentence of a chat model."""
    assert trial.chat is not None
    prompt = prompts.load("thought")
    shown = [f"{e.title}: {' '.join(e.sentences)}" for e in given]
    nonce = secrets.token_hex(8)
    passages = "\n".join(f"<<<{nonce} {n}>>>\n{text}" for n, text in enumerate(shown, start=1))
    before = " ".join(t.text for t in thoughts)
    text = prompt.fill(
        nonce=nonce,
        passages=f"{passages}\n<<<{nonce} end>>>",
        question=trial.question.text,
        thoughts=before or "none",
    )
    reply = " ".join(trial.say(trial.chat, text, [prompt.sha, trial.question.text, shown, before]).split())
    found = sentences(reply)
    if not found:
        return None
    first = reply[found[0].start : found[0].end].strip()
    return Thought(first, final="answer is" in first.casefold())


def _borrowed(trial: Trial, given: Sequence[Evidence], thoughts: Sequence[Thought]) -> Thought | None:
    """A sentence of the evidence in place of a thought."""
    shown = list(given[:_READ])
    reading = trial.read(trial.question.text, [(e.title, " ".join(e.sentences)) for e in shown])
    value = fold(reading.value or "")
    if value and thoughts and thoughts[-1].value == value:
        return Thought(f"So the answer is: {reading.value}", value, final=True)
    used = {t.text for t in thoughts}
    ranked = trial.steps.distiller.rank(trial.question.text, shown)
    candidates = [
        (bool(value) and value in fold(sentence.text), sentence.score, f"{e.title}: {sentence.text}")
        for e, found in zip(shown, ranked, strict=True)
        for sentence in found
    ]
    left = [candidate for candidate in candidates if candidate[2] not in used]
    return Thought(max(left)[2], value) if left else None
