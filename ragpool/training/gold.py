"""Gold labels of benchmark records -> plans: 2Wiki triples, MuSiQue decompositions, hand-written HotpotQA plans."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ragpool.plan import base_name, parse_plan, plain, slots_in, span_in
from ragpool.training.data import HOTPOT, MUSIQUE, Record
from ragpool.training.hotpot_plans import HOTPOT_PLANS
from ragpool.types import Operation, Question
from ragpool.values import parse_date, parse_number

# Wikidata's names of relations, in words that a search understands.
_RELATIONS = {
    "located in the administrative territorial entity": "located in",
    "located in or next to body of water": "located next to body of water",
    "mouth of the watercourse": "mouth",
    "applies to jurisdiction": "jurisdiction",
    "licensed to broadcast to": "licensed to broadcast in",
}
_TOKEN = re.compile(r"\w+|[^\w\s]")


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_LEADING = _words("what which who whom whose is was are were does do did the a an of in on at by to for 's")
_TRAILING = _words("is was are were did does do the a an of in on at by to for from and with whom who what s")
_NEVER = _TRAILING | _words("where when how that this its")
_FILLING = _words("did does do is was are the a an 's")
_ASKS = re.compile(r"^(?:in|on|at|of|to|from|for)?\s*(?:what|which|who|whom|whose)\b\s*", re.IGNORECASE)


def gold_plan(record: Record) -> Question | None:
    """The plan a record's gold labels amount to; None when they cannot be put in the question's words."""
    if record.plan:
        text = record.plan.splitlines()
    elif record.dataset == HOTPOT:
        text = _hotpot(record)
    elif record.dataset == MUSIQUE:
        text = _musique(record)
    else:
        text = _twowiki(record)
    return parse_plan("\n".join(text), record.question, planner="gold") if text else None


def _twowiki(record: Record) -> list[str]:
    """Chains of gold triples, in the order in which the question names their subjects."""
    steps = list(record.steps)
    chains: list[list[int]] = []
    placed: set[int] = set()
    for i, step in enumerate(steps):
        if i in placed or any(_same(step.subject, other.answer) for other in steps):
            continue
        chain = [i]
        while True:
            value = steps[chain[-1]].answer
            follow = [
                j
                for j, s in enumerate(steps)
                if j not in placed and j not in chain and _same(s.subject, value)
            ]
            if not follow:
                break
            chain.append(follow[0])
        placed.update(chain)
        chains.append(chain)
    if len(placed) != len(steps) or not chains:
        return []
    titles = [p.title for p in record.supporting]
    named: list[tuple[int, str, list[int]]] = []
    for chain in chains:
        name = steps[chain[0]].subject
        full = [t for t in titles if _same(t, name)]
        spans = (span_in(record.question, n) for n in (*full, name, base_name(name)))
        span = next((s for s in spans if s), None)
        if (
            span is None and len(chains) == 1
        ):  # the question may use the title where the triple has the full name
            span = next((s for t in titles for s in (span_in(record.question, t),) if s), None)
        if span is None:
            return []
        named.append((record.question.find(span), span, chain))
    named.sort()
    lines: list[str] = []
    for _, span, chain in named:
        for place, i in enumerate(chain):
            subject = span if place == 0 else f"?{len(lines)}"
            lines.append(f"{subject} | {steps[i].relation} | ?{len(lines) + 1}")
    if len(named) == 1:
        return lines
    values = [steps[chain[-1]].answer for _, _, chain in named]
    operation = _operation(record.answers[0], [span for _, span, _ in named], values)
    return [*lines, f"= {operation}"] if operation else []


def _same(name: str, other: str) -> bool:
    return plain(base_name(name)) == plain(base_name(other))


def _operation(answer: str, names: Sequence[str], values: Sequence[str]) -> Operation | None:
    """The operation that turns the two values into the gold answer; None when none does."""
    if answer.casefold() in ("yes", "no"):
        return Operation.SAME
    dates = [parse_date(value) for value in values]
    chosen = [i for i, name in enumerate(names) if _same(name, answer)]
    if len(names) != 2 or len(chosen) != 1:
        return None
    if dates[0] is None or dates[1] is None:
        numbers = [parse_number(value) for value in values]
        if numbers[0] is None or numbers[1] is None or numbers[0] == numbers[1]:
            return None
        larger = 0 if numbers[0] > numbers[1] else 1
        return Operation.LARGER if chosen[0] == larger else Operation.SMALLER
    if dates[0] == dates[1]:
        return None
    earlier = 0 if dates[0] < dates[1] else 1
    return Operation.EARLIER if chosen[0] == earlier else Operation.LATER


def _hotpot(record: Record) -> list[str]:
    """The plan written by hand, with token ranges turned into the question's words."""
    tokens = list(_TOKEN.finditer(record.question))
    lines = []
    for line in HOTPOT_PLANS.get(record.id, ()):
        head, *rest = line.split(" | ")
        if rest and not slots_in(head):
            first, last = (int(n) for n in head.split("-"))
            head = record.question[tokens[first].start() : tokens[last - 1].end()]
        lines.append(" | ".join((head, *rest)))
    return lines


