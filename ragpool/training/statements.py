"""Made-up passages and look-ups for the reader: which entity, which relation, and when the text does not say.

Built on the relations of ``grammar``: each passage states a few relations of one invented entity; the look-up asks for
one of them, among passages about other entities that state the same relations. In about a third of the examples the
asked one is not stated, and "none" is the answer.
"""

from __future__ import annotations

import random

from ragpool.slots import NONE, Context
from ragpool.training.grammar import EVENT, FIRM, PERSON, RELATIONS, SHIP, VALUE, WORK, Relation, made_up
from ragpool.training.readings import Sample

NONE_SHARE = 0.33
_MONTHS = "January February March April May June July August September October November December".split()
_OPENINGS = {
    PERSON: ("{s} was a {o} of some note.", "{s} worked as a {o}.", "{s} ({y}) was a {o}."),
    WORK: ("{s} is a work in three parts.", "{s} was little noticed at first."),
    SHIP: ("The {s} was a wooden vessel.", "{s} sailed for twenty years."),
    FIRM: ("{s} is a trading house.", "{s} employed forty people."),
    EVENT: ("The {s} is still remembered.", "The {s} drew many people."),
}
_TRADES = "painter engineer merchant singer naturalist teacher sailor printer physician surveyor".split()
_SENTENCES = (
    "The {r} of {s} was {o}.", "Its {r} is {o}.", "{o} is named as the {r} of {s}.", "The records give {o} as the {r}.",
    "{s} had {o} as {r}.", "{o} was the {r}.", "As for the {r}, it was {o}.",
)  # fmt: skip


def examples(count: int, rng: random.Random) -> list[Sample]:
    """``count`` samples."""
    return [_example(rng) for _ in range(count)]


def _example(rng: random.Random) -> Sample:
    relation = rng.choice(RELATIONS)
    subject = made_up(relation.source, rng)
    missing = rng.random() < NONE_SHARE
    value = _value(relation, rng)
    contexts: list[Context] = []
    if not (missing and rng.random() < 0.5):  # else not even the subject has a passage
        contexts.append(
            _passage(subject, relation.source, None if missing else (relation, value), relation, rng)
        )
    for _ in range(rng.randint(1, 3)):  # the same relation of somebody else
        other = _namesake(subject, rng) if rng.random() < 0.4 else made_up(relation.source, rng)
        said = (relation, _value(relation, rng)) if rng.random() < 0.75 else None
        contexts.append(_passage(other, relation.source, said, relation, rng))
    rng.shuffle(contexts)
    asked = (
        f"{subject}, {relation.name}?" if rng.random() < 0.75 else rng.choice(relation.asks).format(subject)
    )
    return Sample(asked, tuple(contexts), NONE if missing else value)


def _namesake(subject: str, rng: random.Random) -> str:
    """Another name that shares the first or the last word of ``subject``."""
    words, other = subject.split(), made_up(PERSON, rng).split()
    if len(words) < 2:
        return f"{subject} {other[-1]}"
    return " ".join([other[0], *words[1:]] if rng.random() < 0.6 else [*words[:-1], other[-1]])


def _passage(
    subject: str, kind: str, said: tuple[Relation, str] | None, asked: Relation, rng: random.Random
) -> Context:
    sentences = []
    if kind in _OPENINGS:
        opening = rng.choice(_OPENINGS[kind])
        sentences.append(opening.format(s=subject, o=rng.choice(_TRADES), y=rng.randint(1500, 1990)))
    facts = [said] if said else []
    others = [r for r in RELATIONS if r.source == kind and r.name != asked.name]
    facts += [(r, _value(r, rng)) for r in rng.sample(others, min(len(others), rng.randint(1, 2)))]
    rng.shuffle(facts)
    sentences += [_statement(subject, relation, value, rng) for relation, value in facts]
    return subject, " ".join(sentences)


def _statement(subject: str, relation: Relation, value: str, rng: random.Random) -> str:
    if relation.inside and rng.random() < 0.5:
        phrase = rng.choice(relation.inside).format(subject)
        text = rng.choice(("{p} was {o}.", "{o} was {p}.", "{o} is known as {p}.")).format(p=phrase, o=value)
    else:
        text = rng.choice(_SENTENCES).format(r=relation.name, s=subject, o=value)
    return text[:1].upper() + text[1:]


def _value(relation: Relation, rng: random.Random) -> str:
    if relation.target != VALUE:
        return made_up(relation.target, rng)
    if "date" in relation.name:
        year = rng.randint(1500, 1999)
        day = f"{rng.randint(1, 28)} {rng.choice(_MONTHS)} {year}"
        return rng.choice((day, f"{rng.choice(_MONTHS)} {rng.randint(1, 28)}, {year}", str(year)))
    if relation.name in ("length", "height"):
        return f"{rng.randint(10, 300)}.{rng.randint(0, 9)} metres"
    if relation.name == "population":
        return f"{rng.randint(1, 900)},{rng.randint(100, 999)}"
    if relation.name == "occupation":
        return rng.choice(_TRADES)
    return made_up("place", rng)
