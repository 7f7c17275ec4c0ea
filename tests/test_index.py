from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
import threading
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from fakes import HashEmbedder
from hypothesis import given, settings
from hypothesis import strategies as st
from lights import DOCUMENTS, SETTINGS, make

from ragpool.db import Database, passage
from ragpool.errors import (
    EmbedderMismatchError,
    InputError,
    NotFoundError,
    StoreLockedError,
    StoreNotFoundError,
)
from ragpool.index import Index
from ragpool.index.filters import matches
from ragpool.index.lexical import BM25, tokenize
from ragpool.models import Embedder
from ragpool.types import Document

QUERIES = ("harbour of Caldry", "when was the lighthouse built", "keeper 17", "ships from Dunmere")


def build(folder: Path, documents: Sequence[Document] = DOCUMENTS) -> Path:
    with Index.open(folder, SETTINGS, write=True, create=True, embedder=HashEmbedder()) as index:
        index.add(documents)
    return folder


def reopen(folder: Path, **options: Any) -> Index:
    return Index.open(folder, SETTINGS, embedder=HashEmbedder(), **options)


def answers(index: Index) -> dict[str, Any]:
    """Everything a search can see of an index, with scores to six places."""
    found: dict[str, Any] = {"version": index.version, "count": index.count()}
    for query in QUERIES:
        vector = index.embedder.embed_query(query)
        found[f"dense {query}"] = [(i, round(s, 6)) for i, s in index.dense(vector, 10)]
        found[f"bm25 {query}"] = [(i, round(s, 6)) for i, s in index.bm25(query, 10)]
    return found


def answers_of(folder: Path) -> dict[str, Any]:
    with reopen(folder) as index:
        return answers(index)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("built") / "store")


@pytest.fixture
def store(built: Path, tmp_path: Path) -> Path:
    """A copy of the built store, to be changed or damaged."""
    shutil.copytree(built, tmp_path / "store")
    return tmp_path / "store"


@pytest.fixture
def index(built: Path) -> Iterator[Index]:
    with reopen(built) as opened:
        yield opened


# -- adding and deleting -----------------------------------------------------------------------------------------------


def test_add_embeds_only_what_changed(store: Path) -> None:
    embedder = HashEmbedder()
    changed = [make(3, "Painted white."), *DOCUMENTS[4:], make(99)]
    with Index.open(store, SETTINGS, write=True, embedder=embedder) as index:
        before = index.version
        again = index.add(DOCUMENTS)
        assert (again.unchanged, again.added, again.embedded, index.version) == (40, 0, 0, before)
        report = index.add(changed)
        assert (report.added, report.changed, report.unchanged, report.deleted) == (1, 1, 36, 0)
        assert sorted(embedder.embedded) == sorted(
            f"{d.title}: {d.text}" for d in (make(3, "Painted white."), make(99))
        )
        assert index.count() == (41, 41)
        assert index.version != before
        pruned = index.add(changed, prune=True)
        assert (pruned.deleted, index.count()[0]) == (3, 38)


def test_a_change_of_metadata_needs_no_embedding(store: Path) -> None:
    first = DOCUMENTS[0]
    embedder = HashEmbedder()
    with Index.open(store, SETTINGS, write=True, embedder=embedder) as index:
        report = index.add([Document(first.id, first.title, first.text, {"harbour": "elsewhere"})])
        assert (report.changed, report.embedded, embedder.embedded) == (1, 0, [])
        assert index.passages(["d0"])[0].metadata == {"harbour": "elsewhere"}


def test_incremental_changes_equal_a_fresh_build(store: Path, tmp_path: Path) -> None:
    with reopen(store, write=True) as index:
        assert index.delete(["d1", "d2", "nowhere"]) == 2
        index.add([make(5, "Rebuilt after the flood."), make(70), make(71)])
        index.delete(["d70"])
    documents = [d for d in DOCUMENTS if d.id not in {"d1", "d2", "d5"}]
    fresh = build(tmp_path / "fresh", [make(71), make(5, "Rebuilt after the flood."), *documents])
    assert answers_of(store) == answers_of(fresh)


