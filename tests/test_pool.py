from __future__ import annotations

import json

import pytest
from pools import evidence, finish, open_run, prose

from ragpool.db import Database
from ragpool.errors import NotFoundError
from ragpool.pool import PoolStore, answer_json
from ragpool.types import (
    Answer,
    AnswerStatus,
    Citation,
    EvidenceStatus,
    Gap,
    Judgement,
    Query,
    Question,
    StopReason,
    Triple,
    Usage,
)

SURE = Judgement(True, 0.75, (Gap("nothing"),), "rules@1")
UNSURE = Judgement(False, 0.25, (Gap("when it was built", Triple("it", "built in", "?x")),), "rules@1")


@pytest.fixture
def store(database: Database) -> PoolStore:
    return PoolStore(database)


# -- runs ----------------------------------------------------------------------------------------------------


def test_a_new_run_is_empty(store: PoolStore) -> None:
    pool = open_run(store)
    assert (pool.evidence, pool.admitted, pool.queries, pool.judgements) == ((), (), (), ())
    assert (pool.last_round, pool.usage, pool.seconds) == (-1, Usage(), 0.0)
    assert (pool.question, pool.answer, pool.passage_ids) == (None, None, frozenset())
    assert (pool.question_id, pool.question_text, pool.job, pool.scope) == (
        "q1",
        "Who built it?",
        "job",
        pool.run_id,
    )


def test_the_same_question_in_a_job_is_the_same_run(store: PoolStore) -> None:
    assert open_run(store).run_id == open_run(store).run_id


@pytest.mark.parametrize(
    "change", [{"job": "other"}, {"question_id": "q2"}, {"question": "Who burnt it?"}, {"config_hash": "d"}]
)
def test_what_makes_another_run(store: PoolStore, change: dict[str, str]) -> None:
    assert open_run(store).run_id != open_run(store, **change).run_id


def test_without_a_job_each_run_is_new(store: PoolStore) -> None:
    first, second = open_run(store, job=""), open_run(store, job="")
    assert first.run_id != second.run_id
    assert first.job != second.job


def test_a_run_is_found_by_the_beginning_of_its_id(store: PoolStore) -> None:
    pools = {open_run(store, question_id=str(i)).run_id for i in range(17)}
    for run_id in pools:
        assert store.pool(run_id).run_id == run_id
        assert store.pool(run_id[:20]).run_id == run_id
    shared = next(c for c in "0123456789abcdef" if sum(run_id.startswith(c) for run_id in pools) > 1)
    with pytest.raises(NotFoundError, match="several"):
        store.pool(shared)
    for wrong in ("nothing", "", "%", "_"):
        with pytest.raises(NotFoundError, match="ragpool pool ls"):
            store.pool(wrong)


def test_runs_are_listed_newest_first(store: PoolStore) -> None:
    first = open_run(store)
    first.add(0, [Query("a", "question")], [evidence("p"), evidence("r")], Usage(), 1)
    first.supersede("p", EvidenceStatus.REJECTED, "off the subject")
    second = open_run(store, job="other", method="single")
    finish(second, status=AnswerStatus.PARTIAL, stop_reason=StopReason.DEADLINE, rounds=3)
    newest, oldest = store.runs()
    assert (newest.run_id, oldest.run_id) == (second.run_id, first.run_id)
    assert (newest.status, newest.stop_reason, newest.rounds, newest.evidence) == (
        "partial",
        "deadline",
        3,
        0,
    )
    assert newest.finished is not None
    assert newest.finished >= newest.created
    assert (oldest.status, oldest.finished, oldest.rounds, oldest.evidence) == (None, None, 1, 2)
    assert [run.run_id for run in store.runs(job="job")] == [first.run_id]
    assert [run.run_id for run in store.runs(limit=1)] == [second.run_id]


