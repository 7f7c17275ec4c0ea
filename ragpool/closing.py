"""Evidence closes slots: each look-up of the plan is read from the passages that bear on it.

A triple can be read once the slots in its subject are bound. The reader sees only the few sentences that bear on
the look-up, never the whole pool, and what it says must stand in them: the sentence that says so becomes the
binding's quote.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from ragpool.corpus.sentences import sentences as sentence_spans
from ragpool.distil import Distiller, Sentence, best_spans, content_words, folded_words, holds, overlap
from ragpool.index.titles import normalise, without_brackets
from ragpool.nations import country_of
from ragpool.plan import fill, final_slots, slots_in
from ragpool.slots import SUPPOSED, TOLD, Reading, subquestion
from ragpool.types import Binding, Evidence, Operation, Question, Triple
from ragpool.values import fits, in_the_form_asked, told_of_the_other

Context = tuple[str, str]
Read = Callable[[str, Sequence[Context]], Reading]

FIRM = 0.6  # a binding of this confidence is not read again when new evidence comes in
_TITLE_BONUS = 0.6
_MENTION_BONUS = 0.3
_BACKWARD = re.compile(
    r"^(?!place|town|city|where|when|date|year)\w.* (?:\w+ed|written|made|led|built|sung|drawn|won|fought|held|run|taught)$",
    re.IGNORECASE,
)  # "lighthouse designed": a kind of thing and what the subject did with it
_ON_THE_WAY = 0.02  # how well a step must be told to be supposed, where its subject has a page
_ALONE = 0.55  # the confidence that a page must have, asked alone, to be the value itself
_READINGS = 3  # of the same candidates, each without what the one before was wrong about
_PART_OF_NAME = 0.6  # of the words of a name, where no passage has them all: both of two, two of three
_OF_LANGUAGES = re.compile(
    r"\b(?:speakers?|spoken|language|dialects?|alphabet|script|words?)\b", re.IGNORECASE
)
_BETWEEN = (
    r"(?:(?!(?:is|was|are|were|of|the|did|does|do|has|had|by|in|for|at|from|with|that|who|which)\b)\w+ ){0,4}"
)
_AFTER_NOUN = (
    r"(?: (?:and|or|in|of|from|to|on|at|for|with|by|who|that|which|whose|where|known|best|located|situated|based|founded"
    r"|formed|born|an?|the|he|she|it)\b.*)?$"
)
_PRONOUN = re.compile(r"\b(?:s?he|her|his)\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A passage that may close a triple, with its ranked sentences."""

    evidence: Evidence
    sentences: tuple[Sentence, ...]
    score: float


@dataclass(frozen=True, slots=True)
class Asked:
    """A look-up as it is put to the reader.

    ``names`` are those that its chain has come through: none of them is the value. ``whole`` is the question whose answer the
    value is, empty for a step on the way; ``words`` are asked in place of the look-up's own; ``least`` is how well a value
    must be told.
    """

    lookup: Triple
    names: tuple[str, ...] = ()
    whole: str = ""
    words: str = ""
    least: float = TOLD

    @property
    def query(self) -> str:
        return self.words or subquestion(self.lookup)

    def may_be(self, value: str) -> bool:
        """Whether ``value`` can be what is asked for, whatever the passages say."""
        if any(is_about(name, value) for name in self.names):
            return False
        return not self.whole or in_the_form_asked(self.whole, value) is not None


def filled(triple: Triple, bindings: Sequence[Binding]) -> Triple | None:
    """The triple with bound values in its subject and relation; None while one of those slots is open.

    What is asked of a "Swedish" that was found is asked of Sweden, unless it is the language.
    """
    values = {b.slot: b.value for b in bindings}
    subject, relation = fill(triple.subject, values), fill(triple.relation, values)
    if slots_in(subject) or slots_in(relation):
        return None
    if triple.subject in values and not _OF_LANGUAGES.search(relation):
        subject = country_of(subject)
    return Triple(subject, relation, triple.object)


