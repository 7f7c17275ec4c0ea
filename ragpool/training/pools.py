"""Evidence pools with known completeness, made from benchmark records: what the judge is trained and measured on.

Controlled pools: complete, one gold passage missing, only distractors. Looped pools: what one hybrid search brings,
alone or with the hits of the plan's later look-ups, as the loop would have pooled them.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ragpool.corpus.sentences import sentences
from ragpool.feedback.features import CachedEmbedder
from ragpool.feedback.text import STOP_WORDS, content_words, core_title, words
from ragpool.plan import slots_in
from ragpool.training.data import HOTPOT, MUSIQUE, TWOWIKI, Paragraph, Record
from ragpool.training.plan import gold_plan, plain
from ragpool.types import Binding, Evidence, Question, Triple

CONTROLLED = ("complete", "missing", "distractors")
SEARCH_DEPTH = 30


@dataclass(frozen=True, slots=True)
class Pool:
    """One judgement to make: ``sufficient`` is whether every gold passage of the question is there."""

    record: str
    dataset: str
    kind: str  # complete | missing | distractors | looped
    question: Question
    evidence: tuple[Evidence, ...]
    bindings: tuple[Binding, ...]
    sufficient: bool


@dataclass(frozen=True, slots=True)
class Text:
    """A passage of the corpus; equal title and text is the same passage."""

    title: str
    text: str


class Corpus:
    """The union of the records' paragraphs, searched by BM25 and by the nearest sentence, fused by rank."""

    def __init__(self, records: Sequence[Record], embedder: CachedEmbedder) -> None:
        from rank_bm25 import BM25Okapi  # type: ignore[import-untyped]

        self._embedder = embedder
        self.texts = list(dict.fromkeys(as_text(p) for r in records for p in r.paragraphs))
        self._bm25 = BM25Okapi([_tokens(f"{t.title} {t.text}") for t in self.texts], epsilon=0)
        keys = [[f"{t.title}: {t.text[s.start : s.end]}" for s in sentences(t.text)] for t in self.texts]
        self._owner = np.array([i for i, found in enumerate(keys) for _ in found])
        self._vectors = embedder.embed([key for found in keys for key in found])
        self._by_word: dict[str, list[int]] = {}
        for i, text in enumerate(self.texts):
            for word in content_words(core_title(text.title)):
                self._by_word.setdefault(word, []).append(i)

    def search(self, query: str, k: int) -> list[Text]:
        """The ``k`` best passages by reciprocal rank fusion."""
        lexical = self._bm25.get_scores(_tokens(query))
        dense = np.full(len(self.texts), -1.0)
        np.maximum.at(dense, self._owner, self._vectors @ self._embedder.embed([query])[0])
        fused = np.zeros(len(self.texts))
        for scores in (lexical, dense):
            order = np.argsort(-scores, kind="stable")[:SEARCH_DEPTH]
            fused[order] += 1 / (60 + np.arange(len(order)))
        return [self.texts[i] for i in np.argsort(-fused, kind="stable")[:k]]

    def namesakes(self, title: str) -> list[Text]:
        """Passages that share a title word with ``title``."""
        found = dict.fromkeys(
            i for w in sorted(content_words(core_title(title))) for i in self._by_word.get(w, ())
        )
        return [self.texts[i] for i in found]


def as_text(paragraph: Paragraph) -> Text:
    return Text(paragraph.title, " ".join(paragraph.sentences))


def make_pools(
    records: Sequence[Record],
    corpus: Corpus,
    *,
    seed: int,
    rounds: int,
    plan_share: float,
    binding_share: float,
) -> list[Pool]:
    """For each record ``rounds[dataset]`` times one pool of each controlled kind and two looped ones.

    A pool carries the gold plan with probability ``plan_share`` and, if so, simulated bindings with
    probability ``binding_share``.
    """
    pools: list[Pool] = []
    for record in records:
        rng = random.Random(f"{seed} {record.id}")
        maker = _Maker(record, corpus, rng)
        for _ in range(rounds):
            for kind in (*CONTROLLED, "looped", "looped"):
                pool = maker.pool(kind)
                if rng.random() < plan_share and maker.plan is not None:
                    pool = replace(pool, question=maker.plan)
                    if rng.random() < binding_share:
                        pool = replace(
                            pool, bindings=simulate_bindings(record, maker.plan, pool.evidence, rng)
                        )
                pools.append(pool)
    return pools