def _musique(record: Record) -> list[str]:
    """Triples from ``X >> relation`` steps and from sub-questions in plain language."""
    lines: list[str] = []
    for step in record.steps:
        text = re.sub(r"#(\d+)", r"?\1", step.text).strip()
        if ">>" in text:
            subject, _, relation = (part.strip() for part in text.partition(">>"))
            relation = _RELATIONS.get(relation, relation)
            if slots_in(subject):
                subject = _keep_known(subject, record.question)
            else:
                subject = (
                    span_in(record.question, subject) or span_in(record.question, base_name(subject)) or ""
                )
        elif slots := slots_in(text):
            subject = slots[-1]
            relation = _relation(text.replace(subject, " "))
        else:
            subject = _shared(record.question, text)
            relation = _relation(_without(text, subject))
        if not subject or not relation:
            return []
        lines.append(f"{subject} | {relation} | ?{len(lines) + 1}")
    return lines


def _keep_known(subject: str, question: str) -> str:
    """A subject with slots, its other words as the question writes them."""
    rest = re.sub(r"[\s,()]*\?\d+[\s,()]*", " ", subject).strip()
    if not plain(rest):
        return slots_in(subject)[-1]
    span = span_in(question, rest)
    return subject.replace(rest, span).replace(" )", ")") if span else ""


def _shared(question: str, text: str) -> str:
    """The longest run of words that a sub-question shares with the question, names counting most."""
    asked = {plain(w) for w in re.findall(r"\w+", text)}
    tokens = list(_TOKEN.finditer(question))
    best, found = 1.0, ""
    for first in range(len(tokens)):
        for last in range(first, len(tokens)):
            words = [t[0] for t in tokens[first : last + 1]]
            inner = [w for w in words if w[0].isalnum()]
            if inner and plain(inner[-1]) not in asked:
                break
            ends = (words[0], words[-1])
            if any(not w[0].isalnum() or w.casefold() in _NEVER for w in ends) or (
                first == 0 and _starts(words[0])
            ):
                continue
            named = [w for w in inner if w[0].isupper()]
            if named and not all(w[0].isupper() or w[0].isdigit() for w in ends):
                continue  # a name begins and ends with its capitals
            value = (
                3.0 * len(named)
                + sum(w.casefold() not in _LEADING | _TRAILING for w in inner)
                - 0.1 * len(inner)
            )
            if value > best:
                best, found = value, question[tokens[first].start() : tokens[last].end()]
    return found


def _starts(word: str) -> bool:
    """Whether a capital at the start of a question is only that."""
    return word.casefold() in _LEADING | _NEVER


def _without(text: str, subject: str) -> str:
    """A sub-question without the words of its subject."""
    taken = {plain(w) for pattern in (r"\w+", r"[\w'-]+") for w in re.findall(pattern, subject)}
    words = (w.removesuffix("'s") for w in re.findall(r"[\w'-]+", text))
    return " ".join(w for w in words if plain(w) not in taken)


def _relation(text: str) -> str:
    """The words of a sub-question that say what is asked; "when", "where" and "how many" stay."""
    text = _ASKS.sub("", " ".join(re.findall(r"\?\d+|[\w'.-]+", text)))
    words = re.sub(r"\bname of\b", "", text, flags=re.IGNORECASE).strip(" .").split()
    while words and words[0].casefold() in _LEADING:
        words.pop(0)
    words = [w for i, w in enumerate(words) if not (i and w.casefold() in _FILLING)]
    while words and words[-1].casefold() in _TRAILING:
        words.pop()
    return " ".join(words)
