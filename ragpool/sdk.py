"""The Python way in: ``with RagPool.open(folder) as rag: rag.ask("...")``."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ragpool import corpus
from ragpool.errors import InputError, LoadError
from ragpool.events import Answered, Event
from ragpool.index import AddReport, Index
from ragpool.pipeline import Cancelled, Steps, run
from ragpool.pool import PoolStore
from ragpool.retrieve import retriever
from ragpool.settings import Effort, Method, Mode, Settings
from ragpool.types import Answer, Hit

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel
    from langchain_core.retrievers import BaseRetriever
    from langchain_core.runnables import Runnable


class RagPool:
    """An open store: documents, index, pools, and the loop over them.

    Safe to use from several threads; one process writes documents at a time. Models load at the first question.

    >>> import tempfile
    >>> from pathlib import Path
    >>> folder = Path(tempfile.mkdtemp())
    >>> _ = (folder / "lark.txt").write_text("The Lark is a brig. Its home port is Port Ennis.")
    >>> with RagPool.open(folder / "store", create=True) as rag:
    ...     added = rag.add(folder / "lark.txt").added
    ...     hits = rag.search("Where is the Lark based?", k=1)
    >>> added, hits[0].passage.document_id
    (1, 'lark.txt')
    """

    def __init__(
        self, folder: Path, settings: Settings, index: Index, chat: BaseChatModel | None = None
    ) -> None:
        self.folder = folder
        self.settings = settings
        self.index = index
        self.pools = PoolStore(index.database)
        self._chat = chat
        self._steps: Steps | None = None
        self._built_for = ""  # the corpus version whose titles the steps know
        self._building = threading.Lock()

    @classmethod
    def open(
        cls,
        folder: str | Path,
        *,
        create: bool = False,
        settings: Settings | None = None,
        config: Path | None = None,
        chat: BaseChatModel | None = None,
        **overrides: Any,
    ) -> RagPool:
        """Open the store in ``folder``; with ``create`` an empty one is made where there is none.

        ``overrides`` are settings, as in ``effort="high"`` or ``retrieve={"k": 5}``; ``chat`` is any LangChain chat
        model, used in place of the one that the settings name. Raises StoreNotFoundError, EmbedderMismatchError,
        SettingsError.
        """
        chosen = settings or Settings.load(config, **overrides)
        place = Path(folder)
        if chosen.models.prefix_folder is None:  # prompts of a local chat model are kept in the store
            kept = chosen.models.model_copy(update={"prefix_folder": place / "prompts"})
            chosen = chosen.model_copy(update={"models": kept})
        return cls(place, chosen, Index.open(place, chosen, create=create), chat)

    def __enter__(self) -> RagPool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the index and the database. Models stay loaded for the next store of this process."""
        self.index.close()

    # -- documents --------------------------------------------------------------------------------------------------

    def add(
        self,
        sources: Iterable[str | Path] | str | Path,
        *,
        on_error: Callable[[LoadError], None] | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> AddReport:
        """Index files, folders and URLs; only what changed is embedded.

        A source that cannot be read goes to ``on_error`` and the rest goes on; without ``on_error`` the first one
        raises LoadError.
        """
        listed = [sources] if isinstance(sources, str | Path) else list(sources)
        documents = corpus.load(listed, on_error=on_error or _raise)
        return self.index.add(documents, progress=progress)

    def search(self, query: str, *, k: int = 10, mode: Mode | None = None) -> tuple[Hit, ...]:
        """The ``k`` best passages for a query, without any loop."""
        return retriever(self.index, self.settings, mode).retrieve(query, k=k)

    # -- questions --------------------------------------------------------------------------------------------------

    def stream(
        self,
        question: str,
        *,
        id: str | None = None,
        job: str = "",
        scope: str | None = None,
        effort: Effort | None = None,
        method: Method | None = None,
        deadline: float | None = None,
        cancelled: Cancelled = lambda: False,
    ) -> Iterator[Event]:
        """The events of one question as they happen; the last one is Answered.

        Questions of the same ``job`` are answered once per id, text and settings, and a run that was interrupted
        goes on; without a job every call is a new run. Runs of the same ``scope`` share their evidence.
        ``deadline`` (seconds) ends the rounds earlier than the settings do.
        """
        text = question.strip()
        if not text:
            raise InputError("the question is empty: write one")
        settings = self._settings(effort, method)
        steps = self._steps_for(settings)
        pool = self.pools.open_run(
            question_id=id or text,
            question=text,
            method=settings.method,
            config_hash=settings.config_hash(),
            corpus_version=self.index.version,
            models=dict(steps.models),
            prompts=dict(steps.prompts),
            job=job,
            scope=scope,
        )
        if deadline is not None:  # after the hash: time left in a queue makes no other configuration
            limits = {"deadline": max(min(deadline, settings.preset.deadline), 0.001)}
            settings = settings.model_copy(update={"limits": settings.limits.model_copy(update=limits)})
        yield from run(pool, steps, settings, cancelled)

    def ask(self, question: str, **options: Any) -> Answer:
        """The answer to one question. Options as for ``stream``."""
        for event in self.stream(question, **options):
            if isinstance(event, Answered):
                return event.answer
        raise AssertionError("a run ends with Answered")

    def batch(self, questions: Sequence[str], *, workers: int = 1, **options: Any) -> list[Answer]:
        """The answers to several questions, in their order. Options as for ``stream``."""
        with ThreadPoolExecutor(max(workers, 1)) as threads:
            return list(threads.map(lambda q: self.ask(q, **options), questions))

    async def aask(self, question: str, **options: Any) -> Answer:
        """``ask`` without blocking the event loop."""
        return await asyncio.to_thread(self.ask, question, **options)

    async def abatch(self, questions: Sequence[str], *, workers: int = 1, **options: Any) -> list[Answer]:
        """``batch`` without blocking the event loop."""
        return await asyncio.to_thread(lambda: self.batch(questions, workers=workers, **options))

    async def astream(self, question: str, **options: Any) -> AsyncIterator[Event]:
        """``stream`` without blocking the event loop. Leaving the loop early cancels the run at its next step."""
        left = threading.Event()
        events = self.stream(question, cancelled=left.is_set, **options)
        try:
            while (event := await asyncio.to_thread(next, events, None)) is not None:
                yield event
        finally:
            left.set()

    def as_retriever(self, *, k: int = 10, mode: Mode | None = None) -> BaseRetriever:
        """The index as a LangChain retriever."""
        return retriever(self.index, self.settings, mode).model_copy(update={"k": k})

    def as_runnable(self) -> Runnable[str, Answer]:
        """The loop as a LangChain runnable: a question in, an Answer out."""
        from langchain_core.runnables import RunnableLambda

        return RunnableLambda(self.ask, afunc=self.aask, name="ragpool")

    @property
    def steps(self) -> Steps:
        """The parts of the loop, built at first use."""
        with self._building:
            if self._steps is None or self._built_for != self.index.version:
                from ragpool.build import build

                self._built_for = self.index.version
                self._steps = build(self.settings, self.index, self._chat)
            return self._steps

    @property
    def chat(self) -> BaseChatModel | None:
        """The chat model that the loop prompts; None with the embedded model."""
        from ragpool import models

        if self._chat is None and self.settings.models.chat != models.EMBEDDED:
            self._chat = models.load_chat(self.settings.models)
        return self._chat

    def _steps_for(self, settings: Settings) -> Steps:
        """The steps, with the judge at the threshold of this effort."""
        if settings.preset.threshold == self.settings.preset.threshold:
            return self.steps
        from ragpool.feedback import load_judge

        return replace(
            self.steps, judge=load_judge(settings, embedder=self.steps.distiller.embedder, chat=self._chat)
        )

    def _settings(self, effort: Effort | None, method: Method | None) -> Settings:
        chosen = {k: v for k, v in (("effort", effort), ("method", method)) if v is not None}
        return self.settings.model_copy(update=chosen) if chosen else self.settings


def _raise(error: LoadError) -> None:
    raise error
