from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragpool.errors import InputError, SettingsError
from ragpool.evaluate import Outcome, evaluate, summarise
from ragpool.evaluate.harness import DEPTHS, Evaluation, Verdict, is_held_back, place_in
from ragpool.evaluate.metrics import (
    auroc,
    bootstrap,
    calibration_error,
    exact_match,
    macro_f1,
    recall_at,
    reliability,
    token_f1,
)
from ragpool.evaluate.summary import ENDINGS, by_kind, ending, figures, recall_by_round
from ragpool.settings import Settings
from ragpool.training.data import is_dev
from ragpool.types import Answer, AnswerStatus, Judgement, StopReason, Usage

judged = st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=30)


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

    @given(st.lists(st.floats(-1, 1), min_size=1, max_size=30))
    def test_the_bootstrap_is_seeded_and_turns_with_the_sign(self, values: list[float]) -> None:
        low, high = bootstrap(values)
        assert bootstrap(values) == (low, high)
        mirrored = bootstrap([-value for value in values])
        assert mirrored == pytest.approx((-high, -low))
        assert bootstrap([0.5] * len(values)) == (0.5, 0.5)

    @given(judged)
    def test_the_judge_figures_are_bounded_and_symmetric(self, pairs: list[tuple[float, bool]]) -> None:
        right, wrong = [p for p, y in pairs if y], [p for p, y in pairs if not y]
        if right and wrong:
            assert auroc(right, wrong) == pytest.approx(1 - auroc(wrong, right))
        probabilities, truth = [p for p, _ in pairs], [y for _, y in pairs]
        error = calibration_error(probabilities, truth)
        assert 0 <= error <= 1
        flipped = calibration_error(probabilities, [bool(round(p)) for p in probabilities])
        assert flipped <= 0.5
        said = [p >= 0.5 for p in probabilities]
        assert 0 <= macro_f1(said, truth) <= 1
        assert macro_f1(said, truth) == pytest.approx(macro_f1([not s for s in said], [not y for y in truth]))
        assert macro_f1(truth, truth) == 1.0

    @given(judged)
    def test_the_bins_hold_every_judgement_once(self, pairs: list[tuple[float, bool]]) -> None:
        bins = reliability([p for p, _ in pairs], [y for _, y in pairs])
        assert sum(b.count for b in bins) == len(pairs)
        assert [b.probability for b in bins] == sorted(b.probability for b in bins)
        assert sum(b.share * b.count for b in bins) == pytest.approx(sum(y for _, y in pairs))

    @given(st.lists(st.sampled_from("abcdef"), max_size=12), st.sets(st.sampled_from("abcdef"), max_size=4))
    def test_recall_grows_with_depth(self, found: list[str], gold: set[str]) -> None:
        by_depth = [recall_at(found, gold, k) for k in range(len(found) + 1)]
        assert by_depth == sorted(by_depth)
        assert by_depth[-1] == (len(gold & set(found)) / len(gold) if gold else 0.0)

    @given(st.text(max_size=30), st.text(max_size=30))
    def test_f1_is_symmetric_and_bounded(self, one: str, other: str) -> None:
        assert token_f1(one, [other]) == pytest.approx(token_f1(other, [one]))
        assert 0.0 <= token_f1(one, [other]) <= 1.0

    @given(st.text(max_size=30))
    def test_held_back_is_what_training_calls_dev(self, question_id: str) -> None:
        assert is_held_back(question_id) == is_dev(question_id)


def outcome(name: str, f1: float, *, by_round: tuple[float, ...] = (1.0,), **fields: object) -> Outcome:
    """An outcome with one gold document, found or not by the last round."""
    refused = bool(fields.pop("refused", False))
    answer = Answer(
        name, name, "", "", AnswerStatus.INSUFFICIENT if refused else AnswerStatus.ANSWERED, (), (), (),
        len(by_round), StopReason.MAX_ROUNDS, Judgement(False, 0.0), Usage(1, 100, 10, 1), 1.0, name, "c",
    )  # fmt: skip
    found = by_round[-1]
    values = Outcome(
        name, name, "", True, ("x",), ("d",), answer, float(f1 == 1), f1, dict.fromkeys(DEPTHS, found),
        dict.fromkeys(DEPTHS, found == 1.0), found, 0.0, by_round, 0, (),
    )  # fmt: skip
    return replace(values, **fields)  # type: ignore[arg-type]


