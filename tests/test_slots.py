from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.language_models import FakeListChatModel

from ragpool.errors import ModelError
from ragpool.models import LocalModel
from ragpool.models.spans import SpanModel
from ragpool.plan import adapter_folder
from ragpool.settings import ModelSettings
from ragpool.slots import (
    SUPPOSED,
    TOLD,
    Calibration,
    PairReader,
    PromptedReader,
    Weighing,
    as_written,
    parse_reading,
    reader_prompt,
    stands_in,
    subquestion,
)
from ragpool.types import Triple

CONTEXTS = [
    ("Lothair II", "Lothair II was the son of Ermengarde of\nTours."),
    ("Tours", "Tours lies on the Loire."),
]


def test_the_prompt_shows_titles_and_the_question_on_both_sides() -> None:
    prompt = reader_prompt(subquestion(Triple("Lothair II", "mother", "?1")), CONTEXTS)
    assert prompt == (
        "Question: Lothair II, mother?\n"
        "[Lothair II] Lothair II was the son of Ermengarde of Tours.\n"
        "[Tours] Tours lies on the Loire.\n"
        "Question: Lothair II, mother?\n"
        "Answer:"
    )


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (" Ermengarde of Tours", "Ermengarde of Tours"),
        ("\n 'Tours'.\nand more", "Tours"),
        ("Sammy Davis Jr.", "Sammy Davis Jr."),
        ("J. R. R.", "J. R. R."),
        ("None", None),
        ("none.", None),
        ("", None),
        ("\n\n", None),
    ],
)
def test_a_completion_becomes_a_value(text: str, value: str | None) -> None:
    assert parse_reading(text) == value


@given(st.text())
def test_any_completion_is_read(text: str) -> None:
    value = parse_reading(text)
    assert value is None or (value and "\n" not in value)


def test_values_are_whole_words_of_one_context() -> None:
    assert stands_in("ERMENGARDE  of Tours", CONTEXTS)
    assert stands_in("yes", [])
    assert not stands_in("Erm", CONTEXTS)
    assert not stands_in("Tours Tours", CONTEXTS)
    assert not stands_in("...", CONTEXTS)


@pytest.mark.parametrize(
    ("reply", "value"),
    [("Ermengarde of Tours", "Ermengarde of Tours"), ("none", None), ("Waldrada", None)],
)
def test_what_a_chat_model_reads_must_stand_in_the_context(reply: str, value: str | None) -> None:
    reading = PromptedReader(FakeListChatModel(responses=[reply])).read("Lothair II, mother?", CONTEXTS)
    assert reading.value == value
    assert (reading.confidence > 0) == (value is not None)
    assert reading.usage.llm_calls == 1


def test_nothing_is_asked_about_nothing() -> None:
    reading = PromptedReader(FakeListChatModel(responses=["Tours"])).read("Lothair II, mother?", [])
    assert reading.value is None
    assert reading.usage.llm_calls == 0


def test_the_curve_of_confidence_rises() -> None:
    curve = Calibration(3.0, 2.0)
    values = [curve(x) for x in (-1e9, -2.0, -0.5, 0.0)]
    assert values == sorted(values)
    assert 0.0 <= values[0] < values[-1] < 1.0


def test_a_weighing_that_is_not_there_is_refused_with_the_command_that_makes_one(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="ragpool train spans"):
        Weighing.load(tmp_path / "weighing.json")
    (tmp_path / "weighing.json").write_text('{"share": 2.0}')
    with pytest.raises(ModelError, match="ragpool train spans"):
        Weighing.load(tmp_path / "weighing.json")


@given(
    st.dictionaries(st.sampled_from("abcd"), st.floats(-20, 0), min_size=1),
    st.dictionaries(st.sampled_from("abcdef"), st.floats(-20, 0), min_size=1),
    st.floats(0.1, 3),
    st.floats(0, 4),
)
def test_what_was_not_proposed_weighs_less_to_the_span_model_than_all_that_was(
    proposed: dict[str, float], heard: dict[str, float], share: float, doubt: float
) -> None:
    weights = Weighing(share, doubt, Calibration()).weights(proposed, heard)
    assert set(weights) == set(heard)
    for text, weight in weights.items():
        own = weight - share * heard[text]
        if text in proposed:
            assert own == pytest.approx(proposed[text])
        else:
            assert own < min(proposed.values())


def test_two_likely_values_outweigh_none_together() -> None:
    weighing = Weighing(1.0, 0.0, Calibration())
    value, logprob, told = weighing.likeliest({"Tours": -1.2, "Lyon": -1.3, "none": -1.0})
    assert (value, told > TOLD) == ("Tours", True)
    assert logprob < -0.9
    value, _, told = weighing.likeliest({"Tours": -1.2, "Lyon": -3.0, "none": -0.5})
    assert (value, SUPPOSED < told < TOLD) == ("Tours", True)
    assert weighing.likeliest({"Tours": -9.0, "none": -0.5})[0] is None


@given(
    st.dictionaries(st.sampled_from("abc"), st.floats(-20, 0)),
    st.floats(-20, 0),
    st.floats(-5, 5),
    st.floats(0, 3),
)
def test_the_more_doubt_of_none_the_more_is_told(
    values: dict[str, float], none: float, doubt: float, more: float
) -> None:
    weights = {**values, "none": none}
    (_, _, before), (value, _, after) = (
        Weighing(1.0, d, Calibration()).likeliest(weights) for d in (doubt, doubt + more)
    )
    assert 0.0 <= before <= after <= 1.0
    assert value is None or values[value] == max(values.values())


@pytest.mark.model
def test_two_readers_agree_on_a_value_or_on_none(local_model: LocalModel) -> None:
    folder = adapter_folder("spans")
    spans = SpanModel.load(folder, ModelSettings())
    pair = PairReader(spans, local_model, folder, adapter_folder("reader"))
    stated = [("Lothair II", "The mother of Lothair II was Ermengarde of\nTours."), CONTEXTS[1]]
    told = pair.read("Lothair II, mother?", stated)
    assert told.value == "Ermengarde of Tours"
    assert told.usage.llm_calls == 2
    assert told.confidence > 0.5
    assert pair.read("Tours, mayor?", CONTEXTS[1:]).told < TOLD < told.told
    assert pair.read("Tours, mayor?", []).usage.llm_calls == 0


def test_a_date_in_another_order_becomes_the_one_that_stands_there() -> None:
    chat = FakeListChatModel(responses=["May 4, 1921"])
    reading = PromptedReader(chat).read(
        "Bo Reed, date of birth?", [("Bo Reed", "Bo Reed (4 May 1921 – 1990) ran.")]
    )
    assert reading.value == "4 May 1921"


@pytest.mark.parametrize(
    ("value", "text", "found"),
    [
        ("Bonn", "Die Straße in Bonn liegt am Rhein.", "Bonn"),
        ("BONN", "Die Straße in Bonn liegt am Rhein.", "Bonn"),
        ("bonn", "Der Bonner Weg führt nach Bonn.", "Bonn"),
        ("J. R. Smith", "İzmir: j. r. Smith lived there.", "j. r. Smith"),
        ("4 May 1921", "He was born on May 4, 1921.", "May 4, 1921"),
        ("Rhine", "Die Straße in Bonn liegt am Rhein.", None),
    ],
)
def test_a_value_is_found_in_the_spelling_of_the_text(value: str, text: str, found: str | None) -> None:
    assert as_written(value, text) == found
