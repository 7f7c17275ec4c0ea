from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest
from fakes import HashEmbedder
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.language_models import GenericFakeChatModel
from langchain_core.messages import AIMessage

from ragpool.distil import Distiller
from ragpool.generate import UNVERIFIED, ChatGenerator, Generator, SlotGenerator, check
from ragpool.plan import parse_plan
from ragpool.slots import Reading
from ragpool.types import AnswerStatus, Binding, Draft, Evidence, Judgement, Question, Span, Usage


def passage(name: str, text: str) -> Evidence:
    return Evidence(name, name, name, text, (Span(0, len(text)),), 0, "q", 1.0)


CONTEXT = [
    passage("Alda Brenn", "The mother of Alda Brenn was Cora Vell."),
    passage("Cora Vell", "Cora Vell was born at Port Ennis in 1801. She had 3 ships."),
]
PLAN = parse_plan(
    "Alda Brenn | mother | ?1\n?1 | birthplace | ?2", "Where was the mother of Alda Brenn born?"
)
assert PLAN is not None
BINDINGS = (
    Binding("?1", "Cora Vell", "Alda Brenn", "The mother of Alda Brenn was Cora Vell.", 0.9),
    Binding("?2", "Port Ennis", "Cora Vell", "Cora Vell was born at Port Ennis in 1801.", 0.9),
)


@pytest.fixture
def distiller() -> Distiller:
    return Distiller(HashEmbedder())


def written(
    generator: Generator,
    question: Question,
    bindings: tuple[Binding, ...] = (),
    reading: Reading = Reading(None, 0.0),
    context: Sequence[Evidence] = CONTEXT,
) -> tuple[list[str], Draft, Usage]:
    def read(query: str, contexts: Sequence[tuple[str, str]]) -> Reading:
        return reading

    steps = generator.generate(question, context, Judgement(True, 0.9, bindings=bindings), read)
    pieces: list[str] = []
    while True:
        try:
            pieces.append(next(steps))
        except StopIteration as end:
            return pieces, *end.value