def test_deleting_a_run_takes_everything_with_it(store: PoolStore) -> None:
    pool, other = open_run(store), open_run(store, question_id="q2")
    for each in (pool, other):
        each.add(0, [Query("a", "question")], [evidence("p")], Usage(), 1)
        each.supersede("p", EvidenceStatus.REJECTED, "off the subject")
    store.delete(pool.run_id[:12])
    with pytest.raises(NotFoundError):
        store.pool(pool.run_id)
    with pytest.raises(NotFoundError, match="deleted"):
        pool.add(1, [], [evidence("r")], Usage(), 1)
    assert open_run(store).history == ()
    assert len(other.history) == 2
    assert store.delete_job("job") == 2
    assert store.delete_job("job") == 0
    assert store.runs() == []


def test_shared_evidence_outlives_the_run_that_found_it(store: PoolStore) -> None:
    first, second = (open_run(store, question_id=name, scope="talk") for name in ("q1", "q2"))
    first.add(0, [], [evidence("p")], Usage(), 1)
    second.supersede("p", EvidenceStatus.REJECTED, "off the subject")
    store.delete(first.run_id)
    assert [e.status for e in second.evidence] == [EvidenceStatus.REJECTED]
    store.delete(second.run_id)
    assert open_run(store, scope="talk").evidence == ()


# -- a run, step by step -------------------------------------------------------------------------------------


def test_the_plan_is_saved_once(store: PoolStore) -> None:
    pool = open_run(store)
    plan = Question("Who built it?", (Triple("it", "built by", "?answer"),), planner="rules")
    pool.save_plan(plan, Usage(1, 10, 2), 0.5)
    pool.save_plan(Question("Who burnt it?"), Usage(1, 10, 2), 0.5)
    assert pool.question == plan == open_run(store).question
    assert (pool.usage, pool.seconds) == (Usage(1, 10, 2), 0.5)


def test_a_round_is_committed_with_its_queries_and_evidence(store: PoolStore) -> None:
    pool = open_run(store)
    queries = [Query("Who built it?", "question"), Query("the builder", "gap", "who built it")]
    written = pool.add(0, queries, [evidence("p"), evidence("r")], Usage(retrievals=2), 1.5)
    assert written == (evidence("p"), evidence("r")) == pool.evidence == pool.admitted
    assert pool.queries == tuple(queries)
    assert pool.passage_ids == {"p", "r"}
    assert (pool.last_round, pool.usage, pool.seconds) == (0, Usage(retrievals=2), 1.5)
    again = open_run(store)
    assert (again.evidence, again.queries, again.last_round) == (pool.evidence, pool.queries, 0)


def test_a_round_that_brings_nothing_is_committed_too(store: PoolStore) -> None:
    pool = open_run(store)
    assert pool.add(0, [], [], Usage(retrievals=1), 1) == ()
    assert (pool.last_round, pool.usage.retrievals) == (0, 1)


def test_the_round_of_a_candidate_is_the_round_that_is_committed(store: PoolStore) -> None:
    assert open_run(store).add(4, [], [evidence("p", round=1)], Usage(), 1)[0].round == 4


def test_a_round_twice_is_a_round_once(store: PoolStore) -> None:
    pool, racing = open_run(store), open_run(store)
    written = pool.add(0, [Query("a", "question")], [evidence("p"), evidence("r")], Usage(1), 1)
    pool.supersede("p", EvidenceStatus.REJECTED, "off the subject")
    other = racing.add(0, [Query("b", "question")], [evidence("s")], Usage(7), 7)
    assert other == written
    for view in (pool, racing, open_run(store)):
        assert len(view.history) == 3
        assert view.queries == (Query("a", "question"),)
        assert (view.usage, view.seconds) == (Usage(1), 1)


@pytest.mark.parametrize(
    ("text", "asked"),
    [
        ("  who BUILT it ", True),
        ("Who built \u201cit\u201d?!", True),
        ("\uff37ho built it", True),
        ("Who-built-it", True),
        ("Who built it in 1900?", False),
        ("", False),
    ],
)
def test_asked_looks_at_the_normal_form(store: PoolStore, text: str, asked: bool) -> None:
    pool = open_run(store)
    assert not pool.asked("Who built it?")
    pool.add(0, [Query("Who built it?", "question"), Query("who built it", "gap")], [], Usage(), 1)
    assert pool.asked(text) is asked
    assert pool.queries == (Query("Who built it?", "question"),)


