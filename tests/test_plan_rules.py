from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragpool.plan import parse_plan
from ragpool.plan_rules import plan_lines


@pytest.mark.parametrize(
    ("question", "lines"),
    [
        ("Who is the mother of Lothair II?", ["Lothair II | mother | ?1"]),
        (
            "What is the place of birth of the director of film Salt Roads (1950 Film)?",
            ["Salt Roads (1950 Film) | director | ?1", "?1 | place of birth | ?2"],
        ),
        ("When did Ann Pell's husband die?", ["Ann Pell | spouse | ?1", "?1 | date of death | ?2"]),
        ("Who is Bo Reed's paternal grandmother?", ["Bo Reed | father | ?1", "?1 | mother | ?2"]),
        (
            "Who is the father-in-law of Bo Reed?",
            ["Bo Reed | spouse | ?1", "?1 | father | ?2"],
        ),
        ("Why did the author of Orr die?", ["Orr | author | ?1", "?1 | cause of death | ?2"]),
        ("Which country is the composer of song Low Tide from?", ["Low Tide | composer | ?1", "?1 | country of citizenship | ?2"]),
        ("Where did the director of Salt Roads study?", ["Salt Roads | director | ?1", "?1 | educated at | ?2"]),
    ],
)  # fmt: skip
def test_a_chain_is_read_from_the_inside_out(question: str, lines: list[str]) -> None:
    assert plan_lines(question) == lines


@pytest.mark.parametrize(
    ("question", "first", "second", "relation", "operation"),
    [
        ("Who is older, Ann Pell or Bo Reed?", "Ann Pell", "Bo Reed", "date of birth", "earlier"),
        ("Was Ann Pell or Bo Reed born later?", "Ann Pell", "Bo Reed", "date of birth", "later"),
        ("Who died first out of Ann Pell and Bo Reed?", "Ann Pell", "Bo Reed", "date of death", "earlier"),
        ("Which film came out first, Orr or Low, Tide?", "Orr", "Low, Tide", "publication date", "earlier"),
        ("Are both villages, Orr, West Hills and Low End, located in the same country?",
         "Orr, West Hills", "Low End", "country", "same"),
        ("Do the movies The End of the Trail and Orr (Film), originate from the same country?",
         "The End of the Trail", "Orr (Film)", "country of origin", "same"),
        ("Were Ann Pell and Bo Reed of the same nationality?", "Ann Pell", "Bo Reed", "country of citizenship", "same"),
        ("Does Ann Pell have the same nationality as Bo Reed?", "Ann Pell", "Bo Reed", "country of citizenship", "same"),
        ("Were Ann Pell and Bo Reed both born in the same place?", "Ann Pell", "Bo Reed", "place of birth", "same"),
    ],
)  # fmt: skip
def test_two_things_are_compared(
    question: str, first: str, second: str, relation: str, operation: str
) -> None:
    assert plan_lines(question) == [
        f"{first} | {relation} | ?1",
        f"{second} | {relation} | ?2",
        f"= {operation}",
    ]


@pytest.mark.parametrize(
    "question",
    [
        "Which film has the director who was born first, Orr or Low Tide?",
        "Do both films Orr and Low Tide have the directors that share the same nationality?",
        "Are director of film Orr and director of film Low Tide both from the same country?",
        "Are the directors of both films Orr and Low Tide from the same country?",
        "Were the directors of the silent films Orr and Low Tide born in the same place?",
        "Which film whose director is younger, Orr or Low Tide?",
        "Which film has the younger director, Orr or Low Tide?",
        "Which film's director died first, Orr or Low Tide?",
        "Which film was made by the director who died first, Orr or Low Tide?",
        "The director of which film was born later, Orr or Low Tide?",
    ],
)
def test_two_things_are_compared_through_a_role(question: str) -> None:
    subjects = [line.split(" | ")[:2] for line in plan_lines(question)[:-1]]
    assert [subjects[0], subjects[2]] == [["Orr", "director"], ["Low Tide", "director"]]


@pytest.mark.parametrize(
    "question",
    [
        "Which author was born first, Ann Pell or Bo Reed?",
        "Which film director was born first, Ann Pell or Bo Reed?",
        "Which author of novels is older, Ann Pell or Bo Reed?",
        "Who is the older writer, Ann Pell or Bo Reed?",
        "Were the writers Ann Pell and Bo Reed of the same nationality?",
        "Were directors Ann Pell and Bo Reed both from the same country?",
        "Are both film directors, Ann Pell and Bo Reed, from the same country?",
        "Do the film producers Ann Pell and Bo Reed share the same nationality?",
    ],
)
def test_what_two_people_are_is_no_hop(question: str) -> None:
    first, second, operation = plan_lines(question)
    relation = "country of citizenship" if operation == "= same" else "date of birth"
    assert [first, second] == [f"Ann Pell | {relation} | ?1", f"Bo Reed | {relation} | ?2"]


@pytest.mark.parametrize(
    "question",
    [
        "",
        "hello",
        "Who was in charge of the state where Orr is located?",
        "What is the name of the airport in the city where Ann Pell was born?",
        "Which is larger, the dog or the cat?",
        "Who directed the film that was shot in Orr in 1986?",
    ],
)
def test_what_no_pattern_accounts_for_is_left_to_a_model(question: str) -> None:
    assert plan_lines(question) == []


phrase = st.sampled_from(
    "Who What When Are Do is was the of film Ann's Pell Orr (Film) , ? ' or and same country born die father director both".split()
)


@given(st.one_of(st.text(max_size=80), st.lists(phrase, max_size=20).map(" ".join)))
def test_any_text_gives_a_plan_that_is_read_back_or_none(question: str) -> None:
    lines = plan_lines(question)
    plan = parse_plan("\n".join(lines), question)
    assert plan is None or 0 < len(plan.triples) <= len(lines)
    assert lines or plan is None


def test_a_verb_that_no_pattern_knows_is_left_to_the_model() -> None:
    assert plan_lines("Where was the author of The Idle Garden educated?") == []
    assert plan_lines("What is the ship of the author of The Salt Road called?") == []
    assert plan_lines("Where did the author of The Salt Road die?") == [
        "The Salt Road | author | ?1",
        "?1 | place of death | ?2",
    ]
