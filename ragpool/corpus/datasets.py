"""Questions with gold answers: our own questions.jsonl, and three multi-hop sets in their original formats.

HotpotQA (arXiv 1809.09600) and 2WikiMultihopQA (arXiv 2011.01060) are a JSON array, MuSiQue (arXiv
2108.00573) is JSON Lines. A file is recognised by the keys of its records, never by its name.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NoReturn

from ragpool.corpus.load import load
from ragpool.corpus.readers import decode
from ragpool.corpus.records import identifier_from, json_fault, parse_json, read_records
from ragpool.errors import InputError, LoadError
from ragpool.types import Document


@dataclass(frozen=True, slots=True)
class QuestionRecord:
    """A question to answer.

    ``answers`` are all accepted gold answers (none: unknown or unanswerable), ``evidence`` the ids of the
    gold documents. For the three sets ``metadata`` holds ``dataset`` and what the
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
    kind = _kind(entries[0].value)
    if kind == "questions":
        questions = _Questions(kind).read(entries)
        return Dataset(path.resolve().parent.name, _documents_beside(path), questions)
    builder = _Questions(kind)
    questions = builder.read(entries)
    return Dataset(kind, tuple(builder.paragraphs.documents), questions)


def dataset_documents(path: Path) -> tuple[Document, ...]:
    """The documents inside a data set file. Raises InputError, also when it holds none."""
    entries = list(_entries(path))
    kind = _kind(entries[0].value)
    if kind == "questions":
        raise InputError(f"{path}: holds no documents; give a questions file to 'ragpool batch' instead")
    builder = _Questions(kind)
    builder.read(entries)
    return tuple(builder.paragraphs.documents)


def read_questions(path: str | Path) -> list[QuestionRecord]:
    """The questions of a questions.jsonl, or those of a data set file.

    Raises InputError with file and line for a malformed line, a missing field or an id used twice, and for a
    file without questions.
    """
    path = Path(path)
    entries = list(_entries(path))
    kind = _kind(entries[0].value)
    if kind == "corpus":
        raise InputError(f"{path}: holds documents, not questions; give it to 'ragpool index'")
    return list(_Questions(kind).read(entries))


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
    for record in read_records(data.split(b"\n")):
        where = f"{path}:{record.line}"
        if record.value is None:
            raise InputError(f"{where}: {_whole_file_fault(data) or record.fault}")
        yield _Entry(where, record.value)


def _whole_file_fault(data: bytes) -> str:
    """What is wrong when no line is a record but the whole file is JSON."""
    try:
        parse_json(decode(data))
    except ValueError:
        return ""
    return "one JSON object over several lines; write one record a line, or a list of records"


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


def _kind(first: Mapping[str, Any]) -> str:
    if "paragraphs" in first and "question" in first:
        return "musique"
    if "context" in first and "question" in first:
        return "2wikimultihopqa" if "evidences" in first else "hotpotqa"
    if "title" in first and "text" in first and "id" not in first and "question" not in first:
        return "corpus"
    return "questions"


def _documents_beside(path: Path) -> tuple[Document, ...]:
    source = path.with_name("documents.jsonl")
    if not source.is_file():
        raise InputError(
            f"{source}: missing; a questions file is loaded as a data set with its documents beside it"
        )
    return tuple(load([source], on_error=_raise))


def _raise(error: LoadError) -> NoReturn:
    raise InputError(str(error)) from error


@contextmanager
def _located(entry: _Entry) -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        raise InputError(f"{entry.where}: {error}") from error


class _Paragraphs:
    """Collects the paragraphs of a set as documents: equal title and text once, ids unique."""

    def __init__(self) -> None:
        self._by_content: dict[tuple[str, str], Document] = {}
        self._by_title: dict[str, Document] = {}
        self._ids: set[str] = set()

    @property
    def documents(self) -> list[Document]:
        return list(self._by_content.values())

    def add(self, title: str, text: str) -> str:
        """The id of the document with this title and text."""
        known = self._by_content.get((title, text))
        if known is not None:
            return known.id
        name = title.strip() or "untitled"
        identifier, number = name, 1
        while identifier in self._ids:
            number += 1
            identifier = f"{name} ({number})"
        self._ids.add(identifier)
        document = Document(identifier, title, text)
        self._by_content[title, text] = document
        self._by_title.setdefault(title, document)
        return identifier

    def titled(self, title: str) -> str | None:
        """The id of the first document with this title."""
        document = self._by_title.get(title)
        return document.id if document else None


