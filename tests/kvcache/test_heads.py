from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny import CONTEXT, save

from ragpool.errors import ModelError
from ragpool.kvcache import HeadTable
from ragpool.training import heads
from ragpool.training.data import Paragraph
from ragpool.training.heads import average_precision, filled, train
from ragpool.training.needles import needle


@given(st.permutations(range(6)), st.sets(st.integers(0, 5), min_size=1))
def test_average_precision_is_one_only_when_the_gold_comes_first(order: list[int], gold: set[int]) -> None:
    scores = torch.zeros(6)
    for rank, index in enumerate(order):
        scores[index] = 6 - rank
    precision = average_precision(scores, frozenset(gold))

    assert 0 < precision <= 1
    assert (precision == 1) == (set(order[: len(gold)]) == gold)


def test_heads_of_any_model_are_found_without_labels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = save(tmp_path / "tiny")
    # one token a character: four sentences have to fit into the tiny model
    monkeypatch.setattr(heads, "needle", _small)
    figures = train((), tmp_path / "heads", model=str(folder), contexts=3)

    (file,) = (tmp_path / "heads").iterdir()
    table = HeadTable.read(file)
    assert len(table.heads) == 8  # all there are
    assert figures["evidence"] == "made-up facts"
    assert json.loads(file.read_text())["figures"]["contexts"] == 3


def _small(depth: int, tokens: int, seed: int):  # type: ignore[no-untyped-def]
    from dataclasses import replace

    record = needle(depth, 1, seed)
    told = next(p for p in record.paragraphs if p.support)
    other = next(p for p in record.paragraphs if not p.support)
    short = (
        Paragraph("A", (told.sentences[2][:30],), (0,)),
        Paragraph("B", (other.sentences[0][:20],)),
    )
    assert tokens > CONTEXT
    return replace(record, question="Who is it?", paragraphs=short)


def test_a_remote_model_has_no_heads_to_look_at(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="remote model"):
        train((), tmp_path, model="openai:some-model")


@pytest.mark.parametrize("depth", range(10))
def test_a_needle_stands_at_its_depth(depth: int) -> None:
    record = needle(depth, 1500, seed=depth)
    (at,) = (n for n, p in enumerate(record.paragraphs) if p.support)

    assert at == int((depth + 0.5) / 10 * len(record.paragraphs))
    told = record.paragraphs[at].sentences[2]
    assert record.answers[0] in told
    assert sum(record.answers[0] in s for p in record.paragraphs for s in p.sentences) == 1
    assert record == needle(depth, 1500, seed=depth)


def test_contexts_are_filled_with_paragraphs_that_are_no_evidence() -> None:
    own = (Paragraph("A", ("a " * 50,), (0,)), Paragraph("B", ("b " * 50,)))
    others = [Paragraph(f"O{n}", ("o " * 50,), (0,)) for n in range(40)]

    longer = filled(own, others, 500, seed=1)
    shorter = filled(own, others, 30, seed=1)

    assert sum(bool(p.support) for p in longer) == 1
    assert 8 < len(longer) < 25
    assert [p.title for p in shorter] == ["A"]
