"""What is missing, as a function of the plan and of the slots that the evidence closed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ragpool.closing import filled
from ragpool.plan import fill, slots_in
from ragpool.types import Binding, Gap, Question, Triple


def closed_slots(bindings: Sequence[Binding]) -> dict[str, Binding]:
    """The most confident binding of each slot; a blank value closes nothing."""
    best: dict[str, Binding] = {}
    for binding in bindings:
        known = best.get(binding.slot)
        if binding.value.strip() and (known is None or binding.confidence > known.confidence):
            best[binding.slot] = binding
    return best


def is_closed(triple: Triple, closed: Mapping[str, Binding]) -> bool:
    """``triple`` mentions no open slot any more."""
    return all(slot in closed for term in (triple.subject, triple.object) for slot in slots_in(term))


def open_gaps(question: Question, bindings: Sequence[Binding]) -> tuple[Gap, ...]:
    """The open triples that can be asked for now: one side is known, with the bound values filled in.

    Each chain of a comparison gives its own gap. Nothing is returned when every slot is closed. Without a
    plan, or when no open triple has a known side, the question itself is the one free-form gap.
    """
    closed = closed_slots(bindings)
    values = {slot: binding.value.strip() for slot, binding in closed.items()}
    bound = list(closed.values())
    unclosed = [triple for triple in question.triples if not is_closed(triple, closed)]
    gaps: dict[str, Gap] = {}
    for triple in unclosed:
        lookup = filled(triple, bound)
        subject = fill(triple.subject, values) if lookup is None else lookup.subject
        relation = triple.relation if lookup is None else lookup.relation
        object_ = fill(triple.object, values)
        known = object_ if slots_in(subject) else subject
        if not slots_in(known):
            text = f"{known}, {relation}"
            gaps.setdefault(text, Gap(text, Triple(subject, relation, object_)))
    if not gaps and (unclosed or not question.triples):
        return (Gap(question.text),)
    return tuple(gaps.values())
