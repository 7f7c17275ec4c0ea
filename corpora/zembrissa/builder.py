"""Draws a world from a seed, kind by kind, so that every date and role is consistent with what was drawn before."""

from __future__ import annotations

import random
from collections.abc import Callable

import names
from nearmisses import Spoiler
from world import MONTHS, Date, Entity, NobodyFits, World, active

# occupation -> how many people have it
OCCUPATIONS = {
    "sea captain": 25,
    "novelist": 8,
    "poet": 6,
    "historian": 6,
    "naturalist": 6,
    "engineer": 15,
    "shipbuilder": 9,
    "merchant": 8,
    "printer": 7,
    "instrument maker": 10,
    "composer": 9,
    "diplomat": 8,
    "architect": 8,
}
RIGS = {
    "barque": (34, 52),
    "brig": (24, 33),
    "schooner": (22, 38),
    "whaler": (28, 37),
    "paddle steamer": (41, 66),
    "packet ship": (30, 45),
}


class Builder:
    """Fills a `World` kind by kind; each method may rely on the kinds made before it."""

    def __init__(self, seed: str) -> None:
        self.rng = random.Random(seed)
        self.maker = names.NameMaker(self.rng)
        word = self.maker.word
        languages = [word("place").rstrip("aeiouyw") + suffix for suffix in ("ic", "ish", "ese", "an")]
        self.world = World(word("place"), word("male", culture=2).lower().rstrip("s") + "s", languages)
        self.titles = self.maker.phrases(names.TITLE_FIRST, names.TITLE_SECOND, 48, "The {} {}")
        self.spread: dict[str, dict[int, int]] = {}

    # -- small helpers ----------------------------------------------------------------------------------------------------------
    def add(self, kind: str, name: str, label: str, **facts: object) -> Entity:
        entity = Entity(kind, name, label, facts=facts)
        self.world.entities.append(entity)
        return entity

    def date(self, low: int, high: int) -> Date:
        return Date(self.rng.randint(low, high), self.rng.randint(1, 12), self.rng.randint(1, 28))

    def pick(
        self, pool: list[Entity], test: Callable[[Entity], bool] = lambda e: True, spread: str = ""
    ) -> Entity:
        """A random entity that passes `test`; with `spread`, one of those picked least often under that word."""
        fits = [e for e in pool if test(e)]
        if not fits:
            raise NobodyFits
        if not spread:
            return self.rng.choice(fits)
        counts = self.spread.setdefault(spread, {})
        least = min(counts.get(id(e), 0) for e in fits)
        chosen = self.rng.choice([e for e in fits if counts.get(id(e), 0) == least])
        counts[id(chosen)] = least + 1
        return chosen

    def town(self, spread: str = "") -> Entity:
        return self.pick(self.world.of("town"), spread=spread)

    def metres(self, low: float, high: float) -> str:
        return f"{self.rng.uniform(low, high):.1f} metres"

    def whole(self, low: int, high: int) -> str:
        return f"{self.rng.randint(low, high):,}"

    # -- the kinds --------------------------------------------------------------------------------------------------------------
    def build(self) -> World:
        for step in (
            self.places,
            self.schools,
            self.persons,
            self.companies,
            self.ships,
            self.commands,
            self.lighthouses,
            self.museums,
            self.instruments,
            self.books,
            self.operas,
            self.treaties,
            self.expeditions,
        ):
            step()
        Spoiler(self.world, self.rng).spoil()
        return self.world

    def places(self) -> None:
        rng, word = self.rng, self.maker.word
        for _ in range(10):
            self.add(
                "island",
                word("place"),
                "island",
                peak=f"Mount {word('surname')}",
                height=f"{self.whole(310, 1900)} metres",
                area=f"{self.whole(90, 2400)} square kilometres",
                people=self.whole(4_000, 90_000),
                language=rng.choice(self.world.languages),
            )
        for island in self.world.of("island"):
            for _ in range(3 if len(self.world.of("town")) < 15 else 2):
                self.add(
                    "town",
                    word("place"),
                    "town",
                    island=island,
                    river=word("place"),
                    people=self.whole(900, 31_000),
                    charter=str(rng.randint(1380, 1640)),
                    saint_day=f"{rng.randint(1, 28)} {rng.choice(MONTHS)}",
                )

    def schools(self) -> None:
        forms = [
            "{} College",
            "{} Grammar School",
            "{} Academy",
            "{} Hall",
            "{} Institute",
            "{} School of Navigation",
        ]
        for i in range(13):
            self.add(
                "school",
                forms[i % 6].format(self.maker.word("surname")),
                "school",
                town=self.town("school"),
                founded=str(self.rng.randint(1655, 1748)),
                pupils=self.whole(60, 480),
            )

    def persons(self) -> None:
        surnames = [self.maker.word("surname") for _ in range(58)]
        given = {sex: [self.maker.word(sex) for _ in range(36)] for sex in ("male", "female")}
        taken: set[str] = set()
        for occupation, count in OCCUPATIONS.items():
            for _ in range(count):
                sex = self.rng.choice(("male", "female"))
                name = ""
                while not name or name in taken:
                    name = f"{self.rng.choice(given[sex])} {self.rng.choice(surnames)}"
                taken.add(name)
                birth = self.date(1748, 1822)
                person = self.add(
                    "person",
                    name,
                    occupation,
                    birth=birth,
                    birthplace=self.town("birth"),
                    school=self.pick(self.world.of("school")),
                    death=self.date(birth.year + 51, birth.year + 84),
                    deathplace=self.town(),
                )
                person.sex = sex
                if person.facts["deathplace"] is person.facts["birthplace"]:
                    del person.facts["deathplace"]
        everyone = self.world.of("person")
        for person in everyone:
            year = person.year("birth") + 20
            teachers = [
                p
                for p in everyone
                if p is not person and active(year, 32, 70)(p) and p.facts.get("teacher") is not person
            ]
            if teachers and self.rng.random() < 0.5:
                person.facts["teacher"] = self.pick(teachers, spread="teacher")
        self.rng.shuffle(everyone)
        for one, other in zip(everyone[::2], everyone[1::2], strict=False):
            if one.sex != other.sex and abs(one.year("birth") - other.year("birth")) < 16:
                one.facts["spouse"] = other

    def companies(self) -> None:
        surnames = sorted({p.name.split()[-1] for p in self.world.of("person")})
        firms = self.maker.some(names.FIRMS, 11)
        plan = [
            (
                "shipyard",
                9,
                ["{0} Yard", "{0} & {1}, Shipbuilders", "{2} Yard"],
                ("shipbuilder", "engineer", "sea captain"),
            ),
            (
                "publishing house",
                7,
                ["{2} Press", "{0} & {1}, Printers", "{0} Press"],
                ("printer", "poet", "historian", "merchant"),
            ),
            (
                "engineering firm",
                6,
                ["{0} Works", "{0} & {1}, Engineers", "{2} Foundry"],
                ("engineer", "architect"),
            ),
            (
                "shipping line",
                6,
                ["{2} Line", "{0} Packet Company", "{0} Line"],
                ("merchant", "sea captain", "diplomat"),
            ),
            ("instrument workshop", 3, ["{0} & {1}, Opticians", "{0} Workshop"], ("instrument maker",)),
        ]
        for label, count, forms, trades in plan:
            for i in range(count):
                founder = self.pick(
                    self.world.people(*trades),
                    lambda p: not self.world.holders("company", "founder", p) and p.year("birth") < 1795,
                )
                birth = founder.year("birth")
                form, taken, name = forms[i % len(forms)], {c.name for c in self.world.of("company")}, ""
                while not name or name in taken:
                    one, two = self.rng.sample([s for s in surnames if s not in founder.name], 2)
                    name = form.format(one, two, firms[0])
                firms = firms[1:] if firms[0] in name else firms
                self.add(
                    "company",
                    name,
                    label,
                    founder=founder,
                    founded=str(self.rng.randint(birth + 25, birth + 36)),
                    seat=self.town("seat"),
                    hands=self.whole(18, 640),
                )

    def firm(self, label: str, year: int, spread: str = "") -> Entity:
        return self.pick(
            [c for c in self.world.of("company") if c.label == label],
            lambda c: c.year("founded") < year,
            spread,
        )

    def first_year(self, label: str) -> int:
        """A year in which at least three firms of this label are at work."""
        return sorted(c.year("founded") for c in self.world.of("company") if c.label == label)[2] + 1

    def ships(self) -> None:
        start = self.first_year("shipyard")
        for name in self.maker.phrases(names.SHIP_FIRST, names.SHIP_SECOND, 52):
            rig = self.rng.choice(list(RIGS))
            launch = self.date(max(start, 1825) if rig == "paddle steamer" else start, 1856)
            ship = self.add(
                "ship",
                name,
                rig,
                builder=self.firm("shipyard", launch.year, "yard"),
                launched=launch,
                length=self.metres(*RIGS[rig]),
                port=self.town("port"),
                tons=f"{self.whole(140, 980)} tons",
            )
            if self.rng.random() < 0.35:
                ship.facts["honours"] = self.pick(
                    self.world.of("person"), lambda p: p.year("birth") + 40 < launch.year, "honours"
                )

    def commands(self) -> None:
        """Who commanded which ship: the home is the person's article."""
        free = self.world.of("ship")
        candidates = [
            *self.world.people("sea captain"),
            *self.rng.sample(
                self.world.people("naturalist", "diplomat", "novelist", "poet", "engineer", "merchant"), 16
            ),
        ]
        for person in candidates:
            birth, death = person.year("birth"), person.year("death")
            fits = [s for s in free if birth + 27 <= s.year("launched") + 2 <= min(birth + 46, death - 8)]
            if fits:
                ship = self.rng.choice(fits)
                free.remove(ship)
                begin = max(ship.year("launched"), birth + 29) + self.rng.randint(0, 3)
                person.facts.update(
                    ship=ship, cmd_from=str(begin), cmd_to=str(begin + self.rng.randint(2, 6))
                )

    def lighthouses(self) -> None:
        start, forms = (
            self.first_year("engineering firm"),
            ["{} Rock Lighthouse", "{} Point Light", "{} Head Lighthouse", "{} Island Light"],
        )
        for i, rock in enumerate(self.maker.some(names.ROCKS, 21)):
            lit = self.date(max(start, 1790), 1860)
            self.add(
                "lighthouse",
                forms[i % 4].format(rock),
                "lighthouse",
                near=self.town("near"),
                lit=lit,
                height=self.metres(14, 52),
                designer=self.pick(
                    self.world.people("engineer", "architect", "sea captain", "instrument maker"),
                    active(lit.year),
                    "design",
                ),
                contractor=self.firm("engineering firm", lit.year, "contract"),
                steps=self.whole(61, 298),
            )

    def museums(self) -> None:
        for name in self.maker.some(names.MUSEUMS, 10):
            opened = self.date(1815, 1865)
            self.add(
                "museum",
                name,
                "museum",
                town=self.town("museum"),
                opened=opened,
                objects=self.whole(700, 19_000),
                architect=self.pick(
                    self.world.people("architect", "engineer"),
                    active(opened.year, 26, 70),
                    "museum-architect",
                ),
            )

    def instruments(self) -> None:
        labels = ["octant", "tide gauge", "chronometer", "barometer", "orrery", "sextant"]
        for i, device in enumerate(self.maker.some(names.DEVICES, 18)):
            label, made = labels[i % 6], self.rng.randint(1785, 1860)
            self.add(
                "instrument",
                f"{device} {label.title()}",
                label,
                maker=self.pick(self.world.people("instrument maker", "engineer"), active(made), "maker"),
                made=str(made),
                museum=self.pick(self.world.of("museum"), spread="kept"),
                mass=f"{self.rng.uniform(0.8, 61):.1f} kilograms",
            )

    def books(self) -> None:
        start = max(self.first_year("publishing house"), 1785)
        genres = {
            "novelist": ["novel"],
            "poet": ["verse narrative", "collection of poems"],
            "historian": ["history", "chronicle"],
            "naturalist": ["treatise", "travel account"],
            "sea captain": ["memoir", "travel account"],
            "diplomat": ["memoir"],
            "engineer": ["memoir"],
        }
        writers = [
            *self.world.people("novelist", "poet", "historian", "naturalist"),
            *self.rng.sample(self.world.people("sea captain", "diplomat", "engineer"), 16),
        ]
        commanders = [p for p in writers if "ship" in p.facts]
        for i, name in enumerate(self.titles[:33]):
            out = self.date(start, 1864)
            pool = (
                commanders if i % 3 == 0 and any(active(out.year, 27, 68)(p) for p in commanders) else writers
            )
            author = self.pick(pool, active(out.year, 27, 68), "author")
            self.add(
                "book",
                name,
                self.rng.choice(genres.get(author.label, ["memoir"])),
                author=author,
                published=out,
                publisher=self.firm("publishing house", out.year, "publish"),
                setting=self.town("setting"),
                copies=self.whole(300, 5_200),
            )

    def operas(self) -> None:
        for name in self.titles[33:45]:
            first = self.date(1792, 1862)
            self.add(
                "opera",
                name,
                "opera",
                composer=self.pick(self.world.people("composer"), active(first.year, 24, 70), "compose"),
                premiere=first,
                town=self.town("opera"),
                libretto=self.pick(
                    self.world.people("poet", "novelist", "historian"), active(first.year, 22, 72), "libretto"
                ),
                acts=self.rng.choice(["two", "three", "four", "five"]),
            )

    def treaties(self) -> None:
        islands = self.world.of("island")
        for i, subject in enumerate(self.maker.some(names.ACCORDS, 12)):
            signed = self.date(1788, 1863)
            one, two = self.rng.sample(islands, 2)
            self.add(
                "treaty",
                f"{subject} {('Accord', 'Convention', 'Treaty')[i % 3]}",
                "treaty",
                signed=signed,
                place=self.town("treaty"),
                party=one,
                other_party=two,
                mediator=self.pick(
                    self.world.people("diplomat", "merchant", "sea captain"),
                    active(signed.year, 32, 72),
                    "mediate",
                ),
                articles=self.whole(9, 64),
            )

    def expeditions(self) -> None:
        first, captains = (
            self.first_year("shipping line"),
            [p for p in self.world.of("person") if "ship" in p.facts],
        )
        for i, sea in enumerate(self.maker.some(names.SEAS, 14)):
            ship = self.pick(self.world.of("ship"), lambda s: s.year("launched") + 10 > first, "voyage")
            launch = ship.year("launched")
            start = self.rng.randint(max(first, launch + 1), launch + 16)
            leaders = [
                p
                for p in captains + self.world.people("naturalist", "sea captain")
                if p.facts.get("ship") is not ship and active(start, 27, 66)(p)
            ]
            self.add(
                "expedition",
                f"{sea} {('Expedition', 'Survey', 'Voyage')[i % 3]}",
                "expedition",
                leader=self.pick(leaders, spread="lead"),
                ship=ship,
                began=str(start),
                members=self.whole(19, 88),
                sponsor=self.firm("shipping line", start, "sponsor"),
                from_town=self.town("depart"),
            )


def build_world(seed: int) -> World:
    """The world of a seed: same seed, same world. A draw in which some role finds nobody of the right age is thrown away whole."""
    for attempt in range(60):
        try:
            return Builder(f"{seed}/{attempt}").build()
        except NobodyFits:
            continue
    raise RuntimeError(f"seed {seed} gives no consistent world: try another")
