from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragpool.corpus import load_dataset
from ragpool.errors import InputError
from ragpool.evaluate.corpora import read_distractors, with_distractors
from ragpool.types import Document

SET = [
    {
        "_id": "one",
        "question": "Where was Alda Brenn born?",
        "answer": "Port Ennis",
        "type": "bridge",
        "evidences": [["Alda Brenn", "place of birth", "Port Ennis"]],
        "supporting_facts": [["Alda Brenn", 0]],
        "context": [
            ["Alda Brenn", ["Alda Brenn was born in Port Ennis.", "She wove."]],
            ["Tomas Brenn", ["Tomas Brenn was born in Great Holm."]],
        ],
    }
]


def lines(path: Path, rows: list[dict[str, str]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_a_passage_with_title_and_text_of_a_gold_document_is_that_document(tmp_path: Path) -> None:
    file = tmp_path / "set.json"
    file.write_text(json.dumps(SET), encoding="utf-8")
    corpus = lines(
        tmp_path / "corpus.jsonl",
        [
            {"title": "Alda Brenn", "text": "Alda Brenn is a ship."},
            {"title": "Alda Brenn", "text": "Alda Brenn was born in Port Ennis. She wove."},
            {"title": "Ilse Marr", "text": "Ilse Marr was a judge."},
        ],
    )
    dataset = load_dataset(file)
    documents = with_distractors(dataset.documents, read_distractors(corpus))
    assert documents[: len(dataset.documents)] == dataset.documents
    assert [(d.id, d.text[:20]) for d in documents[2:]] == [
        ("Alda Brenn (2)", "Alda Brenn is a ship"),
        ("Ilse Marr", "Ilse Marr was a judg"),
    ]
    [question] = dataset.questions
    assert question.evidence == ("Alda Brenn",)


def test_what_can_be_a_corpus(tmp_path: Path) -> None:
    own = lines(tmp_path / "documents.jsonl", [{"id": "a", "title": "A", "text": "An a."}])
    assert [d.id for d in read_distractors(own)] == ["a"]
    folder = tmp_path / "notes"
    folder.mkdir()
    (folder / "lark.txt").write_text("The Lark is a brig.")
    assert [d.id for d in read_distractors(folder)] == ["lark.txt"]
    file = tmp_path / "set.json"
    file.write_text(json.dumps(SET), encoding="utf-8")
    assert [d.id for d in read_distractors(file)] == ["Alda Brenn", "Tomas Brenn"]


@pytest.mark.parametrize("text", ["", '{"title": "A"}\n', "not json\n"])
def test_a_corpus_that_cannot_be_read_is_named(tmp_path: Path, text: str) -> None:
    file = tmp_path / "corpus.jsonl"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=r"corpus\.jsonl"):
        read_distractors(file)
    with pytest.raises(InputError, match="nowhere"):
        read_distractors(tmp_path / "nowhere.jsonl")


documents = st.lists(
    st.builds(
        lambda title, text: Document(title, title, text),
        st.sampled_from("ab"),
        st.sampled_from(["x", "y", "z"]),
    ),
    max_size=8,
)


@given(documents, documents)
def test_ids_stay_unique_and_content_is_there_once(first: list[Document], second: list[Document]) -> None:
    held = with_distractors((), first)
    merged = with_distractors(held, second)
    assert merged[: len(held)] == held
    assert len({d.id for d in merged}) == len(merged)
    contents = [(d.title, d.text) for d in merged]
    assert len(set(contents)) == len(contents)
    assert set(contents) == {(d.title, d.text) for d in [*first, *second]}
    assert with_distractors(merged, [*first, *second]) == merged