class _Questions:
    """Turns the records of one file into questions, and collects their paragraphs on the way."""

    def __init__(self, kind: str) -> None:
        self.paragraphs = _Paragraphs()
        self._kind = kind

    def read(self, entries: Iterable[_Entry]) -> tuple[QuestionRecord, ...]:
        """The questions, in order. Raises InputError for a record that is wrong or an id used twice."""
        read = {
            "corpus": self._corpus,
            "hotpotqa": self._hotpotqa,
            "2wikimultihopqa": self._hotpotqa,
            "musique": self._musique,
            "questions": _own_question,
        }[self._kind]
        entries = list(entries)
        if read == self._hotpotqa:
            # A supporting title may stand in the context of a later question only.
            for entry in entries:
                with _located(entry):
                    self._context(entry.value)
        questions: dict[str, QuestionRecord] = {}
        places: dict[str, str] = {}
        for entry in entries:
            with _located(entry):
                question = read(entry.value)
            if question is None:
                continue
            if question.id in questions and question.metadata.get("answerable") is not None:
                # MuSiQue-Full has each question twice under one id, with and without its evidence.
                question = replace(question, id=f"{question.id} (2)")
            if question.id in questions:
                first = places[question.id]
                raise InputError(
                    f"{entry.where}: the id {question.id!r} is already used at {first}; change one"
                )
            questions[question.id] = question
            places[question.id] = entry.where
        return tuple(questions.values())

    def _corpus(self, value: Mapping[str, Any]) -> None:
        self.paragraphs.add(_string(value, "title", blank=True), _string(value, "text"))

    def _context(self, value: Mapping[str, Any]) -> dict[str, str]:
        """The document ids of one record's paragraphs, by title."""
        own: dict[str, str] = {}
        for paragraph in _items(value, "context"):
            match paragraph:
                case [str(title), [*lines]] if all(isinstance(line, str) for line in lines):
                    text = _joined(lines)
                    if text:
                        own.setdefault(title, self.paragraphs.add(title, text))
                case _:
                    raise ValueError('"context" is not a list of [title, [sentences]]; use the original file')
        return own

    def _hotpotqa(self, value: Mapping[str, Any]) -> QuestionRecord:
        own = self._context(value)
        facts = _items(value, "supporting_facts", missing=())
        evidence: dict[str, None] = {}
        for fact in facts:
            match fact:
                case [str(title), *_]:
                    identifier = own.get(title) or self.paragraphs.titled(title)
                    if identifier is not None:
                        evidence[identifier] = None
                case _:
                    raise ValueError(
                        '"supporting_facts" is not a list of [title, number]; use the original file'
                    )
        metadata: dict[str, Any] = {"dataset": self._kind, "supporting_facts": facts}
        metadata |= {key: value[key] for key in ("type", "level") if key in value}
        if "evidences" in value:
            metadata["triples"] = value["evidences"]
        answers = (_string(value, "answer"),) if value.get("answer", "") != "" else ()  # test sets have none
        identifier = identifier_from(value, "_id" if "_id" in value else "id")
        return QuestionRecord(identifier, _string(value, "question"), answers, tuple(evidence), metadata)

    def _musique(self, value: Mapping[str, Any]) -> QuestionRecord:
        supporting: dict[object, str] = {}
        for number, paragraph in enumerate(_items(value, "paragraphs")):
            match paragraph:
                case {"title": str(title), "paragraph_text": str(text)} if text.strip():
                    identifier = self.paragraphs.add(title, text)
                    if paragraph.get("is_supporting") is True:
                        supporting[paragraph.get("idx", number)] = identifier
                case _:
                    raise ValueError(
                        '"paragraphs" is not a list of {"title", "paragraph_text"}; use the original'
                    )
        steps = _items(value, "question_decomposition", missing=())
        hops = [step.get("paragraph_support_idx") for step in steps if isinstance(step, dict)]
        # In the order of the hops; a supporting paragraph that no hop names comes last.
        evidence = dict.fromkeys(
            supporting[hop] for hop in hops if isinstance(hop, int) and hop in supporting
        )
        evidence |= dict.fromkeys(supporting.values())
        answerable = value.get("answerable", True) is not False
        answers: list[str] = []
        if answerable and "answer" in value:
            answers = [_string(value, "answer"), *_strings(value, "answer_aliases")]
        metadata = {"dataset": self._kind, "answerable": answerable, "decomposition": steps}
        identifier = identifier_from(value)
        if hop_type := re.match(r"\dhop\d?", identifier):
            metadata["type"] = hop_type[0]
        return QuestionRecord(
            identifier, _string(value, "question"), tuple(dict.fromkeys(answers)), tuple(evidence), metadata
        )


def _own_question(value: Mapping[str, Any]) -> QuestionRecord:
    answers = _strings(value, "answers") or _strings(value, "answer")
    metadata = value.get("metadata")
    if metadata is not None and not isinstance(metadata, dict):
        raise ValueError('"metadata" is not an object; write {...} or remove it')
    known = ("id", "question", "answers", "answer", "evidence", "metadata")
    extra = {key: item for key, item in value.items() if key not in known}
    return QuestionRecord(
        identifier_from(value),
        _string(value, "question"),
        tuple(dict.fromkeys(answers)),
        tuple(dict.fromkeys(_strings(value, "evidence"))),
        {**extra, **(metadata or {})},
    )


def _joined(lines: Sequence[str]) -> str:
    """HotpotQA's sentences begin with their space; 2WikiMultihopQA's have none and are joined with one."""
    text = ""
    for line in lines:
        text += line if not text or line[:1].isspace() or text[-1:].isspace() else f" {line}"
    return text.strip()


def _string(value: Mapping[str, Any], key: str, blank: bool = False) -> str:
    found = value.get(key)
    if not isinstance(found, str) or not (blank or found.strip()):
        raise ValueError(f'has no "{key}" (a string that is not empty); add it or remove the record')
    return found


def _strings(value: Mapping[str, Any], key: str) -> list[str]:
    """A list of strings under ``key``; one string or number stands for a list of one, null for none."""
    found = value.get(key)
    items = [] if found is None else found if isinstance(found, list) else [found]
    if any(isinstance(item, bool) or not isinstance(item, (str, int, float)) for item in items):
        raise ValueError(f'"{key}" is not a list of strings; write ["..."]')
    return [str(item) for item in items]


def _items(value: Mapping[str, Any], key: str, missing: Sequence[Any] | None = None) -> Sequence[Any]:
    match value.get(key, missing):
        case [*items]:
            return items
        case _:
            raise ValueError(f'has no "{key}" (a list); use the file in its original format')