def is_about(subject: str, title: str) -> bool:
    """Whether a passage of this title is the subject's own: case, accents, punctuation and bracketed additions aside."""
    own, other = normalise(without_brackets(title)), normalise(without_brackets(subject))
    return own == other if own or other else title == subject


def namesakes(subject: str, told: str, titles: Sequence[str]) -> frozenset[str]:
    """Of the titles that differ in a bracketed addition alone, those that ``told`` does not mean.

    "the engineer Bennedd Nilorrey" is not "Bennedd Nilorrey (diplomat)". Where ``told`` names no addition, or all of
    them, nobody is ruled out.
    """
    told, name = f" {normalise(told)} ", normalise(without_brackets(subject))
    own = {title: added for title in titles if is_about(subject, title) and (added := _added(title))}
    meant = {t for t, added in own.items() if f" {added} {name} " in told}
    meant = meant or {t for t, added in own.items() if f" {added} " in told}
    return frozenset(own.keys() - meant) if meant else frozenset()


def _added(title: str) -> str:
    return normalise(title.removeprefix(without_brackets(title)))


class SlotCloser:
    """Closes the slots of a question's plan from evidence.

    ``has_page`` says whether the corpus holds a passage of that title: what is asked about a name that an earlier
    look-up brought in is not read from other passages while its own is not in the pool ("an Indian film" does not
    make its director Indian). ``passages`` and ``sentences`` bound what the reader is shown for one look-up; of the
    subject's own page it is shown ``own`` sentences, since those often say "it" and rank low. What the reader says is
    told counts. The end of a chain that is not read so is asked in the question's own words, which say more than a relation.
    What was searched for in vain may be supposed: a step on the way, since the next look-up is its test, and
    what is asked of a name without a page of its own. Where there is one, its silence counts.
    """

    def __init__(
        self,
        distiller: Distiller,
        has_page: Callable[[str], bool] = lambda title: False,
        *,
        passages: int = 4,
        sentences: int = 3,
        own: int = 6,
    ) -> None:
        self._distiller = distiller
        self._has_page = has_page
        self._passages = passages
        self._sentences = sentences
        self._own = own

    def close(
        self,
        question: Question,
        evidence: Sequence[Evidence],
        known: Sequence[Binding],
        read: Read,
        searched: Callable[[str], bool] = lambda query: False,
    ) -> tuple[Binding, ...]:
        """All bindings that hold now, in the order of the plan. ``known`` are those of the round before; ``searched`` says
        whether a look-up's query (``Triple.query``) was sent."""
        before = {b.slot: b for b in known if b.confidence >= FIRM and not b.supposed}
        bindings: list[Binding] = []
        for triple in question.triples:
            lookup = filled(triple, bindings)
            if lookup is None:
                continue
            binding = before.get(lookup.object) if filled(triple, known) == lookup else None
            if binding is None and not (slots_in(triple.subject) and self._page_is_missing(lookup, evidence)):
                told = next((b.quote for b in bindings if b.slot in slots_in(triple.subject)), question.text)
                others = namesakes(lookup.subject, told, [e.title for e in evidence])
                meant = [e for e in evidence if e.title not in others]
                asked = Asked(
                    lookup,
                    _came_through(question, triple, bindings),
                    question.text if _is_the_answer(question, lookup) else "",
                )
                binding = _already_told(asked, triple, bindings, meant) or self._read(asked, meant, read)
                if binding is None and asked.whole and slots_in(triple.subject):
                    binding = self._read(replace(asked, words=question.text), meant, read)
                least = self._supposable(question, lookup)
                if binding is None and least < TOLD and searched(lookup.query):
                    binding = self._read(replace(asked, least=least), meant, read)
                    binding = replace(binding, supposed=True) if binding is not None else None
            if binding is not None:
                bindings.append(binding)
        return tuple(bindings)

    def candidates(self, asked: Asked, evidence: Sequence[Evidence]) -> list[Candidate]:
        """The passages that mention the look-up's subject, the most likely first.

        Where some carry the whole of its name, those that carry a part of it are somebody else's and left out.
        """
        lookup = asked.lookup
        ranked = self._distiller.rank(f"{lookup.subject} {asked.words or lookup.relation}", evidence)
        subject = content_words(lookup.subject)
        mentions = [overlap(subject, content_words(f"{e.title} {e.text}")) for e in evidence]
        needed = 1.0 if 1.0 in mentions else _PART_OF_NAME
        found = []
        for item, sentences, mention in zip(evidence, ranked, mentions, strict=True):
            if not sentences or (subject and mention < needed):
                continue
            score = max(s.score for s in sentences) + _MENTION_BONUS * mention
            if is_about(lookup.subject, item.title):
                score += _TITLE_BONUS
            found.append(Candidate(item, tuple(sentences), score))
        return sorted(found, key=lambda c: (-c.score, c.evidence.passage_id))

    def _shown(self, lookup: Triple, candidate: Candidate) -> list[str]:
        """The sentences of a candidate that the reader sees, in text order: more of the subject's own page."""
        keep = self._own if is_about(lookup.subject, candidate.evidence.title) else self._sentences
        text = candidate.evidence.text
        return [text[s.start : s.end] for s in best_spans(candidate.sentences, keep)]

    def _supposable(self, question: Question, lookup: Triple) -> float:
        """How well a value must be told at least, once it was searched for."""
        if not self._has_page(lookup.subject):
            return SUPPOSED
        return TOLD if lookup.object in final_slots(question.triples) else _ON_THE_WAY

    def _page_is_missing(self, lookup: Triple, evidence: Sequence[Evidence]) -> bool:
        held = any(is_about(lookup.subject, e.title) for e in evidence)
        return not held and self._has_page(lookup.subject)

    def _read(self, asked: Asked, evidence: Sequence[Evidence], read: Read) -> Binding | None:
        """The value that the evidence gives. Where another passage gives it, or none does, the subject's own page is
        asked alone too, and goes first: what other pages say in passing is not believed against it. Where that gives
        nothing either, and what the subject did is asked for ("book written"), the value may be a page that tells of it: each
        of the others is asked alone.
        """
        lookup = asked.lookup
        candidates = self.candidates(asked, evidence)[: self._passages]
        own = [c for c in candidates if is_about(lookup.subject, c.evidence.title)]
        others = [c for c in candidates if c not in own]
        binding = self._read_from(asked, candidates, read)
        if (
            own
            and others
            and (binding is None or all(binding.passage_id != c.evidence.passage_id for c in own))
        ):
            binding = self._read_from(asked, own, read) or binding
        if binding is not None or len(candidates) < 2 or not _BACKWARD.search(lookup.relation):
            return binding
        titles = {c.evidence.passage_id: c.evidence.title for c in others}
        alone = (self._read_from(replace(asked, least=TOLD), [c], read) for c in others)
        found = [b for b in alone if b and b.confidence >= _ALONE and is_about(b.value, titles[b.passage_id])]
        return max(found, key=lambda b: b.confidence, default=None)

    def _read_from(self, asked: Asked, candidates: Sequence[Candidate], read: Read) -> Binding | None:
        """What the reader says of these candidates, if it holds. Where it says what cannot be the value, the sentences
        with that are struck out and the rest is read again.
        """
        chosen = [(c, self._shown(asked.lookup, c)) for c in candidates]
        for _ in range(_READINGS):
            contexts = [(c.evidence.title, " ".join(sentences)) for c, sentences in chosen if sentences]
            if not contexts:
                return None
            reading = read(asked.query, contexts)
            value = reading.value
            if value is None or reading.told < asked.least:
                return None
            for candidate, sentences in chosen if asked.may_be(value) else ():
                quote = stating(asked.lookup, value, candidate.evidence, sentences)
                if quote is not None:
                    return Binding(
                        asked.lookup.object,
                        value,
                        candidate.evidence.passage_id,
                        quote,
                        reading.confidence,
                    )
            chosen = [(c, [s for s in sentences if not holds(s, value)]) for c, sentences in chosen]
        return None


