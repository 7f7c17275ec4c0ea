"""Questions with gold answers and gold documents, derived from the facts and checked against the written articles.

A chain walks from a named entity along relations to a last fact. Its gold documents are the homes of the facts it reads, so each is
needed. `Asker.sound` refuses a chain if any other document puts the two ends of one of its steps in the same text: then there would be
a second road to the answer, or a second reading.
"""

from __future__ import annotations

import itertools
import random
import re
from collections import Counter
from dataclasses import dataclass, field

import names
from phrases_questions import (
    ASK,
    BACKWARD,
    BACKWARD_RELATIONS,
    COMPARE,
    COMPARE_FAR,
    DATES,
    FORWARD,
    NEVER_TOLD,
    NUMBERS,
    RELATIONS,
    SAME,
)
from world import ASIDES, Date, Entity, World

# How many questions of each type the default corpus asks for.
COUNTS = {
    "bridge2": 36,
    "bridge3": 21,
    "comparison": 20,
    "date": 7,
    "number": 7,
    "single": 5,
    "unanswerable": 21,
}
STARTS = (
    "book",
    "opera",
    "company",
    "ship",
    "lighthouse",
    "museum",
    "instrument",
    "treaty",
    "expedition",
    "person",
)


@dataclass
class Question:
    """One line of questions.jsonl, without its number. `triples` are its look-ups, for the benchmark file alone."""

    type: str
    text: str
    answers: list[str]
    evidence: list[str]
    metadata: dict[str, object] = field(default_factory=dict)
    triples: list[tuple[str, str, str]] = field(default_factory=list)


@dataclass(frozen=True)
class Step:
    """One relation read from its home document. `backward` means the walk came from the value to the holder."""

    holder: Entity
    key: str
    backward: bool = False

    @property
    def value(self) -> object:
        return self.holder.facts[self.key]


def answers(value: object, text: str) -> list[str]:
    """Accepted answers, the form that the gold document uses first."""
    if isinstance(value, Date):
        return sorted(value.forms, key=lambda form: form not in text)
    if isinstance(value, Entity):
        bare = value.name
        return [bare, f"the {bare}"] if value.kind in ("ship", "museum", "lighthouse") else [bare]
    whole = str(value)
    number = whole.split()[0]
    forms = [whole] if number == whole else [whole, number]
    return forms + ([number.replace(",", "")] if "," in number else [])


