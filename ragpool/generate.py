"""Question and packed evidence to a short answer whose citations were checked.

Two generators: ``SlotGenerator`` for the embedded model, which answers from the closed slots and else asks the
trained reader, and ``ChatGenerator`` for any LangChain chat model. Both abstain when the evidence is not there.
"""

from __future__ import annotations

import re
from collections.abc import Generator as Steps
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from ragpool import prompts
from ragpool.closing import FIRM, Read, filled, namesakes, stating
from ragpool.distil import Distiller, Sentence, content_words, fold, holds, overlap
from ragpool.index.titles import without_brackets
from ragpool.plan import final_slots, slots_in
from ragpool.prompts.delimiter import delimiter, delimiter_key
from ragpool.slots import TOLD, Reading
from ragpool.types import (
    AnswerStatus,
    Binding,
    Citation,
    Draft,
    Evidence,
    Judgement,
    Operation,
    Question,
    Triple,
    Usage,
)
from ragpool.values import compare, in_the_form_asked, parse_date, same, share_told, supports

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel

NOT_FOUND = "NOT FOUND"
UNVERIFIED = "[unverified]"
_MARKER = re.compile(r"\[(\d{1,3})\]")
_CLAIM = re.compile(r".*?(?:(?:\[\d{1,3}\][\s.,;]*)+|$)", re.DOTALL)
_REFUSAL = re.compile(rf"[\W_]*(?:{NOT_FOUND}\b|(?i:{NOT_FOUND})\W*$|$)")  # no word at all is one too
_NAMES_TOLD = 0.75  # of a question's names and numbers: people misspell some, and "Which" of a name is none

Written = tuple[Draft, Usage]
Found = tuple[str, list[tuple[str, str, str]]]
"""An answer and its sources: (value, passage id, quote)."""


class Generator(Protocol):
    """Writes the answer. Yields pieces of text as they come; returns the checked draft and what it cost.

    ``context`` is the evidence in the order of its numbers: [1] is ``context[0]``.
    """

    name: str
    appends: bool  # wants the evidence in the order of admission, so that its prompt grows at the end

    def generate(
        self, question: Question, context: Sequence[Evidence], judgement: Judgement, read: Read
    ) -> Steps[str, None, Written]: ...


def abstention() -> Draft:
    """The draft that says nothing was found."""
    return Draft("", "", (), AnswerStatus.INSUFFICIENT)


