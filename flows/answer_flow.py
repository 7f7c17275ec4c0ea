"""The flow behind ``ragpool batch``: questions.jsonl -> answers.jsonl. One flow run a batch, one task a question."""

from __future__ import annotations

import asyncio
import hashlib
import os
import platform
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

from prefect import flow, get_client
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas import State
from prefect.client.schemas.filters import (
    FlowFilter,
    FlowFilterName,
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
    FlowRunFilterTags,
    TaskRunFilter,
    TaskRunFilterFlowRunId,
    TaskRunFilterState,
    TaskRunFilterStateType,
)
from prefect.client.schemas.objects import StateType
from prefect.runtime import flow_run
from prefect.states import Cancelled, Completed, Crashed, Failed
from prefect.task_runners import ThreadPoolTaskRunner

from ragpool.corpus import QuestionRecord
from ragpool.models.resolve import is_provider
from ragpool.sdk import RagPool
from ragpool.settings import Effort, Method, Settings

from .artifacts import ProgressArtifact, publish
from .batch import Batch, current, opened_work
from .tasks import answer_question

FLOW_NAME = "answer-batch"
_UNFINISHED = [StateType.RUNNING, StateType.PENDING, StateType.CANCELLING]


@flow(name=FLOW_NAME, flow_run_name="{out}", validate_parameters=True)
async def answer_batch(
    questions: str,
    store: str,
    out: str,
    workers: int = 1,
    job: str | None = None,
    limit: int | None = None,
    config: str | None = None,
    effort: Effort | None = None,
    method: Method | None = None,
) -> State[Any]:
    """Answer the questions of a file and append the answers to another.

    Questions that have their answer in the pool of the same job and settings are not asked again. ``config`` is a
    settings file; ``effort`` and ``method`` go over it. Called by ``run_batch`` the settings are those of the caller.
    The run ends Failed when a question failed; running it again tries only what is left.
    """
    running = current.get(None)
    if running is not None:
        return await _answer_all(running, workers)
    chosen = {k: v for k, v in (("effort", effort), ("method", method)) if v is not None}
    settings = await asyncio.to_thread(Settings.load, Path(config) if config else None, **chosen)
    with _opened(questions, store, out, settings, job, limit) as batch:
        return await _answer_all(batch, workers)


@contextmanager
def _opened(
    questions: str, store: str, out: str, settings: Settings, job: str | None, limit: int | None
) -> Iterator[Batch]:
    """The batch of a run that was started from a deployment."""
    with (
        opened_work(Path(questions), Path(store), Path(out), settings, job, limit) as work,
        RagPool.open(store, settings=settings) as rag,
    ):
        batch = Batch(work, rag)
        token = current.set(batch)
        try:
            yield batch
        finally:
            current.reset(token)


async def _answer_all(batch: Batch, workers: int) -> State[Any]:
    batch.flow_run_id = str(flow_run.id)
    async with get_client() as client:
        await _mark_crashed(client, UUID(batch.flow_run_id), _tag(batch))
    progress = await ProgressArtifact.create(batch)
    with ThreadPoolTaskRunner[Any](max_workers=max(workers, 1)) as runner:
        await _spread(batch, runner, 2 * max(workers, 1), progress)
    await progress.update(last=True)
    await publish(batch)
    return _final_state(batch)


async def _spread(
    batch: Batch, runner: ThreadPoolTaskRunner[Any], window: int, progress: ProgressArtifact
) -> None:
    """Run a task for each question that is left. At most ``window`` are handed to the threads at a time, so that a
    batch of many thousands neither fills the memory nor takes long to stop."""
    ask, chat = answer_question, batch.rag.settings.models.chat
    if is_provider(chat):
        # for "prefect concurrency-limit create TAG N"; a tag costs a call to the server, so none where it is no use
        ask = ask.with_options(tags=[f"model:{chat}"])
    if batch.retry_delays is not None:
        ask = ask.with_options(retries=len(batch.retry_delays), retry_delay_seconds=list(batch.retry_delays))
    waiting: dict[asyncio.Future[Any], tuple[QuestionRecord, Future[Any]]] = {}
    questions = iter(batch.work.left)
    while True:
        while len(waiting) < window and not batch.stop.is_set():
            question = next(questions, None)
            if question is None:
                break
            submitted = runner.submit(ask, {"question_id": question.id, "question": question.question})
            thread = submitted.wrapped_future
            waiting[asyncio.wrap_future(thread)] = (question, thread)
        if not waiting:
            return
        done, _ = await asyncio.wait(waiting, timeout=0.5, return_when=asyncio.FIRST_COMPLETED)
        for future in done:
            question, _ = waiting.pop(future)
            if not future.cancelled() and question.id not in batch.answered and not batch.stop.is_set():
                batch.give_up(question.id, _error(future))
        if batch.stop.is_set():
            for _, thread in waiting.values():
                thread.cancel()  # those that no thread has begun
        await progress.update()


def _error(future: asyncio.Future[Any]) -> Exception:
    """Why a task has no answer, where the question itself raised nothing: Prefect did."""
    error = future.exception()
    if isinstance(error, Exception):
        return error
    state = future.result()
    return RuntimeError(getattr(state, "message", None) or "the task ended without an answer")


def _final_state(batch: Batch) -> State[Any]:
    counts = f"{batch.finished} of {batch.work.total} answered"
    if batch.stop.is_set():
        return Cancelled(message=f"stopped: {counts}; the next run goes on from there")
    if batch.failed:
        return Failed(message=f"{counts}, {len(batch.failed)} failed; the next run tries those again")
    return Completed(message=counts)


def _tag(batch: Batch) -> str:
    """What runs of the same batch share: job, store and machine."""
    place = f"{platform.node()}\n{batch.rag.folder.resolve()}\n{batch.work.job}"
    return f"batch:{hashlib.sha256(os.fsencode(place)).hexdigest()[:16]}"


async def _mark_crashed(client: PrefectClient, own: UUID, tag: str) -> None:
    """Say of earlier runs of this batch that they are dead: the lock on the answers file proves it."""
    earlier = await client.read_flow_runs(
        flow_filter=FlowFilter(name=FlowFilterName(any_=[FLOW_NAME])),
        flow_run_filter=FlowRunFilter(
            tags=FlowRunFilterTags(all_=[tag]),
            state=FlowRunFilterState(type=FlowRunFilterStateType(any_=_UNFINISHED)),
        ),
    )
    dead = [run.id for run in earlier if run.id != own]
    message = f"its process was killed; the batch goes on in flow run {own}"
    for run_id in dead:
        await client.set_flow_run_state(run_id, Crashed(message=message), force=True)
    if dead:
        tasks = await client.read_task_runs(
            task_run_filter=TaskRunFilter(
                flow_run_id=TaskRunFilterFlowRunId(any_=dead),
                state=TaskRunFilterState(type=TaskRunFilterStateType(any_=_UNFINISHED)),
            )
        )
        for task in tasks:
            await client.set_task_run_state(task.id, Crashed(message=message), force=True)
    await client.update_flow_run(own, tags={*flow_run.tags, tag})
