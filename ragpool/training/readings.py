"""What the reader learns from and is measured on: look-ups and whole questions with distilled contexts."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from ragpool.distil import content_words
from ragpool.plan import base_name, fill, plain, slots_in
from ragpool.slots import NONE, Context, as_written, reader_prompt, stands_in, subquestion
from ragpool.training.data import HOTPOT, MUSIQUE, Paragraph, Record
from ragpool.training.gold import gold_plan
from ragpool.training.lora import Example
from ragpool.types import Operation, Triple

LOOKUP, FULL = "lookup", "full"

NONE_SHARE = 0.24
_LONGEST = 70  # words of a passage
_WORD = re.compile(r"\w+")


@dataclass(frozen=True, slots=True)
class Item:
    """A question for the reader and where its answer stands.

    ``needed`` are indexes of paragraphs; ``sentences`` those of the sentences that must be shown of each.
    Without the paragraph ``key`` the context does not say it. An empty ``answer``: not even with it.
    """

    record: Record
    kind: str
    query: str
    answer: str
    needed: tuple[int, ...]
    sentences: tuple[tuple[int, ...], ...]
    key: int


@dataclass(frozen=True, slots=True)
class Sample:
    """One thing to learn: ``query`` asked of ``contexts``, and what is said, NONE where they do not tell."""

    query: str
    contexts: tuple[Context, ...]
    target: str

    def as_example(self) -> Example:
        """The pair that the reader adapter learns from."""
        return Example(reader_prompt(self.query, self.contexts), f" {self.target}")


def items(record: Record) -> Iterator[Item]:
    """What a record has to teach: its look-ups in order, then the question itself. Only extractive answers."""
    yield from _chain(record) if record.dataset in (HOTPOT, MUSIQUE) else _twowiki(record)
    yield from _full(record)


def is_rare(item: Item) -> bool:
    """A look-up that gold data has few of: backwards, read from the page of the value, or told to be without one."""
    page = plain(base_name(item.record.paragraphs[item.key].title))
    return item.kind == LOOKUP and (not item.answer or page == plain(base_name(item.answer)))


def example(
    item: Item, rng: random.Random, *, missing: bool, most: int = 4
) -> tuple[str, list[Context], str] | None:
    """(query, contexts, target) with random near-miss passages, a look-up with at most ``most`` passages in all; with
    ``missing`` the key passage, or only the sentence in it that says the answer, is left out.

    None when the answer then still stands in the context.
    """
    if not item.answer:
        return (item.query, near_misses(item.record, item.key, item.query, rng), NONE) if missing else None
    paragraphs = item.record.paragraphs
    shown = dict(zip(item.needed, item.sentences, strict=True))
    wanted = content_words(item.query)
    hushed: list[Context] = []
    if missing:
        del shown[item.key]
        paragraph = paragraphs[item.key]
        silent = tuple(s for s in paragraph.sentences if not stands_in(item.answer, [("", s)]))
        if silent and len(silent) < len(paragraph.sentences) and rng.random() < 0.5:
            hushed = [(paragraph.title, _distilled(Paragraph(paragraph.title, silent), (), wanted, rng))]
    others = [i for i in range(len(paragraphs)) if i not in item.needed]
    others.sort(key=lambda i: -_overlap(wanted, paragraphs[i]) - 0.3 * rng.random())
    size = (
        rng.randint(1, most) if item.kind == LOOKUP else rng.randint(len(item.needed), len(item.needed) + 2)
    )
    for index in others[: max(1 if missing else 0, size - len(shown) - len(hushed))]:
        shown[index] = ()
    contexts = [
        (paragraphs[i].title, _distilled(paragraphs[i], must, wanted, rng)) for i, must in shown.items()
    ]
    contexts += hushed
    rng.shuffle(contexts)
    standing = stands_in(item.answer, contexts)
    if missing:
        return (
            None if standing and item.answer.casefold() not in ("yes", "no") else (item.query, contexts, NONE)
        )
    return (item.query, contexts, item.answer) if standing else None


def near_misses(record: Record, number: int, query: str, rng: random.Random) -> list[Context]:
    """A paragraph that does not answer ``query``, among others of its record that share words with it."""
    paragraph = record.paragraphs[number]
    own = (paragraph.title, _distilled(paragraph, (), content_words(query), rng))
    shown = [own, *neighbours(record, (number,), query, rng.randint(0, 1), rng)]
    rng.shuffle(shown)
    return shown


def neighbours(
    record: Record, without: Sequence[int], query: str, most: int, rng: random.Random
) -> list[Context]:
    """At most ``most`` other paragraphs of a record, distilled, those first that share words with ``query``."""
    wanted = content_words(query)
    others = [i for i in range(len(record.paragraphs)) if i not in without]
    others.sort(key=lambda i: -_overlap(wanted, record.paragraphs[i]) - 0.3 * rng.random())
    return [
        (record.paragraphs[i].title, _distilled(record.paragraphs[i], (), wanted, rng)) for i in others[:most]
    ]


def examples(
    records: Sequence[Record],
    rng: random.Random,
    sizes: dict[tuple[str, str], int],
    first: Callable[[Item], bool] = lambda item: True,
) -> list[Sample]:
    """At most ``sizes[data set, kind]`` samples of each sort, about one in five of them unanswerable.

    Where a sort has more than that, those that ``first`` holds for are taken before the others.
    """
    by_sort: dict[tuple[str, str], list[Item]] = {}
    for record in records:
        for item in items(record):
            by_sort.setdefault((record.dataset, item.kind), []).append(item)
    samples: list[Sample] = []
    for sort in sorted(by_sort):
        pool = by_sort[sort]
        rng.shuffle(pool)
        pool.sort(key=lambda item: not first(item))
        for item in pool[: sizes.get(sort, len(pool))]:
            missing = rng.random() < NONE_SHARE
            made = example(item, rng, missing=missing) or example(item, rng, missing=not missing)
            if made is not None:
                query, contexts, target = made
                samples.append(Sample(query, tuple(contexts), target))
    return samples


def questions(
    records: Sequence[Record], rng: random.Random, limit: int
) -> list[tuple[Item, list[Context], str]]:
    """(item, contexts, target) of at most ``limit`` items of each sort, with and without the answer."""
    by_sort: dict[tuple[str, str], list[Item]] = {}
    for record in records:
        for item in items(record):
            by_sort.setdefault((record.dataset, item.kind), []).append(item)
    asked: list[tuple[Item, list[Context], str]] = []
    for sort in sorted(by_sort):
        rng.shuffle(by_sort[sort])
        for item in by_sort[sort][:limit]:
            for missing in (False, True):
                made = example(item, rng, missing=missing)
                if made is not None:
                    asked.append((item, made[1], made[2]))
    return asked


# --- items of each data set


def _twowiki(record: Record) -> Iterator[Item]:
    plan = gold_plan(record)
    spoken = (
        {plain(base_name(t.subject)): t.subject for t in plan.triples if not slots_in(t.subject)}
        if plan
        else {}
    )
    for step in record.steps:
        key = plain(base_name(step.subject))
        if not step.answer:
            pages = [i for i, p in enumerate(record.paragraphs) if plain(base_name(p.title)) == key]
            if len(pages) == 1:  # a namesake's page may say it
                query = subquestion(Triple(step.subject, step.relation, "?1"))
                yield Item(record, LOOKUP, query, "", (), (), pages[0])
            continue
        found = _stated(record, key, step.answer)
        if found:
            index, number, value = found
            query = subquestion(Triple(spoken.get(key, step.subject), step.relation, "?1"))
            yield Item(record, LOOKUP, query, value, (index,), ((number,),), index)


def _stated(record: Record, subject: str, answer: str) -> tuple[int, int, str] | None:
    """(paragraph, sentence, value as written) of a look-up: on the subject's page, or on the value's own page where
    that names the subject ("the book written by her" stands on the book's page)."""
    for index, paragraph in enumerate(record.paragraphs):
        title = plain(base_name(paragraph.title))
        if not paragraph.support or title not in (subject, plain(base_name(answer))):
            continue
        for number in (*paragraph.support, *range(len(paragraph.sentences))):
            sentence = paragraph.sentences[number]
            if title != subject and subject not in plain(sentence):
                continue
            if value := as_written(answer, sentence):
                return index, number, value
            if title != subject:
                return index, number, base_name(paragraph.title)
    return None


def _chain(record: Record) -> Iterator[Item]:
    """Look-ups of a MuSiQue decomposition, or of a hand-written HotpotQA plan of two steps."""
    plan = gold_plan(record)
    if plan is None:
        return
    if record.dataset == MUSIQUE:
        if len(plan.triples) != len(record.steps):
            return
        values = [step.answer for step in record.steps]
        places = [step.paragraph for step in record.steps]
        natural = [re.sub(r"#(\d+)", lambda m: values[int(m[1]) - 1] if int(m[1]) <= len(values) else m[0], s.text)
                   for s in record.steps]  # fmt: skip
    else:
        bridge = _bridge(record)
        if len(plan.triples) != 2 or plan.operation is not Operation.LOOKUP or bridge is None:
            return
        values = [bridge[0], record.answers[0]]
        places = [bridge[1], bridge[2]]
        natural = [">>", ">>"]
    known = {t.object: value for t, value in zip(plan.triples, values, strict=True)}
    for triple, value, place, text in zip(plan.triples, values, places, natural, strict=True):
        if place is None or place >= len(record.paragraphs):
            continue
        sentences = record.paragraphs[place].sentences
        number = next((n for n, s in enumerate(sentences) if stands_in(value, [("", s)])), None)
        if number is None:
            continue
        asked = subquestion(Triple(fill(triple.subject, known), fill(triple.relation, known), "?"))
        yield Item(record, LOOKUP, asked, value, (place,), ((number,),), place)
        if ">>" not in text:
            yield Item(record, LOOKUP, text, value, (place,), ((number,),), place)


def _bridge(record: Record) -> tuple[str, int, int] | None:
    """(name, paragraph that mentions it, its own paragraph) where one supporting title is not in the question."""
    supporting = [i for i, p in enumerate(record.paragraphs) if p.support]
    if len(supporting) != 2:
        return None
    for first, second in (supporting, supporting[::-1]):
        name = base_name(record.paragraphs[second].title)
        text = " ".join(record.paragraphs[first].sentences)
        if plain(name) not in plain(record.question) and stands_in(name, [("", text)]):
            return name, first, second
    return None


def _full(record: Record) -> Iterator[Item]:
    needed = tuple(i for i, p in enumerate(record.paragraphs) if p.support)
    if not needed:
        return
    sentences = tuple(record.paragraphs[i].support for i in needed)
    texts = [(record.paragraphs[i].title, " ".join(record.paragraphs[i].sentences[n] for n in s))
             for i, s in zip(needed, sentences, strict=True)]  # fmt: skip
    for answer in record.answers:
        written = next((v for _, text in texts if (v := as_written(answer, text))), None)
        if written is None and stands_in(answer, texts):
            written = answer
        if written is not None:
            holding = [i for i, t in zip(needed, texts, strict=True) if stands_in(written, [t])]
            yield Item(
                record,
                FULL,
                record.question,
                written,
                needed,
                sentences,
                holding[-1] if holding else needed[-1],
            )
            return


def _distilled(paragraph: Paragraph, must: Sequence[int], wanted: frozenset[str], rng: random.Random) -> str:
    """Up to three sentences of a paragraph as the product would show them: the first, the needed, the most like the query."""
    count = len(paragraph.sentences)
    keep = rng.choice((1, 2, 2, 3))
    others = sorted(
        range(1, count),
        key=lambda n: -len(wanted & content_words(paragraph.sentences[n])) - 0.5 * rng.random(),
    )
    chosen = {n for n in must if n < count}
    for n in (0, *others):
        if len(chosen) >= max(keep, len(must)):
            break
        chosen.add(n)
    if count and rng.random() < 0.8:
        chosen.add(0)
    text = " ".join(paragraph.sentences[n] for n in sorted(chosen))
    words = text.split()
    return text if len(words) <= _LONGEST else " ".join(words[:_LONGEST])


def _overlap(wanted: frozenset[str], paragraph: Paragraph) -> float:
    words = content_words(paragraph.title) | content_words(" ".join(paragraph.sentences))
    return len(wanted & words) / max(1, len(wanted))