class TestSlots:
    def test_closed_slots_are_the_answer(self, distiller: Distiller) -> None:
        pieces, draft, usage = written(SlotGenerator(distiller), PLAN, BINDINGS)
        assert (draft.answer, draft.text, usage) == ("Port Ennis", "Port Ennis [1][2]", Usage())
        assert "".join(pieces) == draft.text
        assert all(c.supported for c in draft.citations)

    def test_an_answer_that_rests_on_a_supposition_is_partial(self, distiller: Distiller) -> None:
        supposed = (replace(BINDINGS[0], supposed=True), BINDINGS[1])
        _, draft, _ = written(SlotGenerator(distiller), PLAN, supposed)
        assert (draft.answer, draft.status) == ("Port Ennis", AnswerStatus.PARTIAL)

    def test_where_the_plan_led_nowhere_a_single_searchs_answer_is_a_partial_one(
        self, distiller: Distiller
    ) -> None:
        plan = parse_plan(
            "Alda Brenn | age | ?1\n?1 | date of death | ?2", "Where was the mother of Alda Brenn born?"
        )
        assert plan is not None
        _, draft, _ = written(SlotGenerator(distiller), plan, (), Reading("Port Ennis", 0.8))
        assert (draft.answer, draft.status) == ("Port Ennis", AnswerStatus.PARTIAL)
        assert "Cora Vell" in [c.document_id for c in draft.citations]
        _, draft, _ = written(SlotGenerator(distiller), plan, (), Reading("Port Ennis", 0.3))
        assert draft.status is AnswerStatus.INSUFFICIENT

    def test_a_value_that_is_not_firm_gives_way_to_a_surer_answer_of_a_single_search(
        self, distiller: Distiller
    ) -> None:
        doubted = (BINDINGS[0], replace(BINDINGS[1], value="1801", confidence=0.5))
        for confidence, answer, status in (
            (0.7, "Port Ennis", AnswerStatus.PARTIAL),
            (0.4, "1801", AnswerStatus.ANSWERED),
        ):
            _, draft, _ = written(SlotGenerator(distiller), PLAN, doubted, Reading("Port Ennis", confidence))
            assert (draft.answer, draft.status) == (answer, status)
        firm = (BINDINGS[0], replace(doubted[1], confidence=0.65))
        _, draft, _ = written(SlotGenerator(distiller), PLAN, firm, Reading("Port Ennis", 0.7))
        assert draft.answer == "1801"

    def test_a_question_about_nobody_here_is_not_answered_so(self, distiller: Distiller) -> None:
        plan = parse_plan(
            "Bo Reed | age | ?1\n?1 | date of death | ?2", "Where was the mother of Bo Reed born?"
        )
        assert plan is not None
        _, draft, _ = written(SlotGenerator(distiller), plan, (), Reading("Port Ennis", 0.8))
        assert draft.status is AnswerStatus.INSUFFICIENT

    def test_an_open_chain_is_read_from_the_context(self, distiller: Distiller) -> None:
        _, draft, _ = written(SlotGenerator(distiller), PLAN, BINDINGS[:1], Reading("Port Ennis", 0.8))
        assert draft.answer == "Port Ennis"
        assert {c.passage_id for c in draft.citations} == {"Alda Brenn", "Cora Vell"}

    def test_the_end_of_a_chain_is_not_read_from_a_page_that_nothing_leads_to(
        self, distiller: Distiller
    ) -> None:
        plan = parse_plan(
            "Alda Brenn | mother | ?1\n?1 | teacher | ?2\n?2 | birthplace | ?3",
            "Where was the teacher of the mother of Alda Brenn born?",
        )
        assert plan is not None
        reading = Reading("Port Ennis", 0.8)
        stray = [CONTEXT[0], passage("Dora Lund", "Dora Lund was born at Port Ennis in 1801.")]
        _, draft, _ = written(SlotGenerator(distiller), plan, BINDINGS[:1], reading, stray)
        assert draft.status is AnswerStatus.INSUFFICIENT
        _, draft, _ = written(SlotGenerator(distiller), plan, BINDINGS[:1], reading)
        assert draft.answer == "Port Ennis"

    def test_of_two_that_are_compared_one_is_the_answer(self, distiller: Distiller) -> None:
        plan = parse_plan(
            "Alda Brenn | date of birth | ?1\nCora Vell | date of birth | ?2\n= earlier",
            "Who was born first, Alda Brenn or Cora Vell?",
        )
        assert plan is not None
        _, draft, _ = written(SlotGenerator(distiller), plan, (), Reading("Port Ennis", 0.8))
        assert draft.status is AnswerStatus.INSUFFICIENT
        _, draft, _ = written(SlotGenerator(distiller), plan, (), Reading("Cora", 0.8))
        assert draft.answer == "Cora Vell"

    def test_one_that_is_compared_may_be_a_part_of_the_others_name(self, distiller: Distiller) -> None:
        plan = parse_plan(
            "Cora | date of birth | ?1\nCora Vell | date of birth | ?2\n= earlier",
            "Who was born first, Cora or Cora Vell?",
        )
        assert plan is not None
        _, draft, _ = written(SlotGenerator(distiller), plan, (), Reading("Cora Vell", 0.8))
        assert draft.answer == "Cora Vell"

    def test_two_quotes_of_one_passage_are_two_citations(self, distiller: Distiller) -> None:
        plan = parse_plan(
            "Cora Vell | birthplace | ?1\nCora Vell | number of ships | ?2", "How many ships had Cora Vell?"
        )
        assert plan is not None
        bindings = (
            replace(BINDINGS[1], slot="?1"),
            Binding("?2", "3", "Cora Vell", "She had 3 ships.", 0.9),
        )
        _, draft, _ = written(SlotGenerator(distiller), plan, bindings)
        assert draft.text == "3 [2]"
        assert [c.quote for c in draft.citations] == [BINDINGS[1].quote, "She had 3 ships."]
        assert all(c.supported for c in draft.citations)

    def test_nothing_read_is_a_refusal(self, distiller: Distiller) -> None:
        pieces, draft, _ = written(SlotGenerator(distiller), PLAN, BINDINGS[:1])
        assert (pieces, draft.status, draft.citations) == ([], AnswerStatus.INSUFFICIENT, ())

    def test_without_abstention_what_is_unsure_is_given_as_partial(self, distiller: Distiller) -> None:
        unsure = Reading("Port Ennis", 0.2)
        _, refused, _ = written(SlotGenerator(distiller), PLAN, BINDINGS[:1], unsure)
        _, guessed, _ = written(SlotGenerator(distiller, abstain=False), PLAN, BINDINGS[:1], unsure)
        assert (refused.answer, refused.status) == ("", AnswerStatus.INSUFFICIENT)
        assert (guessed.answer, guessed.status) == ("Port Ennis", AnswerStatus.PARTIAL)
        assert all(c.supported for c in guessed.citations)
        _, sure, _ = written(SlotGenerator(distiller, abstain=False), PLAN, BINDINGS)
        assert sure.status is AnswerStatus.ANSWERED

    def test_a_binding_whose_quote_is_not_stored_supports_nothing(self, distiller: Distiller) -> None:
        forged = Binding("?2", "Great Holm", "Cora Vell", "Cora Vell was born at Great Holm.", 0.9)
        _, draft, _ = written(SlotGenerator(distiller), PLAN, (BINDINGS[0], forged))
        assert [c.supported for c in draft.citations] == [True, False]


