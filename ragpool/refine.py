"""What is missing becomes the next queries; what is there becomes the generator's context.

Queries come in three forms, tried in this order for each gap and never sent twice: the gap itself ("Ermengarde of
Tours date of death"), passages whose title the evidence names (entity bridging), the question with the bound names.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from ragpool.closing import filled, is_about, namesakes
from ragpool.distil import Distiller, content_words, fold
from ragpool.types import Binding, Evidence, Gap, Judgement, Query, Question, Span, Triple

QUERIES_A_ROUND = 4
_BRIDGES_A_GAP = 2
_BRIDGE_SENTENCES = 12  # the nearest ones, in which titles are looked for
_LIKELY = 3  # pages for one open subject, and sentences in which their titles are looked for
_LONGEST_TITLE = 10  # words
_TOKEN = re.compile(r"\w+", re.UNICODE)
_BRACKETS = re.compile(r"\s*\([^)]*\)\s*$")
_RANK_CONSTANT = 10  # of the fusion below; small, since the first places of each look-up are what counts


class TitleIndex:
    """Finds the titles of a corpus that a text names."""

    def __init__(self, titles: Sequence[str]) -> None:
        self._titles: dict[tuple[str, ...], str] = {}
        for title in titles:
            for form in (title, _BRACKETS.sub("", title)):
                words = tuple(_TOKEN.findall(fold(form)))
                if words and (len(words) > 1 or len(words[0]) > 3):
                    self._titles.setdefault(words, title)

    def named_in(self, text: str) -> list[str]:
        """Titles that stand in the text, capitalised there, the longest match at each place, in text order."""
        tokens = [(m.group(), fold(m.group())) for m in _TOKEN.finditer(text)]
        found: dict[str, None] = {}
        at = 0
        while at < len(tokens):
            step = 1
            first = tokens[at][0][0]
            if not first.islower():
                for length in range(min(_LONGEST_TITLE, len(tokens) - at), 0, -1):
                    title = self._titles.get(tuple(folded for _, folded in tokens[at : at + length]))
                    if title is not None:
                        found[title] = None
                        step = length
                        break
            at += step
        return list(found)


@dataclass(frozen=True, slots=True)
class Refiner:
    """Judgement and history to the next round's queries."""

    distiller: Distiller
    titles: TitleIndex

    def refine(
        self,
        question: Question,
        judgement: Judgement,
        evidence: Sequence[Evidence],
        asked: Callable[[str], bool],
    ) -> tuple[Query, ...]:
        """At most QUERIES_A_ROUND queries that were not sent yet; empty when nothing new can be asked."""
        wanted: dict[str, Query] = {}

        def want(text: str, kind: str, gap: Gap) -> bool:
            key = " ".join(text.split())
            if not key or asked(key) or fold(key) in wanted:
                return False
            wanted[fold(key)] = Query(key, kind, gap.text)
            return True

        present = {fold(e.title) for e in evidence}
        for gap in judgement.gaps or (Gap(question.text),):
            if gap.triple is not None:
                want(gap.triple.query, "gap", gap)
            elif gap.text != question.text:
                want(gap.text, "gap", gap)
            bridges = 0
            for title in self._bridges(question, gap, judgement.bindings, evidence):
                if bridges == _BRIDGES_A_GAP:
                    break
                if fold(title) not in present and want(title, "bridge", gap):
                    bridges += 1
        if not wanted:
            names = " ".join(dict.fromkeys(b.value for b in judgement.bindings))
            for gap in judgement.gaps:
                want(f"{question.text} {names}", "free", gap)
        return tuple(wanted.values())[:QUERIES_A_ROUND]

    def _bridges(
        self, question: Question, gap: Gap, bindings: Sequence[Binding], evidence: Sequence[Evidence]
    ) -> list[str]:
        """The subject's own page where it is not in the pool yet; else titles that the evidence on it names.

        A page that is in the pool and did not close the look-up still names the value: the titles in its sentences most
        like the gap come first, then those of the passages that mention the subject.
        """
        about, subject = question.text, ""
        if gap.triple is not None:
            about, subject = f"{gap.triple.subject} {gap.triple.relation}", gap.triple.subject
            held = {fold(e.title) for e in evidence}
            own = [t for t in self.titles.named_in(subject) if fold(t) not in held]
            if own:
                return own
        ranked = self.distiller.rank(about, evidence)
        near = [
            (is_about(subject, e.title), s) for e, found in zip(evidence, ranked, strict=True) for s in found
        ]
        near.sort(key=lambda n: (-n[0], -n[1].score, n[1].passage_id, n[1].span.start))
        named_already = content_words(question.text)
        titles = dict.fromkeys(t for _, s in near[:_BRIDGE_SENTENCES] for t in self.titles.named_in(s.text))
        # a title that the question itself names was found by round 0 if it is there at all
        return sorted(titles, key=lambda t: content_words(t) <= named_already)