def test_judgements_are_kept_by_round(store: PoolStore) -> None:
    pool = open_run(store)
    pool.save_judgement(1, SURE, Usage(1), 2)
    pool.save_judgement(0, UNSURE, Usage(1), 1)
    pool.save_judgement(1, UNSURE, Usage(1), 1)
    assert pool.judgements == ((0, UNSURE), (1, SURE)) == open_run(store).judgements
    assert (pool.usage, pool.seconds) == (Usage(2), 3)


def test_model_calls_are_recalled(store: PoolStore) -> None:
    pool = open_run(store)
    assert pool.recall("k") is None
    pool.record("k", "read", {"value": None, "confidence": 0.1}, Usage(1, 20, 3), 9.0)
    pool.record("k", "read", {"value": "other"}, Usage(1, 20, 3), 9.0)
    assert open_run(store).recall("k") == {"value": None, "confidence": 0.1}
    assert open_run(store, question_id="q2").recall("k") is None
    assert (pool.usage, pool.seconds) == (Usage(1, 20, 3), 0.0)


def test_superseding_appends(store: PoolStore) -> None:
    pool = open_run(store)
    pool.add(0, [], [evidence("p"), evidence("r")], Usage(), 1)
    pool.supersede("p", EvidenceStatus.QUARANTINED, "gives instructions")
    pool.supersede("p", EvidenceStatus.QUARANTINED, "gives instructions")
    assert [e.passage_id for e in pool.evidence] == ["p", "r"]
    assert [e.passage_id for e in pool.admitted] == ["r"]
    assert pool.passage_ids == {"p", "r"}
    pool.supersede("p", EvidenceStatus.ADMITTED, "looked at by a person")
    assert [e.passage_id for e in pool.admitted] == ["p", "r"]
    assert [(row.evidence.passage_id, row.evidence.status.value, row.supersedes) for row in pool.history] == [
        ("p", "admitted", None),
        ("r", "admitted", None),
        ("p", "quarantined", pool.history[0].id),
        ("p", "admitted", pool.history[2].id),
    ]
    with pytest.raises(NotFoundError, match="no passage 'x'"):
        pool.supersede("x", EvidenceStatus.REJECTED, "")


# -- duplicates ----------------------------------------------------------------------------------------------


def test_a_copy_is_a_duplicate(store: PoolStore) -> None:
    pool = open_run(store)
    text = prose(1)
    pool.add(0, [], [evidence("p", text)], Usage(), 1)
    copy = evidence("copy", f"\u201c{text.upper()}\u201d  ", title="Copy of it")
    (written,) = pool.add(1, [], [copy], Usage(), 1)
    assert (written.status, written.reason) == (EvidenceStatus.DUPLICATE, "same text as p")
    assert [e.passage_id for e in pool.admitted] == ["p"]
    assert pool.passage_ids == {"p", "copy"}


def test_near_duplicates_within_a_round(store: PoolStore) -> None:
    words = prose(1, 200).split()
    near = " ".join([*words[:100], "otherwise", *words[101:]])
    apart = " ".join(w if i % 15 else "otherwise" for i, w in enumerate(words))
    candidates = [evidence("p", " ".join(words)), evidence("near", near), evidence("apart", apart)]
    written = open_run(store).add(0, [], candidates, Usage(), 1)
    assert [e.status.value for e in written] == ["admitted", "duplicate", "admitted"]
    assert written[1].reason == "0.95 of the text of p"


def test_another_number_is_another_fact(store: PoolStore) -> None:
    reports = [evidence(year, f"In {year} {prose(1, 200)}") for year in ("1990", "1991")]
    assert len(open_run(store).add(0, [], reports, Usage(), 1)) == 2
    assert len(open_run(store).admitted) == 2


def test_short_texts_count_with_their_titles(store: PoolStore) -> None:
    candidates = [
        evidence("a", "It closed for good.", title="Alder Mill"),
        evidence("b", "It closed for good.", title="Birch Mill"),
        evidence("c", "It closed, for good!", title="Alder mill"),
    ]
    written = open_run(store).add(0, [], candidates, Usage(), 1)
    assert [e.status.value for e in written] == ["admitted", "admitted", "duplicate"]


