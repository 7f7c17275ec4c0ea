"""The world model: entities and their facts, drawn from a seed and consistent in time.

A fact lives in exactly one entity (its *home*), and only the home's document states it: a book knows its author, the author's own
article does not name the book. So the gold documents of a question follow from the facts alone. Facts whose keys are listed in
`ASIDES` are true of the world too, but no question asks for them: they are the near misses (a ship he served on before his own
command, the yard that refitted a ship, the firm that refused a book).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

MONTHS = "January February March April May June July August September October November December".split()
ASIDES = frozenset(
    "trade served lectured friend visited hobby portrait later_firm refitted sighted wreck crew refused manager supplier rival_firm "
    "works_note rejected keeper observer stop scorned curator exhibit pupil_of_fame famed market feast neighbour ferry reviewer owner_once "
    "soprano fauna shipped old_scholar toured copy_in cmd_from cmd_to".split()
)


class NobodyFits(Exception):
    """No entity of this draw can take a role."""


@dataclass(frozen=True)
class Date:
    """A day; `forms` are the two ways in which documents write it, and so also the accepted answers."""

    year: int
    month: int
    day: int

    @property
    def forms(self) -> tuple[str, str]:
        month = MONTHS[self.month - 1]
        return f"{self.day} {month} {self.year}", f"{month} {self.day}, {self.year}"

    @property
    def key(self) -> tuple[int, int, int]:
        return self.year, self.month, self.day


@dataclass(eq=False)
class Entity:
    """One subject of the encyclopaedia and the facts that its article is the home of."""

    kind: str
    name: str
    label: str = ""  # what it is, in a word or two: "sea captain", "barque", "tide gauge"
    namesake: bool = False  # another entity of this world has the same name
    sex: str = ""
    facts: dict[str, object] = field(default_factory=dict)
    unknown: set[str] = field(default_factory=set)  # facts that the article says nobody knows
    place: str = ""  # the island, for towns that share a name

    def year(self, key: str) -> int:
        """The year of a fact, be it a day or a year alone."""
        value = self.facts[key]
        return value.year if isinstance(value, Date) else int(str(value))

    @property
    def title(self) -> str:
        return f"{self.name} ({self.place or self.label})" if self.namesake else self.name

    @property
    def id(self) -> str:
        """Document id: the title as a slug."""
        kept = "".join(c if c.isalnum() else " " for c in self.title.replace("'", "").lower())
        return "-".join(kept.split())

    @property
    def mention(self) -> str:
        """How another text names this entity without leaving two readings."""
        if self.kind in ("ship", "instrument", "museum", "expedition", "treaty", "lighthouse"):
            return f"the {self.label} {self.name}" if self.namesake else f"the {self.name}"
        if self.namesake:
            return f"{self.name} on {self.place}" if self.place else f"the {self.label} {self.name}"
        return self.name


@dataclass
class World:
    """All entities by kind, and the few words that every article may use."""

    name: str
    currency: str
    languages: list[str]
    entities: list[Entity] = field(default_factory=list)

    def of(self, *kinds: str) -> list[Entity]:
        return [e for e in self.entities if e.kind in kinds]

    def people(self, *occupations: str) -> list[Entity]:
        return [p for p in self.of("person") if p.label in occupations]

    def holders(self, kind: str, key: str, value: object) -> list[Entity]:
        """Entities of a kind whose fact `key` is `value`: one step backwards along a relation."""
        return [e for e in self.of(kind) if e.facts.get(key) is value]


def active(year: int, low: int = 25, high: int = 64) -> Callable[[Entity], bool]:
    """A test: was this person between `low` and `high` years old, and alive, in `year`?"""
    return lambda p: p.year("birth") + low <= year <= min(p.year("birth") + high, p.year("death") - 1)
