from __future__ import annotations

import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragpool.types import Operation
from ragpool.values import (
    compare,
    facts,
    fits,
    in_the_form_asked,
    parse_date,
    parse_number,
    same,
    supports,
    told_of_the_other,
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("October 5, 1987", (1987, 10, 5)),
        ("5 October 1987", (1987, 10, 5)),
        ("the 5th of October, 1987", (1987, 10, 5)),
        ("Oct. 5, 1987", (1987, 10, 5)),
        ("1987-10-05", (1987, 10, 5)),
        ("October 1987", (1987, 10, 0)),
        ("born in 875 at Aachen", (875, 0, 0)),
        ("no date", None),
        ("12 ships", None),
    ],
)
def test_dates_are_read_in_the_usual_forms(text: str, expected: tuple[int, int, int] | None) -> None:
    assert parse_date(text) == expected


@given(st.dates(min_value=datetime.date(1000, 1, 1)), st.sampled_from(["{d} {m} {y}", "{m} {d}, {y}"]))
def test_a_written_date_is_read_back(day: datetime.date, form: str) -> None:
    text = form.format(d=day.day, m=day.strftime("%B"), y=day.year)
    assert parse_date(f"It happened on {text}.") == (day.year, day.month, day.day)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("1,234 km", 1234.0), ("2.5 million people", 2.5e6), ("about -4 degrees", -4.0), ("none", None)],
)
def test_numbers(text: str, expected: float | None) -> None:
    assert parse_number(text) == expected


class TestCompare:
    def test_dates(self) -> None:
        values = ["3 May 1801", "1799"]
        assert compare(Operation.EARLIER, ["Ada", "Bo"], values) == "Bo"
        assert compare(Operation.LATER, ["Ada", "Bo"], values) == "Ada"

    def test_numbers(self) -> None:
        assert compare(Operation.LARGER, ["Lark", "Wren"], ["1,200 tons", "900 tons"]) == "Lark"
        assert compare(Operation.SMALLER, ["Lark", "Wren"], ["1,200 tons", "900 tons"]) == "Wren"

    def test_same(self) -> None:
        assert compare(Operation.SAME, ["a", "b"], ["Port Ennis", "port ennis."]) == "yes"
        assert compare(Operation.SAME, ["a", "b"], ["Port Ennis", "Great Holm"]) == "no"
        assert compare(Operation.SAME, ["a", "b"], ["3 May 1801", "May 3, 1801"]) == "yes"

    @pytest.mark.parametrize(
        ("operation", "values"),
        [
            (Operation.EARLIER, ["1801", "1801"]),  # a tie
            (Operation.EARLIER, ["May 1801", "1801"]),  # the coarser one may be either
            (Operation.EARLIER, ["soon", "1801"]),
            (Operation.LARGER, ["many", "3"]),
            (Operation.LARGER, ["3"]),
        ],
    )
    def test_what_the_values_do_not_decide_is_not_decided(
        self, operation: Operation, values: list[str]
    ) -> None:
        assert compare(operation, ["a", "b"], values) is None

    @given(st.integers(1, 10**6), st.integers(1, 10**6))
    def test_swapping_the_sides_does_not_change_the_winner(self, one: int, other: int) -> None:
        first = compare(Operation.LARGER, ["a", "b"], [str(one), str(other)])
        second = compare(Operation.LARGER, ["b", "a"], [str(other), str(one)])
        assert first == second


class TestSupport:
    def test_every_number_and_name_must_stand_in_the_source(self) -> None:
        source = "The Lark left Port Ennis on 3 May 1801."
        assert supports(source, "Port Ennis")
        assert supports(source, "3 May 1801")
        assert not supports(source, "Port Holm")
        assert not supports(source, "4 May 1801")
        assert not supports("", "Port Ennis")
        assert not supports(source, "")

    def test_facts_are_numbers_and_capitalised_words(self) -> None:
        assert facts("The keeper Alda sold 1,200 crabs") == ["alda", "1,200"]

    @given(st.text(max_size=80))
    def test_a_text_supports_itself_or_says_nothing(self, text: str) -> None:
        assert supports(text, text) or not facts(text)

    @given(st.text(max_size=40), st.text(max_size=40))
    def test_same_is_symmetric(self, one: str, other: str) -> None:
        assert same(one, other) == same(other, one)


