"""What the trained judge sees of a pool: a fixed vector that does not depend on the order of the passages.

Four blocks: the question against the pool, the links between passages (a title that another passage names),
the plan's look-ups followed through those links, and the slots that were closed. The last two may be absent and
say so with an indicator.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ragpool.feedback.gaps import closed_slots, is_closed
from ragpool.feedback.passages import (
    Passage,
    Phrase,
    Vector,
    is_name,
    links,
    read_passages,
    same_name,
)
from ragpool.feedback.text import content_words, names, occurs, words
from ragpool.models.cached import CachedEmbedder, TextEmbedder
from ragpool.plan import fill, slots_in
from ragpool.types import Binding, Evidence, Operation, Question, Triple

MAX_CANDIDATES = 5  # values followed for one open slot
_YEAR = re.compile(r"\b(?:1\d{3}|20\d{2})\b")
_NUMBER = re.compile(r"\d")
_WHEN = re.compile(
    r"\b(?:when|year|date|born first|died first|older|younger|earlier|later|century|recently)\b",
    re.IGNORECASE,
)
_HOW_MANY = re.compile(
    r"\b(?:how (?:many|much|long|far|old|tall|big|large)|number of|population|percent\w*|average)\b",
    re.IGNORECASE,
)
_WHERE = re.compile(
    r"\b(?:where|country|city|place|located|nationality|state|county|birthplace)\b", re.IGNORECASE
)
_WHO = re.compile(
    r"\b(?:who|whom|whose|director|performer|composer|author|father|mother|spouse|child)\b", re.IGNORECASE
)
_COMPARE = re.compile(
    r"\b(?:both|same|or|first|older|younger|more|earlier|later|longer|larger|bigger|higher)\b", re.IGNORECASE
)
_YES_NO = re.compile(r"^(?:are|is|was|were|do|does|did|has|have|can)\b", re.IGNORECASE)


class Features:
    """``Features(embedder)(question, evidence, bindings)`` -> float32 [len(NAMES)]. Needs at least one passage."""

    def __init__(self, embedder: TextEmbedder) -> None:
        self._embedder = CachedEmbedder.of(embedder)

    def __call__(
        self, question: Question, evidence: Sequence[Evidence], bindings: Sequence[Binding] = ()
    ) -> Vector:
        # A fixed order makes sums of floats, and so the judgement, the same for every order of the pool.
        ordered = sorted(evidence, key=lambda e: (e.title, e.text, e.passage_id))
        pool = read_passages(ordered, self._embedder)
        row = self._question_block(question.text, pool)
        row.update(self._plan_block(question, pool, bindings))
        row.update(_slot_block(question, ordered, bindings))
        return np.array([row[name] for name in NAMES], np.float32)

    def _best(self, text: str, passage: Passage) -> tuple[float, str]:
        """Cosine and text of the sentence nearest to ``text``."""
        if not passage.sentences:
            return 0.0, ""
        scores = passage.vectors @ self._embedder.embed([text])[0]
        best = int(scores.argmax())
        return float(scores[best]), passage.sentences[best]

    def _question_block(self, text: str, pool: list[Passage]) -> dict[str, float]:
        asked = words(text)
        near = [self._best(text, p) for p in pool]
        sims = [score for score, _ in near]
        named = [words(name) for name in names(text)]
        anchors = [i for i, p in enumerate(pool) if _named_in(p.title, asked)]
        outside = [i for i in range(len(pool)) if i not in anchors]
        pairs = [(i, j) for i in range(len(pool)) for j in range(len(pool))]
        linked = [(i, j) for i, j in pairs if i != j and links(pool[i], pool[j])]
        wanted = content_words(text)
        by_sim = sorted(range(len(pool)), key=lambda i: -sims[i])
        top = by_sim[:2]
        hops = [(i, j) for i, j in linked if i in anchors and j in outside]
        back = [(j, i) for j, i in linked if i in anchors and j in outside]
        pivot = [(i, j) for i, j in linked if i in top and j in outside and i not in anchors]
        chain = self._chains(asked, pool, hops)
        shared = self._shared_names(text, pool, anchors or top)
        dangling, owned = _dangling([near[i][1] for i in (anchors or top)], asked, pool)
        covered = sum(any(same_name(n, p.title) for p in pool) for n in named)
        mentioned = sum(any(p.names(n) or n == p.title for p in pool) for n in named)
        ordered = sorted(sims, reverse=True) + [0.0] * 4
        lexical = sorted((_share(wanted, p.content) for p in pool), reverse=True) + [0.0] * 2
        union = frozenset().union(*(p.content for p in pool))
        best_union = frozenset().union(*(pool[i].content for i in by_sim[:2]))
        return {
            "passages": len(pool) / 10,
            "question_length": len(asked) / 20,
            "names": len(named) / 3,
            "names_with_passage": covered / len(named) if named else 0.5,
            "names_without_passage": (len(named) - covered) / 3,
            "names_mentioned": mentioned / len(named) if named else 0.5,
            "anchors": min(len(anchors), 4) / 2,
            "anchor_words": sum(len(pool[i].title) for i in anchors) / 10,
            "anchor_sim": max((sims[i] for i in anchors), default=0.0),
            "anchor_sim_second": sorted([sims[i] for i in anchors] + [0.0, 0.0], reverse=True)[1],
            "other_sim": max((sims[i] for i in outside), default=0.0),
            "sim_1": ordered[0],
            "sim_2": ordered[1],
            "sim_3": ordered[2],
            "sim_4": ordered[3],
            "sim_mean": float(np.mean(sims)),
            "lexical_1": lexical[0],
            "lexical_2": lexical[1],
            "union_words": _share(wanted, union),
            "union_words_top": _share(wanted, best_union),
            "links": min(len(linked), 6) / 3,
            "hops": min(len(hops), 4) / 2,
            "hop_anchors": len({i for i, _ in hops}) / 2,
            "anchors_without_hop": len(set(anchors) - {i for i, _ in hops}) / 2,
            "back_links": min(len(back), 4) / 2,
            "back_sim": max((sims[j] for j, _ in back), default=0.0),
            "hop_sim": max((sims[j] for _, j in hops), default=0.0),
            "pivot_links": min(len(pivot), 4) / 2,
            "pivot_sim": max((sims[j] for _, j in pivot), default=0.0),
            "chain_sim": max(chain, default=0.0),
            "chain_sim_second": sorted([*chain, 0.0, 0.0], reverse=True)[1],
            "shared_names": min(len(shared), 6) / 3,
            "shared_sim": max((sim for sim, _ in shared), default=0.0),
            "shared_sim_second": sorted([sim for sim, _ in shared] + [0.0, 0.0], reverse=True)[1],
            "shared_again": self._again(text, pool, shared),
            "dangling": min(dangling, 6) / 3,
            "dangling_owned": owned / dangling if dangling else 0.5,
            "compares": float(bool(_COMPARE.search(text))),
            "yes_no": float(bool(_YES_NO.search(text))),
            "asks_when": float(bool(_WHEN.search(text))),
            "asks_number": float(bool(_HOW_MANY.search(text))),
            "asks_where": float(bool(_WHERE.search(text))),
            "asks_who": float(bool(_WHO.search(text))),
            "hop_year": float(any(_YEAR.search(" ".join(pool[j].sentences[:2])) for _, j in hops)),
            "hop_number": float(any(_NUMBER.search(" ".join(pool[j].sentences)) for _, j in hops)),
        }

    def _chains(self, asked: Phrase, pool: list[Passage], hops: list[tuple[int, int]]) -> list[float]:
        """For each hop target the fit of the question once the anchor's name is replaced by the target's."""
        rewritten: list[tuple[int, str]] = []
        for i, j in hops[: 2 * MAX_CANDIDATES]:
            start = occurs(pool[i].title, asked)
            replaced = (*asked[:start], *pool[j].title, *asked[start + len(pool[i].title) :])
            rewritten.append((j, " ".join(replaced)))
        self._embedder.embed([text for _, text in rewritten])  # one batch, not one by one
        best: dict[int, float] = {}
        for j, text in rewritten:
            best[j] = max(best.get(j, 0.0), self._best(text, pool[j])[0])
        return list(best.values())

    def _shared_names(self, text: str, pool: list[Passage], sources: list[int]) -> list[tuple[float, int]]:
        """Passages that share a name with the best sentences of ``sources``: fit of the sentence that has it.

        The name must not be in the question: it is a candidate for the bridge. The fit is the cosine with the
        question of the best sentence that has the name; one entry a passage, best first.
        """
        asked, question = words(text), self._embedder.embed([text])[0]
        best: dict[int, float] = {}
        for i in sources:
            for name in self._candidates(text, pool[i]):
                if occurs(name, asked) >= 0:
                    continue
                for j, other in enumerate(pool):
                    if j in sources:
                        continue
                    found = other.naming(name) or ([0] if same_name(name, other.title) else [])
                    if found and other.sentences:
                        fit = float((other.vectors[found] @ question).max())
                        best[j] = max(best.get(j, 0.0), fit)
        return sorted(((fit, j) for j, fit in best.items()), reverse=True)

    def _again(self, text: str, pool: list[Passage], shared: list[tuple[float, int]]) -> float:
        """The best fit one shared name further on: questions of three and four hops."""
        further = self._shared_names(text, pool, [j for _, j in shared[:2]]) if shared else []
        return further[0][0] if further else 0.0

    def _candidates(self, text: str, passage: Passage) -> list[Phrase]:
        """Names in the two sentences of ``passage`` that are nearest to ``text``."""
        if not passage.sentences:
            return []
        scores = passage.vectors @ self._embedder.embed([text])[0]
        found = [
            words(n) for i in np.argsort(-scores, kind="stable")[:2] for n in names(passage.sentences[i])
        ]
        return [n for n in dict.fromkeys(found) if is_name(n) and not all(w.isdigit() for w in n)]

    def _plan_block(
        self, question: Question, pool: list[Passage], bindings: Sequence[Binding]
    ) -> dict[str, float]:
        steps = self._follow(question.triples, pool, closed_slots(bindings))
        if not steps:
            return dict.fromkeys(PLAN_NAMES, 0.0)
        open_ = [s for s in steps if not s.first]
        sims, abouts = [s.sim for s in steps], [s.about for s in steps]
        return {
            "plan": 1.0,
            "plan_steps": len(steps) / 4,
            "plan_compares": float(question.operation is not Operation.LOOKUP),
            "step_sim_min": min(sims),
            "step_sim_mean": float(np.mean(sims)),
            "step_about_min": min(abouts),
            "step_about_mean": float(np.mean(abouts)),
            "step_lexical_min": min(s.lexical for s in steps),
            "step_lexical_mean": float(np.mean([s.lexical for s in steps])),
            "step_type_min": min(s.fits for s in steps),
            "first_sim_min": min((s.sim for s in steps if s.first), default=0.0),
            "first_about_min": min((s.about for s in steps if s.first), default=0.0),
            "later_sim_min": min((s.sim for s in open_), default=1.0),
            "later_about_min": min((s.about for s in open_), default=1.0),
            "later_bound": float(np.mean([s.bound for s in open_])) if open_ else 1.0,
            "steps_unreached": sum(s.about == 0 for s in steps) / 2,
        }

    def _follow(
        self, triples: Sequence[Triple], pool: list[Passage], closed: dict[str, Binding]
    ) -> list[_Step]:
        """Each look-up with the best evidence for it; open subjects take titles that the step before leads to."""
        values: dict[str, list[Phrase]] = {}
        bound = {slot: binding.value for slot, binding in closed.items()}
        steps = []
        for triple in triples:
            subject = fill(triple.subject, bound)
            open_slots = slots_in(subject)
            subjects = values.get(open_slots[0], []) if open_slots else [words(subject)]
            relation = fill(triple.relation, bound)
            self._embedder.embed([_lookup(s, relation) for s in subjects if s])  # one batch
            found = [self._support(s, relation, pool) for s in subjects if s]
            best = max((f[0] for f in found), key=lambda s: (s.about * s.sim, s.sim), default=_Step())
            first = not slots_in(triple.subject)
            steps.append(
                _Step(
                    best.about, best.sim, best.lexical, best.fits, first, bool(not first and not open_slots)
                )
            )
            values[triple.object] = list(dict.fromkeys(title for f in found for title in f[1]))[
                :MAX_CANDIDATES
            ]
        return steps

    def _support(self, subject: Phrase, relation: str, pool: list[Passage]) -> tuple[_Step, list[Phrase]]:
        lookup = _lookup(subject, relation)
        wanted = content_words(relation)
        best, leads = _Step(), list[tuple[float, Phrase]]()
        for passage in pool:
            about = 1.0 if same_name(subject, passage.title) else 0.5 if passage.names(subject) else 0.0
            if not about:
                continue
            sim, sentence = self._best(lookup, passage)
            fits = _fits(relation, sentence)
            step = _Step(about, sim, _share(wanted, content_words(sentence)), fits)
            if (about * sim, sim) > (best.about * best.sim, best.sim):
                best = step
            near = words(sentence)
            others = [other for other in pool if other is not passage and other.title != subject]
            for other in others:
                if is_name(other.title) and passage.names(other.title):
                    leads.append((about * sim + (occurs(other.title, near) >= 0), other.title))
            for name in self._candidates(lookup, passage):
                if name != subject and any(other.names(name) for other in others):
                    leads.append((about * sim + 0.5 * (occurs(name, near) >= 0), name))
            if about < 1 and passage.title != subject:
                leads.append((about * sim, passage.title))
        return best, [title for _, title in sorted(leads, key=lambda lead: (-lead[0], lead[1]))]


@dataclass(frozen=True, slots=True)
class _Step:
    about: float = 0.0
    sim: float = 0.0
    lexical: float = 0.0
    fits: float = 0.0
    first: bool = True
    bound: bool = False


def _slot_block(
    question: Question, evidence: Sequence[Evidence], bindings: Sequence[Binding]
) -> dict[str, float]:
    closed = closed_slots(bindings)
    if not question.triples or not closed:
        return dict.fromkeys(SLOT_NAMES, 0.0)
    texts = {e.passage_id: f"{e.title} {e.text}".casefold() for e in evidence}
    confidence = [b.confidence for b in closed.values()]
    grounded = [b.value.casefold() in texts.get(b.passage_id, "") for b in closed.values()]
    done = [is_closed(t, closed) for t in question.triples]
    last = question.triples[-1].object
    return {
        "slots": 1.0,
        "slots_closed": sum(done) / len(done),
        "slots_all_closed": float(all(done)),
        "slot_confidence_min": min(confidence) * all(done),
        "slot_confidence_mean": float(np.mean(confidence)),
        "slot_confidence_last": closed[last].confidence if last in closed else 0.0,
        "slots_grounded": sum(grounded) / len(grounded),
    }


def _lookup(subject: Phrase, relation: str) -> str:
    return f"{' '.join(subject)} {relation}"


def _named_in(title: Phrase, asked: Phrase) -> bool:
    return is_name(title) and occurs(title, asked) >= 0


def _dangling(found: Sequence[str], asked: Phrase, pool: list[Passage]) -> tuple[int, int]:
    """Names in the anchors' best sentences that the question does not have: how many, how many with a passage."""
    fresh = {n for sentence in found for name in names(sentence) if (n := words(name)) and is_name(n)}
    fresh = {n for n in fresh if occurs(n, asked) < 0 and not all(w.isdigit() for w in n)}
    return len(fresh), sum(any(same_name(n, p.title) for p in pool) for n in fresh)