def _is_the_answer(question: Question, lookup: Triple) -> bool:
    """Whether the value of this look-up, and no other, is what the question asks for."""
    return question.operation is Operation.LOOKUP and final_slots(question.triples) == (lookup.object,)


def _already_told(
    asked: Asked, triple: Triple, bindings: Sequence[Binding], evidence: Sequence[Evidence]
) -> Binding | None:
    """The value of the look-up before, where the last one only says of what kind it is and its page begins so.

    "Which landlocked country is the birthplace of Ada?" may be planned as "Ada | birthplace | ?1", "?1 | landlocked country
    | ?2": when ?1 is Norland and "Norland is a landlocked country", that is the answer.
    """
    before = next((b for b in bindings if b.slot == triple.subject), None)
    kind = folded_words(asked.lookup.relation)
    wanted = rf" (?:which|what) {_BETWEEN}{re.escape(kind)} "
    if before is None or not kind or not re.search(wanted, f" {folded_words(asked.whole)} "):
        return None
    said = re.compile(
        rf" (?:is|was|are|were) (?:an?|the|one of the) {_BETWEEN}{re.escape(kind.split()[-1])}{_AFTER_NOUN}"
    )
    for page in evidence if asked.may_be(before.value) else ():
        begin = sentence_spans(page.text)[0] if is_about(before.value, page.title) else None
        if begin is not None and said.search(f" {folded_words(page.text[begin.start : begin.end])}"):
            quote = page.text[begin.start : begin.end]
            return Binding(triple.object, before.value, page.passage_id, quote, before.confidence)
    return None