@pytest.mark.parametrize(
    ("relation", "value", "right"),
    [
        ("date of birth", "4 May 1890", True),
        ("date of birth", "Port Tarn", False),
        ("number of articles", "twenty-one", True),
        ("number of objects", "instruments", False),
        ("how long", "April 2, 1870", False),
        ("population", "1,402", True),
        ("length", "31.5 metres", True),
        ("mother", "Ermengarde of Tours", True),
        ("mother", "queen", False),
        ("place of birth", "1890", False),
        ("occupation", "painter", True),
        ("author", "Black Capstan Press", False),
        ("author", "Nilor & Wyrur, Printers", False),
        ("publisher", "Black Capstan Press", True),
        ("place of birth", "Alcimara Institute", False),
        ("place of birth", "Kedleston Hall", True),
        ("spouse", "Rebecca Hall", True),
        ("educated at", "Irvunde Hall", True),
        ("teacher", "Livanda Hastender", True),
        ("length", "547 tons", False),
        ("how long", "41.5 metres", True),
        ("how heavy", "547 tons", True),
    ],
)
def test_a_value_is_of_the_kind_that_the_relation_asks_for(relation: str, value: str, right: bool) -> None:
    assert fits(relation, value) is right


@pytest.mark.parametrize(
    ("question", "value", "answer"),
    [
        ("In what year was Alda Brenn born?", "4 May 1890", "1890"),
        ("When was Alda Brenn born?", "4 May 1890", "4 May 1890"),
        ("When was the singer born who made Salt Roads?", "RCA Records", None),
        ("How many guns did the Lark carry?", "cannon", None),
        ("Who founded the yard?", "1890", None),
        ("Who founded the yard?", "Cora Vell", "Cora Vell"),
        ("Where did the Lark sail in the year when she was built?", "Port Ennis", "Port Ennis"),
    ],
)
def test_an_answer_has_the_form_that_the_question_asks_for(
    question: str, value: str, answer: str | None
) -> None:
    assert in_the_form_asked(question, value) == answer


@pytest.mark.parametrize(
    ("relation", "value", "sentence", "expected"),
    [
        ("date of birth", "11 April 1835", "Skeg was a maker who died on 11 April 1835.", True),
        ("date of death", "11 April 1835", "Skeg was a maker who died on 11 April 1835.", False),
        ("date of death", "3 May 1801", "Skeg (3 May 1801 – 4 June 1850) was a maker.", True),
        ("date of birth", "3 May 1801", "Skeg (3 May 1801 – 4 June 1850) was a maker.", False),
        ("date of birth", "4 June 1850", "Skeg (3 May 1801 – 4 June 1850) was a maker.", True),
        ("place of birth", "Holm", "Skeg (3 May 1801, Holm – 4 June 1850, Ennis) was a maker.", False),
        ("place of death", "Holm", "Skeg (3 May 1801, Holm – 4 June 1850, Ennis) was a maker.", True),
        ("place of death", "Ennis", "Skeg (3 May 1801, Holm – 4 June 1850, Ennis) was a maker.", False),
        ("date of death", "4 June 1850", "Skeg (born 3 May 1801 – 4 June 1850) was a maker.", False),
        ("date of birth", "3 May 1801", "Skeg (3 May 1801, Holm) was a maker.", False),
        ("place of death", "Holm", "Born in Holm, she died in Ennis.", True),
        ("place of death", "Ennis", "Born in Holm, she died in Ennis.", False),
        ("place of birth", "Ennis", "She spent her last years in Ennis and died there.", True),
        ("employer", "Holm", "Born in Holm, she died in Ennis.", False),
        ("place of birth", "Holm", "She came from Holm.", False),
        ("builder", "Ada Brenn", "The tower was designed by the engineer Ada Brenn.", True),
        ("designer", "Ada Brenn", "The tower was designed by the engineer Ada Brenn.", False),
        ("builder", "Ada Brenn", "The tower was designed and built by Ada Brenn.", False),
        ("published by", "Ada Brenn", "It was written by Ada Brenn in a single winter.", True),
        ("director", "Dipti Pal", "A film directed by Sujit Guha and produced by Dipti Pal.", True),
        ("director", "Sujit Guha", "A film directed by Sujit Guha and produced by Dipti Pal.", False),
        ("composer", "Ada Brenn", "A song written by Ada Brenn.", False),
        ("architect", "Ada Brenn", "It was paid for by Ada Brenn, its architect.", False),
        ("builder", "Holm Yard", "It was designed by Holm Yard, and Holm Yard built it.", False),
        ("spouse", "Ada Brenn", "The house was designed by Ada Brenn.", False),
    ],
)
def test_what_is_told_of_the_other_is_told_apart(
    relation: str, value: str, sentence: str, expected: bool
) -> None:
    assert told_of_the_other(relation, value, sentence) is expected


