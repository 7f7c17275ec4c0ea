"""Look-ups and questions written by hand, read from the data files in ``ragpool/training/written_data``.

``lookups.tsv``, ``backward.tsv`` (asked from the other end, and traps) and ``paragraphs.tsv`` (a few each over many
paragraphs): id of a training question, number of a paragraph, start and end of the answer in that paragraph's text
(both empty where the paragraph does not say it), the look-up. The file holds none of the data sets' text: a line
without its paragraph in the given files is passed over. ``chains.tsv``: questions over several paragraphs of one training
question: its id, the paragraphs, where the answer stands, the question, its plan (or -). ``plans.txt``, ``long_plans.txt`` (mostly three and
four steps): a question, the lines of its plan, an empty line. ``heldout.tsv`` and ``heldout_chains.tsv`` are over paragraphs of held-out questions, in the same forms,
``heldout_plans.txt`` is a twelfth of the long plans, by a hash: they measure, and nothing is trained on them.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files

from ragpool.plan import parse_plan, write_plan
from ragpool.slots import NONE, Context, stands_in, subquestion
from ragpool.training.data import Paragraph, Record
from ragpool.training.readings import FULL, LOOKUP, Item, Sample, example, items, near_misses, neighbours
from ragpool.types import Question, Triple

LOOKUPS, BACKWARD, PARAGRAPHS = "lookups.tsv", "backward.tsv", "paragraphs.tsv"
CHAINS = "chains.tsv"
PLANS, LONG_PLANS = "plans.txt", "long_plans.txt"
HELD_OUT, HELD_OUT_CHAINS, HELD_OUT_PLANS = "heldout.tsv", "heldout_chains.tsv", "heldout_plans.txt"
WRITTEN = "written"  # the data set's name of what is measured on the last three

MISSING_SHARE = 0.12  # of the look-ups that have an answer, those shown without it
CHAIN_MISSING_SHARE = 0.2
_PASSAGES = 2  # shown for one look-up, at most
_WRITTEN = "~"  # between a benchmark question's id and the number of a question written on its paragraphs


@dataclass(frozen=True, slots=True)
class Lookup:
    """A look-up over one paragraph of a training question; ``answer`` is the span in its text, None for none."""

    record: str
    paragraph: int
    answer: tuple[int, int] | None
    query: str


@cache
def lookups(name: str = LOOKUPS) -> tuple[Lookup, ...]:
    """All look-ups of one of the files, those over one paragraph together."""
    rows = (line.split("\t") for line in _text(name).splitlines())
    return tuple(
        Lookup(record, int(paragraph), (int(start), int(end)) if start else None, query)
        for record, paragraph, start, end, query in rows
    )


@dataclass(frozen=True, slots=True)
class Chain:
    """A question over several paragraphs of a training question. ``answer`` stands in paragraph ``key`` at ``span``, or is
    its title (no span), or is yes or no (no key)."""

    record: str
    paragraphs: tuple[int, ...]
    key: int | None
    span: tuple[int, int] | None
    said: str
    question: str
    plan: str

    def answer(self, record: Record) -> str:
        """The answer in the words of its paragraph."""
        if self.key is None:
            return self.said
        paragraph = record.paragraphs[self.key]
        return paragraph.text[slice(*self.span)] if self.span else paragraph.title


@cache
def chains(name: str = CHAINS) -> tuple[Chain, ...]:
    """All questions of one of the two files."""
    return tuple(_chain(*line.split("\t")) for line in _text(name).splitlines())


def _chain(record: str, paragraphs: str, where: str, question: str, plan: str) -> Chain:
    numbers = tuple(int(n) for n in paragraphs.split(","))
    if where in ("yes", "no"):
        return Chain(record, numbers, None, None, where, question, plan)
    key, _, place = where.partition(":")
    start, _, end = place.partition(":")
    return Chain(record, numbers, int(key), (int(start), int(end)) if end else None, "", question, plan)


@cache
def plans(name: str = PLANS) -> tuple[Question, ...]:
    """All questions of one of the three files, with their plans."""
    found = []
    for block in _text(name).split("\n\n"):
        question, *lines = [line for line in block.splitlines() if line]
        plan = parse_plan("\n".join(lines), question, planner="gold")
        if plan is not None:
            found.append(plan)
    return tuple(found)


def planned() -> list[Record]:
    """The questions of HELD_OUT_PLANS as records with a plan and nothing else."""
    return [
        Record(f"plan{_WRITTEN}{n}", WRITTEN, plan.text, ("",), "plan", (), (), write_plan(plan))
        for n, plan in enumerate(plans(HELD_OUT_PLANS))
    ]


def examples(records: Sequence[Record], count: int, rng: random.Random, name: str = LOOKUPS) -> list[Sample]:
    """At most ``count`` samples, each a look-up over a paragraph of ``records`` among near misses of the same
    question."""
    by_id = {record.id: record for record in records}
    lines = [line for line in lookups(name) if line.record in by_id]
    rng.shuffle(lines)
    samples: list[Sample] = []
    for line in lines:
        if len(samples) == count:
            break
        made = _example(line, by_id[line.record], rng)
        if made is not None:
            samples.append(made)
    return samples


def whole_paragraphs(records: Sequence[Record], rng: random.Random) -> list[Sample]:
    """The look-ups of ``paragraphs.tsv``: half of them over the whole paragraph, a third of those beside a near miss, the
    others as ``examples`` shows them."""
    by_id = {record.id: record for record in records}
    samples: list[Sample] = []
    for line in lookups(PARAGRAPHS):
        record = by_id.get(line.record)
        if record is None:
            continue
        if rng.random() < 0.5:
            made = _example(line, record, rng)
            samples += [made] if made is not None else []
            continue
        paragraph, asked = record.paragraphs[line.paragraph], _asked(line.query)
        target = paragraph.text[slice(*line.answer)] if line.answer else NONE
        contexts: list[Context] = [(paragraph.title, paragraph.text)]
        if rng.random() < 0.35:
            beside = neighbours(record, (line.paragraph,), asked, 1, rng)
            contexts += [c for c in beside if target == NONE or not stands_in(target, [c])]
        rng.shuffle(contexts)
        samples.append(Sample(asked, tuple(contexts), target))
    return samples


def chained(records: Sequence[Record], rng: random.Random) -> list[Sample]:
    """The questions of ``chains.tsv`` over their whole paragraphs, among up to two others; a fifth of them without the
    paragraph that has the answer."""
    by_id = {record.id: record for record in records}
    samples: list[Sample] = []
    for chain in chains():
        record = by_id.get(chain.record)
        if record is None:
            continue
        answer = chain.answer(record)
        missing = len(chain.paragraphs) > 1 and rng.random() < CHAIN_MISSING_SHARE
        left_out = (chain.paragraphs[-1] if chain.key is None else chain.key) if missing else None
        contexts: list[Context] = [
            (record.paragraphs[n].title, record.paragraphs[n].text) for n in chain.paragraphs if n != left_out
        ]
        contexts += neighbours(record, chain.paragraphs, chain.question, rng.randint(0, 2), rng)
        rng.shuffle(contexts)
        if missing and chain.key is not None and stands_in(answer, contexts):
            continue
        samples.append(Sample(chain.question, tuple(contexts), NONE if missing else answer))
    return samples


def held_out(
    records_: Sequence[Record], rng: random.Random, most: int
) -> list[tuple[Item, list[Context], str]]:
    """Readings to measure, as ``readings.questions`` gives them: at most ``most`` look-ups of HELD_OUT and half as many
    questions of HELD_OUT_CHAINS over the paragraphs of the held-out ``records_``."""
    by_id = {record.id: replace(record, dataset=WRITTEN) for record in records_}
    lines = [line for line in lookups(HELD_OUT) if line.record in by_id]
    asked: list[tuple[Item, list[Context], str]] = []
    for line in rng.sample(lines, min(most, len(lines))):
        record, query = by_id[line.record], _asked(line.query)
        if line.answer is None:
            item = Item(record, LOOKUP, query, "", (), (), line.paragraph)
            asked.append((item, near_misses(record, line.paragraph, query, rng), NONE))
        elif made := example(_item(line, record), rng, missing=False):
            asked.append((_item(line, record), made[1], made[2]))
    whole = records(list(by_id.values()), HELD_OUT_CHAINS)
    for record in rng.sample(whole, min(most // 2, len(whole))):
        for item in items(record):
            if item.kind == FULL and (made := example(item, rng, missing=False)):
                asked.append((item, made[1], made[2]))
    return asked


def records(benchmark: Sequence[Record], name: str = CHAINS) -> list[Record]:
    """The questions of ``chains.tsv`` that need several paragraphs of a question in ``benchmark``, each with that
    question's paragraphs and, where it has one, its plan."""
    by_id = {record.id: record for record in benchmark}
    made: list[Record] = []
    for number, chain in enumerate(chains(name)):
        record = by_id.get(chain.record)
        if record is None or len(chain.paragraphs) < 2:
            continue
        answer = chain.answer(record)
        paragraphs = tuple(
            replace(p, support=_telling(p, answer) if n in chain.paragraphs else ())
            for n, p in enumerate(record.paragraphs)
        )
        plan = "" if chain.plan == "-" else chain.plan.replace(" ; ", "\n")
        identifier = f"{record.id}{_WRITTEN}{number}"
        made.append(
            Record(identifier, record.dataset, chain.question, (answer,), "written", paragraphs, (), plan)
        )
    return made