def lookups(question: Question, bindings: Sequence[Binding]) -> list[Triple]:
    """The triples of the plan that can be looked up, with bound names filled in."""
    return [t for t in (filled(triple, bindings) for triple in question.triples) if t is not None]


def order(
    question: Question, bindings: Sequence[Binding], evidence: Sequence[Evidence], distiller: Distiller
) -> list[Evidence]:
    """The evidence in the order in which the generator should get it.

    First the passages that closed a slot, in the plan's order; then the subjects' own pages of the look-ups; then, for
    a look-up whose subject is still open, the pages that may be it; then the rest by reciprocal rank fusion over the
    question and each look-up.
    """
    by_id = {e.passage_id: e for e in evidence}
    first = [by_id[b.passage_id] for b in bindings if b.passage_id in by_id]
    score: dict[str, float] = dict.fromkeys(by_id, 0.0)
    asked = lookups(question, bindings)
    told = " ".join([question.text, *(b.quote for b in bindings)])
    for lookup in asked:
        own = [e for e in evidence if is_about(lookup.subject, e.title)]
        others = namesakes(lookup.subject, told, [e.title for e in own])
        first += sorted((e for e in own if e.title not in others), key=lambda e: e.passage_id)
    first += likely(question, bindings, evidence, distiller)
    for text in (question.text, *(f"{t.subject} {t.relation}" for t in asked)):
        ranked = distiller.rank(text, evidence)
        best = {
            e.passage_id: max((s.score for s in sentences), default=0.0)
            for e, sentences in zip(evidence, ranked, strict=True)
        }
        for rank, passage_id in enumerate(sorted(best, key=lambda i: (-best[i], i)), start=1):
            score[passage_id] += 1.0 / (_RANK_CONSTANT + rank)
    rest = sorted(evidence, key=lambda e: (-score[e.passage_id], e.passage_id))
    return list({e.passage_id: e for e in [*first, *rest]}.values())


def likely(
    question: Question, bindings: Sequence[Binding], evidence: Sequence[Evidence], distiller: Distiller
) -> list[Evidence]:
    """The passages that a look-up with an open subject is probably about, best first, a few for each chain.

    They are the pages of the pool that the best sentences on the look-up before name, by how well they answer the
    look-up with their own title as its subject.
    """
    titles = TitleIndex([e.title for e in evidence])
    bound = {b.slot for b in bindings}
    candidates: dict[str, list[Evidence]] = {}
    found: list[Evidence] = []
    for triple in question.triples:
        lookup = filled(triple, bindings)
        if lookup is not None and triple.object not in bound:
            pages = [e for e in evidence if is_about(lookup.subject, e.title)] or list(evidence)
            sources = [(f"{lookup.subject} {lookup.relation}", page) for page in pages]
        elif triple.subject in candidates:
            sources = [(f"{e.title} {triple.relation}", e) for e in candidates[triple.subject]]
            fit = {
                e.passage_id: max((s.score for s in distiller.rank(text, [e])[0]), default=0.0)
                for text, e in sources
            }
            best = sorted(candidates[triple.subject], key=lambda e: -fit[e.passage_id])[:_LIKELY]
            found += best
            sources = [(text, e) for text, e in sources if e in best]
        else:
            continue
        candidates[triple.object] = _named(sources, titles, evidence, distiller)
    return found


def _named(
    sources: Sequence[tuple[str, Evidence]],
    titles: TitleIndex,
    evidence: Sequence[Evidence],
    distiller: Distiller,
) -> list[Evidence]:
    """The passages of the pool whose titles stand in the sentences of ``sources`` that bear most on their look-ups."""
    ranked = [s for text, e in sources for s in distiller.rank(text, [e])[0]]
    near = sorted(ranked, key=lambda s: (-s.score, s.passage_id, s.span.start))[:_LIKELY]
    own = {fold(e.title) for _, e in sources} if len(sources) < len(evidence) else set()
    names = dict.fromkeys(fold(t) for s in near for t in titles.named_in(s.text))
    return [e for name in names if name not in own for e in evidence if fold(e.title) == name]


def pack(
    ordered: Sequence[Evidence],
    *,
    max_passages: int,
    budget: int,
    count: Callable[[str], int],
    whole: bool = False,
) -> list[Evidence]:
    """The first ``max_passages`` of ``ordered`` whose distilled text fits ``budget`` tokens, in that order.

    ``count`` gives the tokens of a text. A passage that does not fit is passed over, and a later, shorter one may
    still fit. With ``whole`` a passage comes with its whole text where that fits, and distilled where it does not.
    """
    given: list[Evidence] = []
    left = budget
    for item in ordered:
        if len(given) == max_passages:
            break
        forms = [item]
        if whole:
            forms.insert(0, replace(item, spans=(Span(0, len(item.text)),)))
        for form in forms:
            cost = count(f"{form.title} {' '.join(form.sentences)}")
            if cost <= left:
                given.append(form)
                left -= cost
                break
    return given
