from __future__ import annotations

import pytest
from fakes import HashEmbedder
from family import DOCUMENTS
from hypothesis import given
from hypothesis import strategies as st

from ragpool.distil import Distiller
from ragpool.plan import parse_plan
from ragpool.refine import QUERIES_A_ROUND, Refiner, TitleIndex, order, pack
from ragpool.types import Binding, Document, Evidence, Gap, Judgement, Question, Span, Triple


def evidence(document: Document, round: int = 0) -> Evidence:
    spans = (Span(0, len(document.text)),)
    return Evidence(document.id, document.id, document.title, document.text, spans, round, "q", 1.0)


BY_ID = {d.id: d for d in DOCUMENTS}
QUESTION = parse_plan(
    "Alda Brenn | mother | ?1\n?1 | birthplace | ?2", "Where was the mother of Alda Brenn born?"
)
assert QUESTION is not None
MOTHER = Binding("?1", "Cora Vell", "alda", "The mother of Alda Brenn was Cora Vell.", 0.9)
GAP = Gap("Cora Vell, birthplace", Triple("Cora Vell", "birthplace", "?2"))


@pytest.fixture
def distiller() -> Distiller:
    return Distiller(HashEmbedder())


class TestTitleIndex:
    titles = TitleIndex(["Port Ennis", "Ennis", "Cora Vell (pilot)", "The Lark", "it"])

    def test_the_longest_title_wins(self) -> None:
        assert self.titles.named_in("She sailed from Port Ennis on Monday.") == ["Port Ennis"]

    def test_brackets_case_and_accents_are_aside(self) -> None:
        assert self.titles.named_in("Then CÔRA Vell spoke") == ["Cora Vell (pilot)"]

    def test_a_title_must_be_capitalised_in_the_text(self) -> None:
        assert self.titles.named_in("the lark sang over ennis and it rained") == []

    @given(st.text(max_size=200))
    def test_any_text(self, text: str) -> None:
        assert set(self.titles.named_in(text)) <= {
            "Port Ennis",
            "Ennis",
            "Cora Vell (pilot)",
            "The Lark",
            "it",
        }


class TestRefine:
    def refine(
        self, distiller: Distiller, asked: set[str], judgement: Judgement, pool: list[Evidence]
    ) -> list[str]:
        refiner = Refiner(distiller, TitleIndex([d.title for d in DOCUMENTS]))
        assert QUESTION is not None
        return [q.text for q in refiner.refine(QUESTION, judgement, pool, lambda text: text in asked)]

    def test_a_gap_becomes_a_query_and_its_subject_is_fetched_by_title(self, distiller: Distiller) -> None:
        judgement = Judgement(False, 0.2, (GAP,), bindings=(MOTHER,))
        assert self.refine(distiller, set(), judgement, [evidence(BY_ID["alda"])]) == [
            "Cora Vell birthplace",
            "Cora Vell",
        ]

    def test_a_page_that_closed_nothing_leads_on_to_what_it_names(self, distiller: Distiller) -> None:
        judgement = Judgement(False, 0.2, (GAP,), bindings=(MOTHER,))
        pool = [evidence(BY_ID["alda"]), evidence(BY_ID["cora"])]
        assert self.refine(distiller, set(), judgement, pool) == ["Cora Vell birthplace", "Port Ennis"]

    def test_what_was_asked_is_not_asked_again(self, distiller: Distiller) -> None:
        judgement = Judgement(False, 0.2, (GAP,), bindings=(MOTHER,))
        pool = [evidence(BY_ID["alda"]), evidence(BY_ID["cora"])]
        assert self.refine(distiller, {"Cora Vell birthplace"}, judgement, pool) == ["Port Ennis"]
        sent = {"Cora Vell birthplace", "Port Ennis"}
        queries = self.refine(distiller, sent, judgement, pool)
        assert queries == ["Where was the mother of Alda Brenn born? Cora Vell"]
        assert self.refine(distiller, {*sent, *queries}, judgement, pool) == []

    def test_the_page_that_an_open_subject_may_be_comes_early(self, distiller: Distiller) -> None:
        assert QUESTION is not None
        pool = [evidence(BY_ID[name]) for name in ("ennis", "ilse", "cora", "alda") if name in BY_ID]
        titles = [e.title for e in order(QUESTION, (), pool, distiller)]
        assert titles[:2] == ["Alda Brenn", "Cora Vell"]

    def test_a_free_gap_follows_the_names_in_the_evidence(self, distiller: Distiller) -> None:
        free = Judgement(False, 0.2, (Gap("Where was the mother of Alda Brenn born?"),))
        assert "Cora Vell" in self.refine(distiller, set(), free, [evidence(BY_ID["alda"])])

    def test_a_free_gap_in_other_words_than_the_question_is_a_query(self, distiller: Distiller) -> None:
        assert QUESTION is not None
        missing = Judgement(False, 0.2, (Gap("birthplace of Cora Vell"), Gap(QUESTION.text)))
        pool = [evidence(BY_ID["alda"]), evidence(BY_ID["cora"]), evidence(BY_ID["ennis"])]
        assert self.refine(distiller, set(), missing, pool) == ["birthplace of Cora Vell"]
        assert "birthplace of Cora Vell" not in self.refine(
            distiller, {"birthplace of Cora Vell"}, missing, pool
        )

    def test_never_more_queries_than_a_round_may_have(self, distiller: Distiller) -> None:
        gaps = tuple(Gap(f"{d.title}, mother", Triple(d.title, "mother", "?1")) for d in DOCUMENTS)
        many = Judgement(False, 0.2, gaps)
        assert len(self.refine(distiller, set(), many, [])) == QUERIES_A_ROUND


