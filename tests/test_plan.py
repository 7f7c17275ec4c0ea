from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.language_models import FakeListChatModel

from ragpool.plan import (
    PromptedPlanner,
    RulePlanner,
    fill,
    parse_plan,
    plan_prompt,
    slots_in,
    write_plan,
)
from ragpool.types import Operation, Triple

FILMS = "Which film has the director who was born later, Green Harbour or The Salt Road?"
FILM_LINES = """Green Harbour | director | ?1
?1 | date of birth | ?2
The Salt Road | director | ?3
?3 | date of birth | ?4
= later"""


def test_a_chain_is_read_in_order() -> None:
    plan = parse_plan(
        "Lothair II | mother | ?1\n?1 | date of death | ?2", "When did Lothair II's mother die?"
    )
    assert plan is not None
    assert plan.triples == (Triple("Lothair II", "mother", "?1"), Triple("?1", "date of death", "?2"))
    assert plan.operation is Operation.LOOKUP
    assert plan.compared == ()


def test_a_comparison_names_its_operation_and_what_it_compares() -> None:
    plan = parse_plan(FILM_LINES, FILMS)
    assert plan is not None
    assert plan.operation is Operation.LATER
    assert plan.compared == ("Green Harbour", "The Salt Road")
    assert write_plan(plan) == FILM_LINES


def test_a_comparison_with_one_chain_is_a_lookup() -> None:
    plan = parse_plan("Green Harbour | director | ?1\n= later", FILMS)
    assert plan is not None
    assert plan.operation is Operation.LOOKUP
    assert plan.compared == ()


@pytest.mark.parametrize(
    "line",
    [
        "no plan at all",
        "Green Harbour | director",
        "Green Harbour | | ?5",
        "Nowhere at all | director | ?5",
        "?7 | date of birth | ?8",
        "Green Harbour | director of ?9 | ?5",
        "Green Harbour | director | nobody",
        "The Salt Road | director | ?1",
        "Green Harbour | director | ?5",
        "= sideways",
    ],
)
def test_a_bad_line_is_dropped(line: str) -> None:
    first, _, rest = FILM_LINES.partition("\n")
    assert parse_plan(f"{first}\n{line}\n{rest}", FILMS) == parse_plan(FILM_LINES, FILMS)


def test_slots_are_numbered_in_the_order_of_their_lines() -> None:
    plan = parse_plan("Green Harbour | director | ?7\n?7 | mother | ?3", FILMS)
    assert plan is not None
    assert [str(t) for t in plan.triples] == ["(Green Harbour, director, ?1)", "(?1, mother, ?2)"]


def test_names_are_compared_without_case_and_punctuation() -> None:
    assert parse_plan('"the salt road" | director | ?1', FILMS) is not None


@pytest.mark.parametrize("slip", ["The Salty Road", "Salt Road (1958 film)", "The Saltt Roa"])
def test_a_slip_in_a_name_is_mended_from_the_question(slip: str) -> None:
    plan = parse_plan(f"{slip} | director | ?1", FILMS)
    assert plan is not None
    assert plan.triples[0].subject in FILMS
    assert "Salt Road" in plan.triples[0].subject


def test_a_subject_may_hold_a_slot_among_words() -> None:
    plan = parse_plan(
        "David Morse | place of birth | ?1\nLaHave, ?1 | district | ?2", "LaHave of David Morse's birthplace?"
    )
    assert plan is not None
    assert slots_in(plan.triples[1].subject) == ("?1",)
    assert fill(plan.triples[1].subject, {"?1": "Beverly"}) == "LaHave, Beverly"


def test_the_prompt_is_one_line_of_question() -> None:
    assert plan_prompt("Who\n is {question}?") == "Question: Who is {question}?\nPlan:\n"


term = st.one_of(st.sampled_from(["?1", "?2", "?3", "a b", "b", "", "mother", "A ?1"]), st.text(max_size=12))
line = st.one_of(
    st.builds(lambda a, b, c: f"{a} | {b} | {c}", term, term, term),
    st.sampled_from(["= earlier", "=same", "= nothing", "|||"]),
    st.text(max_size=30),
)


@given(st.lists(line, max_size=12).map("\n".join), st.text(max_size=40))
def test_any_text_is_read_or_refused_and_slots_are_bound_before_use(text: str, question: str) -> None:
    plan = parse_plan(text, question)
    if plan is None:
        return
    produced: set[str] = set()
    for triple in plan.triples:
        assert {*slots_in(triple.subject), *slots_in(triple.relation)} <= produced
        assert triple.object not in produced
        produced.add(triple.object)
    assert plan.operation is Operation.LOOKUP or len(plan.compared) >= 2
    assert parse_plan(write_plan(plan), question) == plan


@pytest.mark.parametrize(
    ("question", "lines"),
    [
        (FILMS, FILM_LINES),
        (
            "What is the date of birth of the performer of song Get Low (Some Song)?",
            "Get Low (Some Song) | performer | ?1\n?1 | date of birth | ?2",
        ),
        (
            "When was the director of film King Of The Sierras born?",
            "King Of The Sierras | director | ?1\n?1 | date of birth | ?2",
        ),
        (
            "Do Billy Mitchell and Carla Garrett have the same nationality?",
            "Billy Mitchell | country of citizenship | ?1\nCarla Garrett | country of citizenship | ?2\n= same",
        ),
        ("Who is the mother of Lothair II?", "Lothair II | mother | ?1"),
        ("hello", ""),
        ("", ""),
    ],
)
def test_rules_read_common_forms(question: str, lines: str) -> None:
    assert write_plan(RulePlanner().plan(question)[0]) == lines


@given(st.text(max_size=80))
def test_rules_never_raise(question: str) -> None:
    assert RulePlanner().plan(question)[0].text == question


def test_a_chat_model_may_write_the_plan() -> None:
    chat = FakeListChatModel(responses=[f"Here it is:\n{FILM_LINES}"])
    plan, usage = PromptedPlanner(chat).plan(FILMS)
    assert write_plan(plan) == FILM_LINES
    assert usage.llm_calls == 1


def test_rules_step_in_where_a_reply_cannot_be_read() -> None:
    plan, _ = PromptedPlanner(FakeListChatModel(responses=["I cannot do that."])).plan(FILMS)
    assert write_plan(plan) == FILM_LINES
    assert plan.planner == "rules@1"


def test_how_many_asks_for_a_number() -> None:
    plan = parse_plan("Tide Hall | objects kept | ?1", "How many objects does Tide Hall keep?")
    assert plan is not None
    assert [t.relation for t in plan.triples] == ["number of objects kept"]
    plan = parse_plan("Holm | population | ?1", "How many people live at Holm?")
    assert plan is not None
    assert [t.relation for t in plan.triples] == ["population"]