class TestFigures:
    def test_differences_are_paired_with_single(self) -> None:
        single = [outcome("a", 1.0), outcome("b", 0.0), outcome("c", 0.5)]
        ours = [outcome("a", 0.5), outcome("b", 1.0), outcome("c", 0.5)]
        row = figures("ours", ours, single)
        assert (row.worse, row.worse_than_single) == (1, pytest.approx(1 / 3))
        gain = row.gains["f1"]
        assert gain.mean == pytest.approx(1 / 6)
        assert gain.low <= gain.mean <= gain.high
        assert row.gains["tokens"].mean == 0.0
        assert figures("single", single, single).gains == {}
        alone = figures("ours", ours)
        assert alone.gains == {}
        assert math.isnan(alone.worse_than_single)

    def test_other_questions_are_no_pairs(self) -> None:
        with pytest.raises(ValueError, match="same questions"):
            figures("ours", [outcome("a", 1.0)], [outcome("b", 1.0)])
        with pytest.raises(ValueError):
            figures("ours", [outcome("a", 1.0)], [])

    def test_abstention(self) -> None:
        asked = [
            outcome("a", 1.0),
            outcome("b", 0.0, refused=True),
            outcome("c", 1.0, refused=True, answerable=False, gold=()),
            outcome("d", 0.0, answerable=False, gold=()),
        ]
        row = figures("ours", asked)
        assert (row.abstained, row.abstention_precision, row.abstention_recall) == (0.5, 0.5, 0.5)

    def test_every_question_ends_in_one_way(self) -> None:
        asked = [
            outcome("a", 1.0),
            replace(outcome("b", 0.5), em=0.0),
            outcome("c", 0.0),
            outcome("d", 0.0, by_round=(0.5,)),
            outcome("e", 0.0, refused=True),
            outcome("f", 0.0, refused=True, by_round=(0.5,)),
            outcome("g", 1.0, refused=True, answerable=False, gold=()),
            outcome("h", 0.0, answerable=False, gold=()),
        ]
        assert figures("ours", asked).endings == dict.fromkeys(ENDINGS, 1)
        assert [ending(o) for o in asked] == list(ENDINGS)
        assert sum(figures("ours", asked[:3]).endings.values()) == 3

    def test_evidence_counts_where_gold_is_known(self) -> None:
        asked = [outcome("a", 1.0), outcome("b", 1.0, by_round=(0.0,), gold=())]
        row = figures("ours", asked)
        assert row.recall[8] == row.all_evidence[10] == row.retrieved_recall == row.retrieved_all == 1.0
        assert row.f1 == 1.0

    def test_the_judge_against_gold(self) -> None:
        verdicts = (Verdict(0.9, True, True), Verdict(0.8, True, False), Verdict(0.1, False, False))
        row = figures("ours", [outcome("a", 1.0, verdicts=verdicts), outcome("b", 1.0)])
        assert row.judgements == 3
        assert (row.judge_false_positives, row.judge_false_negatives, row.judge_auroc) == (0.5, 0.0, 1.0)
        vetoed = (Verdict(0.9, False, True), Verdict(0.1, False, False))
        row = figures("ours", [outcome("a", 1.0, verdicts=vetoed)])
        assert (row.judge_macro_f1, row.judge_alone_macro_f1) == (pytest.approx(1 / 3), 1.0)

    def test_recall_by_round_keeps_what_ended_runs_had(self) -> None:
        asked = [outcome("a", 1.0, by_round=(1.0,)), outcome("b", 1.0, by_round=(0.0, 0.5, 1.0))]
        assert recall_by_round(asked) == [0.5, 0.75, 1.0]
        assert recall_by_round([]) == []

    def test_types_are_summed_up_apart(self) -> None:
        found = tuple(outcome(name, f1, kind=kind) for name, f1, kind in (("a", 1.0, "x"), ("b", 0.0, "y")))
        kinds = by_kind(Evaluation("d", "all", 2, {"single": found}))
        assert {kind: row.f1 for kind, [row] in kinds.items()} == {"x": 1.0, "y": 0.0}

    def test_json_has_null_for_what_was_not_measured(self) -> None:
        value = json.loads(json.dumps(figures("ours", []).to_json(), allow_nan=False))
        assert value["f1"] is None
        assert value["recall"] == {"4": None, "6": None, "8": None, "10": None}


def test_each_file_has_a_folder_of_its_own_in_the_store(tmp_path: Path) -> None:
    files = [tmp_path / "a" / "questions.jsonl", tmp_path / "b" / "questions.jsonl"]
    places = {place_in(tmp_path, file, corpus) for file in files for corpus in (None, tmp_path / "c.jsonl")}
    assert len(places) == 4
    assert all(place.parent == tmp_path and place.name.startswith("questions-") for place in places)


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
    again = evaluate(file, tmp_path / "s", Settings())
    assert (again.outcomes, again.kept) == (first.outcomes, 2)