class SlotGenerator:
    """Answers from the closed slots of the plan; where they do not reach, from the reader over the context.

    Comparisons are made in code over the values of the final slots, and both sources are cited. ``minimum`` is the
    confidence that the reader's answer needs: at .5 its calibrated curve says that it is as likely right as wrong.
    Where the plan led nowhere, or to a value that is not firm, the answer of a single search goes before a less confident one,
    as a partial answer, so that a bad plan is not worse than none. Without ``abstain`` a reading that is less sure, or that
    the checks refuse, is given as a partial answer.
    """

    name = "slots@1"
    appends = False

    def __init__(
        self, distiller: Distiller, *, passages: int = 6, minimum: float = 0.5, abstain: bool = True
    ) -> None:
        self._distiller = distiller
        self._passages = passages
        self._minimum = minimum
        self._abstain = abstain

    def generate(
        self, question: Question, context: Sequence[Evidence], judgement: Judgement, read: Read
    ) -> Steps[str, None, Written]:
        usage, status = Usage(), AnswerStatus.ANSWERED
        found, sure = self._from_slots(question, judgement.bindings)
        doubted = sure < FIRM
        if found is None:
            found, sure, usage = self._from_reader(question, context, judgement.bindings, read)
            doubted = _plan_is_no_good(question, judgement.bindings)
        if any(b.supposed for b in judgement.bindings):
            status = AnswerStatus.PARTIAL
        if doubted:
            rival = self._as_one_search(question, context, read, max(sure, self._minimum))
            if rival is not None and (found is None or not same(rival[0], found[0])):
                found, status = rival, AnswerStatus.PARTIAL
        if found is None and not self._abstain:
            found, status = self._guess(question, context, read), AnswerStatus.PARTIAL
        if found is None:
            return abstention(), usage
        value, sources = found
        citations = _cite(sources, context)
        markers = dict.fromkeys(f"[{c.marker}]" for c in citations)
        text = f"{value} {''.join(markers)}".strip()
        if not any(c.supported for c in citations):
            text = f"{text} {UNVERIFIED}"
        yield text
        return Draft(text, value, citations, status), usage

    def _from_slots(self, question: Question, bindings: Sequence[Binding]) -> tuple[Found | None, float]:
        """The answer, when every final slot is closed, and the confidence of the value that it is (1 for comparisons)."""
        bound = {b.slot: b for b in bindings}
        finals = final_slots(question.triples)
        if not finals or any(slot not in bound for slot in finals):
            return None, 0.0
        sources = [(b.value, b.passage_id, b.quote) for b in bindings]
        if question.operation is Operation.LOOKUP:
            last = bound[finals[-1]]
            answer = in_the_form_asked(question.text, last.value)
            return (None, 0.0) if answer is None else ((answer, sources), last.confidence)
        value = compare(question.operation, question.compared, [bound[slot].value for slot in finals])
        return (None, 0.0) if value is None else ((value, sources), 1.0)

    def _from_reader(
        self, question: Question, context: Sequence[Evidence], bindings: Sequence[Binding], read: Read
    ) -> tuple[Found | None, float, Usage]:
        """What the reader says of the whole context, if the checks let it stand; its confidence, and the cost."""
        shown = self._shown(question, context)
        if not shown:
            return None, 0.0, Usage()
        sentences = self._distiller.rank(question.text, shown)
        reading = read(question.text, _contexts(shown))
        if reading.value is None or not self._holds(reading):
            return None, 0.0, reading.usage
        answer = _answer(question, reading.value)
        if answer is None or any(same(reading.value, b.value) for b in bindings):
            return None, 0.0, reading.usage  # a step on the way is not the answer
        asked = _last_lookup(question, bindings)
        located = _locate(reading.value, question, shown, sentences, asked)
        if asked is not None and fold(reading.value) not in ("yes", "no"):
            leads = 1 if asked.subject or len(question.triples) == 1 else 2
            if len(located) < leads:  # of an open chain's end no passage tells alone: another must name it
                return None, 0.0, reading.usage
        sources = [(b.value, b.passage_id, b.quote) for b in bindings]
        return (answer, [*sources, *located]), reading.confidence, reading.usage

    def _as_one_search(
        self, question: Question, context: Sequence[Evidence], read: Read, least: float
    ) -> Found | None:
        """What a single search would have answered with a confidence of ``least``, where the names of the question, but for a
        slip, stand in what it found."""
        shown = self._shown(question, [e for e in context if e.round == 0])
        told = " ".join(f"{e.title} {e.text}" for e in shown)
        if not shown or share_told(told, question.text) < _NAMES_TOLD:
            return None
        reading = read(question.text, _contexts(shown))
        if reading.value is None or reading.told < TOLD or reading.confidence < least:
            return None
        answer = _answer(question, reading.value)
        located = _locate(reading.value, question, shown, self._distiller.rank(question.text, shown), None)
        return (answer, located) if answer is not None and located else None

    def _holds(self, reading: Reading) -> bool:
        return reading.told >= TOLD and reading.confidence >= self._minimum

    def _shown(self, question: Question, context: Sequence[Evidence]) -> list[Evidence]:
        """The passages that are read as a whole: not those about somebody else of the same name."""
        titles = [e.title for e in context]
        named = [t.subject for t in question.triples if not slots_in(t.subject)]
        others = {title for name in named for title in namesakes(name, question.text, titles)}
        return [e for e in context if e.title not in others][: self._passages]

    def _guess(self, question: Question, context: Sequence[Evidence], read: Read) -> Found | None:
        """What the reader says of the whole context, unchecked. The pool remembers that it was asked before."""
        shown = self._shown(question, context)
        reading = read(question.text, _contexts(shown))
        answer = None if reading.value is None else _answer(question, reading.value)
        if reading.value is None or answer is None:
            return None
        ranked = self._distiller.rank(question.text, shown)
        return answer, _locate(reading.value, question, shown, ranked, None)