class _Maker:
    def __init__(self, record: Record, corpus: Corpus, rng: random.Random) -> None:
        self.plan = gold_plan(record)
        self._record, self._corpus, self._rng = record, corpus, rng
        self._gold = list(dict.fromkeys(as_text(p) for p in record.supporting))
        near = corpus.search(record.question, SEARCH_DEPTH)
        own = [as_text(p) for p in record.paragraphs]
        self._ranked = near
        self._hard = self._others(dict.fromkeys([*near[:15], *own]))
        self._namesakes = {g: self._others(corpus.namesakes(g.title)) for g in self._gold}
        self._lookups = [corpus.search(q, 4) for q in lookups(record)]

    def pool(self, kind: str) -> Pool:
        chosen = self._looped() if kind == "looped" else self._controlled(kind)
        unique = list(dict.fromkeys(chosen))
        if kind != "looped":
            self._rng.shuffle(unique)
        full = all(g in unique for g in self._gold)
        evidence = tuple(as_evidence(t, i) for i, t in enumerate(unique))
        return Pool(
            self._record.id, self._record.dataset, kind, Question(self._record.question), evidence, (), full
        )

    def _controlled(self, kind: str) -> list[Text]:
        gold = list(self._gold)
        extra: list[Text] = []
        if kind == "missing":
            out = gold.pop(self._rng.randrange(len(gold)))
            extra = self._sample(self._namesakes[out], self._rng.randint(0, 2))
        elif kind == "distractors":
            gold = []
        size = self._rng.randint(max(2, len(gold) + len(extra)), 10)
        return gold + extra + self._sample(self._hard, size - len(gold) - len(extra))

    def _looped(self) -> list[Text]:
        found = self._ranked[: self._rng.choice((4, 6, 8, 8, 10))]
        if self._rng.random() < 0.6:
            for hits in self._lookups:
                if self._rng.random() < 0.7:
                    found = [*found, *hits[: self._rng.choice((2, 3, 3))]]
        return found

    def _others(self, texts: Sequence[Text] | dict[Text, None]) -> list[Text]:
        return [t for t in texts if t not in self._gold]

    def _sample(self, texts: list[Text], size: int) -> list[Text]:
        return self._rng.sample(texts, min(size, len(texts)))


def as_evidence(text: Text, number: int) -> Evidence:
    return Evidence(f"p{number}", f"p{number}", text.title, text.text, (), 0, "", 0.0)


def lookups(record: Record) -> list[str]:
    """The gold look-ups as queries."""
    queries = []
    for step in record.steps:
        if step.text:
            text = step.text.replace(">>", " ")
            for number, other in enumerate(record.steps, 1):
                text = text.replace(f"#{number}", other.answer)
            queries.append(text)
        else:
            queries.append(f"{step.subject} {step.relation}")
    if record.dataset == HOTPOT:
        queries += [core_title(p.title) for p in record.supporting]
    return queries


def simulate_bindings(
    record: Record, plan: Question, evidence: Sequence[Evidence], rng: random.Random
) -> tuple[Binding, ...]:
    """What a slot reader of moderate skill would have closed from ``evidence``.

    A step whose gold passage is there is read rightly 82 times in 100 and wrongly 8 times; one whose
    passage is not there yields a wrong value 35 times in 100. Right values get confidences about .8, wrong
    ones about .5. The chain ends at the first step that is not read.
    """
    present = {Text(e.title, e.text): e for e in evidence}
    bindings: dict[str, Binding] = {}
    right: set[str] = set()
    for triple, (answer, source) in zip(plan.triples, gold_values(record, plan), strict=False):
        before = [s for s in _slots(triple) if s != triple.object]
        if any(slot not in bindings for slot in before):
            continue
        home = present.get(source) if source else None
        draw = rng.random()
        if home is not None and all(slot in right for slot in before) and draw < 0.82:
            right.add(triple.object)
            bindings[triple.object] = Binding(
                triple.object, answer, home.passage_id, home.text, round(rng.betavariate(8, 2), 3)
            )
        elif draw < (0.9 if home is not None else 0.35) and evidence:
            other = rng.choice(list(evidence))
            confidence = round(max(0.35, rng.betavariate(4, 4)), 3)
            bindings[triple.object] = Binding(
                triple.object, core_title(other.title), other.passage_id, other.text, confidence
            )
    return tuple(bindings.values())


def gold_values(record: Record, plan: Question) -> list[tuple[str, Text | None]]:
    """For each triple of the gold plan its value and the passage that says so; [] when they cannot be aligned."""
    gold = [as_text(p) for p in record.supporting]
    if record.dataset == MUSIQUE and len(plan.triples) == len(record.steps):
        return [
            (s.answer, as_text(record.paragraphs[s.paragraph]) if s.paragraph is not None else None)
            for s in record.steps
        ]
    if record.dataset == TWOWIKI:
        return _twowiki_values(record, plan, gold)
    if record.dataset == HOTPOT and len(plan.triples) == 2 and len(gold) == 2:
        asked = plain(record.question)
        hidden = [t for t in gold if plain(core_title(t.title)) not in asked]
        if len(hidden) == 1:
            shown = next(t for t in gold if t is not hidden[0])
            return [(core_title(hidden[0].title), shown), (record.answers[0], hidden[0])]
    return []


def _twowiki_values(record: Record, plan: Question, gold: list[Text]) -> list[tuple[str, Text | None]]:
    steps = list(record.steps)
    values: dict[str, str] = {}
    found: list[tuple[str, Text | None]] = []
    for triple in plan.triples:
        subject = values.get(triple.subject, triple.subject)
        same = [s for s in steps if s.relation == triple.relation]
        near = [s for s in same if plain(s.subject)[:6] == plain(subject)[:6]] or same
        if not near:
            return []
        step = near[0]
        steps.remove(step)
        values[triple.object] = step.answer
        home = next((t for t in gold if plain(core_title(t.title)) == plain(core_title(step.subject))), None)
        home = home or next((t for t in gold if step.answer.casefold() in t.text.casefold()), None)
        found.append((step.answer, home))
    return found


def _slots(triple: Triple) -> tuple[str, ...]:
    return slots_in(triple.subject) + slots_in(triple.relation)


def _tokens(text: str) -> list[str]:
    return [w for w in words(text) if w not in STOP_WORDS]
