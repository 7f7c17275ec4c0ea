from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragpool.errors import InputError, SettingsError
from ragpool.evaluate import evaluate, summarise
from ragpool.evaluate.harness import is_held_back
from ragpool.evaluate.metrics import (
    auroc,
    bootstrap,
    calibration_error,
    exact_match,
    macro_f1,
    recall_at,
    token_f1,
)
from ragpool.settings import Settings
from ragpool.training.data import is_dev


class TestMetrics:
    def test_articles_case_and_punctuation_do_not_count(self) -> None:
        assert exact_match("The Lark!", ["lark"]) == 1.0
        assert exact_match("Larks", ["lark"]) == 0.0

    def test_f1_is_the_best_over_golds_and_strict_for_yes_and_no(self) -> None:
        assert token_f1("Port Ennis town", ["Ennis", "Port Ennis"]) == pytest.approx(0.8)
        assert token_f1("yes it is", ["yes"]) == 0.0
        assert token_f1("", ["yes"]) == 0.0

    def test_recall_counts_each_gold_once(self) -> None:
        assert recall_at(["a", "a", "b"], ["a", "b"], 2) == 0.5
        assert recall_at(["a", "a", "b"], ["a", "b"], 3) == 1.0

    def test_judge_figures(self) -> None:
        assert auroc([0.9, 0.8], [0.1, 0.8]) == pytest.approx(0.875)
        assert math.isnan(auroc([], [0.1]))
        assert calibration_error([1.0, 1.0, 0.0, 0.0], [True, True, False, False]) == 0.0
        assert calibration_error([0.95, 0.95], [False, False]) == pytest.approx(0.95)
        assert macro_f1([True, False], [True, False]) == 1.0
        assert macro_f1([True, True], [True, False]) == pytest.approx(1 / 3)

    @given(st.lists(st.floats(-1, 1), min_size=1, max_size=30))
    def test_the_bootstrap_interval_lies_within_the_values(self, values: list[float]) -> None:
        low, high = bootstrap(values, samples=100)
        assert min(values) - 1e-9 <= low <= high <= max(values) + 1e-9

    @given(st.text(max_size=30), st.text(max_size=30))
    def test_f1_is_symmetric_and_bounded(self, one: str, other: str) -> None:
        assert token_f1(one, [other]) == pytest.approx(token_f1(other, [one]))
        assert 0.0 <= token_f1(one, [other]) <= 1.0

    @given(st.text(max_size=30))
    def test_held_back_is_what_training_calls_dev(self, question_id: str) -> None:
        assert is_held_back(question_id) == is_dev(question_id)


HOTPOT = [
    {
        "_id": "made-up-1",
        "question": "Where was Alda Brenn born?",
        "answer": "Port Ennis",
        "type": "bridge",
        "level": "easy",
        "supporting_facts": [["Alda Brenn", 0]],
        "context": [
            ["Alda Brenn", ["Alda Brenn was born in Port Ennis.", " She wove."]],
            ["Tomas Brenn", ["Tomas Brenn was born in Great Holm."]],
        ],
    }
]


def test_an_unknown_method_split_or_a_file_without_gold(tmp_path: Path) -> None:
    file = tmp_path / "hotpot.json"
    file.write_text(json.dumps(HOTPOT))
    with pytest.raises(SettingsError, match="single"):
        evaluate(file, tmp_path / "s", Settings(), methods=["double"])
    with pytest.raises(SettingsError, match="heldout"):
        evaluate(file, tmp_path / "s", Settings(), split="half")
    other = "train" if is_held_back("made-up-1") else "heldout"
    with pytest.raises(InputError, match="gold"):
        evaluate(file, tmp_path / "s", Settings(), split=other)


@pytest.mark.model
def test_methods_side_by_side_and_a_second_call_that_does_no_work(tmp_path: Path) -> None:
    file = tmp_path / "hotpot.json"
    file.write_text(json.dumps(HOTPOT))
    first = evaluate(file, tmp_path / "s", Settings())
    single, loop = summarise(first)
    assert (single.method, loop.method) == ("single", "ragpool")
    assert single.recall[8] == loop.recall[8] == 1.0
    assert single.retrievals == 1
    assert single.rounds == 1
    assert loop.em == 1.0
    assert evaluate(file, tmp_path / "s", Settings()).outcomes == first.outcomes
