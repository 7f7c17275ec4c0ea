"""Look-ups and questions written by hand, read from the data files in ``ragpool/training/written_data``.

``lookups.tsv`` and ``backward.tsv`` (asked from the other end, and traps): id of a training question, number of a paragraph, start and end of the answer in that paragraph's text
(both empty where the paragraph does not say it), the look-up. The file holds none of the data sets' text: a line
without its paragraph in the given files is passed over. ``plans.txt``: a question, the lines of its plan, an empty line.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from ragpool.plan import parse_plan
from ragpool.slots import NONE, reader_prompt, subquestion
from ragpool.training.data import Record
from ragpool.training.lora import Example
from ragpool.training.readings import LOOKUP, Item, example, near_misses
from ragpool.types import Question, Triple

LOOKUPS, BACKWARD = "lookups.tsv", "backward.tsv"

MISSING_SHARE = 0.12  # of the look-ups that have an answer, those shown without it
_PASSAGES = 2  # shown for one look-up, at most


@dataclass(frozen=True, slots=True)
class Lookup:
    """A look-up over one paragraph of a training question; ``answer`` is the span in its text, None for none."""

    record: str
    paragraph: int
    answer: tuple[int, int] | None
    query: str


@cache
def lookups(name: str = LOOKUPS) -> tuple[Lookup, ...]:
    """All look-ups of one of the two files, those over one paragraph together."""
    rows = (line.split("\t") for line in _text(name).splitlines())
    return tuple(
        Lookup(record, int(paragraph), (int(start), int(end)) if start else None, query)
        for record, paragraph, start, end, query in rows
    )


@cache
def plans() -> tuple[Question, ...]:
    """All questions with their plans."""
    found = []
    for block in _text("plans.txt").split("\n\n"):
        question, *lines = [line for line in block.splitlines() if line]
        plan = parse_plan("\n".join(lines), question, planner="gold")
        if plan is not None:
            found.append(plan)
    return tuple(found)


def examples(records: Sequence[Record], count: int, rng: random.Random, name: str = LOOKUPS) -> list[Example]:
    """At most ``count`` training pairs, each a look-up over a paragraph of ``records`` among near misses of the same
    question."""
    by_id = {record.id: record for record in records}
    lines = [line for line in lookups(name) if line.record in by_id]
    rng.shuffle(lines)
    pairs: list[Example] = []
    for line in lines:
        if len(pairs) == count:
            break
        made = _example(line, by_id[line.record], rng)
        if made is not None:
            pairs.append(made)
    return pairs


def _example(line: Lookup, record: Record, rng: random.Random) -> Example | None:
    asked = _asked(line.query)
    if line.answer is None:
        return Example(reader_prompt(asked, near_misses(record, line.paragraph, asked, rng)), f" {NONE}")
    paragraph = record.paragraphs[line.paragraph]
    start, end = line.answer
    at = next(n for n, last in enumerate(_ends(paragraph.sentences)) if start < last)
    answer = paragraph.text[start:end]
    item = Item(record, LOOKUP, asked, answer, (line.paragraph,), ((at,),), line.paragraph)
    missing = rng.random() < MISSING_SHARE
    made = example(item, rng, missing=missing, most=_PASSAGES) or example(
        item, rng, missing=not missing, most=_PASSAGES
    )
    if made is None:
        return None
    query, contexts, target = made
    return Example(reader_prompt(query, contexts), f" {target}")


def _ends(sentences: Sequence[str]) -> Iterator[int]:
    """Where each sentence ends in the paragraph's text."""
    end = 0
    for sentence in sentences:
        end += len(" ".join(sentence.split())) + 1
        yield end


def _asked(query: str) -> str:
    """``subject | relation`` as the reader is asked for it; a question as it stands."""
    subject, bar, relation = query.partition(" | ")
    return subquestion(Triple(subject.strip(), relation.strip(), "?1")) if bar else query


def _text(name: str) -> str:
    return (files("ragpool.training") / "written_data" / name).read_text(encoding="utf-8")