def _came_through(question: Question, triple: Triple, bindings: Sequence[Binding]) -> tuple[str, ...]:
    """The subjects of the look-ups that lead to ``triple``, with bound names filled in."""
    leading = {t.object: t for t in question.triples}
    names = []
    for _ in question.triples:
        slot = next(iter(slots_in(triple.subject)), None)
        if slot not in leading:
            break
        triple = leading[slot]
        known = filled(triple, bindings)
        names += [known.subject] if known is not None else []
    return tuple(names)


def stating(lookup: Triple, value: str, evidence: Evidence, sentences: Sequence[str]) -> str | None:
    """The first of a passage's ``sentences`` from which ``value`` can be had for ``lookup``; None when there is none.

    The value must be of the kind that is asked for and not the subject over again, stand in the sentence, not be a death's
    where a birth is asked for, and be told of the subject.
    """
    if not fits(lookup.relation, value) or is_about(lookup.subject, value):
        return None
    for number, sentence in enumerate(sentences):
        if (
            holds(sentence, value)
            and not told_of_the_other(lookup.relation, value, sentence)
            and _told_of(lookup.subject, value, evidence, sentences, number)
        ):
            return sentence
    return None


def _told_of(subject: str, value: str, evidence: Evidence, sentences: Sequence[str], number: int) -> bool:
    """Whether a sentence is about the subject: on a page of its name, or where it or the one before mentions it.

    "She was educated at Coll. Ada was among her friends" says nothing of Ada's school, nor does "Her teacher was Ada. She
    was educated at Coll", where she is whom the page is about. A value that is the page's own title may stand in any sentence.
    """
    wanted, title = content_words(subject), content_words(evidence.title)
    if (
        not wanted
        or overlap(wanted, title) == 1
        or overlap(title, wanted) == 1
        or is_about(value, evidence.title)
    ):
        return True
    before, own = " ".join(sentences[max(0, number - 1) : number]), sentences[number]
    if _PRONOUN.match(own) and _PRONOUN.search(before):  # it goes on about whom the page is about
        before = ""
    near = f"{before} {own}"
    return overlap(wanted, content_words(near)) >= _PART_OF_NAME
