"""Benchmark files in their original formats -> training records, and the split that keeps dev questions unseen."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ragpool.errors import LoadError

HOTPOT, TWOWIKI, MUSIQUE = "hotpotqa", "2wikimultihopqa", "musique"

_SENTENCE_END = re.compile(r"(?<=[.!?])[\"')\]]*\s+(?=[\"'(\[]?[A-Z0-9])")
_ABBREVIATED = re.compile(r"(?:\b[A-Z]|\b(?:Mr|Mrs|Ms|Dr|St|Jr|Sr|No|vs|Lt|Col|Gen|Rev|Prof|c|ca|approx))\.$")


@dataclass(frozen=True, slots=True)
class Paragraph:
    """A context paragraph; ``support`` holds the indexes of its supporting sentences."""

    title: str
    sentences: tuple[str, ...]
    support: tuple[int, ...] = ()

    @property
    def text(self) -> str:
        """All of it, with single spaces."""
        return " ".join(" ".join(self.sentences).split())


@dataclass(frozen=True, slots=True)
class Step:
    """A gold look-up. 2Wiki: subject and relation. MuSiQue: ``text`` with #1, #2 and the index of its paragraph."""

    answer: str
    subject: str = ""
    relation: str = ""
    text: str = ""
    paragraph: int | None = None


@dataclass(frozen=True, slots=True)
class Record:
    """One benchmark question with all that is gold about it. ``dataset`` is one of the three names above, or the one
    that a file in 2WikiMultihopQA's format gives itself. ``plan`` holds the lines of a plan written by hand."""

    id: str
    dataset: str
    question: str
    answers: tuple[str, ...]
    type: str
    paragraphs: tuple[Paragraph, ...]
    steps: tuple[Step, ...] = ()
    plan: str = ""

    @property
    def supporting(self) -> tuple[Paragraph, ...]:
        return tuple(p for p in self.paragraphs if p.support)


def is_dev(question_id: str) -> bool:
    """Whether a question is held out: three in ten, by the hash of its id. No training may see these."""
    return int(hashlib.sha256(question_id.encode()).hexdigest(), 16) % 10 < 3


def split_sentences(text: str) -> tuple[str, ...]:
    """Sentences of running text (MuSiQue paragraphs are not split); initials and common titles do not end one."""
    sentences: list[str] = []
    start = 0
    for match in _SENTENCE_END.finditer(text):
        sentence = text[start : match.start()]
        if _ABBREVIATED.search(sentence):
            continue
        sentences.append(text[start : match.end()].strip())
        start = match.end()
    if text[start:].strip():
        sentences.append(text[start:].strip())
    return tuple(sentences)


def read_records(files: Iterable[Path]) -> list[Record]:
    """Records of HotpotQA, 2WikiMultihopQA (JSON) and MuSiQue (JSON Lines) files, in file order.

    Raises LoadError when a file is none of them.
    """
    records: list[Record] = []
    for file in files:
        try:
            text = file.read_text(encoding="utf-8")
            rows = (
                json.loads(text)
                if text.lstrip().startswith("[")
                else [json.loads(x) for x in text.splitlines() if x]
            )
            records += [_record(row) for row in rows]
        except (OSError, ValueError, KeyError, TypeError) as error:
            reason = f"not a HotpotQA, 2WikiMultihopQA or MuSiQue file ({type(error).__name__}: {error})"
            raise LoadError(str(file), f"{reason}; give the original JSON or JSON Lines file") from error
    return records


def training_split(records: Sequence[Record]) -> list[Record]:
    """The questions that training may see."""
    return [record for record in records if not is_dev(record.id)]


def dev_split(records: Sequence[Record]) -> list[Record]:
    """The held-out questions."""
    return [record for record in records if is_dev(record.id)]


def _record(row: dict[str, Any]) -> Record:
    if "question_decomposition" in row:
        return _musique(row)
    support: dict[str, list[int]] = {}
    for title, number in row["supporting_facts"]:
        support.setdefault(title, []).append(number)
    paragraphs = tuple(
        Paragraph(
            title,
            tuple(sentence.strip() for sentence in sentences),
            tuple(n for n in dict.fromkeys(support.get(title, ())) if n < len(sentences)),
        )
        for title, sentences in row["context"]
    )
    identifier = row.get("_id") or hashlib.sha256(row["question"].encode()).hexdigest()
    evidences = row.get("evidences") or ()
    return Record(
        identifier,
        row.get("dataset") or (TWOWIKI if "evidences" in row else HOTPOT),
        row["question"],
        (row["answer"],),
        row.get("type", ""),
        paragraphs,
        tuple(Step(value, subject, relation) for subject, relation, value in evidences),
    )


def _musique(row: dict[str, Any]) -> Record:
    steps = tuple(
        Step(step["answer"], text=step["question"], paragraph=step.get("paragraph_support_idx"))
        for step in row["question_decomposition"]
    )
    by_paragraph: dict[int, list[str]] = {}
    for step in steps:
        if step.paragraph is not None:
            by_paragraph.setdefault(step.paragraph, []).append(step.answer)
    paragraphs = []
    for index, item in enumerate(row["paragraphs"]):
        sentences = split_sentences(item["paragraph_text"])
        support: list[int] = []
        if item.get("is_supporting"):
            wanted = [answer.casefold() for answer in by_paragraph.get(item.get("idx", index), ())]
            support = [n for n, s in enumerate(sentences) if any(answer in s.casefold() for answer in wanted)]
            support = support[:2] or [0]
        paragraphs.append(Paragraph(item["title"], sentences, tuple(support)))
    answers = (row["answer"], *row.get("answer_aliases", ()))
    hops = row["id"].split("__", 1)[0]
    return Record(row["id"], MUSIQUE, row["question"], answers, hops, tuple(paragraphs), steps)
