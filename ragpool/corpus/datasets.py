"""Questions with gold answers: our own questions.jsonl, and three multi-hop sets in their original formats.

HotpotQA (arXiv 1809.09600) and 2WikiMultihopQA (arXiv 2011.01060) are a JSON array, MuSiQue (arXiv 2108.00573)
is JSON Lines. A file is recognised by the keys of its records, never by its name.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from ragpool.corpus.load import load
from ragpool.corpus.readers import decode
from ragpool.corpus.records import identifier_from, json_fault, parse_json, read_records
from ragpool.errors import InputError, LoadError
from ragpool.types import Document


@dataclass(frozen=True, slots=True)
class QuestionRecord:
    """A question to answer. ``answers`` are all accepted gold answers (none: unknown or unanswerable),

    ``evidence`` the ids of the gold documents. For the three sets ``metadata`` holds ``dataset`` and what the
    set gives: ``type``, ``level``, ``supporting_facts`` as given, ``triples`` (2WikiMultihopQA's evidences),
    ``decomposition`` and ``answerable`` (MuSiQue).
    """

    id: str
    question: str
    answers: tuple[str, ...] = ()
    evidence: tuple[str, ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Dataset:
    """Questions and the documents that they are asked over."""

    name: str
    documents: tuple[Document, ...]
    questions: tuple[QuestionRecord, ...]


def load_dataset(path: str | Path) -> Dataset:
    """A HotpotQA, 2WikiMultihopQA or MuSiQue file, or a questions.jsonl with documents.jsonl beside it.

    A folder stands for the questions.jsonl in it. A file of {"title", "text"} records (the corpus of a set)
    has documents and no questions. The documents of a set are the paragraphs of all its questions: the id is
    the title, and the second text under one title gets " (2)", the third " (3)"; equal paragraphs are one
    document, also across files of the same set.

    Raises InputError with the file, and the line or the number of the record.
    """
    path = Path(path)
    if path.is_dir():
        path = path / "questions.jsonl"
    entries = list(_entries(path))
    kind = _kind(path, entries[0].value)
    builder = _Builder(path, kind)
    if kind == "questions":
        documents: tuple[Document, ...] = _documents_beside(path)
        questions = builder.questions(entries)
        return Dataset(path.resolve().parent.name, documents, questions)
    questions = builder.questions(entries)
    return Dataset(kind, tuple(builder.documents), questions)


def read_questions(path: str | Path) -> list[QuestionRecord]:
    """The questions of a questions.jsonl, or those of a data set file.

    Raises InputError with file and line for a malformed line, a missing field or an id used twice, and for a
    file without questions.
    """
    path = Path(path)
    entries = list(_entries(path))
    kind = _kind(path, entries[0].value)
    if kind == "corpus":
        raise InputError(f"{path}: holds documents, not questions; give it to 'ragpool index'")
    return list(_Builder(path, kind).questions(entries))


@dataclass(frozen=True, slots=True)
class _Entry:
    """One record and where it stands, for messages: ``file:line``, or ``file: record n`` in a JSON array."""

    where: str
    value: Mapping[str, Any]


def _entries(path: Path) -> Iterator[_Entry]:
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file; check the path") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error}); check the path") from error
    if not data.removeprefix(b"\xef\xbb\xbf").strip():
        raise InputError(f"{path}: empty; it needs one question a line")
    if data.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"["):
        yield from _array_entries(path, data)
        return
    for record in read_records(data.splitlines() if False else data.split(b"\n")):
        where = f"{path}:{record.line}"
        if record.value is None:
            raise InputError(f"{where}: {record.fault}")
        yield _Entry(where, record.value)


def _array_entries(path: Path, data: bytes) -> Iterator[_Entry]:
    try:
        values = parse_json(decode(data))
    except ValueError as error:
        line = getattr(error, "lineno", None)
        where = f"{path}:{line}" if line else str(path)
        raise InputError(f"{where}: {json_fault(error)}; fix the file or download it again") from error
    if not values:
        raise InputError(f"{path}: an empty list; it needs at least one question")
    for number, value in enumerate(values, 1):
        if not isinstance(value, dict):
            raise InputError(f"{path}: record {number}: not a JSON object; write {{...}} or remove it")
        yield _Entry(f"{path}: record {number}", value)


def _kind(path: Path, first: Mapping[str, Any]) -> str:
    if "paragraphs" in first and "question" in first:
        return "musique"
    if "context" in first and "question" in first:
        return "2wikimultihopqa" if "evidences" in first else "hotpotqa"
    if "question" not in first and "title" in first and "text" in first:
        return "corpus"
    return "questions"


def _documents_beside(path: Path) -> tuple[Document, ...]:
    source = path.with_name("documents.jsonl")
    if not source.is_file():
        raise InputError(f"{source}: missing; a questions file is loaded as a data set with its documents beside it")
    return tuple(load([source], on_error=_raise))


def _raise(error: LoadError) -> NoReturn:
    raise InputError(str(error)) from error
