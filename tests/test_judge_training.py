"""What the judge is trained on: pools of known completeness, and vectors that outlive a run."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from ragpool.errors import InputError, MissingExtraError
from ragpool.feedback.features import Features
from ragpool.models.cached import CachedEmbedder
from ragpool.training.data import Paragraph, Record, Step
from ragpool.training.pools import Corpus, Pool, as_evidence, as_text, make_pools, simulate_bindings
from ragpool.training.trees import BoostedTrees
from ragpool.training.vectors import StoredEmbedder
from ragpool.types import Evidence, Question, Triple


class CountingEmbedder:
    """A vector from the letters of a text; counts what it was asked for."""

    version = "letters@1"

    def __init__(self) -> None:
        self.asked: list[str] = []

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        self.asked += texts
        rows = np.zeros((len(texts), 32), np.float32)
        for row, text in zip(rows, texts, strict=True):
            for letter in text:
                row[ord(letter) % 32] += 1
        return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-6)


SHIP = Paragraph("Grey Heron", ("The Grey Heron was built at Port Kessan.",), (0,))
PORT = Paragraph("Port Kessan", ("Port Kessan is a harbour in Merrowland.", "It has a mole."), (0,))
OTHERS = tuple(Paragraph(f"Ship {n}", (f"Ship {n} sank in {1800 + n}.",)) for n in range(8))
PLAN = Question(
    "In which country is the port where the Grey Heron was built?",
    (Triple("Grey Heron", "place built", "?1"), Triple("?1", "country", "?2")),
)


def record(answer: str) -> Record:
    steps = (Step("Port Kessan", "Grey Heron", "place built"), Step(answer, "Port Kessan", "country"))
    return Record("r", "2wikimultihopqa", PLAN.text, (answer,), "bridge", (SHIP, PORT, *OTHERS), steps)


def pools(answer: str) -> list[Pool]:
    one = record(answer)
    corpus = Corpus([one], CachedEmbedder(CountingEmbedder()))
    return make_pools([one], corpus, seed=0, rounds=4, plan_share=1.0, binding_share=1.0)


def test_a_pool_with_all_gold_passages_is_sufficient() -> None:
    gold = {"Grey Heron", "Port Kessan"}
    made = pools("Merrowland")
    assert {p.sufficient for p in made} == {True, False}
    assert all(p.sufficient == (gold <= {e.title for e in p.evidence}) for p in made)


def test_no_pool_answers_a_question_without_an_answer() -> None:
    assert not any(p.sufficient for p in pools(""))


def test_a_value_that_is_not_told_is_never_read_rightly() -> None:
    evidence = tuple(as_evidence(as_text(p), n) for n, p in enumerate((SHIP, PORT)))
    pool = Pool("r", "2wikimultihopqa", "complete", PLAN, evidence, (), False)
    values = {"?1": ("Port Kessan", as_text(SHIP)), "?2": ("", as_text(PORT))}
    for seed in range(40):
        found = simulate_bindings(PLAN, values, pool, random.Random(seed))
        assert all(b.value for b in found)


def test_stored_vectors_are_read_again(tmp_path: Path) -> None:
    first, second = CountingEmbedder(), CountingEmbedder()
    before = StoredEmbedder(first, tmp_path).embed(["one", "two", "one"])
    after = StoredEmbedder(second, tmp_path).embed(["one", "two", "one"])
    np.testing.assert_array_equal(before, after)
    assert first.asked == ["one", "two"]
    assert second.asked == [""]  # how long a vector is


def test_half_written_vectors_are_made_again(tmp_path: Path) -> None:
    whole = StoredEmbedder(CountingEmbedder(), tmp_path).embed(["one", "two"])
    vectors = tmp_path / "vectors.f32"
    vectors.write_bytes(vectors.read_bytes()[:-5])
    again = CountingEmbedder()
    np.testing.assert_array_equal(StoredEmbedder(again, tmp_path).embed(["one", "two"]), whole)
    assert again.asked == ["", "two"]
    np.testing.assert_array_equal(
        StoredEmbedder(CountingEmbedder(), tmp_path).embed(["two", "one"]), whole[::-1]
    )


def test_vectors_of_another_embedder_are_refused(tmp_path: Path) -> None:
    StoredEmbedder(CountingEmbedder(), tmp_path).embed(["one"])
    other = CountingEmbedder()
    other.version = "other@1"
    with pytest.raises(InputError, match="another embedder"):
        StoredEmbedder(other, tmp_path)


def test_features_are_the_same_from_warm_and_cold_vectors() -> None:
    evidence: list[Evidence] = [as_evidence(as_text(p), n) for n, p in enumerate((SHIP, PORT, *OTHERS))]
    warm = CachedEmbedder(CountingEmbedder())
    Features(warm)(PLAN, evidence[:5])
    cold = Features(CountingEmbedder())(PLAN, evidence)
    np.testing.assert_array_equal(Features(warm)(PLAN, evidence), cold)


def test_trees_without_their_package_say_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BoostedTrees, "available", staticmethod(lambda: False))
    rows = np.zeros((4, 2), np.float32)
    with pytest.raises(MissingExtraError, match="pip install scikit-learn"):
        BoostedTrees(rows, rows[:, 0] > 0, rows[:, 0], seed=0)
