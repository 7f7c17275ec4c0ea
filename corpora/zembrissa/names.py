"""Invented names: three phonologies for people and places, and word lists for ships, books and other things.

Every name is drawn from a `random.Random`, so a seed fixes them all. `NameMaker` never gives the same name twice and keeps
names of one kind at least three letters apart, so that two names are either equal on purpose (a namesake) or clearly different.
"""

from __future__ import annotations

import random

# One phonology per culture: onset+vowel, middle consonants, and endings per use.
CULTURES = (
    {
        "first": "Be Bo Dra Du Ha He Jo Ka Ko Lu Ma Mo Ne Pe Ra Sa Se Ske To Tu Va Ve Vo Yo Zu Sta O E U I".split(),
        "middle": "rv ld sk st nd lm rr gn rd lv tk sv mm rsk lt dd".split(),
        "male": "ek oran umir isk ovan egar ulf oth".split(),
        "female": "ira enka uva ysa olde eva issa unn".split(),
        "surname": "ansk ovar elk unde avik erro oleg atz umsk ender".split(),
        "place": "avik holt una eska ograv orn ask enby".split(),
    },
    {
        "first": "A Ca Ce Co Fa Fe Flo Ga Gio La Le Li Mi Na No Pa Pi Qua Ri Ro Sca Si Te Tri U Vi Ze Sol".split(),
        "middle": "ll r nt lc v ss zz mbr ndr rt pp sp bb cc ll nn".split(),
        "male": "aio emo oro este inio ando uco azzo".split(),
        "female": "aia emma ora estra inella anda uce ille".split(),
        "surname": "avero ecchi ondo imara ucci ellane opio astro ivoli entano".split(),
        "place": "ara emo ola uria ento issa aveno otta".split(),
    },
    {
        "first": "Ai Bri Cae Dwy El Fi Gwe Io Ky Llo Mae Ni Oe Pry Rhe Sio Tae Thi Wy Ei Ho Ty Be Ca Ge Har".split(),
        "middle": "l n th r w nn ll dw rth m ss lch s v ng rw".split(),
        "male": "an or eth wyn ach ud ras ion".split(),
        "female": "a ene wen is eira ys ola edd".split(),
        "surname": "orrey ammon ethick owel anshaw ydder ockley ennard urrow istle".split(),
        "place": "ack ammer edd oway anthy iscombe orrin eth".split(),
    },
)

# Real names that the phonologies could hit; a name in this list is thrown away.
REAL = frozenset(
    """aira allora amara anders arlen barcelo berwyn bolden borden caelan callan calla cara carissa cassis castro catania celina
    cellan clarissa coleg colin como corinella cosenza elara elena elis elissa elith elora elvira eston evan ewan ferrara fiona
    florissa gavan geneva gavin gennard gwen gwenola gwenan gwenis harras harlech helena henan hesse honor iona ivor jena jolene
    kara karissa kaskar kelena kolding korsk kyle kyra larissa lena leola lira llanelli lora louvain lucca ludolf luca maelis
    malta mara marissa maribor melissa milan minsk monza morena nantes narvik nerissa nora nola novara odessa olen orlando osaka
    oslo parma pavia perth ragusa ravenna regan rhea rimini rivoli rolando rosa rosara sandor sardinia scala serbia siena siracusa
    solara sora stara tara tivoli torino toronto tora tullamore turin turku ula ultan una urban uta valencia vanna varna vera
    verona vesta vienna vilnius vitoria volda volga yola zara zora kalmar malmo ludek galileo lando nando oland elvis ellis
    holloway holoway elma bela holan horan brilla gallucci bevis genna harra iola hora hova cappucci gelan accola artola niva iossa""".split()
)