class Asker:
    """Draws the questions of one world."""

    def __init__(self, world: World, texts: dict[str, str], rng: random.Random) -> None:
        self._world, self._texts, self._rng = world, texts, rng
        self._used: Counter[object] = Counter()
        self._by_name: dict[str, set[str]] = {}

    def ask(self) -> list[Question]:
        """All questions, by type in the order of `COUNTS`."""
        chains = self._chains()
        asked: list[Question] = []
        for kind, count in COUNTS.items():
            if kind == "comparison":
                asked += self._comparisons(count)
            elif kind == "unanswerable":
                asked += self._unanswerable(count, chains)
            else:
                asked += self._bridges(kind, count, chains)
        return asked

    # -- chains -----------------------------------------------------------------------------------------------------------------
    def _chains(self) -> list[tuple[Step, ...]]:
        """Every walk of one to three steps that starts at an entity a question can name."""
        done: list[tuple[Step, ...]] = []
        open_walks: list[tuple[tuple[Step, ...], Entity]] = [
            ((), e) for e in self._world.entities if e.kind in STARTS
        ]
        for _ in range(3):
            longer: list[tuple[tuple[Step, ...], Entity]] = []
            for walk, at in open_walks:
                for key in sorted(at.facts.keys() - ASIDES):
                    step = Step(at, key)
                    if step in walk or (walk and walk[-1].backward and walk[-1].key == key):
                        continue
                    done.append((*walk, step))
                    value = step.value
                    if (
                        isinstance(value, Entity)
                        and (at.kind, key) in FORWARD
                        and all(value is not s.holder for s in walk)
                    ):
                        longer.append(((*walk, step), value))
                if walk and not walk[-1].backward:
                    for kind, key in BACKWARD:
                        found = self._world.holders(kind, key, at)
                        if len(found) == 1 and all(found[0] is not s.holder for s in walk):
                            longer.append(((*walk, Step(found[0], key, True)), found[0]))
            open_walks = longer
        done += [
            (*walk, Step(at, key))
            for walk, at in open_walks
            if any(s.backward for s in walk)
            for key in sorted(at.facts.keys() - ASIDES)
        ]
        return done

    def _homes(self, chain: tuple[Step, ...]) -> list[Entity]:
        return list(dict.fromkeys(step.holder for step in chain))

    def _type(self, chain: tuple[Step, ...]) -> str | None:
        """The question type of a chain, by its number of gold documents and its last fact."""
        homes, key = len(self._homes(chain)), chain[-1].key
        if (chain[-1].holder.kind, key) not in ASK or homes > 3:
            return None
        if homes == 1:
            return "single" if len(chain) == 1 else None
        if key in DATES:
            return "date"
        if key in NUMBERS:
            return "number"
        return f"bridge{homes}"

    def sound(self, chain: tuple[Step, ...]) -> bool:
        """Is the chain unambiguous, and is there no second document for any step of it?"""
        gold = {e.id for e in self._homes(chain)}
        value = chain[-1].value
        if isinstance(value, Entity) and (value.namesake or any(value is s.holder for s in chain)):
            return False
        if not any(a in self._texts[chain[-1].holder.id] for a in answers(value, "")):
            return False
        for step in chain:
            ends = [
                step.holder.name,
                *([step.value.name] if isinstance(step.value, Entity) else answers(step.value, "")[:2]),
            ]
            holder, *others = (self._having(end) for end in ends)
            if any((holder & other) - gold for other in others):
                return False
        last = answers(value, "")[0]
        return not any(last in self._texts[home] for home in gold - {chain[-1].holder.id})

    def _having(self, name: str) -> set[str]:
        """Ids of the documents in which a name occurs."""
        if name not in self._by_name:
            pattern = re.compile(rf"(?<!\w){re.escape(name)}(?!\w)")
            self._by_name[name] = {i for i, text in self._texts.items() if pattern.search(text)}
        return self._by_name[name]

    def _phrase(self, chain: tuple[Step, ...]) -> str:
        """The noun phrase for the holder of the last fact."""
        phrase = chain[0].holder.mention
        for before, step in itertools.pairwise(chain):
            if step.backward:
                phrase = self._step(before, phrase)
                phrase = self._rng.choice(BACKWARD[step.holder.kind, step.key]).format(x=phrase)
            elif not before.backward:
                phrase = self._step(before, phrase)
        return phrase

    def _step(self, step: Step, phrase: str) -> str:
        """One noun phrase around another; a person inside is not called "the person" again outside."""
        options = FORWARD[step.holder.kind, step.key]
        short = "person" in phrase or self._rng.random() < 0.5
        plain = [o for o in options if "person" not in o] if short else options
        return self._rng.choice(plain or options).format(x=phrase)

    def _fresh(self, chain: tuple[Step, ...], shapes: int) -> bool:
        """Keep the set varied: few questions of one shape, each entity seldom a start, a bridge or an answer."""
        shape = (*((s.holder.kind, s.key, s.backward) for s in chain),)
        last = chain[-1]
        tail = (last.holder.kind, last.key, len(chain))
        homes = self._homes(chain)
        value = last.value
        if (
            self._used[shape] >= shapes
            or self._used[tail] >= 2 + shapes - (last.holder.kind == "town")
            or self._used["start", homes[0].id] >= 1
            or any(self._used["bridge", e.id] >= 2 for e in homes[1:])
        ):
            return False
        if isinstance(value, Entity) and self._used["answer", value.id] >= 2:
            return False
        self._used.update([shape, tail, ("start", homes[0].id), *(("bridge", e.id) for e in homes[1:])])
        if isinstance(value, Entity):
            self._used["answer", value.id] += 1
        return True

    def _bridges(self, kind: str, count: int, chains: list[tuple[Step, ...]]) -> list[Question]:
        """Bridge, date, number and single-hop questions, spread over the kinds of starting entity."""
        fits = [c for c in chains if self._type(c) == kind]
        by_start: dict[str, list[tuple[Step, ...]]] = {}
        for chain in fits:
            by_start.setdefault(chain[0].holder.kind, []).append(chain)
        for group in by_start.values():
            self._rng.shuffle(group)
        found: list[Question] = []
        for shapes in (1, 2, 3):
            progress = True
            while progress and len(found) < count:
                progress = False
                for start in sorted(by_start):
                    if len(found) < count:
                        fresh = next(
                            ([c] for c in by_start[start] if self.sound(c) and self._fresh(c, shapes)), []
                        )
                        found += [self._question(kind, chain) for chain in fresh]
                        progress = progress or bool(fresh)
        if len(found) < count:
            raise ValueError(f"only {len(found)} of {count} {kind} questions")
        return found

    def _question(self, kind: str, chain: tuple[Step, ...]) -> Question:
        last = chain[-1]
        text = self._rng.choice(ASK[last.holder.kind, last.key]).format(x=self._phrase(chain))
        shape = [f"{'~' if s.backward else ''}{s.holder.kind}.{s.key}" for s in chain]
        homes = self._homes(chain)
        return Question(
            kind,
            text[0].upper() + text[1:],
            answers(last.value, self._texts[last.holder.id]),
            [e.id for e in homes],
            {"hops": len(homes), "chain": shape},
            [self._triple(step) for step in chain],
        )

    def _triple(self, step: Step) -> tuple[str, str, str]:
        """(subject, relation, value) as a search plan would look it up."""
        pair, value = (step.holder.kind, step.key), step.value
        if step.backward:
            assert isinstance(value, Entity)
            return value.name, BACKWARD_RELATIONS[pair], step.holder.name
        return step.holder.name, RELATIONS.get(pair, step.key), answers(value, self._texts[step.holder.id])[0]

    # -- comparisons ------------------------------------------------------------------------------------------------------------
    def _comparisons(self, count: int) -> list[Question]:
        far, same = 4, 7
        made = [self._compare(*COMPARE[i % len(COMPARE)]) for i in range(count - far - same)]
        made += [self._same(*SAME[i], i % 2 == 0) for i in range(same)]
        return made + [self._compare_far(*COMPARE_FAR[i]) for i in range(far)]

    def _size(self, value: object) -> object:
        return value.key if isinstance(value, Date) else float(str(value).split()[0].replace(",", ""))

    def _pair(self, kind: str, test: object) -> tuple[Entity, Entity]:
        pool = [e for e in self._world.of(kind) if not self._used["compared", e.id]]
        for _ in range(5000):
            one, other = self._rng.sample(pool, 2)
            if one.name != other.name and test(one, other):  # type: ignore[operator]
                self._used.update([("compared", one.id), ("compared", other.id)])
                return one, other
        raise ValueError(f"no pair of {kind} to compare")

    def _compare(self, kind: str, key: str, wordings: list[str], smaller: bool) -> Question:
        def test(one: Entity, other: Entity) -> bool:
            return (
                key in one.facts
                and key in other.facts
                and self._size(one.facts[key]) != self._size(other.facts[key])
            )

        one, other = self._pair(kind, test)
        winner = (
            min((one, other), key=lambda e: self._size(e.facts[key]))
            if smaller
            else max((one, other), key=lambda e: self._size(e.facts[key]))
        )  # type: ignore[arg-type,return-value]
        steps = [Step(one, key), Step(other, key)]
        return self._compared(f"{kind}.{key}", wordings, steps, answers(winner, ""), [one, other])

    def _compare_far(self, kind: str, step: str, key: str, wordings: list[str], smaller: bool) -> Question:
        def test(one: Entity, other: Entity) -> bool:
            a, b = one.facts.get(step), other.facts.get(step)
            return (
                isinstance(a, Entity)
                and isinstance(b, Entity)
                and a is not b
                and key in a.facts
                and key in b.facts
                and a.year(key) != b.year(key)
            )

        one, other = self._pair(kind, test)
        winner = (min if smaller else max)((one, other), key=lambda e: e.facts[step].facts[key].key)  # type: ignore[attr-defined]
        homes: list[Entity] = [one, one.facts[step], other, other.facts[step]]  # type: ignore[list-item]
        steps = [Step(home, step if home in (one, other) else key) for home in homes]
        return self._compared(f"{kind}.{step}.{key}", wordings, steps, answers(winner, ""), homes)

    def _same(self, kind: str, key: str, wordings: list[str], equal: bool) -> Question:
        one, other = self._pair(
            kind, lambda a, b: key in a.facts and key in b.facts and (a.facts[key] is b.facts[key]) == equal
        )
        steps = [Step(one, key), Step(other, key)]
        return self._compared(f"{kind}.{key}=", wordings, steps, ["yes" if equal else "no"], [one, other])

    def _compared(
        self,
        chain: str,
        wordings: list[str],
        steps: list[Step],
        gold: list[str],
        homes: list[Entity],
    ) -> Question:
        one, other = homes[0], homes[len(homes) // 2]
        text = self._rng.choice(wordings).format(a=one.mention, b=other.mention)
        return Question(
            "comparison",
            text,
            gold,
            [e.id for e in homes],
            {"hops": len(homes) // 2, "chain": [chain]},
            [self._triple(step) for step in steps],
        )

    # -- unanswerable -----------------------------------------------------------------------------------------------------------
    def _unanswerable(self, count: int, chains: list[tuple[Step, ...]]) -> list[Question]:
        made = [*self._missing(chains, 7), *self._unknown(chains, 4), *self._no_such(3), *self._namesake(3)]
        return made + self._never_told(chains, count - len(made))

    def _nothing(
        self,
        text: str,
        reason: str,
        missing: str,
        near: list[Entity],
        triples: tuple[tuple[str, str, str], ...] = (),
    ) -> Question:
        return Question(
            "unanswerable",
            text[0].upper() + text[1:],
            [],
            [],
            {"reason": reason, "missing": missing, "near_miss": [e.id for e in near]},
            list(triples),
        )

    def _bridged(self, chains: list[tuple[Step, ...]]) -> list[tuple[Step, ...]]:
        """Sound one-step chains to an entity, in random order: the first hop of a question whose second hop fails."""
        fits = [
            c
            for c in chains
            if len(c) == 1
            and isinstance(c[0].value, Entity)
            and (c[0].holder.kind, c[0].key) in FORWARD
            and self.sound(c)
        ]
        return self._rng.sample(fits, len(fits))

    def _without(
        self,
        chains: list[tuple[Step, ...]],
        count: int,
        reason: str,
        keys: dict[tuple[str, str], int],
        unknown: bool,
    ) -> list[Question]:
        made: list[Question] = []
        for chain in self._bridged(chains):
            start, bridge = chain[0].holder, chain[0].value
            assert isinstance(bridge, Entity)
            for (kind, key), most in keys.items():
                absent = (
                    key in bridge.unknown
                    if unknown
                    else key not in bridge.facts and key not in bridge.unknown
                )
                if (
                    bridge.kind == kind
                    and absent
                    and not self._used["start", start.id]
                    and not self._used["lack", bridge.id]
                    and self._used[reason, key] < most
                    and len(made) < count
                ):
                    self._used.update([("start", start.id), ("lack", bridge.id), (reason, key)])
                    phrase = self._rng.choice(FORWARD[start.kind, chain[0].key]).format(x=start.mention)
                    text = self._rng.choice(ASK[kind, key]).format(x=phrase)
                    lookups = (
                        self._triple(chain[0]),
                        (bridge.name, RELATIONS.get((kind, key), key), ""),
                    )
                    made.append(
                        self._nothing(text, reason, f"{bridge.title}: {key}", [start, bridge], lookups)
                    )
        if len(made) < count:
            raise ValueError(f"only {len(made)} of {count} unanswerable questions for {reason}")
        return made

    def _missing(self, chains: list[tuple[Step, ...]], count: int) -> list[Question]:
        keys = {
            ("ship", "length"): 2,
            ("person", "school"): 2,
            ("company", "hands"): 2,
            ("person", "teacher"): 1,
            ("person", "ship"): 1,
            ("museum", "objects"): 1,
            ("ship", "honours"): 1,
        }
        return self._without(chains, count, "not recorded", keys, unknown=False)

    def _unknown(self, chains: list[tuple[Step, ...]], count: int) -> list[Question]:
        return self._without(
            chains,
            count,
            "said to be unknown",
            {
                ("person", "birth"): 2,
                ("person", "birthplace"): 2,
                ("company", "founder"): 1,
                ("ship", "builder"): 1,
            },
            unknown=True,
        )

    def _no_such(self, count: int) -> list[Question]:
        """A book that does not exist, one word away from two that do."""
        made = []
        titles = {e.name for e in self._world.entities}
        for question in (
            ["Where was the author of {x} born?"],
            ["Which school did the author of {x} attend?"],
            ["Who founded the house that published {x}?"],
        )[:count]:
            while True:
                name = f"The {self._rng.choice(names.TITLE_FIRST)} {self._rng.choice(names.TITLE_SECOND)}"
                first, second = name.split()[1:]
                near = [
                    e
                    for e in self._world.of("book", "opera")
                    if first in e.name.split() or second in e.name.split()
                ]
                if name not in titles and len(near) >= 3 and first != second:
                    titles.add(name)
                    break
            made.append(self._nothing(question[0].format(x=name), "no such subject", name, near[:3]))
        return made

    def _namesake(self, count: int) -> list[Question]:
        """A fact that the articles have for the namesake only."""
        made: list[Question] = []
        for person in self._world.of("person"):
            twin = next(
                (p for p in self._world.of("person") if p.name == person.name and p is not person), None
            )
            if twin is None or self._used["lack", twin.id] or self._used["lack", person.id]:
                continue
            for key in ("school", "teacher", "ship", "spouse"):
                if (
                    key in twin.facts
                    and key not in person.facts
                    and self._used["namesake", key] < 1
                    and len(made) < count
                ):
                    self._used.update([("namesake", key), ("lack", person.id)])
                    text = self._rng.choice(ASK["person", key]).format(x=person.mention)
                    made.append(
                        self._nothing(text, "fact of a namesake", f"{person.title}: {key}", [twin, person])
                    )
                    break
        return made

    def _never_told(self, chains: list[tuple[Step, ...]], count: int) -> list[Question]:
        made: list[Question] = []
        for chain in self._bridged(chains):
            start, bridge = chain[0].holder, chain[0].value
            assert isinstance(bridge, Entity)
            if (
                len(made) < count
                and bridge.kind in NEVER_TOLD
                and not self._used["start", start.id]
                and self._used["never", bridge.kind] < 2
            ):
                wording = next((q for q in NEVER_TOLD[bridge.kind] if not self._used[q]), None)
                if wording:
                    self._used.update([("start", start.id), ("never", bridge.kind), wording])
                    phrase = self._rng.choice(FORWARD[start.kind, chain[0].key]).format(x=start.mention)
                    made.append(
                        self._nothing(
                            wording.format(x=phrase),
                            "relation never recorded",
                            wording.format(x=bridge.title),
                            [start, bridge],
                        )
                    )
        return made