def _fits(relation: str, sentence: str) -> float:
    """Whether ``sentence`` holds a value of the kind that ``relation`` asks for."""
    if _WHEN.search(relation) or "birth" in relation or "death" in relation:
        return (
            float(bool(_YEAR.search(sentence)))
            if not _WHERE.search(relation)
            else float(bool(names(sentence)))
        )
    if _HOW_MANY.search(relation):
        return float(bool(_NUMBER.search(sentence)))
    return float(bool(names(sentence)))


def _share(wanted: frozenset[str], found: frozenset[str]) -> float:
    return len(wanted & found) / len(wanted) if wanted else 0.0


QUESTION_NAMES: Phrase = tuple(
    """passages question_length names names_with_passage names_without_passage names_mentioned anchors anchor_words
    anchor_sim anchor_sim_second other_sim sim_1 sim_2 sim_3 sim_4 sim_mean lexical_1 lexical_2 union_words
    union_words_top links shared_names shared_sim shared_sim_second shared_again hops hop_anchors anchors_without_hop back_links back_sim hop_sim pivot_links pivot_sim
    chain_sim chain_sim_second dangling dangling_owned compares yes_no asks_when asks_number asks_where asks_who
    hop_year hop_number""".split()
)
PLAN_NAMES: Phrase = tuple(
    """plan plan_steps plan_compares step_sim_min step_sim_mean step_about_min step_about_mean step_lexical_min
    step_lexical_mean step_type_min first_sim_min first_about_min later_sim_min later_about_min later_bound
    steps_unreached""".split()
)
SLOT_NAMES: Phrase = tuple(
    """slots slots_closed slots_all_closed slot_confidence_min slot_confidence_mean slot_confidence_last
    slots_grounded""".split()
)
NAMES: Phrase = QUESTION_NAMES + PLAN_NAMES + SLOT_NAMES
"""The features, in the order of the vector."""
