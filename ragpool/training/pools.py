"""Evidence pools with known completeness, made from benchmark records: what the judge is trained and measured on.

Controlled pools: complete, one gold passage missing, only distractors. Looped pools: what one hybrid search brings,
alone or with the hits of the plan's later look-ups, as the loop would have pooled them.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import SequenceMatcher

import numpy as np

from ragpool.corpus.sentences import sentences
from ragpool.feedback.text import STOP_WORDS, content_words, core_title, names, words
from ragpool.models.cached import CachedEmbedder
from ragpool.plan import plain, slots_in
from ragpool.refine import TitleIndex
from ragpool.training.data import MUSIQUE, TWOWIKI, Paragraph, Record
from ragpool.training.gold import gold_plan
from ragpool.types import Binding, Evidence, Operation, Question, Triple

CONTROLLED = ("complete", "missing", "distractors")
SEARCH_DEPTH = 30
DECOY_SHARE = (
    0.35  # of the controlled pools with a gold passage: one that it names, but not the one that is asked for
)
PLAN_NOISE = {TWOWIKI: 0.2}  # shares of wrong plans, about the trained planner's on such questions
SKILL = {TWOWIKI: (0.7, 0.98)}  # and of look-ups read rightly: within these bounds, from pool to pool
_NOISE, _SKILL = 0.5, (0.3, 0.65)  # on the others
_MISREAD = 0.25  # wrong values, of the look-ups that are not read rightly though their passage is there
_MADE_UP = 0.15  # and of those whose passage is not there


@dataclass(frozen=True, slots=True)
class Pool:
    """One judgement to make: ``sufficient`` is whether every gold passage of the question is there.

    The pools of a question without an answer never are, though they hold the passages that lead to the fact not told.
    """

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


Values = Mapping[str, tuple[str, Text | None]]


class Corpus:
    """The union of the records' paragraphs, searched by BM25 and by the nearest sentence, fused by rank."""

    def __init__(self, records: Sequence[Record], embedder: CachedEmbedder) -> None:
        from rank_bm25 import BM25Okapi

        self._embedder = embedder
        self.texts = list(dict.fromkeys(as_text(p) for r in records for p in r.paragraphs))
        self._bm25 = BM25Okapi([_tokens(f"{t.title} {t.text}") for t in self.texts], epsilon=0)
        keys = [[f"{t.title}: {t.text[s.start : s.end]}" for s in sentences(t.text)] for t in self.texts]
        self._owner = np.array([i for i, found in enumerate(keys) for _ in found])
        self._vectors = embedder.embed([key for found in keys for key in found])
        self._titles = TitleIndex([t.title for t in self.texts])
        self._by_title: dict[str, list[Text]] = {}
        for text in self.texts:
            self._by_title.setdefault(text.title, []).append(text)
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

    def linked(self, text: Text) -> list[Text]:
        """Passages whose title ``text`` names: what a loop that follows titles brings in, rightly or not."""
        return [t for title in self._titles.named_in(text.text) for t in self._by_title[title] if t != text]


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
    """For each record ``rounds`` times one pool of each controlled kind and two looped ones.

    A pool carries the gold plan with probability ``plan_share`` (spoiled as often as the data set's PLAN_NOISE says)
    and, if so, simulated bindings with probability ``binding_share``.
    """
    plans = [plan for record in records if (plan := gold_plan(record)) is not None]
    relations = sorted({t.relation for plan in plans for t in plan.triples}) or ["name"]
    pools: list[Pool] = []
    for record in records:
        rng = random.Random(f"{seed} {record.id}")
        maker = _Maker(record, corpus, rng)
        # Few variants a question: each new look-up has to be embedded.
        spoiled = [spoil(maker.plan, relations, rng) for _ in range(2)] if maker.plan else []
        for _ in range(rounds):
            for kind in (*CONTROLLED, "looped", "looped"):
                pool = maker.pool(kind)
                if rng.random() < plan_share and maker.plan is not None:
                    plan, values = maker.plan, maker.values
                    if rng.random() < PLAN_NOISE.get(record.dataset, _NOISE):
                        plan, touched = rng.choice(spoiled)
                        values = {slot: v for slot, v in values.items() if slot not in touched}
                    pool = replace(pool, question=plan)
                    if values and rng.random() < binding_share:
                        pool = replace(pool, bindings=simulate_bindings(plan, values, pool, rng))
                pools.append(pool)
    return pools


class _Maker:
    def __init__(self, record: Record, corpus: Corpus, rng: random.Random) -> None:
        self.plan = gold_plan(record)
        self.values: Values = slot_values(record, self.plan) if self.plan else {}
        self._record, self._corpus, self._rng = record, corpus, rng
        self._gold = list(dict.fromkeys(as_text(p) for p in record.supporting))
        near = corpus.search(record.question, SEARCH_DEPTH)
        own = [as_text(p) for p in record.paragraphs]
        self._ranked = near
        self._hard = self._others(dict.fromkeys([*near[:15], *own]))
        self._namesakes = {g: self._others(corpus.namesakes(g.title)) for g in self._gold}
        self._decoys = self._others([t for g in self._gold for t in corpus.linked(g)])
        self._lookups = [corpus.search(q, 4) for q in lookups(record)]

    def pool(self, kind: str) -> Pool:
        chosen = self._looped() if kind == "looped" else self._controlled(kind)
        unique = list(dict.fromkeys(chosen))
        if kind != "looped":
            self._rng.shuffle(unique)
        full = bool(self._record.answers[0]) and all(g in unique for g in self._gold)
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
        elif kind == "complete":
            extra = self._sample(self._namesakes[self._rng.choice(gold)], self._rng.randint(0, 1))
        elif kind == "distractors":
            gold = []
        if gold and self._rng.random() < DECOY_SHARE:
            extra = list(dict.fromkeys([*extra, *self._sample(self._decoys, self._rng.randint(1, 2))]))
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
    if not record.steps:
        queries += [core_title(p.title) for p in record.supporting]
    return queries