def benchmark_id(identifier: str) -> str:
    """The id of the benchmark question on whose paragraphs a question of ``records`` was written; others stay."""
    return identifier.partition(_WRITTEN)[0]


def _telling(paragraph: Paragraph, answer: str) -> tuple[int, ...]:
    """The sentences that have the answer, at most two; else the first, as for yes and no, which stand nowhere."""
    if answer in ("yes", "no"):
        return (0,)
    found = tuple(n for n, s in enumerate(paragraph.sentences) if stands_in(answer, [("", s)]))
    return found[:2] or (0,)


def _example(line: Lookup, record: Record, rng: random.Random) -> Sample | None:
    asked = _asked(line.query)
    if line.answer is None:
        return Sample(asked, tuple(near_misses(record, line.paragraph, asked, rng)), NONE)
    item = _item(line, record)
    missing = rng.random() < MISSING_SHARE
    made = example(item, rng, missing=missing, most=_PASSAGES) or example(
        item, rng, missing=not missing, most=_PASSAGES
    )
    if made is None:
        return None
    query, contexts, target = made
    return Sample(query, tuple(contexts), target)


def _item(line: Lookup, record: Record) -> Item:
    """A look-up that has an answer."""
    assert line.answer is not None
    paragraph = record.paragraphs[line.paragraph]
    start, end = line.answer
    at = next(n for n, last in enumerate(_ends(paragraph.sentences)) if start < last)
    answer = paragraph.text[start:end]
    return Item(record, LOOKUP, _asked(line.query), answer, (line.paragraph,), ((at,),), line.paragraph)


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