def test_a_candidate_keeps_the_status_it_comes_with(store: PoolStore) -> None:
    text = prose(1)
    bad = evidence("bad", text, status=EvidenceStatus.QUARANTINED, reason="gives instructions")
    off = evidence("off", text, status=EvidenceStatus.REJECTED, reason="off the subject")
    written = open_run(store).add(0, [], [bad, off, evidence("copy", text)], Usage(), 1)
    assert written[:2] == (bad, off)
    assert (written[2].status, written[2].reason) == (EvidenceStatus.DUPLICATE, "same text as bad")


def test_a_passage_comes_in_once(store: PoolStore) -> None:
    pool = open_run(store)
    assert len(pool.add(0, [], [evidence("p"), evidence("p", "another text")], Usage(), 1)) == 1
    assert pool.add(1, [], [evidence("p")], Usage(), 1) == ()
    assert len(pool.history) == 1


# -- shared scopes -------------------------------------------------------------------------------------------


def test_a_scope_is_shared_by_its_runs(store: PoolStore, database_url: str) -> None:
    other_process = Database(database_url)
    mine = open_run(store, scope="talk")
    theirs = open_run(PoolStore(other_process), question_id="q2", scope="talk")
    apart = open_run(store, question_id="q3")
    mine.add(0, [Query("a", "question")], [evidence("p", prose(1))], Usage(1), 1)
    assert theirs.passage_ids == {"p"}
    (copy,) = theirs.add(0, [Query("b", "question")], [evidence("p"), evidence("r", prose(1))], Usage(2), 2)
    assert copy.reason == "same text as p"
    theirs.supersede("p", EvidenceStatus.SUPERSEDED, "a newer edition")
    assert mine.evidence == theirs.evidence
    assert mine.admitted == ()
    assert (mine.queries, mine.usage) == ((Query("a", "question"),), Usage(1))
    assert apart.evidence == ()
    other_process.close()


# -- the answer ----------------------------------------------------------------------------------------------


def answered(store: PoolStore, **changes: str) -> Answer:
    pool = open_run(store, **changes)
    pool.save_plan(Question("Who built it?"), Usage(1, 10, 1), 0.5)
    pool.add(
        0, [Query("Who built it?", "question")], [evidence("p"), evidence("r")], Usage(retrievals=1), 1.0
    )
    pool.save_judgement(0, UNSURE, Usage(1, 20, 2), 2.0)
    pool.add(1, [Query("it builder", "gap", "who")], [evidence("s")], Usage(retrievals=1), 1.0)
    pool.save_judgement(1, SURE, Usage(1, 30, 3), 3.0)
    return finish(
        pool,
        rounds=2,
        citations=[Citation(1, "document of s", "s", "Ada built it", False)],
        given=["s", "p"],
        missing=["when"],
        usage=Usage(1, 40, 4),
        seconds=4.0,
    )


def test_the_answer_sums_up_the_run(store: PoolStore) -> None:
    answer = answered(store)
    assert (answer.usage, answer.seconds) == (Usage(4, 100, 10, 2), 11.5)
    assert [e.passage_id for e in answer.evidence] == ["s", "p", "r"]
    assert (answer.judgement, answer.rounds, answer.missing) == (SURE, 2, ("when",))
    assert (answer.id, answer.question, answer.models) == ("q1", "Who built it?", {"chat": "small"})
    again = open_run(store)
    assert again.answer == answer
    assert (again.usage, again.seconds) == (Usage(4, 100, 10, 2), 11.5)


def test_a_run_has_one_answer(store: PoolStore) -> None:
    answer = answered(store)
    assert finish(open_run(store), answer="Eve", usage=Usage(9), seconds=9.0) == answer
    assert open_run(store).answer == answer


def test_a_finished_run_takes_nothing_more(store: PoolStore) -> None:
    answer = answered(store)
    pool = open_run(store)
    assert pool.add(2, [Query("late", "gap")], [evidence("late")], Usage(1), 1) == ()
    pool.save_judgement(2, UNSURE, Usage(1), 1)
    assert (pool.last_round, len(pool.history), pool.answer) == (1, 3, answer)