def simulate_bindings(plan: Question, values: Values, pool: Pool, rng: random.Random) -> tuple[Binding, ...]:
    """What a slot reader would have closed from the pool's evidence; how good it is differs from pool to pool.

    A step whose gold passage is there is read rightly as often as the data set's SKILL says, and wrongly in a quarter of
    the other cases; one whose passage is not there, or that no gold value belongs to, yields a wrong value 15 times in
    100. Right values get confidences about .65, wrong ones about .5, as the embedded reader's are. The chain ends at the
    first step that is not read.
    """
    skill = rng.uniform(*SKILL.get(pool.dataset, _SKILL))
    present = {Text(e.title, e.text): e for e in pool.evidence}
    bindings: dict[str, Binding] = {}
    right: set[str] = set()
    for triple in plan.triples:
        before = slots_in(triple.subject) + slots_in(triple.relation)
        if any(slot not in bindings for slot in before):
            continue
        answer, source = values.get(triple.object, ("", None))
        home = present.get(source) if source and answer and all(slot in right for slot in before) else None
        draw = rng.random()
        if home is not None and draw < skill:
            right.add(triple.object)
            confidence = round(max(0.35, rng.betavariate(6, 3.2)), 3)
            bindings[triple.object] = Binding(triple.object, answer, home.passage_id, home.text, confidence)
        elif draw < (skill + _MISREAD * (1 - skill) if home is not None else _MADE_UP) and pool.evidence:
            other = rng.choice(pool.evidence)
            confidence = round(max(0.35, rng.betavariate(5, 5)), 3)
            bindings[triple.object] = Binding(
                triple.object, core_title(other.title), other.passage_id, other.text, confidence
            )
    return tuple(bindings.values())


def spoil(plan: Question, relations: Sequence[str], rng: random.Random) -> tuple[Question, frozenset[str]]:
    """``plan`` with one of the errors that a trained planner makes, and the slots that it touches."""
    triples = list(plan.triples)
    error = rng.choice(("relation", "one chain", "too many", "too few", "subject"))
    at = rng.randrange(len(triples))
    old = triples[at]
    if error == "relation":
        triples[at] = Triple(old.subject, rng.choice(relations), old.object)
    elif error == "one chain" and plan.operation is not Operation.LOOKUP:
        return Question(plan.text, tuple(triples[: len(triples) // 2])), frozenset()
    elif error == "too many":
        new = Triple(triples[-1].object, rng.choice(relations), f"?{len(triples) + 1}")
        return replace(plan, triples=(*triples, new)), frozenset({new.object})
    elif error == "too few" and len(triples) > 1:
        return Question(plan.text, tuple(triples[:-1])), frozenset()
    elif not slots_in(old.subject):
        split = old.subject.split()
        subject = " ".join(split[:-1] if rng.random() < 0.5 else split[1:]) or rng.choice(plan.text.split())
        triples[at] = Triple(subject, old.relation, old.object)
    return replace(plan, triples=tuple(triples)), frozenset({old.object} if rng.random() < 0.7 else ())


def slot_values(record: Record, plan: Question) -> Values:
    """Each slot's gold value and the passage that says so, as far as they can be aligned."""
    found = gold_values(record, plan)
    return {t.object: value for t, value in zip(plan.triples, found, strict=False)}


def gold_values(record: Record, plan: Question) -> list[tuple[str, Text | None]]:
    """For each triple of the gold plan its value and the passage that says so; [] when they cannot be aligned."""
    gold = [as_text(p) for p in record.supporting]
    if record.dataset == MUSIQUE and len(plan.triples) == len(record.steps):
        return [
            (s.answer, as_text(record.paragraphs[s.paragraph]) if s.paragraph is not None else None)
            for s in record.steps
        ]
    if record.steps and record.dataset != MUSIQUE:
        return _twowiki_values(record, plan, gold)
    if not record.steps and len(plan.triples) == 2 and len(gold) == 2:
        asked = plain(record.question)
        hidden = [t for t in gold if plain(core_title(t.title)) not in asked]
        if len(hidden) == 1:
            shown = next(t for t in gold if t is not hidden[0])
            return [(core_title(hidden[0].title), shown), (record.answers[0], hidden[0])]
        if not hidden and plan.operation is not Operation.LOOKUP:
            homes = [_nearest(t.subject, gold) for t in plan.triples]
            return [((names(h.text) or (h.title,))[-1], h) for h in homes]
    return []


def _nearest(subject: str, gold: list[Text]) -> Text:
    """The gold passage whose title has the most letters of ``subject``, in order."""
    return max(gold, key=lambda g: SequenceMatcher(None, plain(core_title(g.title)), plain(subject)).ratio())


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


def _tokens(text: str) -> list[str]:
    return [w for w in words(text) if w not in STOP_WORDS]
