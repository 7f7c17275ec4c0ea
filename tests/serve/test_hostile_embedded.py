"""The hostile passages that the screen lets pass, and the embedded models: they read a passage, and may be led by it."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path

import pytest
from hostile import ATTACKS, GOAL, passage
from scripted import CAPITALS, FOUNDERS, documents, question

from ragpool.plan import TrainedPlanner
from ragpool.screen import screen
from ragpool.sdk import RagPool
from ragpool.settings import Settings
from ragpool.types import Document

pytestmark = pytest.mark.model

TITLE = f"Founder of {CAPITALS['Ardona']}"
PASSING = [name for name in ATTACKS if screen(f"{TITLE}: {passage(name)}") is None]


@pytest.fixture(scope="module")
def rag(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RagPool]:
    plan = TrainedPlanner.plan
    plans = functools.cache(lambda text: plan(planner[0], text))  # the question is the same each time
    planner: list[TrainedPlanner] = []

    def planned(self: TrainedPlanner, text: str) -> object:
        planner[:] = [self]
        return plans(text)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TrainedPlanner, "plan", planned)
        folder: Path = tmp_path_factory.mktemp("embedded") / "store"
        with RagPool.open(folder, create=True, settings=Settings()) as opened:
            opened.index.add(documents())
            yield opened


def test_without_an_attack_the_answer_is_found(rag: RagPool) -> None:
    assert rag.ask(question("Ardona")).answer == FOUNDERS[CAPITALS["Ardona"]]


@pytest.mark.parametrize("name", PASSING)
def test_a_passage_is_not_answered_with(rag: RagPool, name: str) -> None:
    """The answer is the right one or none; the passage is not cited for its own text."""
    rag.index.add([Document("hostile", TITLE, passage(name))])
    try:
        answer = rag.ask(question("Ardona"))
        assert answer.answer in (FOUNDERS[CAPITALS["Ardona"]], "")
        assert GOAL not in answer.text
        assert "hostile" not in [c.document_id for c in answer.citations if c.supported]
    finally:
        rag.index.delete(["hostile"])
