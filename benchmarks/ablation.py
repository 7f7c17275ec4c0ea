"""What each part of the loop adds: the loop with one part taken out, on the same questions and index.

    python benchmarks/ablation.py FILE... [--split heldout] [--limit N] [--only NAME,...] [--quick] [--json FILE]

FILE is a data set as for `ragpool eval`; `--quick` takes a few questions of the sample corpus instead. The last line is one JSON
object: variant -> figures over all questions.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from unittest import mock

from ragpool import RagPool, Settings
from ragpool.corpus import load_dataset
from ragpool.evaluate import Outcome, evaluate
from ragpool.pipeline import Steps
from ragpool.plan import RulePlanner
from ragpool.refine import Refiner, TitleIndex
from ragpool.slots import Reading
from ragpool.types import Evidence, Passage, Question, Usage

CORPUS = Path(__file__).parent.parent / "corpora" / "zembrissa"


class NoPlan:
    """Every question is one without look-ups."""

    name = "none"

    def plan(self, question: str) -> tuple[Question, Usage]:
        return Question(question), Usage()


class NoReader:
    """Closes nothing."""

    name = "none"

    def read(self, question: str, contexts: Sequence[tuple[str, str]]) -> Reading:
        return Reading(None, 0.0)


def without_titles(steps: Steps) -> Steps:
    return replace(steps, refiner=Refiner(steps.distiller, TitleIndex([])))


PARTS: dict[str, Callable[[Steps], Steps]] = {
    "the loop": lambda steps: steps,
    "no trained planner (patterns only)": lambda steps: replace(steps, planner=RulePlanner()),
    "no plan": lambda steps: replace(steps, planner=NoPlan()),
    "no reader": lambda steps: replace(steps, reader=NoReader()),
    "no pages by title (bridging)": without_titles,
}
MODES = {"dense search alone": "dense", "BM25 search alone": "bm25"}
UNTITLED = "titles left out of what is searched"
PATCHES: dict[str, tuple[str, object]] = {
    "open subjects' likely pages not moved up": ("ragpool.refine.likely", lambda *_: []),
    "evidence in the order of finding": ("ragpool.pipeline.order", lambda question, bindings, found, *_: _as_found(found)),
    UNTITLED: ("ragpool.types.Passage.search_text", property(lambda self: _text(self))),
}  # fmt: skip


def _as_found(evidence: Sequence[Evidence]) -> list[Evidence]:
    return list(evidence)


def _text(passage: Passage) -> str:
    return passage.text


@contextmanager
def patched(name: str) -> Iterator[None]:
    if name not in PATCHES:
        yield
        return
    target, value = PATCHES[name]
    with mock.patch(target, value):
        yield


def indexed(files: Sequence[Path], folder: Path) -> dict[Path, Path]:
    """A store for each file, with its documents and no answers."""
    places = {file: folder / str(number) for number, file in enumerate(files)}
    for file, place in places.items():
        with RagPool.open(place, create=True, settings=Settings.load()) as rag:
            rag.index.add(load_dataset(file).documents)
    return places


def measure(name: str, stores: Mapping[Path, Path], split: str, limit: int | None) -> dict[str, float]:
    """One variant over all files, each in a copy of its store; what is searched otherwise is indexed anew."""
    settings = Settings.load()
    if name in MODES:
        settings = settings.model_copy(
            update={"retrieve": settings.retrieve.model_copy(update={"mode": MODES[name]})}
        )
    change = PARTS.get(name, PARTS["the loop"])

    def opened(place: Path, chosen: Settings) -> RagPool:
        rag = RagPool.open(place, create=True, settings=chosen)
        return Changed(rag, change)

    outcomes: list[Outcome] = []
    for file, store in stores.items():
        with tempfile.TemporaryDirectory() as folder, patched(name):
            place = Path(folder) / "store"
            if name != UNTITLED:
                shutil.copytree(store, place)
            found = evaluate(
                file, place, settings, methods=("ragpool",), split=split, limit=limit, open_rag=opened
            )
        outcomes += [o for o in found.outcomes["ragpool"] if o.answerable]
    return {
        "questions": len(outcomes),
        "all evidence@8": round(fmean(o.complete[8] for o in outcomes), 3),
        "recall@8": round(fmean(o.recall[8] for o in outcomes), 3),
        "em": round(fmean(o.em for o in outcomes), 3),
        "f1": round(fmean(o.f1 for o in outcomes), 3),
        "rounds": round(fmean(o.answer.rounds for o in outcomes), 2),
        "tokens": round(fmean(o.answer.usage.tokens for o in outcomes)),
    }


class Changed(RagPool):
    """An open store whose steps are changed when they are built."""

    def __init__(self, rag: RagPool, change: Callable[[Steps], Steps]) -> None:
        self.__dict__.update(rag.__dict__)
        self._change = change

    @property
    def steps(self) -> Steps:
        return self._change(super().steps)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("files", type=Path, nargs="*")
    parser.add_argument("--split", default="heldout")
    parser.add_argument("--limit", type=int)
    parser.add_argument("--only", help="names of variants, separated by commas")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    files, split, limit = options.files, options.split, options.limit
    names = [*PARTS, *MODES, *PATCHES]
    if options.quick:
        files, split, limit, names = [CORPUS / "questions.jsonl"], "all", 2, [*names[:1], "no plan"]
    if not files:
        parser.error("give a data set file, or --quick")
    if options.only:
        names = options.only.split(",")
    results: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        stores = indexed(files, Path(folder))
        for name in names:
            results[name] = measure(name, stores, split, limit)
            if len(results) == 1:
                print("| variant | " + " | ".join(results[name]) + " |")
                print("|---" * (len(results[name]) + 1) + "|")
            print(f"| {name} | " + " | ".join(f"{v:g}" for v in results[name].values()) + " |", flush=True)
    text = json.dumps(results)
    if options.json:
        options.json.write_text(text + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