def test_an_answer_shows_the_evidence_as_it_stood(store: PoolStore) -> None:
    answer = answered(store, scope="talk")
    later = open_run(store, question_id="q2", scope="talk")
    later.add(0, [], [evidence("t")], Usage(), 1)
    later.supersede("s", EvidenceStatus.REJECTED, "not for this question")
    assert store.pool(answer.run_id).answer == answer
    theirs = finish(later, given=["t", "p"])
    assert [e.passage_id for e in theirs.evidence] == ["t", "p", "s"]


def test_finding_answers(store: PoolStore) -> None:
    key = {"job": "job", "question_id": "q1", "question": "Who built it?", "config_hash": "c" * 16}
    assert store.find_answer(**key) is None
    open_run(store)
    assert store.find_answer(**key) is None
    answer = answered(store)
    assert store.find_answer(**key) == answer
    assert store.find_answer(**{**key, "config_hash": "other"}) is None
    second = finish(open_run(store, question_id="q0"))
    open_run(store, question_id="q9")
    assert list(store.answers("job")) == [answer, second]
    assert list(store.answers("none")) == []


def test_an_answer_that_was_never_judged(store: PoolStore) -> None:
    judgement = finish(open_run(store)).judgement
    assert (judgement.sufficient, judgement.probability, judgement.judge) == (False, 0.0, "none")


def test_answer_json_is_a_line_of_answers_jsonl(store: PoolStore) -> None:
    answer = answered(store)
    line = answer_json(answer)
    assert json.loads(json.dumps(line)) == line
    assert line["evidence"][0] == {
        "document_id": "document of s",
        "passage_id": "s",
        "title": "Title s",
        "round": 1,
        "query": "who built it",
        "score": 0.25,
        "status": "admitted",
    }
    assert line["citations"] == [
        {
            "marker": 1,
            "document_id": "document of s",
            "passage_id": "s",
            "quote": "Ada built it",
            "supported": False,
        }
    ]
    assert line["judgement"] == {"sufficient": True, "probability": 0.75, "gaps": ["nothing"]}
    assert line["queries"] == ["Who built it?", "it builder"]
    assert line["usage"] == {
        "llm_calls": 4,
        "prompt_tokens": 100,
        "completion_tokens": 10,
        "retrievals": 2,
    }
    assert (line["status"], line["stop_reason"], line["rounds"]) == ("answered", "sufficient", 2)
    assert (line["run_id"], line["config_hash"], line["seconds"]) == (answer.run_id, "c" * 16, 11.5)


def test_export_tells_everything(store: PoolStore) -> None:
    answer = answered(store)
    pool = open_run(store)
    pool.supersede("p", EvidenceStatus.REJECTED, "off the subject")
    exported = json.loads(json.dumps(pool.export()))
    assert [(row["passage_id"], row["status"]) for row in exported["evidence"]] == [
        ("p", "admitted"),
        ("r", "admitted"),
        ("s", "admitted"),
        ("p", "rejected"),
    ]
    assert exported["evidence"][3]["supersedes"] == exported["evidence"][0]["row"]
    assert [query["kind"] for query in exported["queries"]] == ["question", "gap"]
    assert exported["judgements"][0]["gaps"][0]["triple"] == ["it", "built in", "?x"]
    assert exported["plan"]["text"] == "Who built it?"
    assert exported["answer"] == answer_json(answer)
    assert exported["run_id"] == answer.run_id


def test_what_a_database_cannot_hold_is_replaced(store: PoolStore) -> None:
    pool = open_run(store, question="Who\x00 \ud800?")
    assert pool.question_text == "Who\ufffd \ufffd?"
    assert open_run(store, question="Who\x00 \ud800?").run_id == pool.run_id
    pool.add(0, [Query("nul \x00", "gap", "\udfff")], [], Usage(), 1)
    assert pool.queries == (Query("nul \ufffd", "gap", "\ufffd"),)
    assert pool.asked("nul \x00")
    assert finish(pool, answer="\x00", text="\ud800 \U0001f600").text == "\ufffd \U0001f600"
