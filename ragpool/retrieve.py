"""A query finds passages: dense, bm25, or both fused by rank. Each is also a LangChain retriever."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Protocol, Self

from langchain_core.callbacks import AsyncCallbackManagerForRetrieverRun, CallbackManagerForRetrieverRun
from langchain_core.documents import Document as LangChainDocument
from langchain_core.retrievers import BaseRetriever
from pydantic import Field

from ragpool.errors import InputError
from ragpool.index import Index
from ragpool.settings import Mode, Settings
from ragpool.types import Hit

Where = Mapping[str, Any]
Ranking = Sequence[tuple[str, float]]  # (passage id, score), best first


class Retriever(Protocol):
    """What the loop needs of a retriever; any object with this method will do."""

    def retrieve(
        self,
        query: str,
        *,
        k: int | None = None,
        exclude: Collection[str] = frozenset(),
        where: Where | None = None,
    ) -> tuple[Hit, ...]: ...


class PassageRetriever(BaseRetriever):
    """``retrieve`` for the library, ``invoke`` and ``ainvoke`` for LangChain. A subclass writes ``_rank``.

    LangChain documents carry ``passage_id``, ``document_id``, ``title`` and ``score`` beside the passage's metadata;
    ``invoke(query, k=..., exclude=..., where=...)`` takes what ``retrieve`` takes.
    """

    index: Index
    k: int = Field(8, ge=1)
    name: str | None = None

    @abstractmethod
    def _rank(
        self, query: str, k: int, exclude: Collection[str], where: Where | None
    ) -> list[tuple[str, float, dict[str, int]]]:
        """At most ``k`` (passage id, score, rank by retriever), best first, none of them in ``exclude``."""

    def retrieve(
        self,
        query: str,
        *,
        k: int | None = None,
        exclude: Collection[str] = frozenset(),
        where: Where | None = None,
    ) -> tuple[Hit, ...]:
        """The best ``k`` passages for ``query``, best first; equal scores by passage id.

        ``exclude`` holds passage ids, left out before the cut at ``k``. ``where`` filters by metadata: equality
        (``{"lang": "en"}``) or membership (``{"year": {"$in": [1990, 1991]}}``), all keys together.

        Raises InputError for an empty query or a malformed filter.
        """
        if not query.strip():
            raise InputError("the query is empty: ask something")
        wanted = self.k if k is None else k
        if wanted < 1:
            raise InputError(f"k is {wanted}: ask for at least one passage")
        ranked = self._rank(query, wanted, exclude, where)
        passages = {p.id: p for p in self.index.passages([i for i, _, _ in ranked])}
        return tuple(
            Hit(passages[i], score, self.label, ranks) for i, score, ranks in ranked if i in passages
        )

    def with_k(self, k: int) -> Self:
        """The same retriever with another default for ``k``."""
        return self.model_copy(update={"k": k})

    @property
    def label(self) -> str:
        """How hits name the retriever."""
        return type(self).__name__.removesuffix("Retriever").lower()

    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun, **options: Any
    ) -> list[LangChainDocument]:
        return [_as_langchain(hit) for hit in self.retrieve(query, **options)]

    async def _aget_relevant_documents(
        self, query: str, *, run_manager: AsyncCallbackManagerForRetrieverRun, **options: Any
    ) -> list[LangChainDocument]:
        hits = await asyncio.to_thread(self.retrieve, query, **options)
        return [_as_langchain(hit) for hit in hits]


class DenseRetriever(PassageRetriever):
    """By the cosine between the embeddings of query and "title: text"."""

    def _rank(
        self, query: str, k: int, exclude: Collection[str], where: Where | None
    ) -> list[tuple[str, float, dict[str, int]]]:
        vector = self.index.embedder.embed_query(query)
        return _single("dense", self.index.dense(vector, k, exclude, where))


class BM25Retriever(PassageRetriever):
    """By shared words. A passage that shares none is never returned."""

    def _rank(
        self, query: str, k: int, exclude: Collection[str], where: Where | None
    ) -> list[tuple[str, float, dict[str, int]]]:
        return _single("bm25", self.index.bm25(query, k, exclude, where))


class HybridRetriever(PassageRetriever):
    """Both, fused by reciprocal rank. ``fetch`` is how deep each is asked, at least ``k``."""

    rrf_k: int = Field(60, ge=1)
    fetch: int = Field(50, ge=1)

    def _rank(
        self, query: str, k: int, exclude: Collection[str], where: Where | None
    ) -> list[tuple[str, float, dict[str, int]]]:
        depth = max(k, self.fetch)
        vector = self.index.embedder.embed_query(query)
        rankings = {
            "dense": self.index.dense(vector, depth, exclude, where),
            "bm25": self.index.bm25(query, depth, exclude, where),
        }
        return fuse({name: [i for i, _ in ranking] for name, ranking in rankings.items()}, self.rrf_k)[:k]


def fuse(rankings: Mapping[str, Sequence[str]], rrf_k: int) -> list[tuple[str, float, dict[str, int]]]:
    """Reciprocal rank fusion (Cormack, Clarke and Buettcher, SIGIR 2009): score = sum of 1 / (rrf_k + rank).

    ``rankings`` maps a retriever's name to passage ids, best first (a repeated id counts at its best rank). Returns
    (passage id, score, 1-based rank by retriever), best first, equal scores by passage id.
    """
    ranks: dict[str, dict[str, int]] = {}
    for name, ranking in rankings.items():
        for rank, passage_id in enumerate(dict.fromkeys(ranking), start=1):
            ranks.setdefault(passage_id, {})[name] = rank
    # Summed by rank, not by name: floats add up the same whatever the order of the retrievers.
    scored = [(i, sum(1 / (rrf_k + rank) for rank in sorted(r.values())), r) for i, r in ranks.items()]
    return sorted(scored, key=lambda item: (-item[1], item[0]))


_RETRIEVERS: dict[Mode, type[PassageRetriever]] = {
    "dense": DenseRetriever,
    "bm25": BM25Retriever,
    "hybrid": HybridRetriever,
}


def retriever(index: Index, settings: Settings, mode: Mode | None = None) -> PassageRetriever:
    """The retriever that the settings name, or that of ``mode``."""
    chosen = settings.retrieve
    options: dict[str, Any] = {"index": index, "k": chosen.k}
    kind = _RETRIEVERS[mode or chosen.mode]
    if kind is HybridRetriever:
        options |= {"rrf_k": chosen.rrf_k, "fetch": chosen.fetch}
    return kind(**options)


def _single(name: str, ranking: Ranking) -> list[tuple[str, float, dict[str, int]]]:
    return [(i, score, {name: rank}) for rank, (i, score) in enumerate(ranking, start=1)]


def _as_langchain(hit: Hit) -> LangChainDocument:
    passage = hit.passage
    return LangChainDocument(
        id=passage.id,
        page_content=passage.text,
        metadata={
            **passage.metadata,
            "passage_id": passage.id,
            "document_id": passage.document_id,
            "title": passage.title,
            "score": hit.score,
        },
    )