class TestCheck:
    def draft(self, text: str, distiller: Distiller) -> Draft:
        return check(text, Question("Where was Cora Vell born?"), CONTEXT, distiller)

    def test_a_true_citation_is_kept_with_its_sentence(self, distiller: Distiller) -> None:
        draft = self.draft("Port Ennis [2]", distiller)
        assert (draft.text, draft.answer) == ("Port Ennis [2]", "Port Ennis")
        assert draft.citations[0].quote == "Cora Vell was born at Port Ennis in 1801."

    @pytest.mark.parametrize("text", ["Great Holm [2]", "1802 [2]", "Port Ennis [1]", "Port Ennis"])
    def test_a_claim_its_source_does_not_make_is_marked(self, text: str, distiller: Distiller) -> None:
        draft = self.draft(text, distiller)
        assert draft.text.endswith(UNVERIFIED)
        assert not any(c.supported for c in draft.citations)

    def test_a_marker_that_points_nowhere_is_taken_out(self, distiller: Distiller) -> None:
        draft = self.draft("Port Ennis [2][9]", distiller)
        assert "[9]" not in draft.text
        assert [c.marker for c in draft.citations] == [2]

    @given(st.text(max_size=120))
    def test_any_text_has_citations_of_given_passages_only(self, text: str) -> None:
        draft = self.draft(text, Distiller(HashEmbedder()))
        assert {c.passage_id for c in draft.citations} <= {e.passage_id for e in CONTEXT}
        for citation in draft.citations:
            assert citation.quote in CONTEXT[citation.marker - 1].text


class TestChat:
    def chat(self, *replies: str) -> Any:
        def messages() -> Iterator[AIMessage]:
            yield from map(AIMessage, replies)

        return GenericFakeChatModel(messages=messages())

    def test_streams_and_checks(self, distiller: Distiller) -> None:
        generator = ChatGenerator(self.chat("Port Ennis [2]"), "fake", distiller)
        pieces, draft, usage = written(generator, Question("Where was Cora Vell born?"))
        assert len(pieces) > 1
        assert "".join(pieces) == "Port Ennis [2]"
        assert draft.citations[0].document_id == "Cora Vell"
        assert usage.llm_calls == 1

    @pytest.mark.parametrize("reply", ["NOT FOUND", "not found.", "  "])
    def test_a_refusal_is_a_refusal(self, reply: str, distiller: Distiller) -> None:
        _, draft, _ = written(ChatGenerator(self.chat(reply), "fake", distiller), Question("Who?"))
        assert draft.status is AnswerStatus.INSUFFICIENT

    @pytest.mark.parametrize(
        "reply",
        [
            "'NOT FOUND'",
            "[NOT FOUND]",
            "NOT FOUND. Nothing tells.",
            "[1] NOT FOUND",
            "It is not told. NOT FOUND",
            "[1]",
            "...",
        ],
    )
    def test_a_refusal_in_brackets_or_a_reply_without_words_is_a_refusal(
        self, reply: str, distiller: Distiller
    ) -> None:
        _, draft, _ = written(ChatGenerator(self.chat(reply), "fake", distiller), Question("Who?"))
        assert (draft.status, draft.citations) == (AnswerStatus.INSUFFICIENT, ())

    def test_something_that_was_not_found_is_no_refusal(self, distiller: Distiller) -> None:
        context = [passage("Ennis Bell", "The wreck of the Ennis Bell was not found until 1985.")]
        for reply in ("The wreck was not found until 1985 [1]", "Not found until 1985 [1]"):
            generator = ChatGenerator(self.chat(reply), "fake", distiller)
            _, draft, _ = written(generator, Question("When was the Ennis Bell found?"), context=context)
            assert (draft.status, draft.text) == (AnswerStatus.ANSWERED, reply)

    @pytest.mark.parametrize(
        ("reply", "text"),
        [
            ("Port Ennis [2].", "Port Ennis [2]"),
            ("'Port Ennis [2]'", "'Port Ennis [2]"),
            ("Cora Vell [1], [2].", "Cora Vell [1][2]"),
            ("Cora Vell [1]. Port Ennis [2].", "Cora Vell [1] Port Ennis [2]"),
        ],
    )
    def test_stops_and_brackets_after_a_mark_are_no_claims(
        self, reply: str, text: str, distiller: Distiller
    ) -> None:
        _, draft, _ = written(ChatGenerator(self.chat(reply), "fake", distiller), Question("Who and where?"))
        assert draft.text == text
        assert all(c.supported for c in draft.citations)

    @pytest.mark.parametrize(
        ("question", "reply", "supported"),
        [
            ("Was Cora Vell born in 1802?", "Cora Vell was born in 1802 [2]", False),
            ("Was Cora Vell born in 1802?", "No, Cora Vell was born in 1801 [2]", True),
            ("Was Cora Vell born in May 1801?", "In May 1801 [2]", False),
            ("Where was Cora Vell of Great Holm born?", "Cora Vell of Great Holm: Port Ennis [2]", True),
        ],
    )
    def test_a_number_or_date_of_the_question_needs_a_source(
        self, question: str, reply: str, supported: bool, distiller: Distiller
    ) -> None:
        _, draft, _ = written(ChatGenerator(self.chat(reply), "fake", distiller), Question(question))
        assert [c.supported for c in draft.citations] == [supported]
        assert (UNVERIFIED in draft.text) != supported
