"""What distilled sentences gain or lose against whole passages as the generator's context: F1 and tokens.

    python benchmarks/context.py [FILE...] [--split heldout] [--limit N] [--tokens N] [--quick] [--json FILE]

FILE is a data set as for `ragpool eval`, else the sample corpus. The same questions over the same index, once with
`generator.context=distilled` (of each passage its first sentence and the two that bear most on the question, with the
title) and once with `passages` (the whole text where it fits into `generator.context_tokens`, which `--tokens` sets). The
model is that of the settings; with the embedded one the closed slots answer first, and the context is what the trained
reader gets for the rest. context tokens: of what the generator was given, mean over the questions it was asked. The
difference in F1 is paired, with a 95 % interval by bootstrap over questions. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
from collections.abc import Callable, Generator, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

from ragpool import RagPool, Settings
from ragpool.closing import Read
from ragpool.evaluate import Outcome, evaluate
from ragpool.generate import Generator as Writer
from ragpool.pipeline import Steps
from ragpool.types import Draft, Evidence, Judgement, Question, Usage

CORPUS = Path(__file__).parent.parent / "corpora" / "zembrissa"
FORMS = ("distilled", "passages")


class Counted:
    """A generator that leaves in ``tokens`` how much context it was given, call by call."""

    def __init__(self, inner: Writer, count: Callable[[str], int], tokens: list[int]) -> None:
        self.name, self.appends = inner.name, inner.appends
        self._inner, self._count, self._tokens = inner, count, tokens

    def generate(
        self, question: Question, context: Sequence[Evidence], judgement: Judgement, read: Read
    ) -> Generator[str, None, tuple[Draft, Usage]]:
        self._tokens.append(sum(self._count(f"{e.title} {' '.join(e.sentences)}") for e in context))
        return (yield from self._inner.generate(question, context, judgement, read))


class Counting(RagPool):
    """An open store whose generator is counted."""

    def __init__(self, rag: RagPool, tokens: list[int]) -> None:
        self.__dict__.update(rag.__dict__)
        self._tokens = tokens

    @property
    def steps(self) -> Steps:
        steps = super().steps
        return replace(steps, generator=Counted(steps.generator, steps.count_tokens, self._tokens))


def measure(
    form: str, files: Sequence[Path], split: str, limit: int | None, budget: int | None
) -> tuple[list[Outcome], list[int]]:
    """The outcomes of all questions with one form of context, and the context tokens of each call."""
    settings = Settings.load()
    changed: dict[str, Any] = {"context": form} | ({} if budget is None else {"context_tokens": budget})
    settings = settings.model_copy(update={"generator": settings.generator.model_copy(update=changed)})
    tokens: list[int] = []

    def opened(place: Path, chosen: Settings) -> RagPool:
        return Counting(RagPool.open(place, create=True, settings=chosen), tokens)

    outcomes: list[Outcome] = []
    for file in files:
        with tempfile.TemporaryDirectory() as folder:
            found = evaluate(
                file, Path(folder), settings, methods=("ragpool",), split=split, limit=limit, open_rag=opened
            )
        outcomes += found.outcomes["ragpool"]
    return outcomes, tokens


def figures(outcomes: Sequence[Outcome], tokens: Sequence[int]) -> dict[str, float]:
    asked = [o for o in outcomes if o.answerable]
    rest = [o for o in outcomes if not o.answerable]
    found = {
        "questions": len(asked),
        "em": round(fmean(o.em for o in asked), 3),
        "f1": round(fmean(o.f1 for o in asked), 3),
        "answered": round(fmean(not o.abstained for o in asked), 3),
        "context_tokens": round(fmean(tokens)) if tokens else 0,
        "tokens_a_question": round(fmean(o.answer.usage.tokens for o in outcomes)),
    }
    return found | ({"refused_rightly": round(fmean(o.f1 for o in rest), 3)} if rest else {})


def difference(one: Sequence[Outcome], other: Sequence[Outcome]) -> dict[str, Any]:
    """F1 of ``one`` less that of ``other``, question by question."""
    gained = [a.f1 - b.f1 for a, b in zip(one, other, strict=True) if a.answerable]
    picker = random.Random(0)
    drawn = sorted(fmean(picker.choices(gained, k=len(gained))) for _ in range(2000))
    return {
        "f1": round(fmean(gained), 4),
        "low": round(drawn[50], 4),
        "high": round(drawn[-51], 4),
        "better": sum(g > 0 for g in gained),
        "worse": sum(g < 0 for g in gained),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("files", type=Path, nargs="*")
    parser.add_argument("--split", help="all, heldout or train; heldout where files are given, else all")
    parser.add_argument("--limit", type=int)
    parser.add_argument("--tokens", type=int, help="generator.context_tokens")
    parser.add_argument("--quick", action="store_true", help="four questions of the sample corpus")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    files = options.files or [CORPUS / "questions.jsonl"]
    split = options.split or ("heldout" if options.files else "all")
    limit = options.limit
    if options.quick:
        files, split, limit = [CORPUS / "questions.jsonl"], "all", 4
    measured = {form: measure(form, files, split, limit, options.tokens) for form in FORMS}
    result: dict[str, Any] = {form: figures(*found) for form, found in measured.items()}
    print("| context | " + " | ".join(result[FORMS[0]]) + " |")
    print("|---" * (len(result[FORMS[0]]) + 1) + "|")
    for form in FORMS:
        print(f"| {form} | " + " | ".join(f"{v:g}" for v in result[form].values()) + " |")
    result["distilled_less_passages"] = difference(*(measured[form][0] for form in FORMS))
    text = json.dumps(result)
    if options.json:
        options.json.write_text(text + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
