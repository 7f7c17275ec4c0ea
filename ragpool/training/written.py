"""Look-ups and questions written by hand, read from the data files in ``ragpool/training/written``.

``lookups.tsv``: id of a training question, number of a paragraph, start and end of the answer in that paragraph's text
(both empty where the paragraph does not say it), the look-up. The files hold none of the data sets' text: a line
without its paragraph in the given files is passed over. ``plans.txt``: a question, the lines of its plan, an empty line.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from importlib.resources import files

from ragpool.plan import parse_plan
from ragpool.slots import NONE, reader_prompt, subquestion
from ragpool.training.data import Record
from ragpool.training.lora import Example
from ragpool.training.readings import LOOKUP, Item, example, near_misses
from ragpool.types import Question, Triple

MISSING_SHARE = 0.12  # of the look-ups that have an answer, those shown without it


def plans() -> list[Question]:
    """All questions with their plans."""
    found = []
    for block in _text("plans.txt").split("\n\n"):
        question, *lines = [line for line in block.splitlines() if line]
        plan = parse_plan("\n".join(lines), question, planner="gold")
        if plan is not None:
            found.append(plan)
    return found


def examples(records: Sequence[Record], rng: random.Random) -> list[Example]:
    """A training pair for each look-up over a paragraph of ``records``, among near misses of the same question."""
    by_id = {record.id: record for record in records}
    pairs: list[Example] = []
    for line in _text("lookups.tsv").splitlines():
        record_id, place, start, end, query = line.split("\t")
        record = by_id.get(record_id)
        if record is None:
            continue
        number = int(place)
        asked = _asked(query)
        if not start:
            pairs.append(Example(reader_prompt(asked, near_misses(record, number, asked, rng)), f" {NONE}"))
            continue
        item = _item(record, number, asked, int(start), int(end))
        missing = rng.random() < MISSING_SHARE
        made = example(item, rng, missing=missing) or example(item, rng, missing=not missing)
        if made is not None:
            shown, contexts, target = made
            pairs.append(Example(reader_prompt(shown, contexts), f" {target}"))
    return pairs


def _item(record: Record, number: int, query: str, start: int, end: int) -> Item:
    """The look-up with the sentence that its answer begins in."""
    paragraph = record.paragraphs[number]
    answer = paragraph.text[start:end]
    at = next(n for n, (first, last) in enumerate(_spans(paragraph.sentences)) if first <= start < last)
    return Item(record, LOOKUP, query, answer, (number,), ((at,),), number)


def _spans(sentences: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Start and end of each sentence in the paragraph's text."""
    start = 0
    for sentence in sentences:
        end = start + len(" ".join(sentence.split())) + 1
        yield start, end
        start = end


def _asked(query: str) -> str:
    """``subject | relation`` as the reader is asked for it; a question as it stands."""
    subject, bar, relation = query.partition(" | ")
    return subquestion(Triple(subject.strip(), relation.strip(), "?1")) if bar else query


def _text(name: str) -> str:
    return (files("ragpool.training") / "written" / name).read_text(encoding="utf-8")
