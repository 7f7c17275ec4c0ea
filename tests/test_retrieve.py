from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fakes import HashEmbedder
from hypothesis import given
from hypothesis import strategies as st

from ragpool.errors import InputError
from ragpool.index import Index
from ragpool.models import Embedder
from ragpool.retrieve import BM25Retriever, DenseRetriever, HybridRetriever, fuse, retriever
from ragpool.settings import Mode, RetrieveSettings, Settings
from ragpool.types import Document

DOCUMENTS = (
    Document("1", "Orrin Vale", "Orrin Vale was a clockmaker of Tarnwick, born in 1712.", {"kind": "person"}),
    Document("2", "Tarnwick", "Tarnwick is a market town on the river Isk.", {"kind": "place"}),
    Document("3", "Isk (river)", "The Isk rises in the Grey Fells and reaches the sea.", {"kind": "place"}),
    Document("4", "Maud Vale", "Maud Vale, daughter of the clockmaker, wrote hymns.", {"kind": "person"}),
    Document("5", "Bell of Tarnwick", "The great bell was cast in 1740.", {"kind": "thing"}),
)
MODES: tuple[Mode, ...] = ("dense", "bm25", "hybrid")


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Index]:
    folder = tmp_path_factory.mktemp("retrieve") / "store"
    with Index.open(folder, Settings(), write=True, create=True, embedder=HashEmbedder()) as opened:
        opened.add(DOCUMENTS)
        yield opened


@pytest.mark.parametrize("mode", MODES)
def test_a_retriever_finds_excludes_and_filters(index: Index, mode: Mode) -> None:
    search = retriever(index, Settings(), mode)
    hits = search.retrieve("Who was the clockmaker Orrin Vale of Tarnwick?", k=3)
    assert hits[0].passage.id == "1"
    assert len(hits) == 3
    assert [h.score for h in hits] == sorted((h.score for h in hits), reverse=True)
    assert {h.retriever for h in hits} == {mode}
    rest = search.retrieve("Who was the clockmaker Orrin Vale of Tarnwick?", k=3, exclude={"1", "2"})
    assert {"1", "2"}.isdisjoint(h.passage.id for h in rest)
    people = search.retrieve("clockmaker of Tarnwick", k=5, where={"kind": "person"})
    assert {h.passage.id for h in people} == {"1", "4"}


def test_passages_that_share_no_word_are_dropped(index: Index) -> None:
    search = BM25Retriever(index=index)
    assert [h.passage.id for h in search.retrieve("Where do the hymns come from?", k=5)] == ["4"]
    assert search.retrieve("zeppelin", k=5) == ()
    assert search.retrieve("who is the", k=5) == ()  # stop words alone


def test_hybrid_hits_tell_their_ranks(index: Index) -> None:
    search = HybridRetriever(index=index, rrf_k=10)
    for hit in search.retrieve("hymns", k=5):
        assert hit.score == pytest.approx(sum(1 / (10 + rank) for rank in hit.ranks.values()))
        assert ("bm25" in hit.ranks) == (hit.passage.id == "4")
        assert "dense" in hit.ranks


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("query", ["", "  \n"])
def test_an_empty_query(index: Index, mode: Mode, query: str) -> None:
    with pytest.raises(InputError, match="empty"):
        retriever(index, Settings(), mode).retrieve(query)


def test_k_below_one(index: Index) -> None:
    with pytest.raises(InputError, match="k is 0"):
        DenseRetriever(index=index).retrieve("hymns", k=0)


def test_the_settings_choose(index: Index) -> None:
    chosen = Settings(retrieve=RetrieveSettings(mode="hybrid", k=2, rrf_k=7, fetch=3))
    search = retriever(index, chosen)
    assert isinstance(search, HybridRetriever)
    assert (search.k, search.rrf_k, search.fetch) == (2, 7, 3)
    assert isinstance(retriever(index, chosen, "bm25"), BM25Retriever)
    assert len(search.retrieve("Tarnwick")) == 2
    assert len(search.with_k(4).retrieve("Tarnwick")) == 4


@pytest.mark.parametrize("mode", MODES)
async def test_langchain_documents_say_where_they_come_from(index: Index, mode: Mode) -> None:
    search = retriever(index, Settings(), mode)
    (first,) = await search.ainvoke("clockmaker Orrin Vale", k=1, exclude={"4"})
    assert first == search.invoke("clockmaker Orrin Vale", k=1, exclude={"4"})[0]
    assert first.page_content == DOCUMENTS[0].text
    assert first.metadata.pop("score") > 0
    assert first.metadata == {
        "kind": "person",
        "passage_id": "1",
        "document_id": "1",
        "title": "Orrin Vale",
    }


@pytest.mark.model
def test_minilm_finds_what_is_meant(embedder: Embedder, tmp_path: Path) -> None:
    with Index.open(tmp_path / "store", Settings(), write=True, create=True, embedder=embedder) as index:
        index.add(DOCUMENTS)
        assert (
            DenseRetriever(index=index).retrieve("Which stream flows to the ocean?", k=1)[0].passage.id == "3"
        )
        assert HybridRetriever(index=index).retrieve("Who made clocks?", k=2)[0].passage.id in {"1", "4"}


# -- fusion ------------------------------------------------------------------------------------------------------------

rankings = st.dictionaries(
    st.sampled_from(["dense", "bm25", "title", "other"]),
    st.lists(st.sampled_from("abcdefgh"), max_size=8, unique=True),
    max_size=4,
)


@given(rankings, st.integers(1, 100))
def test_fusion_names_each_passage_once_by_falling_score(found: dict[str, list[str]], rrf_k: int) -> None:
    fused = fuse(found, rrf_k)
    ids = [i for i, _, _ in fused]
    assert sorted(ids) == sorted({i for ranking in found.values() for i in ranking})
    assert fused == sorted(fused, key=lambda item: (-item[1], item[0]))
    for i, score, ranks in fused:
        assert ranks == {name: ranking.index(i) + 1 for name, ranking in found.items() if i in ranking}
        assert score == pytest.approx(sum(1 / (rrf_k + rank) for rank in ranks.values()))


@given(rankings, st.randoms())
def test_fusion_does_not_depend_on_the_order_of_retrievers(
    found: dict[str, list[str]], random: object
) -> None:
    names = list(found)
    random.shuffle(names)  # type: ignore[attr-defined]
    assert fuse({name: found[name] for name in names}, 60) == fuse(found, 60)


@given(rankings, st.sampled_from("abcdefgh"))
def test_a_better_rank_is_never_worse(found: dict[str, list[str]], passage: str) -> None:
    def place(rankings: dict[str, list[str]]) -> int:
        return [i for i, _, _ in fuse(rankings, 60)].index(passage)

    for name, ranking in found.items():
        if passage in ranking[1:]:
            at = ranking.index(passage)
            raised = [*ranking[: at - 1], passage, ranking[at - 1], *ranking[at + 1 :]]
            assert place({**found, name: raised}) <= place(found)


@given(rankings, st.sets(st.sampled_from("abcdefgh")))
def test_what_is_excluded_before_fusion_does_not_move_the_rest_apart(
    found: dict[str, list[str]], excluded: set[str]
) -> None:
    kept = {name: [i for i in ranking if i not in excluded] for name, ranking in found.items()}
    fused = fuse(kept, 60)
    assert excluded.isdisjoint(i for i, _, _ in fused)
    # passages of a single ranking keep their order
    for ranking in kept.values():
        only = [i for i in ranking if sum(i in other for other in kept.values()) == 1]
        assert [i for i, _, _ in fused if i in only] == only
