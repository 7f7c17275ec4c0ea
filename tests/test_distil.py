from __future__ import annotations

import itertools

import pytest
from fakes import HashEmbedder
from family import DOCUMENTS
from hypothesis import given
from hypothesis import strategies as st

from ragpool.distil import Distiller, content_words, fold, overlap
from ragpool.types import Evidence


def passage(text: str, title: str = "Title") -> Evidence:
    return Evidence("p", "p", title, text, (), 0, "q", 1.0)


@pytest.fixture
def distiller() -> Distiller:
    return Distiller(HashEmbedder())


def test_the_sentence_that_bears_on_the_query_is_kept_beside_the_first(distiller: Distiller) -> None:
    text = "Alda Brenn was a weaver. She kept bees. The mother of Alda Brenn was Cora Vell. It rained a lot there."
    [spans] = distiller.distil("mother of Alda Brenn", [passage(text)], keep=2)
    assert [text[s.start : s.end] for s in spans] == [
        "Alda Brenn was a weaver.",
        "The mother of Alda Brenn was Cora Vell.",
    ]


def test_an_empty_passage_has_no_sentences(distiller: Distiller) -> None:
    assert distiller.distil("anything", [passage("")]) == [()]


def test_seen_sentences_are_not_embedded_again() -> None:
    embedder = HashEmbedder()
    distiller = Distiller(embedder)
    pool = [passage(d.text, d.title) for d in DOCUMENTS]
    first = distiller.rank("mother of Alda Brenn", pool)
    seen = len(embedder.embedded)
    assert distiller.rank("mother of Alda Brenn", pool) == first
    assert len(embedder.embedded) == seen


@given(st.text(max_size=300), st.integers(1, 4))
def test_spans_are_verbatim_in_order_and_no_more_than_asked_for(text: str, keep: int) -> None:
    [spans] = Distiller(HashEmbedder()).distil("some words", [passage(text)], keep=keep)
    assert len(spans) <= keep
    assert all(0 <= s.start < s.end <= len(text) for s in spans)
    assert all(a.end <= b.start for a, b in itertools.pairwise(spans))
    assert bool(spans) == bool(text.strip())


@given(st.text(max_size=60))
def test_folding_is_idempotent(text: str) -> None:
    assert fold(fold(text)) == fold(text)


def test_content_words_and_overlap() -> None:
    wanted = content_words("Who was the mother of Ludwigs?")
    assert wanted == {"mother", "ludwig"}
    assert overlap(wanted, content_words("The mother sang")) == 0.5
    assert overlap(frozenset(), wanted) == 0.0
