"""What makes the corpus hard: names borne twice, near misses in every article, facts left out and facts said to be unknown."""

from __future__ import annotations

import random
from collections.abc import Callable

from world import Entity, World, active


class Spoiler:
    """Works on a finished world. The order of its three steps matters: names first, then asides, then gaps."""

    def __init__(self, world: World, rng: random.Random) -> None:
        self.world, self.rng = world, rng

    def spoil(self) -> None:
        self.namesakes()
        self.asides()
        self.gaps()

    def namesakes(self) -> None:
        """Give some entities the name of another: people of different occupation, ships of different rig, towns of different islands."""

        def related(one: Entity, other: Entity) -> bool:
            """Do the two occur together, so that a shared name would make a sentence absurd?"""
            return any(
                one in (e, *e.facts.values()) and other in (e, *e.facts.values()) for e in self.world.entities
            )

        def pairs(pool: list[Entity], count: int) -> None:
            for one in self.rng.sample(pool, len(pool)):
                twins = [
                    e
                    for e in pool
                    if not e.namesake and e.label != one.label and e.sex == one.sex and not related(one, e)
                ]
                if count and twins and not one.namesake:
                    twin, count = self.rng.choice(twins), count - 1
                    twin.name = one.name
                    one.namesake = twin.namesake = True

        pairs(self.world.of("person"), 9)
        pairs(self.world.of("ship"), 7)
        book = self.rng.choice(self.world.of("book"))
        opera = self.rng.choice(self.world.of("opera"))
        opera.name, book.namesake, opera.namesake = book.name, True, True
        towns = self.world.of("town")
        for _ in range(2):
            one = self.rng.choice([t for t in towns if not t.namesake])
            other = self.rng.choice(
                [t for t in towns if not t.namesake and t.facts["island"] is not one.facts["island"]]
            )
            other.name = one.name
            for town in (one, other):
                town.namesake, town.place = (
                    True,
                    next(i.name for i in self.world.of("island") if i is town.facts["island"]),
                )

    def asides(self) -> None:
        """Near misses: true statements with the same relatives, occupations and places as the facts that questions ask for."""
        rng, world = self.rng, self.world
        people, ships, towns, firms = (
            world.of("person"),
            world.of("ship"),
            world.of("town"),
            world.of("company"),
        )

        def maybe(
            entity: Entity,
            key: str,
            chance: float,
            pool: list[Entity],
            test: Callable[[Entity], bool] = lambda e: True,
        ) -> None:
            fits = [e for e in pool if e is not entity and e not in entity.facts.values() and test(e)]
            if fits and rng.random() < chance:
                entity.facts[key] = rng.choice(fits)

        for p in people:
            birth = p.year("birth")
            p.facts["trade"] = rng.choice(
                "net-maker,ship's chandler,schoolmaster,salt merchant,rope-maker,customs clerk,cooper,pilot,miller,bell-founder".split(
                    ","
                )
            )
            p.facts["hobby"] = rng.choice(
                "chess,beekeeping,the collecting of shells,amateur theatricals,long walks along the shore,the study of old sea charts,"
                "fencing,the growing of pears,choral singing,sketching in chalk".split(",")
            )
            if p.label in ("sea captain", "naturalist") or "ship" in p.facts:
                maybe(
                    p,
                    "served",
                    0.8,
                    ships,
                    lambda s: (
                        birth + 16
                        <= s.year("launched") + 1
                        <= min(birth + 30, int(str(p.facts.get("cmd_from", 9999))))
                    ),
                )
            maybe(p, "friend", 0.6, people, lambda q: abs(q.year("birth") - birth) < 22)
            maybe(p, "lectured", 0.3, world.of("school"))
            maybe(p, "visited", 0.5, towns)
            maybe(p, "portrait", 0.3, world.of("museum"))
            maybe(
                p,
                "later_firm",
                0.25,
                firms,
                lambda c: c.year("founded") < birth + 45 and c.facts["founder"] is not p,
            )
        for s in ships:
            year = s.year("launched")
            maybe(
                s,
                "refitted",
                0.55,
                [c for c in firms if c.label == "shipyard"],
                lambda c: c.year("founded") < year + 10,
            )
            maybe(s, "sighted", 0.6, towns)
            maybe(s, "shipped", 0.4, towns)
            maybe(
                s,
                "owner_once",
                0.5,
                [c for c in firms if c.label == "shipping line"],
                lambda c: c.year("founded") < year + 5,
            )
            s.facts["crew"] = str(rng.randint(11, 74))
            s.facts["wreck"] = rng.choice(
                [
                    "was broken up in {}",
                    "was lost in a gale in {}",
                    "was laid up as a hulk in {}",
                    "was sold for scrap in {}",
                ]
            ).format(year + rng.randint(22, 40))
        for c in firms:
            founded = c.year("founded")
            maybe(c, "manager", 0.7, people, lambda q: active(founded + 14, 26, 60)(q))
            maybe(c, "rival_firm", 0.7, [f for f in firms if f.label == c.label])
            maybe(c, "supplier", 0.4, [f for f in firms if f.label != c.label])
            maybe(c, "works_note", 0.6, towns)
        for book in world.of("book"):
            year = book.year("published")
            maybe(
                book,
                "refused",
                0.6,
                [f for f in firms if f.label == "publishing house"],
                lambda c: c.year("founded") < year,
            )
            maybe(book, "reviewer", 0.7, people, lambda q: active(year, 24, 75)(q))
            maybe(book, "copy_in", 0.5, world.of("school"))
        for light in world.of("lighthouse"):
            year = light.year("lit")
            maybe(
                light,
                "rejected",
                0.6,
                world.people("engineer", "architect"),
                lambda q: active(year, 24, 75)(q),
            )
            maybe(light, "neighbour", 0.6, world.of("lighthouse"))
            maybe(light, "wreck", 0.6, ships, lambda s: year - 20 < s.year("launched") < year - 1)
        for thing in world.of("instrument"):
            made = thing.year("made")
            maybe(thing, "owner_once", 0.7, people, lambda q: active(made + 3, 22, 70)(q))
            maybe(thing, "exhibit", 0.5, towns)
        for opera in world.of("opera"):
            year = opera.year("premiere")
            maybe(opera, "scorned", 0.7, people, lambda q: active(year, 22, 75)(q))
            maybe(opera, "toured", 0.8, towns)
        for treaty in world.of("treaty"):
            year = treaty.year("signed")
            maybe(treaty, "observer", 0.8, people, lambda q: active(year, 25, 75)(q))
            maybe(treaty, "stop", 0.6, towns)
        for trip in world.of("expedition"):
            year = trip.year("began")
            maybe(trip, "observer", 0.8, people, lambda q: active(year, 22, 60)(q))
            maybe(trip, "stop", 0.8, towns)
        for museum in world.of("museum"):
            maybe(museum, "curator", 0.9, people, lambda q: active(museum.year("opened") + 3, 28, 70)(q))
            maybe(museum, "exhibit", 0.7, ships)
        for school in world.of("school"):
            maybe(school, "old_scholar", 0.7, people, lambda q: q.facts["school"] is not school)
            maybe(school, "rival_firm", 0.8, world.of("school"))
        for town in towns:
            maybe(town, "famed", 0.5, [q for q in people if q.facts["birthplace"] is not town])
            maybe(town, "ferry", 0.8, towns)
            town.facts["market"] = rng.choice(
                "smoked eels,sailcloth,blue pottery,barrel staves,tar and pitch,goat's cheese,tin buttons,rope,barley spirit,dried kelp".split(
                    ","
                )
            )
        for island in world.of("island"):
            maybe(island, "neighbour", 1, world.of("island"))
            island.facts["fauna"] = rng.choice(
                "storm petrels,dwarf goats,grey seals,marsh tortoises,white hares,night herons,blind cave shrimps".split(
                    ","
                )
            )

    def gaps(self) -> None:
        """Remove some facts, and mark others as unknown, for questions that the documents cannot answer."""
        for kind, key, count in (
            ("ship", "length", 9),
            ("person", "school", 34),
            ("lighthouse", "height", 4),
            ("company", "hands", 8),
            ("book", "copies", 8),
            ("book", "publisher", 4),
            ("museum", "objects", 3),
            ("instrument", "mass", 5),
            ("opera", "libretto", 4),
        ):
            for entity in self.rng.sample([e for e in self.world.of(kind) if key in e.facts], count):
                del entity.facts[key]
        for kind, key, count in (
            ("person", "birth", 8),
            ("person", "birthplace", 8),
            ("ship", "builder", 3),
            ("lighthouse", "designer", 3),
            ("instrument", "maker", 3),
            ("company", "founder", 2),
        ):
            for entity in self.rng.sample(
                [
                    e
                    for e in self.world.of(kind)
                    if key in e.facts and not e.unknown and "spouse" not in e.facts
                ],
                count,
            ):
                del entity.facts[key]
                entity.unknown.add(key)