def test_long_documents_are_split_and_put_together_again(tmp_path: Path) -> None:
    text = " ".join(f"Sentence number {n} of the long document." for n in range(40))
    with reopen(tmp_path / "store", write=True, create=True) as index:
        index.add([Document("long", "Long", text)])
        _, passages = index.count()
        assert passages > 5
        assert index.document("long").text == text
        assert [p.id for p in index.passages(["long#2", "none", "long#1"])] == ["long#2", "long#1"]
        with pytest.raises(NotFoundError):
            index.document("none")


def test_two_documents_with_one_id(tmp_path: Path) -> None:
    with (
        reopen(tmp_path / "store", write=True, create=True) as index,
        pytest.raises(InputError, match="id 'd1'"),
    ):
        index.add([make(1), make(1, "Different.")])


def test_nothing_to_index(tmp_path: Path) -> None:
    with (
        reopen(tmp_path / "store", write=True, create=True) as index,
        pytest.raises(InputError, match="no documents"),
    ):
        index.add([])


def test_pruning_for_want_of_documents_is_refused(store: Path) -> None:
    with reopen(store, write=True) as index:
        with pytest.raises(InputError, match="no documents"):
            index.add([], prune=True)
        assert index.count()[0] == 40


def test_progress_reaches_the_total(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    with reopen(tmp_path / "store", write=True, create=True) as index:
        index.add(DOCUMENTS, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (40, 40)
    assert seen == sorted(seen)


def test_documents_are_listed(index: Index) -> None:
    listed = index.documents()
    assert len(listed) == 40
    assert {d.id: (d.title, d.passages) for d in listed}["d7"] == ("Aldmoor light 7", 1)
    assert index.title_list()[0] == "Aldmoor light 0"


def test_the_corpus_tables_work_on_every_database(database_url: str, tmp_path: Path) -> None:
    chosen = SETTINGS.model_copy(update={"database_url": database_url})
    with Index.open(tmp_path / "s", chosen, write=True, create=True, embedder=HashEmbedder()) as index:
        index.add(DOCUMENTS)
        index.add([make(5, "Rebuilt."), *DOCUMENTS[:3]])
        index.delete(["d9"])
        assert index.count() == (39, 39)
        assert index.dense(HashEmbedder().embed_query("keeper 17"), 3)


# -- opening -----------------------------------------------------------------------------------------------------------


def test_no_index_there(tmp_path: Path) -> None:
    with pytest.raises(StoreNotFoundError, match="ragpool index PATH --store"):
        reopen(tmp_path / "nothing")
    assert not (tmp_path / "nothing").exists()


def test_another_embedder_is_refused_until_everything_is_embedded_again(store: Path) -> None:
    other = HashEmbedder(version="other@2", dimension=32)
    with pytest.raises(EmbedderMismatchError, match=r"hash@1.*other@2.*--rebuild"):
        Index.open(store, SETTINGS, embedder=other)
    with Index.open(store, SETTINGS, write=True, reembed=True, embedder=other) as index:
        manifest = index.manifest()
        assert manifest is not None
        assert (manifest.embedder, manifest.dimension) == ("other@2", 32)
        assert len(index.dense(other.embed_query("keeper 17"), 3)) == 3
    with pytest.raises(EmbedderMismatchError):
        reopen(store)


def test_the_settings_embedder_is_checked_before_it_is_loaded(store: Path, embedder: Embedder) -> None:
    with pytest.raises(EmbedderMismatchError, match=f"hash@1, not {embedder.version}"):
        Index.open(store, SETTINGS)


def test_a_second_writer_is_told_who_writes(store: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from ragpool.index import Index; from ragpool.settings import Settings\n"
        "from fakes import HashEmbedder\n"
        "index = Index.open(Path(sys.argv[1]), Settings(), write=True, embedder=HashEmbedder())\n"
        "print('ready', flush=True); sys.stdin.read()"
    )
    with child(script, str(store)) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
        with pytest.raises(StoreLockedError, match=f"process {writer.pid}"):
            reopen(store, write=True)
        with reopen(store) as reader:  # reading goes on meanwhile
            assert reader.bm25("keeper 17", 1)[0][0] == "d17"
            with pytest.raises(StoreLockedError):
                reader.delete(["d1"])
    with reopen(store, write=True) as index:  # the lock went with its process
        assert index.delete(["d1"]) == 1


def test_a_reader_keeps_its_view_until_refreshed(store: Path) -> None:
    query = "zeppelin"
    with reopen(store) as reader:
        before = answers(reader)
        with reopen(store, write=True) as writer:
            writer.add([make(80, "A zeppelin moored here.")])
        assert reader.bm25(query, 5) == []
        assert {k: v for k, v in answers(reader).items() if k != "count"} == {
            k: v for k, v in before.items() if k != "count"
        }
        assert reader.refresh()
        assert not reader.refresh()
        assert [i for i, _ in reader.bm25(query, 5)] == ["d80"]
        assert (
            reader.dense(reader.embedder.embed_query(f"{make(80).title}: {make(80).text}"), 1)[0][0] == "d80"
        )


def test_two_processes_read_at_once(built: Path) -> None:
    script = (
        "import sys, json; from pathlib import Path; from ragpool.index import Index; from ragpool.settings import Settings\n"
        "from fakes import HashEmbedder\n"
        "index = Index.open(Path(sys.argv[1]), Settings(), embedder=HashEmbedder())\n"
        "print(json.dumps([index.dense(index.embedder.embed_query(f'keeper {n}'), 5) for n in range(40)]), flush=True)\n"
        "sys.stdin.read()"
    )
    with child(script, str(built)) as first, child(script, str(built)) as second, reopen(built) as index:
        own = [index.dense(index.embedder.embed_query(f"keeper {n}"), 5) for n in range(40)]
        for process in (first, second):
            assert process.stdout is not None
            assert [[tuple(hit) for hit in hits] for hits in json.loads(process.stdout.readline())] == own


def test_threads_share_an_index(built: Path) -> None:
    with reopen(built) as alone:
        expected = answers(alone)
    with reopen(built) as shared, ThreadPoolExecutor(8) as threads:
        barrier = threading.Barrier(8)

        def ask() -> dict[str, Any]:
            barrier.wait()
            return answers(shared)

        for done in [threads.submit(ask) for _ in range(8)]:
            assert done.result() == expected


# -- what is derived can be lost ---------------------------------------------------------------------------------------


def _truncate_vectors(store: Path) -> None:
    for file in store.glob("chroma/g-*/*/data_level0.bin"):
        file.write_bytes(file.read_bytes()[:100])


def _overwrite_vectors(store: Path) -> None:
    for file in store.glob("chroma/g-*/**/*.bin"):
        file.write_bytes(random.Random(1).randbytes(file.stat().st_size))


def _overwrite_database(store: Path) -> None:
    for file in store.glob("chroma/g-*/chroma.sqlite3"):
        file.write_bytes(b"\0" * file.stat().st_size)


def _delete_database(store: Path) -> None:
    for file in store.glob("chroma/g-*/chroma.sqlite3"):
        file.unlink()


def _damage_manifest(store: Path) -> None:
    (store / "chroma" / "current.json").write_text('{"format": 1, "name"', encoding="utf-8")


def _delete_chroma(store: Path) -> None:
    shutil.rmtree(store / "chroma")


def _truncate_terms(store: Path) -> None:
    file = store / "bm25.json"
    file.write_bytes(file.read_bytes()[:-50])


def _swap_terms(store: Path) -> None:
    file = store / "bm25.json"
    file.write_bytes(file.read_bytes().replace(b"lighthouse", b"greenhouse"))


DAMAGES = (
    _truncate_vectors,
    _overwrite_vectors,
    _overwrite_database,
    _delete_database,
    _damage_manifest,
    _delete_chroma,
    _truncate_terms,
    _swap_terms,
)


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda d: d.__name__)
def test_damage_is_mended_when_it_is_met(built: Path, store: Path, damage: Any) -> None:
    expected = answers_of(built)
    answers_of(store)  # keeps the terms of BM25
    damage(store)
    assert answers_of(store) == expected
    assert answers_of(store) == expected


def test_a_damaged_index_serves_exact_results_while_another_process_writes(store: Path, built: Path) -> None:
    _delete_database(store)
    with reopen(store, write=True), reopen(store) as reader:
        assert answers(reader) == answers_of(built)


def test_the_probe_tells_sound_from_broken(store: Path) -> None:
    with reopen(store) as index:
        assert index.check() == ""
        _overwrite_vectors(store)
        assert "is not what was written" in index.check()
        # even with checksums that agree, a folder that Chroma cannot read is found, without taking this process along
        manifest = store / "chroma" / "current.json"
        value = json.loads(manifest.read_text(encoding="utf-8"))
        (folder,) = store.glob("chroma/g-*")
        _overwrite_database(store)
        value["files"] = {
            name: (len(data), zlib.crc32(data))
            for name in value["files"]
            if (data := (folder / name).read_bytes()) is not None
        }
        manifest.write_text(json.dumps(value), encoding="utf-8")
        assert index.check()


def test_copies_of_killed_readers_are_removed(store: Path) -> None:
    script = (
        "import os, sys; from pathlib import Path; from ragpool.index import Index; from ragpool.settings import Settings\n"
        "from fakes import HashEmbedder\n"
        "index = Index.open(Path(sys.argv[1]), Settings(), embedder=HashEmbedder())\n"
        "index.dense(index.embedder.embed_query('keeper'), 5); os.kill(os.getpid(), 9)"
    )
    with child(script, str(store)) as reader:
        assert reader.wait() == -9
    assert len(list((store / "chroma" / "open").iterdir())) == 2
    answers_of(store)
    assert list((store / "chroma" / "open").iterdir()) == []


KILLED = """
import sys
from pathlib import Path
import ragpool.index.core as core
from ragpool.index import Index
from fakes import HashEmbedder
from lights import DOCUMENTS, SETTINGS, make

core._WINDOW = 5
class Talking(HashEmbedder):
    def embed(self, *args, **options):
        print("embedding", flush=True)
        return super().embed(*args, **options)

with Index.open(Path(sys.argv[1]), SETTINGS, write=True, create=True, embedder=Talking()) as index:
    original = index._chroma.publish
    def publish(**options):
        print("publishing", flush=True)
        original(**options)
        print("published", flush=True)
    index._chroma.publish = publish
    index.add([make(3, "Changed."), *DOCUMENTS[4:]])
print("done", flush=True)
"""


@pytest.mark.parametrize("lines", [1, 5, 8, 9, 10])
def test_a_killed_run_is_taken_up_again(lines: int, tmp_path: Path) -> None:
    """Killed after ``lines`` lines of output and a moment: 8 embeddings, then publishing, then published."""
    wanted = [make(3, "Changed."), *DOCUMENTS[4:]]
    store = build(tmp_path / "store", DOCUMENTS[:6])
    with child(KILLED, str(store)) as writer:
        assert writer.stdout is not None
        for _ in range(lines):
            writer.stdout.readline()
        threading.Event().wait(random.Random().uniform(0, 0.3))
        writer.kill()
    with reopen(store) as reader:  # whole documents only, and every index agrees with the database
        documents, passages = reader.count()
        assert documents == passages
        vector = reader.embedder.embed_query("keeper 5")
        assert dict(reader.dense(vector, 50)) == pytest.approx(dict(reader.dense_exact(vector, 50)), abs=1e-5)
        assert len(reader.dense(vector, 50)) == passages
        assert len(reader.bm25("lighthouse", 50)) == passages
    embedder = HashEmbedder()
    with Index.open(store, SETTINGS, write=True, embedder=embedder) as index:
        index.add(wanted, prune=True)
        assert len(embedder.embedded) <= len(wanted) + 4 - documents
    assert answers_of(store) == answers_of(build(tmp_path / "whole", wanted))


def test_a_killed_change_of_embedder_is_taken_up_again(store: Path) -> None:
    with Database.in_folder(store).write() as connection:  # as a kill in the middle of rebuild leaves it
        connection.execute(passage.update().where(passage.c.id.like("d1%")).values(vector=None))
    embedder = HashEmbedder()
    with Index.open(store, SETTINGS, write=True, embedder=embedder) as index:
        assert "no vector" in index.check()
        assert index.add(DOCUMENTS).embedded == 11
        assert index.check() == ""
    assert len(embedder.embedded) == 11


class child:
    """A Python process that runs ``script``; killed at the end if it is still there."""

    def __init__(self, script: str, *arguments: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", script, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parent,
        )

    def __enter__(self) -> subprocess.Popen[str]:
        return self._process

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()


# -- searching ---------------------------------------------------------------------------------------------------------


def test_chroma_agrees_with_the_scan_of_all_vectors(index: Index) -> None:
    for number in range(0, 40, 3):
        vector = index.embedder.embed_query(f"keeper {number} of the light")
        near, exact = index.dense(vector, 12), index.dense_exact(vector, 12)
        assert [i for i, _ in near] == [i for i, _ in exact]
        assert [s for _, s in near] == pytest.approx([s for _, s in exact], abs=1e-5)


def test_exclusion_comes_before_the_cut(index: Index) -> None:
    vector = index.embedder.embed_query("lighthouse")
    for search in (lambda **o: index.dense(vector, **o), lambda **o: index.bm25("lighthouse", **o)):
        everything = [i for i, _ in search(k=40)]
        assert len(everything) == 40
        assert [i for i, _ in search(k=5, exclude=set(everything[:30]))] == everything[30:35]
        assert search(k=5, exclude=set(everything)) == []


def test_filters_mean_the_same_for_both(index: Index) -> None:
    vector = index.embedder.embed_query("lighthouse")
    for where, expected in (
        ({"harbour": "Caldry"}, {f"d{n}" for n in range(2, 40, 7)}),
        ({"harbour": {"$in": ["Caldry", "Farrow"]}, "year": {"$in": [1702, 1705.0, 1703]}}, {"d2", "d5"}),
        ({"harbour": "Atlantis"}, set()),
        ({"colour": None}, set()),
    ):
        assert {i for i, _ in index.dense(vector, 40, where=where)} == expected
        assert {i for i, _ in index.bm25("lighthouse", 40, where=where)} == expected


@pytest.mark.parametrize(
    "where", [{"year": {"$gt": 3}}, {"year": [1, 2]}, {"year": {"$in": 3}}, {"year": {}}]
)
def test_filters_that_are_not_understood(where: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="filter 'year'"):
        matches(where)


def test_true_is_not_one() -> None:
    assert matches({"a": 1})({"a": 1.0})
    assert not matches({"a": 1})({"a": True})
    assert not matches({"a": False})({"a": 0})


def test_titles_are_found_whatever_their_form(tmp_path: Path) -> None:
    documents = [
        Document("a", "The Mask (1994 film)", "A film."),
        Document("b", "The Mask", "A comic."),
        Document("c", "Émile Zola", "A writer."),
        Document("d", "Solaris (novel)", "A novel."),
    ]
    with reopen(tmp_path / "store", write=True, create=True) as index:
        index.add(documents)
        assert [p.id for p in index.by_title("the mask")] == ["b", "a"]
        assert [p.id for p in index.by_title("The Mask (1994 Film)")] == ["a"]
        assert [p.id for p in index.by_title("emile  zola")] == ["c"]
        assert [p.id for p in index.by_title("Solaris (film)")] == ["d"]
        assert index.by_title("nobody") == []
        assert index.titles()["solaris"] == ("d",)


# -- terms and BM25 ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("Who is the mother of Lothair II?", ["mother", "lothair", "ii"]),
        ("Gülbahar Hâtun's Čapek–Łódź Ærø Straße", ["gulbahar", "hatun", "capek", "lodz", "aero", "strasse"]),
        ("1,024 ships in 1990, 3.5 m; 12,34", ["1024", "ships", "1990", "3", "5", "m", "12", "34"]),
        ("東京タワー 1958", ["東京", "京タ", "タワ", "ワー", "1958"]),
        ("犬", ["犬"]),
        ("한국어", ["한국", "국어"]),
        ("ＡＢＣ ﬁne", ["abc", "fine"]),
        ("हिन्दी भाषा", ["हिन्दी", "भाषा"]),
        ("Αθήνα Йод", ["αθηνα", "иод"]),
        ("... — !", []),
    ],
)
def test_terms(text: str, terms: list[str]) -> None:
    assert tokenize(text) == terms


@given(st.text())
def test_any_text_has_terms_that_are_stable(text: str) -> None:
    terms = tokenize(text)
    assert all(terms)
    assert tokenize(text.upper()) == tokenize(text.upper().swapcase()) or not text.isascii()


@settings(max_examples=50)
@given(st.lists(st.lists(st.sampled_from("abcdefg"), min_size=1, max_size=12), min_size=1, max_size=12))
def test_postings_score_as_rank_bm25_does(corpus: list[list[str]]) -> None:
    bm25 = BM25(corpus)
    query = ["a", "b", "b", "z"]
    slow = super(BM25, bm25).get_scores(query)
    assert bm25.get_scores(query) == pytest.approx(slow)
    assert all(idf > 0 for idf in bm25.idf.values())