class TestOrder:
    def test_what_closed_a_slot_comes_first(self, distiller: Distiller) -> None:
        pool = [evidence(d) for d in DOCUMENTS[5:]] + [evidence(BY_ID["cora"]), evidence(BY_ID["alda"])]
        birth = Binding("?2", "Port Ennis", "cora", "The birthplace of Cora Vell was Port Ennis.", 0.9)
        assert QUESTION is not None
        ordered = order(QUESTION, (MOTHER, birth), pool, distiller)
        assert [e.passage_id for e in ordered[:2]] == ["alda", "cora"]

    def test_the_open_lookup_pulls_its_subject_forward(self, distiller: Distiller) -> None:
        pool = [evidence(d) for d in DOCUMENTS[5:]] + [evidence(BY_ID["cora"]), evidence(BY_ID["alda"])]
        assert QUESTION is not None
        ordered = order(QUESTION, (MOTHER,), pool, distiller)
        assert "cora" in [e.passage_id for e in ordered[:3]]

    @given(st.permutations([evidence(d) for d in DOCUMENTS[:6]]))
    def test_a_permutation_that_does_not_depend_on_the_order_of_admission(self, pool: list[Evidence]) -> None:
        distiller = Distiller(HashEmbedder())
        assert QUESTION is not None
        ordered = order(QUESTION, (MOTHER,), pool, distiller)
        assert sorted(e.passage_id for e in ordered) == sorted(e.passage_id for e in pool)
        assert ordered == order(QUESTION, (MOTHER,), sorted(pool, key=lambda e: e.passage_id), distiller)


class TestPack:
    @given(st.lists(st.integers(0, 40), max_size=12), st.integers(0, 120), st.integers(1, 8))
    def test_within_budget_in_order_and_greedy(self, sizes: list[int], budget: int, most: int) -> None:
        pool = [
            Evidence(str(n), str(n), "t", "w " * size, (Span(0, 2 * size),), 0, "q", 1.0)
            for n, size in enumerate(sizes)
        ]
        given_ = pack(pool, max_passages=most, budget=budget, count=lambda text: len(text.split()))
        costs = [1 + sizes[int(e.passage_id)] for e in given_]
        assert sum(costs) <= budget
        assert len(given_) <= most
        assert [int(e.passage_id) for e in given_] == sorted(int(e.passage_id) for e in given_)
        if len(given_) < min(most, len(pool)):
            left = budget - sum(costs)
            after = [e for e in pool if e not in given_]
            assert all(1 + sizes[int(e.passage_id)] > left for e in after)

    def test_whole_passages_where_they_fit_else_distilled(self) -> None:
        pool = [
            Evidence(i, i, "t", "one two three four five six", (Span(0, 3), Span(8, 13)), 0, "q", 1.0)
            for i in ("a", "b", "c")
        ]

        def words(text: str) -> int:
            return len(text.split())

        def packed(whole: bool) -> list[str]:
            found = pack(pool, max_passages=8, budget=11, count=words, whole=whole)
            return [" ".join(e.sentences) for e in found]

        assert packed(False) == ["one three"] * 3
        assert packed(True) == ["one two three four five six", "one three"]

    def test_questions_without_a_plan_are_ordered_too(self) -> None:
        question = Question("Where was Cora Vell born?")
        pool = [evidence(d) for d in DOCUMENTS]
        assert order(question, (), pool, Distiller(HashEmbedder()))[0].passage_id == "cora"
