"""The flow behind ``python -m ragpool.flows.evaluate``: ``ragpool eval`` with one task a data set.

The table is an artifact of the run; JSON, report and Markdown go where the options say. Answers are kept in the
store, so a run that was killed goes on where it was.
"""

from __future__ import annotations

import asyncio
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefect import flow, task
from prefect.artifacts import acreate_markdown_artifact
from prefect.client.schemas import State
from prefect.states import Completed
from prefect.task_runners import ThreadPoolTaskRunner

from ragpool.evaluate import Evaluation
from ragpool.evaluate import evaluate as run
from ragpool.evaluate.harness import OpenRag, distinct, place_in
from ragpool.evaluate.markdown import markdown as table
from ragpool.evaluate.outputs import Outputs, command_line
from ragpool.evaluate.rows import Sheet
from ragpool.settings import Effort, Settings

from .tasks import RETRY_DELAYS, worth_a_retry

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel


@dataclass(frozen=True, slots=True)
class Parts:
    """What the parameters of a flow cannot name, for a caller in the same process; see ``ragpool.evaluate.evaluate``."""

    settings: Settings | None = None
    chat: BaseChatModel | None = None
    open_rag: OpenRag | None = None


parts: ContextVar[Parts] = ContextVar("ragpool_evaluation_parts", default=Parts())  # noqa: B039 - it is frozen


@task(
    name="evaluate-dataset",
    task_run_name="{file}",
    persist_result=False,  # the pool is the checkpoint
    retries=len(RETRY_DELAYS),
    retry_delay_seconds=list(RETRY_DELAYS),
    retry_jitter_factor=0.5,
    retry_condition_fn=worth_a_retry,
)
def evaluate_dataset(
    file: str,
    store: str,
    settings: Settings,
    methods: list[str],
    limit: int | None,
    split: str,
    corpus: str | None,
) -> Evaluation:
    """The outcomes of all methods over one data set."""
    further = Path(corpus) if corpus else None
    return run(
        Path(file),
        place_in(Path(store), Path(file), further),
        settings,
        methods=methods,
        limit=limit,
        split=split,
        extra_documents=further,
        chat=parts.get().chat,
        open_rag=parts.get().open_rag,
    )


@flow(name="evaluate", flow_run_name="{files}", validate_parameters=True)
async def evaluate(
    files: list[str],
    store: str = ".ragpool/eval",
    methods: str = "single,ragpool",
    limit: int | None = None,
    split: str = "all",
    corpus: str | None = None,
    figures: str | None = None,
    report: str | None = None,
    markdown: str | None = None,
    config: str | None = None,
    effort: Effort | None = None,
) -> State[Any]:
    """Methods side by side over each file; options as for ``ragpool eval``, whose --json is ``figures`` here.

    Fails when a data set fails.
    """
    outputs = Outputs(*(Path(path) if path else None for path in (figures, report, markdown)))
    chosen = {"effort": effort} if effort else {}
    settings = parts.get().settings or Settings.load(Path(config) if config else None, **chosen)
    options = {
        "store": store,
        "settings": settings,
        "methods": [name.strip() for name in methods.split(",") if name.strip()],
        "limit": limit,
        "split": split,
        "corpus": corpus,
    }
    results: list[tuple[Path, Evaluation]] = []
    with ThreadPoolTaskRunner[Any](max_workers=1) as runner:  # one after the other: they share the models
        for file in files:
            future = runner.submit(evaluate_dataset, {"file": file, **options})
            state = await asyncio.wrap_future(future.wrapped_future)
            if not state.is_completed():
                return state  # type: ignore[no-any-return]
            results.append((Path(file), await state.aresult()))
    sheets = [Sheet.of(evaluation) for evaluation in distinct(results)]
    command = command_line(
        [Path(file) for file in files],
        methods=methods,
        limit=limit,
        split=split,
        corpus=corpus,
        effort=effort,
        config=config,
    )
    await acreate_markdown_artifact(table(sheets, command), "evaluation", "Main figures by method")
    written = await asyncio.to_thread(outputs.write, sheets, settings, command)
    asked = sum(len(found) for sheet in sheets for found in sheet.evaluation.outcomes.values())
    return Completed(message=f"{asked} answers compared; {len(written)} files written", data=table(sheets))