SHIP_FIRST = (
    "Grey Patient Amber Silent Hollow Winter Copper Lucky Quiet Gilded Restless Pale Northern Merry Faithful Blind Second Scarlet Humble Wandering"
).split()
SHIP_SECOND = (
    "Petrel Heron Lantern Marten Widow Compass Sparrow Otter Harrow Anvil Curlew Pilgrim Thistle Gannet Daughter Herald Kestrel Bell"
).split()
TITLE_FIRST = (
    "Salt Glass Drowned Borrowed Ninth Tidal Unlit Paper Barley Iron Lesser Sunken Velvet Ashen Wooden Crooked Winter Herring Burnt Silver "
    "Divided Idle"
).split()
TITLE_SECOND = (
    "Ledger Orchard Almanac Staircase Harvest Testament Window Causeway Regatta Inheritance Garden Clockmaker Parliament Mirror Ferry Wedding "
    "Kingdom Granary Psalm Daughters Anchorage Witness"
).split()
ROCKS = (
    "Cormorant Kittiwake Tern Sexton Cauldron Needle Mitre Plover Bellows Widower Hangman Puffin Wrack Saddle Fulmar Trumpet Kelp Monk Ram "
    "Thimble Gosling Cinder Oyster Spindle"
).split()
SEAS = (
    "Great Shoal;Southern Ice;Long Strait;Whale Ground;Outer Reef;Pumice Sea;Blackwater Deep;Eastern Drift;Fog Bank;Sleeping Volcano;"
    "Turtle Passage;Farther Islets;Warm Current;Kelp Forest;Ninefold Atoll;Lost Meridian"
).split(";")
ACCORDS = "Herring;Lantern;Salt;Pilotage;Two Straits;Timber;Ambergris;Quarantine;Harbour Dues;Fog Signal;Lighterage;Kelp;Anchorage".split(
    ";"
)
DEVICES = "Amber;Widow's;Long;Double;Mercury;Travelling;Harbour;Blue;Pilgrim;Silent;Ivory;Winter;Bishop's;Folding;Orphan;Great;Brass;Twin".split(
    ";"
)
FIRMS = "Blue Anchor;Three Herons;Black Capstan;Red Lantern;White Oar;Twin Keys;Green Bollard;Golden Plumb;Five Bells;Broken Quill;Silver Gull".split(
    ";"
)
MUSEUMS = (
    "Museum of Tides;Cabinet of Instruments;Old Customs House Museum;Gallery of Charts;Rope Hall Museum;Museum of the Straits;House of Bells;"
    "Whalers' Hall;Arsenal Museum;Lamp Museum;Museum of Reckoning;Tar House Gallery"
).split(";")


def distance(a: str, b: str) -> int:
    """Edit distance between two words, letters as the unit."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        diagonal, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (x != y))
    return row[-1]


class NameMaker:
    """Draws names that are new, not in `REAL`, and not too like an earlier name of the same kind."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._used: dict[str, list[str]] = {}

    def word(self, use: str, culture: int | None = None) -> str:
        """One invented word; `use` is male, female, surname or place, and also the kind within which words stay apart."""
        for _ in range(20_000):
            sounds = CULTURES[self._rng.randrange(3) if culture is None else culture]
            name = (
                self._rng.choice(sounds["first"])
                + self._rng.choice(sounds["middle"])
                + self._rng.choice(sounds[use])
            )
            used = self._used.setdefault(use, [])
            if (
                not 4 <= len(name) <= 9
                or name.lower() in REAL
                or "ww" in name
                or any(a == b == c for a, b, c in zip(name, name[1:], name[2:], strict=False))
            ):
                continue
            if all(distance(name, other) >= 3 for other in used):
                used.append(name)
                return name
        raise RuntimeError(
            f"no more {use} names: lower the counts in world.py or lengthen the sound lists in names.py"
        )

    def phrases(self, first: list[str], second: list[str], count: int, form: str = "{} {}") -> list[str]:
        """`count` different two-word phrases; each word may come back in another phrase, which is what makes them alike."""
        pairs = [(a, b) for a in first for b in second if a != b]
        return [form.format(a, b) for a, b in self._rng.sample(pairs, count)]

    def some(self, words: list[str], count: int) -> list[str]:
        """`count` different entries of a word list, in random order."""
        return self._rng.sample(words, count)
