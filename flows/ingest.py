"""The flow that indexes files, folders and URLs: ``ragpool index`` for a schedule."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import asdict
from pathlib import Path
from typing import Any

from prefect import flow, task
from prefect.artifacts import acreate_progress_artifact, acreate_table_artifact, aupdate_progress_artifact
from prefect.client.schemas import State
from prefect.states import Completed, Failed
from prefect.task_runners import ThreadPoolTaskRunner

from ragpool import corpus
from ragpool.errors import LoadError
from ragpool.index import Index
from ragpool.settings import Settings

from .tasks import RETRY_DELAYS, worth_a_retry

Report = dict[str, Any]


class Counter:
    """How far the indexing is, written by its thread and read by the flow."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._done, self._total = 0, 0

    def __call__(self, done: int, total: int) -> None:
        with self._lock:
            self._done, self._total = done, total

    @property
    def percent(self) -> float:
        """0 while the number of documents is not known."""
        with self._lock:
            return 100.0 * self._done / self._total if self._total else 0.0

    @property
    def text(self) -> str:
        with self._lock:
            return f"{self._done} of {self._total} documents" if self._total else f"{self._done} documents"


@task(
    name="index",
    task_run_name="{store}",
    # the store knows what it holds, so a second try does only what is left
    persist_result=True,
    result_serializer="json",
    result_storage_key="index/{flow_run.id}/{task_run.id}.json",
    retries=len(RETRY_DELAYS),
    retry_delay_seconds=list(RETRY_DELAYS),
    retry_jitter_factor=0.5,
    retry_condition_fn=worth_a_retry,
)
def index_sources(
    sources: list[str], store: str, config: str | None, prune: bool, counter: Counter
) -> Report:
    """Index what is new or changed. Returns the report of ``ragpool index --json``."""
    settings = Settings.load(Path(config) if config else None)
    failed: list[LoadError] = []
    with Index.open(Path(store), settings, write=True, create=True) as index:
        done = index.add(corpus.load(sources, on_error=failed.append), progress=counter, prune=prune)
        documents, passages = index.count()
    return {
        **asdict(done),
        "failed": [{"source": error.source, "reason": error.reason} for error in failed],
        "total_documents": documents,
        "total_passages": passages,
        "store": store,
    }


@flow(name="ingest", flow_run_name="{store}")
async def ingest(
    sources: list[str], store: str, config: str | None = None, prune: bool = False
) -> State[Any]:
    """Index files, folders and http(s) addresses; only what changed is embedded again.

    ``config`` is a settings file; ``prune`` takes out documents that are not among the sources. The run ends Failed
    when a source could not be read; the others are indexed, and the table artifact says which it was.
    """
    counter = Counter()
    progress = await acreate_progress_artifact(0.0, "ingest-progress", store)
    with ThreadPoolTaskRunner[Any](max_workers=1) as runner:
        parameters = {
            "sources": sources,
            "store": store,
            "config": config,
            "prune": prune,
            "counter": counter,
        }
        indexing = asyncio.wrap_future(runner.submit(index_sources, parameters).wrapped_future)
        while not (await asyncio.wait({indexing}, timeout=2.0))[0]:
            await aupdate_progress_artifact(progress, counter.percent, counter.text)
    state: State[Any] = indexing.result()
    if not state.is_completed():
        return state
    report: Report = await state.aresult()
    await aupdate_progress_artifact(progress, 100.0, f"{report['total_documents']} documents in {store}")
    rows = [{"source": item["source"], "result": item["reason"]} for item in report["failed"]]
    counts = {key: value for key, value in report.items() if isinstance(value, int)}
    await acreate_table_artifact(
        [*({"source": key, "result": n} for key, n in counts.items()), *rows], "ingest-report"
    )
    if rows:
        return Failed(message=f"{len(rows)} sources could not be read, {report['added']} documents added")
    return Completed(
        message=f"{report['total_documents']} documents in {report['total_passages']} passages", data=report
    )
