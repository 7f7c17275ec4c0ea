"""What must hold of every pool, whatever is done to it and in whatever order."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from pools import evidence, finish, open_run, prose

from ragpool.db import Database
from ragpool.pool import PoolStore, normalise_query, question_key
from ragpool.pool.duplicates import THRESHOLD, NearDuplicates
from ragpool.pool.history import EvidenceRow
from ragpool.types import (
    Binding,
    Citation,
    Evidence,
    EvidenceStatus,
    Gap,
    Judgement,
    Operation,
    Query,
    Question,
    Span,
    Triple,
    Usage,
)

shared_database = settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],  # each example opens a run of its own
)
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=40)
names = texts.filter(bool)
numbers = st.floats(allow_nan=False, allow_infinity=False)
counts = st.integers(0, 2**31 - 1)
triples = st.builds(Triple, texts, texts, texts)
gaps = st.builds(Gap, texts, st.none() | triples)
bindings = st.builds(Binding, texts, texts, texts, texts, numbers)
usages = st.builds(Usage, counts, counts, counts, counts)
scalars = st.none() | st.booleans() | st.integers(-(2**60), 2**60) | numbers | texts
candidates = st.builds(
    Evidence,
    passage_id=names,
    document_id=texts,
    title=texts,
    text=texts,
    spans=st.lists(st.builds(Span, counts, counts), max_size=3).map(tuple),
    round=st.just(0),
    query=texts,
    score=numbers,
    gap=st.none() | texts,
    status=st.sampled_from([EvidenceStatus.QUARANTINED, EvidenceStatus.REJECTED]),
    reason=texts,
    metadata=st.dictionaries(texts, scalars, max_size=3),
)
judgements = st.builds(
    Judgement, st.booleans(), numbers, st.lists(gaps).map(tuple), texts, st.lists(bindings).map(tuple)
)
questions = st.builds(
    Question,
    texts,
    st.lists(triples, max_size=3).map(tuple),
    st.sampled_from(Operation),
    st.lists(texts, max_size=2).map(tuple),
    texts,
)
citations = st.builds(Citation, counts, texts, texts, texts, st.booleans())


# -- what goes in comes out ----------------------------------------------------------------------------------


@shared_database
@given(st.lists(candidates, max_size=4, unique_by=lambda e: e.passage_id), usages, numbers)
def test_evidence_comes_back_as_it_was(
    database: Database, given_: list[Evidence], usage: Usage, seconds: float
) -> None:
    store = PoolStore(database)
    pool = open_run(store, job="")
    assert pool.add(0, [], given_, usage, seconds) == tuple(given_)
    again = store.pool(pool.run_id)
    assert again.evidence == tuple(given_)
    assert (again.usage, again.seconds) == (usage, seconds)


@shared_database
@given(questions, judgements, st.lists(st.builds(Query, texts, texts, st.none() | texts), max_size=3))
def test_plans_judgements_and_queries_come_back_as_they_were(
    database: Database, question: Question, judgement: Judgement, queries: list[Query]
) -> None:
    store = PoolStore(database)
    pool = open_run(store, job="")
    pool.save_plan(question, Usage(), 0)
    pool.add(0, queries, [], Usage(), 0)
    pool.save_judgement(0, judgement, Usage(), 0)
    again = store.pool(pool.run_id)
    assert again.question == question
    assert again.judgements == ((0, judgement),)
    first_of_each = {normalise_query(query.text): query for query in reversed(queries)}
    assert again.queries == tuple(q for q in queries if first_of_each[normalise_query(q.text)] is q)
    assert all(again.asked(query.text) for query in queries)


@shared_database
@given(
    st.lists(citations, max_size=3),
    st.lists(texts, max_size=3),
    texts,
    st.dictionaries(texts, texts, max_size=2),
)
def test_answers_come_back_as_they_were(
    database: Database, cited: list[Citation], missing: list[str], text: str, models: dict[str, str]
) -> None:
    store = PoolStore(database)
    pool = open_run(store, job="", models=models)
    answer = finish(pool, citations=cited, missing=missing, text=text, answer=text)
    assert (answer.citations, answer.missing, answer.text) == (tuple(cited), tuple(missing), text)
    assert answer.models == models
    assert store.pool(pool.run_id).answer == answer


# -- normal forms --------------------------------------------------------------------------------------------


@given(st.text())
def test_a_normal_form_is_its_own_normal_form(text: str) -> None:
    normal = normalise_query(text)
    assert normalise_query(normal) == normal
    assert normal == normal.strip()
    assert "  " not in normal


@given(st.lists(st.text(st.characters(categories=["L", "N"]), min_size=1), min_size=1), st.data())
def test_case_space_and_punctuation_do_not_count(words: list[str], data: st.DataObject) -> None:
    noise = st.text(" \t\n.,;:!?\"'()[]\u2026\u2014\u00ab\u00bb\u00a0", min_size=1)
    text = "".join(data.draw(noise) + word for word in words) + data.draw(noise)
    assert normalise_query(text) == normalise_query(" ".join(words))
    ascii_words = [word for word in words if word.isascii()]
    assert normalise_query(" ".join(ascii_words).upper()) == normalise_query(" ".join(ascii_words))


@given(st.tuples(st.text(), st.text()), st.tuples(st.text(), st.text()))
def test_question_keys_tell_questions_apart(one: tuple[str, str], other: tuple[str, str]) -> None:
    assert (question_key(*one) == question_key(*other)) is (one == other)
    assert len(question_key(*one)) == 64


# -- near duplicates -----------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 2), st.integers(84, 90)), max_size=12))
def test_the_sketch_finds_what_the_comparison_finds(recipes: list[tuple[int, int, int]]) -> None:
    compared, sketched = NearDuplicates(sketched=10**9), NearDuplicates(sketched=0)
    for number, (seed, changed, length) in enumerate(recipes):
        words = prose(seed, length).split()
        for step in range(changed):
            words[(step * 17) % length] = "changed"
        passage = evidence(str(number), " ".join(words))
        slow, fast = compared.original_of(passage), sketched.original_of(passage)
        assert fast == slow
        if slow is None:
            compared.add(passage)
            sketched.add(passage)
        else:
            assert THRESHOLD <= slow[1] <= 1


# -- everything at once --------------------------------------------------------------------------------------


class PoolMachine(RuleBasedStateMachine):
    """Two runs share a scope; a plain list is the model of what the scope must hold."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.database = Database.in_folder(Path(self.folder.name))
        self.written: list[Evidence] = []  # every row, in order
        self.seen: tuple[EvidenceRow, ...] = ()
        self.rounds: dict[int, dict[int, tuple[Evidence, ...]]] = {0: {}, 1: {}}
        self.asked: dict[int, list[str]] = {0: [], 1: []}

    @initialize()
    def open(self) -> None:
        store = PoolStore(self.database)
        self.pools = [open_run(store, question_id=str(i), scope="shared") for i in (0, 1)]

    @rule()
    def reopen(self) -> None:
        self.database.close()
        self.database = Database.in_folder(Path(self.folder.name))
        self.open()

    @rule(
        who=st.integers(0, 1),
        number=st.integers(0, 3),
        passages=st.lists(st.tuples(st.integers(0, 7), st.integers(0, 3)), max_size=4),
        quarantine=st.booleans(),
        queries=st.lists(st.sampled_from(["who", "Who?", "when", "where ", "where"]), max_size=2),
    )
    def add(
        self, who: int, number: int, passages: list[tuple[int, int]], quarantine: bool, queries: list[str]
    ) -> None:
        status = EvidenceStatus.QUARANTINED if quarantine else EvidenceStatus.ADMITTED
        found = [evidence(f"p{name}", prose(text), round=number, status=status) for name, text in passages]
        result = self.pools[who].add(number, [Query(q, "gap") for q in queries], found, Usage(1), 1.0)
        if number in self.rounds[who]:
            assert result == self.rounds[who][number]
            return
        expected = self.expected(found)
        assert [replace(e, reason="") for e in result] == expected
        self.rounds[who][number] = result
        self.written += result
        for query in queries:
            if normalise_query(query) not in self.asked[who]:
                self.asked[who].append(normalise_query(query))

    def expected(self, found: list[Evidence]) -> list[Evidence]:
        """Which of the candidates are new, and which of those repeat a text."""
        holders = {e.text for e in self.written if e.status is not EvidenceStatus.DUPLICATE}
        result: list[Evidence] = []
        names = {e.passage_id for e in self.written}
        for candidate in found:
            if candidate.passage_id in names:
                continue
            names.add(candidate.passage_id)
            if candidate.status is EvidenceStatus.ADMITTED and candidate.text in holders:
                candidate = replace(candidate, status=EvidenceStatus.DUPLICATE)
            else:
                holders.add(candidate.text)
            result.append(candidate)
        return result

    @rule(who=st.integers(0, 1), name=st.integers(0, 7), status=st.sampled_from(EvidenceStatus))
    def supersede(self, who: int, name: int, status: EvidenceStatus) -> None:
        latest = {e.passage_id: e for e in self.written}.get(f"p{name}")
        assume(latest is not None)
        assert latest is not None
        self.pools[who].supersede(latest.passage_id, status, "decided")
        if (latest.status, latest.reason) != (status, "decided"):
            self.written.append(replace(latest, status=status, reason="decided"))

    @invariant()
    def history_only_grows(self) -> None:
        for pool in self.pools:
            history = pool.history
            assert history[: len(self.seen)] == self.seen
            assert tuple(row.evidence for row in history) == tuple(self.written)
        self.seen = history

    @invariant()
    def views_follow_from_the_history(self) -> None:
        latest: dict[str, Evidence] = {}
        for row in self.written:
            latest[row.passage_id] = row
        for who, pool in enumerate(self.pools):
            assert pool.evidence == tuple(latest.values())
            assert pool.admitted == tuple(e for e in latest.values() if e.status is EvidenceStatus.ADMITTED)
            assert pool.passage_ids == set(latest)
            assert [normalise_query(q.text) for q in pool.queries] == self.asked[who]
            assert pool.last_round == max(self.rounds[who], default=-1)
            assert pool.usage == Usage(len(self.rounds[who]))

    def teardown(self) -> None:
        self.database.close()
        self.folder.cleanup()


PoolMachine.TestCase.settings = settings(max_examples=10, stateful_step_count=20, deadline=None)
TestPoolMachine = PoolMachine.TestCase