@given(st.text(max_size=60), st.text(max_size=20), st.text(max_size=60))
def test_any_text_may_be_told(relation: str, value: str, sentence: str) -> None:
    assert told_of_the_other(relation, value, sentence) in (True, False)


def test_a_day_is_no_answer_where_no_word_of_the_question_is_about_time() -> None:
    asked = "What was the bomb called that was dropped on the home town of Ada Brenn?"
    assert in_the_form_asked(asked, "6 August 1945") is None
    assert in_the_form_asked(asked, "Little Boy") == "Little Boy"
    assert in_the_form_asked("On what day was it dropped?", "6 August 1945") == "6 August 1945"


def test_what_a_question_asks_for_is_its_first_words_only() -> None:
    assert in_the_form_asked("When Harry Met Sally was directed by whom?", "Rob Reiner") == "Rob Reiner"
    assert in_the_form_asked("Mother Brenn got the prize in what year?", "4 May 1979") == "1979"
    assert in_the_form_asked("When was the Lark launched?", "Port Ennis") is None
    assert in_the_form_asked("Who built the Lark?", "1801") is None


@pytest.mark.parametrize(
    ("first", "second", "is_same"),
    [
        ("10,000", "25,000", False),
        ("1985 World Series", "1985 Super Bowl", False),
        ("Boeing 747", "Studio 747", False),
        ("4 May 1890", "May 4, 1890", True),
        ("4 May 1890", "1890", True),
        ("Port Ennis", "Port Ennis, Mora", True),
    ],
)
def test_values_that_share_a_number_are_not_the_same(first: str, second: str, is_same: bool) -> None:
    assert same(first, second) is is_same
    assert same(second, first) is is_same


def test_years_before_christ_and_units_are_compared_as_such() -> None:
    names = ("Lark", "Wren")
    assert compare(Operation.EARLIER, names, ("322 BC", "347 BC")) == "Wren"
    assert compare(Operation.EARLIER, names, ("AD 14", "27 BC")) is None  # years of two digits are no dates
    assert compare(Operation.LARGER, names, ("1.2 km", "900 m")) == "Lark"
    assert compare(Operation.LARGER, names, ("1.2 km", "900 kg")) is None
    assert compare(Operation.SMALLER, names, ("300 feet", "100")) == "Wren"
    assert parse_number("2 million, as of 2010") == 2e6


def test_native_says_nothing_of_birth() -> None:
    assert not told_of_the_other("native language", "Polish", "Ada died in Kraków, a speaker of Polish.")


def test_a_yard_is_no_town() -> None:
    assert not fits("home port", "Joltansk Yard")
    assert not fits("birthplace", "Irdansk Academy")
    assert fits("home port", "Joltansk")
    assert fits("country", "Trinidad & Tobago")
    assert fits("yard", "Joltansk Yard")
    assert fits("town hall architect", "Hall & Sons Ltd")


def test_what_the_question_names_is_no_answer_to_it_unless_it_offers_a_choice() -> None:
    asked = "What landlocked country in Southern Africa is the birthplace of Ann Vell?"
    assert in_the_form_asked(asked, "Southern Africa") is None
    assert in_the_form_asked(asked, "Botswana") == "Botswana"
    assert in_the_form_asked("In what year was he born who was elected in 2000?", "2000") is None
    for choice in (
        "Which is older, the Lark or, of the same yard, the Swift?",
        "Of the Lark and the Swift, which is older?",
        "The Swift and the Lark: which of them is older?",
    ):
        assert in_the_form_asked(choice, "Lark") == "Lark"
        assert in_the_form_asked(choice, "the Swift") == "the Swift"
    assert in_the_form_asked("Is there no ferry to Port Ennis?", "no") == "no"
