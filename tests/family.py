"""A small world and real, model-free parts of the loop that can read it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from fakes import HashEmbedder

from ragpool.closing import SlotCloser
from ragpool.distil import Distiller
from ragpool.feedback import RulesJudge
from ragpool.generate import SlotGenerator
from ragpool.index import Index
from ragpool.pipeline import Steps
from ragpool.plan import parse_plan
from ragpool.pool import Pool, PoolStore
from ragpool.refine import Refiner, TitleIndex
from ragpool.retrieve import retriever
from ragpool.settings import Settings
from ragpool.slots import Reading
from ragpool.types import Document, Question, Usage

DOCUMENTS = [
    Document("alda", "Alda Brenn", "Alda Brenn was a weaver. The mother of Alda Brenn was Cora Vell. She kept bees."),
    Document("cora", "Cora Vell", "Cora Vell was a pilot. The birthplace of Cora Vell was Port Ennis. She sang."),
    Document("tomas", "Tomas Brenn", "Tomas Brenn was a baker. The mother of Tomas Brenn was Ilse Marr."),
    Document("ilse", "Ilse Marr", "Ilse Marr was a judge. The birthplace of Ilse Marr was Great Holm."),
    Document("ennis", "Port Ennis", "Port Ennis is a harbour town. The river of Port Ennis is the Sorrel."),
    *(
        Document(f"other{n}", f"Weaver {n}", f"A weaver numbered {n} who had a mother and sold cloth, mother of {n} sons.")
        for n in range(12)
    ),
]  # fmt: skip

PLANS = {
    "Where was the mother of Alda Brenn born?": "Alda Brenn | mother | ?1\n?1 | birthplace | ?2",
    "Which river runs through the town where the mother of Alda Brenn was born?": (
        "Alda Brenn | mother | ?1\n?1 | birthplace | ?2\n?2 | river | ?3"
    ),
    "Were the mothers of Alda Brenn and Tomas Brenn born in the same town?": (
        "Alda Brenn | mother | ?1\n?1 | birthplace | ?2\nTomas Brenn | mother | ?3\n?3 | birthplace | ?4\n= same"
    ),
    "Who was the husband of Cora Vell?": "Cora Vell | husband | ?1",
}
BORN = "Where was the mother of Alda Brenn born?"
RIVER = "Which river runs through the town where the mother of Alda Brenn was born?"
SAME = "Were the mothers of Alda Brenn and Tomas Brenn born in the same town?"
HUSBAND = "Who was the husband of Cora Vell?"


class PlanBook:
    """A planner that knows the plans of PLANS; ``calls`` counts how often it was asked."""

    name = "book@1"

    def __init__(self) -> None:
        self.calls = 0

    def plan(self, question: str) -> tuple[Question, Usage]:
        self.calls += 1
        found = parse_plan(PLANS.get(question, ""), question, planner=self.name)
        return found or Question(question, planner=self.name), Usage(1, 20, 10)


class PatternReader:
    """Reads "the <relation> of <subject> was <value>"; keeps every query it was asked."""

    name = "pattern@1"

    def __init__(self) -> None:
        self.queries: list[str] = []

    def read(self, query: str, contexts: Sequence[tuple[str, str]]) -> Reading:
        self.queries.append(query)
        subject, _, relation = query.rstrip("?").rpartition(", ")
        said = re.compile(
            rf"{re.escape(relation)} of {re.escape(subject)} (?:was|is) (?:the )?([^.]+)\.", re.IGNORECASE
        )
        for _, text in contexts:
            if found := said.search(text):
                return Reading(found.group(1), 0.9, Usage(1, 50, 5))
        return Reading(None, 0.0, Usage(1, 50, 1))


def settings(**overrides: object) -> Settings:
    """Settings under which the small world does not fit into round 0."""
    return Settings.load(**{"retrieve": {"k": 3, "gap_k": 2}, **overrides})


@contextmanager
def family(
    folder: Path, chosen: Settings | None = None, documents: Sequence[Document] = DOCUMENTS
) -> Iterator[Index]:
    """An open index of the small world."""
    with Index.open(folder, chosen or settings(), create=True, embedder=HashEmbedder()) as index:
        index.add(documents)
        yield index


def steps(index: Index, chosen: Settings | None = None, **parts: object) -> Steps:
    """The loop's parts without any model; ``parts`` replace some."""
    distiller = Distiller(index.embedder)
    return replace(
        Steps(
            index=index,
            retriever=retriever(index, chosen or settings()),
            planner=PlanBook(),
            reader=PatternReader(),
            distiller=distiller,
            closer=SlotCloser(distiller, lambda title: bool(index.by_title(title))),
            judge=RulesJudge(),
            refiner=Refiner(distiller, TitleIndex(index.title_list())),
            generator=SlotGenerator(distiller),
            count_tokens=lambda text: len(text.split()),
        ),
        **parts,  # type: ignore[arg-type]
    )


def open_pool(
    index: Index, question: str, *, job: str = "", method: str = "ragpool", scope: str | None = None
) -> Pool:
    """A run's pool in the index's own database."""
    return PoolStore(index.database).open_run(
        question_id=question,
        question=question,
        method=method,
        config_hash="c",
        corpus_version=index.version,
        models={},
        prompts={},
        job=job,
        scope=scope,
    )
