"""Look-ups as the loop shows them: the passages that the slot closer picks from a pool, with the sentences it keeps.

The other training pairs show a sentence or two of a page. In the loop the reader sees six of the subject's own page and
three of others that mention the name, and that is where it takes the builder for the designer.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from ragpool.closing import SlotCloser, is_about
from ragpool.distil import content_words, overlap
from ragpool.slots import NONE, Context, reader_prompt, stands_in
from ragpool.training.data import Record
from ragpool.training.lora import Example
from ragpool.training.readings import LOOKUP, Item, items
from ragpool.types import Evidence

_OWN_PAGE_ALONE = (
    0.2  # of the look-ups whose value stands on the subject's page: asked as the closer asks again
)
_MISSING = 0.18
_POOL = (3, 8)  # passages in the pool beside the one that says it


def examples(
    records: Sequence[Record], closer: SlotCloser, sizes: dict[str, int], rng: random.Random
) -> list[Example]:
    """At most ``sizes[data set]`` look-ups of each data set, the same one never twice, about one in six without its value."""
    by_set: dict[str, list[Item]] = {}
    seen: set[tuple[str, str]] = set()
    for item in (i for record in records for i in items(record)):
        if item.kind == LOOKUP and item.lookup is not None and (item.query, item.answer) not in seen:
            seen.add((item.query, item.answer))
            by_set.setdefault(item.record.dataset, []).append(item)
    pairs = []
    for name, found in sorted(by_set.items()):
        rng.shuffle(found)
        made: list[Example] = []
        for item in found:
            if len(made) == sizes.get(name, 0):
                break
            pair = example(item, closer, rng, missing=rng.random() < _MISSING)
            made += [pair] if pair is not None else []
        pairs += made
    return pairs


def example(item: Item, closer: SlotCloser, rng: random.Random, *, missing: bool) -> Example | None:
    """One training pair, its pool drawn from the record's paragraphs; with ``missing`` without the one that says it.

    None where the closer shows nothing, or does not show the value where it should be, or does where it should not.
    """
    assert item.lookup is not None
    paragraphs = item.record.paragraphs
    wanted = content_words(item.query)
    others = [i for i in range(len(paragraphs)) if i != item.key]
    others.sort(key=lambda i: -overlap(wanted, content_words(f"{paragraphs[i].title} {paragraphs[i].text}")) - 0.3 * rng.random())  # fmt: skip
    kept = others[: rng.randint(*_POOL)] + ([] if missing and item.answer else [item.key])
    pool = [_evidence(str(i), paragraphs[i].title, paragraphs[i].text) for i in kept]
    candidates = closer.candidates(item.lookup, pool)[:4]
    own = [c for c in candidates if is_about(item.lookup.subject, c.evidence.title)]
    if own and rng.random() < _OWN_PAGE_ALONE:
        candidates = own
    contexts: list[Context] = [(c.evidence.title, " ".join(closer.shown(item.lookup, c))) for c in candidates]
    if not contexts:
        return None
    told = bool(item.answer) and stands_in(item.answer, contexts)
    if told and missing:
        return None
    if item.answer and not missing and not told and len(candidates) > len(own):
        return None  # the value is there and was not picked: neither it nor none can be taught
    return Example(reader_prompt(item.query, contexts), f" {item.answer if told else NONE}")


def _evidence(key: str, title: str, text: str) -> Evidence:
    return Evidence(key, key, title, text, (), 0, "", 1.0)