def _contexts(shown: Sequence[Evidence]) -> list[tuple[str, str]]:
    return [(e.title, " ".join(e.sentences)) for e in shown]


def _answer(question: Question, value: str) -> str | None:
    """A value that was read, in the form asked; None when it is of another kind, or is none of those compared."""
    if question.compared and question.operation is not Operation.SAME:
        meant = [name for name in question.compared if same(name, value)]
        exact = [name for name in meant if fold(name) == fold(value)]
        return next(iter(exact or meant), None) if len(exact or meant) == 1 else None
    return in_the_form_asked(question.text, value)


def _plan_is_no_good(question: Question, bindings: Sequence[Binding]) -> bool:
    """Whether the plan led nowhere at all: no look-up could be read, or all were and what they gave is no answer."""
    bound = {b.slot for b in bindings}
    finals = final_slots(question.triples)
    return bool(question.triples) and (not bound or all(slot in bound for slot in finals))


def _last_lookup(question: Question, bindings: Sequence[Binding]) -> Triple | None:
    """The look-up whose value is the answer, its subject empty while that is open; None where there is not one alone."""
    finals = final_slots(question.triples)
    if len(finals) != 1 or question.operation is not Operation.LOOKUP:
        return None
    triple = next(t for t in question.triples if t.object == finals[0])
    return filled(triple, bindings) or Triple("", triple.relation, triple.object)


def _locate(
    value: str,
    question: Question,
    shown: Sequence[Evidence],
    ranked: Sequence[Sequence[Sentence]],
    asked: Triple | None,
) -> list[tuple[str, str, str]]:
    """Where a read value stands: the best sentence with it, and the passage that leads to that one.

    With ``asked`` only sentences count from which the value can be had for that look-up. A yes or no stands nowhere; it is
    supported by the best sentences of the passages that the question names.
    """
    if fold(value) in ("yes", "no"):
        named = [
            (e, s)
            for e, s in zip(shown, ranked, strict=True)
            if overlap(content_words(e.title), content_words(question.text)) == 1
        ]
        leading = [(e, max(s, key=lambda one: one.score)) for e, s in named if s]
        return [("", e.passage_id, sentence.text) for e, sentence in leading[:2]]
    holding = []
    for e, sentences in zip(shown, ranked, strict=True):
        quote = None if asked is None else stating(asked, value, e, [s.text for s in sentences])
        holding += [
            (sentence.score, e, sentence)
            for sentence in sentences
            if (holds(sentence.text, value) if asked is None else sentence.text == quote)
        ]
    if not holding:
        return []
    _, source, sentence = max(holding, key=lambda h: h[0])
    sources = [(value, source.passage_id, sentence.text)]
    title = without_brackets(source.title)
    for e, sentences in zip(shown, ranked, strict=True):
        naming = [s for s in sentences if e.passage_id != source.passage_id and holds(s.text, title)]
        if naming:  # the bridge: a passage that names the one with the answer
            best = max(naming, key=lambda s: s.score)
            return [("", e.passage_id, best.text), *sources]
    return sources


def _cite(sources: Sequence[tuple[str, str, str]], context: Sequence[Evidence]) -> tuple[Citation, ...]:
    """Citations in the order of the sources, one for each passage and quote, checked against the stored text."""
    number = {e.passage_id: n for n, e in enumerate(context, start=1)}
    by_id = {e.passage_id: e for e in context}
    citations: dict[tuple[str, str], Citation] = {}
    for value, passage_id, quote in sources:
        if passage_id not in by_id or (passage_id, quote) in citations:
            continue
        evidence = by_id[passage_id]
        verbatim = quote in evidence.text
        supported = verbatim and (not value or supports(f"{evidence.title} {quote}", value))
        citations[passage_id, quote] = Citation(
            number[passage_id], evidence.document_id, passage_id, quote, supported
        )
    return tuple(citations.values())


