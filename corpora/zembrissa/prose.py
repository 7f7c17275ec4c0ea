"""Turns an entity into its article: chooses patterns until every fact of the entity is told once, then rounds off to length."""

from __future__ import annotations

import random
import re
import string

from phrases_notes import NOTES, OCCUPATION_NOTES
from phrases_people import PEOPLE_UNKNOWN, PERSON
from phrases_things import PATTERNS, UNKNOWN
from world import Date, Entity, World

SHORTEST, LONGEST = 64, 235  # words; a little inside the promised 60 to 250


def slots(pattern: str) -> frozenset[str]:
    """The slot names of a pattern."""
    return frozenset(name for _, name, _, _ in string.Formatter().parse(pattern) if name)


def capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def indefinite(noun: str) -> str:
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


class Writer:
    """Writes articles; remembers how often each pattern was used, and prefers the ones used least."""

    def __init__(self, world: World, rng: random.Random) -> None:
        self._world, self._rng = world, rng
        self._uses: dict[str, int] = {}

    def article(self, entity: Entity) -> str:
        """The text of one document."""
        context = self._context(entity)
        patterns: list[tuple[float, str]] = [*PERSON] if entity.kind == "person" else [*PATTERNS[entity.kind]]
        told: set[str] = set()
        chosen: list[tuple[float, str]] = []

        def tell(stage: float, pattern: str) -> None:
            told.update(slots(pattern) & entity.facts.keys())
            self._uses[pattern] = self._uses.get(pattern, 0) + 1
            chosen.append((stage, pattern))

        fits = [
            (stage, p)
            for stage, p in patterns
            if slots(p) <= context.keys() and not self._echoes(p, entity, context)
        ]
        tell(*self._least_used([f for f in fits if f[0] == 0]))
        while untold := entity.facts.keys() - told:
            useful = [
                (s, p) for s, p in fits if s and (facts := slots(p) & entity.facts.keys()) and facts <= untold
            ]
            if not useful:
                raise ValueError(f"no pattern tells {sorted(untold)} of {entity.title}")
            tell(*self._least_used(useful))
        for key in sorted(entity.unknown):
            choices = PEOPLE_UNKNOWN[key] if entity.kind == "person" else UNKNOWN[entity.kind, key]
            chosen.append((1.5, self._rng.choice(choices)))
        notes = list(OCCUPATION_NOTES[entity.label] if entity.kind == "person" else NOTES[entity.kind])
        notes.sort(key=lambda note: -self._uses.get(note, 0) - self._rng.uniform(0, 6))
        wanted = self._rng.randint(SHORTEST, 110)
        while True:
            text = self._join(entity, chosen, context)
            words = len(text.split())
            if not notes or words >= wanted:
                break
            tell(self._rng.choice((2.5, 5.5, 7.5)), notes.pop())
        if not SHORTEST <= words <= LONGEST:
            raise ValueError(f"{entity.title}: {words} words")
        return text

    def _least_used(self, options: list[tuple[float, str]]) -> tuple[float, str]:
        """A random option among the less used ones; random noise keeps the order from becoming a cycle."""
        return min(options, key=lambda o: self._uses.get(o[1], 0) + self._rng.uniform(0, 6))

    def _echoes(self, pattern: str, entity: Entity, context: dict[str, str]) -> bool:
        """Would the pattern repeat the label of something it mentions ("its architect was the architect ...")?"""
        words = re.sub(r"{\w+}", "", pattern.replace("{a_label}", entity.label))
        for key in slots(pattern) & entity.facts.keys():
            value = entity.facts[key]
            if (
                isinstance(value, Entity)
                and context[key].startswith(f"the {value.label} ")
                and value.label in words
            ):
                return True
        return False

    def _join(self, entity: Entity, chosen: list[tuple[float, str]], context: dict[str, str]) -> str:
        """Sentences in order of stage. A person is named again after a sentence about somebody else, else mostly a pronoun."""
        sentences: list[str] = []
        on_subject, runs = True, 0
        for _, pattern in sorted(chosen, key=lambda c: c[0]):
            start = pattern.split("}")[0]
            if start in ("{S", "{He") and pattern[len(start) + 1] == " ":
                name = not on_subject or runs >= 3 or self._rng.random() < 0.15
                pattern = ("{S}" if name and len(sentences) else "{He}") + pattern[len(start) + 1 :]
                runs = 0 if name else runs + 1
            on_subject = not any(
                isinstance(entity.facts.get(key), Entity) and entity.facts[key].kind == "person"
                for key in slots(pattern)
            )  # type: ignore[attr-defined]
            words = re.sub(r"<([^<>]*)>", lambda m: self._rng.choice(m[1].split("|")), pattern)
            sentences.append(capital(words.format_map(context)))
        return " ".join(sentences)

    def _context(self, entity: Entity) -> dict[str, str]:
        """All slot values for one article. A date keeps one form within the article."""
        world, rng = self._world, self._rng
        he, his, him = ("she", "her", "her") if entity.sex == "female" else ("he", "his", "him")
        the = (
            f"the {entity.name}"
            if entity.kind in ("ship", "instrument", "museum", "expedition", "treaty", "lighthouse")
            else entity.name
        )
        context = {
            "N": entity.name,
            "S": entity.name.split()[-1],
            "T": the,
            "T_cap": capital(the),
            "W": world.name,
            "W_currency": world.currency,
            "W_language": rng.choice(world.languages),
            "label": entity.label,
            "a_label": indefinite(entity.label),
            "He": capital(he),
            "he": he,
            "his": his,
            "him": him,
            "His": capital(his),
        }
        form = rng.randrange(2)
        for key, value in entity.facts.items():
            context[key] = (
                value.forms[form]
                if isinstance(value, Date)
                else self._mention(value)
                if isinstance(value, Entity)
                else str(value)
            )
        return context

    def _mention(self, entity: Entity) -> str:
        """The unambiguous mention, at times with what the thing is, as encyclopaedias do."""
        if entity.kind == "person" and not entity.namesake and self._rng.random() < 0.3:
            return f"the {entity.label} {entity.name}"
        if entity.kind == "ship" and not entity.namesake and self._rng.random() < 0.4:
            return f"the {entity.label} {entity.name}"
        return entity.mention
