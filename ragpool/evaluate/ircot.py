"""IRCoT (arXiv 2212.10509): one sentence of reasoning, a search with it, the next sentence, and so on."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass

from ragpool import prompts
from ragpool.corpus import sentences
from ragpool.distil import fold
from ragpool.evaluate.trial import Trial
from ragpool.types import Answer, Evidence, Query, StopReason

_READ = 6  # passages that the trained reader is shown at a time, as by the generator


@dataclass(frozen=True, slots=True)
class Thought:
    """A sentence of reasoning. ``value`` is the answer that it arrives at, ``final`` says that it is the last."""

    text: str
    value: str = ""
    final: bool = False


class IRCoT:
    """A search for the question, then thoughts, each of them the next query, up to the effort's rounds.

    A chat model is prompted for its thoughts (thought.md) and ends with "the answer is". The embedded model cannot
    reason in sentences, so there a thought is *borrowed*: the sentence of the evidence that holds what the trained
    reader reads for the question, else the sentence most like the question, never the same one twice; it ends when
    two readings agree. That is kinder to the method than prompting a 135M model.

    The paper shows its reader 15 paragraphs; here they are cut to the context budget of the other methods, by
    reciprocal rank fusion over all queries. The answer is written by the generator, without the thoughts.
    """

    def answer(self, trial: Trial) -> Answer:
        retrieve = trial.settings.retrieve
        trial.search([Query(trial.question.text, "question")], retrieve.k)
        thoughts: list[Thought] = []
        reason = StopReason.MAX_ROUNDS
        for _ in range(trial.settings.preset.max_rounds):
            given = trial.pack(trial.fused())
            thought = _said(trial, given, thoughts) if trial.chat else _borrowed(trial, given, thoughts)
            if thought is None or not trial.is_new(thought.text):
                reason = StopReason.REPEATED_QUERY
                break
            thoughts.append(thought)
            if thought.final:
                reason = StopReason.SUFFICIENT
                break
            trial.search([Query(thought.text, "free")], retrieve.gap_k)
        given = trial.pack(trial.fused())
        return trial.finish(trial.draft(given), given, reason)


def _said(trial: Trial, given: Sequence[Evidence], thoughts: Sequence[Thought]) -> Thought | None:
    """The next sentence of a chat model; None when it says nothing."""
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
    """A sentence of the evidence in place of a thought; None when all of them were used."""
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
