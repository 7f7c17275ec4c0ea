"""The tasks of the flows. One persisted task a question; the steps inside a question are direct calls."""

from __future__ import annotations

from typing import Any

from prefect import Task, task
from prefect.client.schemas import State, TaskRun

from ragpool.models import is_transient

from .batch import current

RETRY_DELAYS = (2.0, 5.0, 10.0, 15.0)  # seconds, spread by the jitter


def worth_a_retry(_task: Task[Any, Any], _run: TaskRun, state: State[Any]) -> bool:
    """Only what may go away by itself: the network and rate limits."""
    return isinstance(state.data, BaseException) and is_transient(state.data)


@task(
    name="answer-question",
    task_run_name="{question_id}",
    # The pool is the checkpoint; what Prefect keeps is for people who look at a run, and never a reason not to ask.
    # NO_CACHE would keep nothing at all (no key, no file), so the key is one that no other task run can have.
    persist_result=True,
    result_serializer="json",
    result_storage_key="answers/{flow_run.id}/{task_run.id}.json",
    retries=len(RETRY_DELAYS),
    retry_delay_seconds=list(RETRY_DELAYS),
    retry_jitter_factor=0.5,
    retry_condition_fn=worth_a_retry,
)
def answer_question(question_id: str, question: str) -> dict[str, Any]:
    """Answer one question of the batch that runs in this process. Returns what a reader of the run wants to see."""
    answer = current.get().answer(question_id, question)
    return {
        "id": answer.id,
        "answer": answer.answer,
        "status": answer.status.value,
        "stop_reason": answer.stop_reason.value,
        "rounds": answer.rounds,
        "seconds": answer.seconds,
        "run_id": answer.run_id,
    }