class ChatGenerator:
    """Answers with a chat model over the packed passages; streams; [n] markers are checked after.

    Raises TransientModelError when the model is not reached, ModelError when it fails otherwise.
    """

    appends = True

    def __init__(
        self, chat: BaseChatModel, name: str, distiller: Distiller, key: bytes | None = None
    ) -> None:
        self.name = name
        self._chat = chat
        self._distiller = distiller
        self._key = delimiter_key(None) if key is None else key

    def generate(
        self, question: Question, context: Sequence[Evidence], judgement: Judgement, read: Read
    ) -> Steps[str, None, Written]:
        from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage
        from langchain_core.messages.ai import UsageMetadata, add_usage

        first = f"{context[0].passage_id}\n{context[0].text}" if context else question.text
        nonce = delimiter(
            first, self._key
        )  # the same while the pool grows, so that local models re-use its prefix
        passages = "\n".join(
            f"<<<{nonce} {n}>>>\n{e.title}: {' '.join(e.sentences)}" for n, e in enumerate(context, start=1)
        )
        prompt = prompts.load("answer").fill(
            nonce=nonce, passages=f"{passages}\n<<<{nonce} end>>>", question=question.text
        )
        pieces: list[str] = []
        counted: UsageMetadata | None = None
        for chunk in self._chat.stream([HumanMessage(prompt)]):
            if isinstance(chunk, AIMessage) and not isinstance(chunk, AIMessageChunk):
                # a model that cannot stream: LangChain hands over its whole message
                chunk = AIMessageChunk(chunk.content, usage_metadata=chunk.usage_metadata)
            if isinstance(chunk, AIMessageChunk):
                if chunk.usage_metadata:
                    counted = add_usage(counted, chunk.usage_metadata)
                if chunk.text:
                    pieces.append(str(chunk.text))
                    yield pieces[-1]
        text = "".join(pieces).strip()
        usage = Usage(
            1,
            counted["input_tokens"] if counted else len(prompt) // 4,
            counted["output_tokens"] if counted else len(text) // 4,
        )
        uncited = NOT_FOUND in text and not _MARKER.search(text)  # "The passages do not say. NOT FOUND"
        if uncited or _REFUSAL.match(_MARKER.sub("", text)):
            return abstention(), usage
        return check(text, question, context, self._distiller), usage


def check(text: str, question: Question, context: Sequence[Evidence], distiller: Distiller) -> Draft:
    """Check each [n] of a written answer against passage n: markers that point nowhere are taken out, a claim

    whose numbers and names do not stand in the passages it cites is marked UNVERIFIED. Names may stand in the question too.
    """
    asked = _without_dates(question.text)
    citations: dict[int, Citation] = {}
    checked: list[str] = []
    for claim in _CLAIM.findall(text):
        words = _MARKER.sub("", claim).strip(" .,;\n")
        if not re.search(r"\w", words):  # a full stop or a bracket after the last mark
            continue
        markers = [int(m) for m in _MARKER.findall(claim) if 1 <= int(m) <= len(context)]
        quotes = {
            m: _best_quote(f"{question.text} {words}", words, context[m - 1], distiller) for m in markers
        }
        together = " ".join(f"{context[m - 1].title} {q}" for m, q in quotes.items())
        yes_or_no = fold(words) in ("yes", "no")
        supported = bool(markers) and (yes_or_no or supports(f"{together} {asked}", words))
        for m, quote in quotes.items():
            source = context[m - 1]
            citations.setdefault(m, Citation(m, source.document_id, source.passage_id, quote, supported))
        marks = "".join(f"[{m}]" for m in markers)
        checked.append(f"{words} {marks}".strip() + ("" if supported else f" {UNVERIFIED}"))
    short = re.sub(r"\s+([.,;])", r"\1", _MARKER.sub("", text)).strip().rstrip(".")
    return Draft(" ".join(checked), short, tuple(citations.values()))


def _without_dates(text: str) -> str:
    """The folded words of a text but for its numbers and months."""
    words = re.findall(r"[^\W\d_]+", fold(text))
    return " ".join(word for word in words if parse_date(f"{word} 1000") == (1000, 0, 0))


def _best_quote(query: str, words: str, evidence: Evidence, distiller: Distiller) -> str:
    ranked = distiller.rank(query, [evidence])[0]
    wanted = content_words(words)
    best = max(ranked, key=lambda s: (overlap(wanted, content_words(s.text)), s.score), default=None)
    return best.text if best is not None else evidence.text
