from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.language_models import FakeListChatModel

from ragpool.slots import (
    Calibration,
    PromptedReader,
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


def test_calibration_is_a_rising_curve(tmp_path: Path) -> None:
    file = tmp_path / "calibration.json"
    assert Calibration.load(file) == Calibration(1.0, 0.0)
    file.write_text('{"slope": 3.0, "offset": 2.0}')
    curve = Calibration.load(file)
    values = [curve(x) for x in (-1e9, -2.0, -0.5, 0.0)]
    assert values == sorted(values)
    assert 0.0 <= values[0] < values[-1] < 1.0


def test_a_date_in_another_order_becomes_the_one_that_stands_there() -> None:
    chat = FakeListChatModel(responses=["May 4, 1921"])
    reading = PromptedReader(chat).read(
        "Bo Reed, date of birth?", [("Bo Reed", "Bo Reed (4 May 1921 – 1990) ran.")]
    )
    assert reading.value == "4 May 1921"
