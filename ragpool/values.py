"""Dates, numbers and names in short answers, so that comparisons are made in code and claims can be checked."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ragpool.distil import FUNCTION_WORDS, fold, folded_words, plain
from ragpool.types import Operation

_MONTHS = {
    name: number
    for number, names in enumerate(
        (
            ("january", "jan"), ("february", "feb"), ("march", "mar"), ("april", "apr"), ("may",), ("june", "jun"),
            ("july", "jul"), ("august", "aug"), ("september", "sept", "sep"), ("october", "oct"),
            ("november", "nov"), ("december", "dec"),
        ),
        start=1,
    )
    for name in names
}  # fmt: skip
_MONTH = "|".join(sorted(_MONTHS, key=len, reverse=True))
_DATE = re.compile(
    rf"\b(?:(?P<d1>\d{{1,2}})(?:st|nd|rd|th)?\s+(?:of\s+)?(?P<m1>{_MONTH})\.?,?\s+(?P<y1>\d{{3,4}})"
    rf"|(?P<m2>{_MONTH})\.?\s+(?P<d2>\d{{1,2}})(?:st|nd|rd|th)?,?\s+(?P<y2>\d{{3,4}})"
    rf"|(?P<y3>\d{{4}})-(?P<m3>\d{{2}})-(?P<d3>\d{{2}})"
    rf"|(?P<m4>{_MONTH})\.?,?\s+(?P<y4>\d{{3,4}})"
    r"|(?P<y5>\d{3,4}))\b",
    re.IGNORECASE,
)
_NUMBER = re.compile(r"[-+]?\d[\d,]*(?:\.\d+)?")
_SCALES = {"thousand": 1e3, "million": 1e6, "billion": 1e9}
_UNITS = {  # how many metres, square metres or kilograms
    name: (dimension, size)
    for dimension, size, names in (
        ("length", 1000.0, "km kilometre kilometres kilometer kilometers"),
        ("length", 1.0, "m metre metres meter meters"),
        ("length", 0.01, "cm centimetre centimetres centimeter centimeters"),
        ("length", 1609.344, "mi mile miles"),
        ("length", 0.3048, "ft foot feet"),
        ("area", 1e6, "km2 km²"),
        ("area", 1e4, "ha hectare hectares"),
        ("area", 4046.856, "acre acres"),
        ("mass", 1.0, "kg kilogram kilograms"),
        ("mass", 0.453592, "lb lbs pound pounds"),
        ("mass", 1000.0, "tonne tonnes"),
    )
    for name in names.split()
}
_BEFORE_CHRIST = re.compile(r"\s*(?:BCE?\b|B\.\s?C\.)")
_FACT = re.compile(r"\d[\d,.]*\d|\d|\b[^\W\d_]+\b", re.UNICODE)

_ASKS_DATE = re.compile(r"\b(?:date|year|when|birthday)\b", re.IGNORECASE)
_ASKED_FOR = re.compile(
    r"\s*(?:when (?:is|was|were|are|did|do|does|will|had|has)\b|who(?:m|se)?\b|how (?:many|long|tall|high|deep|large|far)\b"
    r"|(?:in |on |of |by |from |to |with |for )?(?:what|which)(?: \w+)?)",
    re.IGNORECASE,
)
_TELLS_TIME = re.compile(
    r"\b(?:when|dates?|days?|months?|years?|decades?|century|centuries|period|era|season|time|age|how (?:long|old)|birthday|since|until)\b",
    re.IGNORECASE,
)
_ASKS_YEAR = re.compile(r"\b(?:what|which) year\b", re.IGNORECASE)
_ASKS_NUMBER = re.compile(
    r"\b(?:number of|how (?:many|long|tall|high|deep|large|far)|population|length|height|elevation|depth)\b",
    re.IGNORECASE,
)
_ASKS_EXTENT = re.compile(
    r"\b(?:length|height|elevation|depth|how (?:long|tall|high|deep|far))\b", re.IGNORECASE
)
_WEIGHT = re.compile(r"\b(?:tons?|tonnes?|kilograms?|kg|pounds?|lbs?|grams?)\b", re.IGNORECASE)
_ASKS_NAME = re.compile(
    r"\b(?:who|whom|mother|father|spouse|wife|husband|child|sibling|director|author|writer|composer|performer|founder|architect|designer"
    r"|builder|maker|inventor|captain|teacher|student|employer|publisher|producer|owner|mayor|capital|place of \w+|birthplace"
    r"|country of (?:origin|citizenship)|headquarters|educated at|named after|river)\b",
    re.IGNORECASE,
)
_ASKS_PERSON = re.compile(
    r"\b(?:mother|father|parent|spouse|wife|husband|child|sibling|teacher|student|captain|author|writer|composer|librettist|screenwriter"
    r"|mediator|leader|mayor|commander)\b",
    re.IGNORECASE,
)
_WORKS = {  # the stems of the words for each kind
    "writing": ("writ", "wrote", "author", "librett", "screenwr", "lyric", "novelist"),
    "publishing": ("publish", "issued", "press", "imprint"),
    "designing": ("design", "architect"),
    "building": ("buil", "construct", "yard", "shipyard", "contractor"),
    "composing": ("compos", "music", "score", "writ", "wrote", "lyric"),  # of songs both are said
    "directing": ("direct",),
    "producing": ("produc",),
    "founding": ("found", "establish"),
    "performing": ("perform", "sung", "sang", "singer", "recorded"),
}
_ASKS_PLACE = re.compile(
    r"\b(?:place of birth|birthplace|born in|where .*born|home port|(?:home ?)?town|city|village|island|country|county|state)$",
    re.IGNORECASE,
)
_BODY = re.compile(
    r"&|\b(?:College|School|Academy|Institute|University|Museum|Gallery|Press|Yard|Foundry|Company|Printers|Shipbuilders|Engineers"
    r"|Society|Inc|Ltd|Records|Studios|Works)\.?$"
)  # a value that ends so is a body of people or its house; not Hall, which is a surname and a birthplace too
_BIRTH = re.compile(r"\b(?:born|birth|birthday|birthplace)\b", re.IGNORECASE)
_DEATH = re.compile(r"\b(?:died|dies|death|dead|killed|buried|murdered|executed)\b", re.IGNORECASE)
_DASH = re.compile(r"[–—]|\s-\s")
_NUMERAL = re.compile(
    r"\d|\b(?:one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|twenty|thirty|forty|fifty|dozen|hundred|thousand"
    r"|million|billion)\b",
    re.IGNORECASE,
)

Date = tuple[int, int, int]


def parse_date(text: str) -> Date | None:
    """The first date in the text as (year, month, day), month and day 0 where not given, years before Christ negative; None
    without one."""
    found = _DATE.search(text)
    if found is None:
        return None
    parts = {k[0] + "": v for k, v in found.groupdict().items() if v is not None}
    month = parts.get("m")
    number = 0 if month is None else _MONTHS.get(month.lower(), int(month) if month.isdigit() else 0)
    year = int(parts["y"])
    return -year if _BEFORE_CHRIST.match(text, found.end()) else year, number, int(parts.get("d", 0))


def parse_number(text: str) -> float | None:
    """The first number in the text, thousands separators and "million" understood; None without one."""
    found = _quantity(text)
    return found[0] if found else None


def _quantity(text: str) -> tuple[float, str, float] | None:
    """(number, dimension, size of its unit) of the first number in the text; "" and 1 where no known unit follows."""
    found = _NUMBER.search(text)
    if found is None:
        return None
    words = [word.strip(".,;()").casefold() for word in text[found.end() :].replace("-", " ").split()[:2]]
    scale = _SCALES.get(words[0], 0.0) if words else 0.0
    unit = next(iter(words[1:] if scale else words), "")
    return float(found.group().replace(",", "")) * (scale or 1.0), *_UNITS.get(unit, ("", 1.0))


def same(first: str, second: str) -> bool:
    """Whether two values name the same thing: equal when folded, the same date, or one contained in the other.

    >>> same("10,000", "25,000"), same("4 May 1890", "May 1890"), same("Kill Bill", "Kill Bill Volume 2")
    (False, True, True)
    """
    a, b = " ".join(_FACT.findall(fold(first))), " ".join(_FACT.findall(fold(second)))
    if not a or not b:
        return False
    dates = [parse_date(v) for v in (first, second) if _DATE.fullmatch(v.strip(" .,"))]
    if len(dates) == 2 and dates[0] and dates[1]:
        one, other = _comparable(dates[0], dates[1])
        return one == other
    return a == b or f" {a} " in f" {b} " or f" {b} " in f" {a} "


def fits(relation: str, value: str) -> bool:
    """Whether ``value`` is of the kind that ``relation`` asks for: a date, a number, a name; True where it names no kind."""
    if _ASKS_DATE.search(relation):
        return bool(_NUMERAL.search(value))
    if _ASKS_NUMBER.search(relation):  # a full date is no number
        date = parse_date(value)
        if _ASKS_EXTENT.search(relation) and _WEIGHT.search(value):
            return False
        return bool(_NUMERAL.search(value)) and not (date and date[1])
    if _ASKS_PERSON.search(relation) and _BODY.search(value.strip()):
        return False
    if _ASKS_PLACE.search(relation) and _BODY.search(value.strip().replace("&", "and")):  # Trinidad & Tobago
        return False
    if _ASKS_NAME.search(relation):
        return any(c.isupper() for c in value) and _DATE.fullmatch(value.strip()) is None
    return True


def told_of_the_other(relation: str, value: str, sentence: str) -> bool:
    """Whether the sentence gives ``value`` of something else than ``relation`` asks for: of a death in place of a birth, or the
    reverse; or of other work ("designed by Ada" names no builder).

    >>> told_of_the_other("builder", "Ada Brenn", "The tower was designed by the engineer Ada Brenn.")
    True
    """
    return _of_the_other_end(relation, value, sentence) or _of_other_work(relation, value, sentence)


def _of_other_work(relation: str, value: str, sentence: str) -> bool:
    """Whether every mention of ``value`` follows "... by" of another kind of work than that of ``relation``."""
    wanted = _works(relation)
    if not wanted or not value.strip():
        return False
    name = re.escape(value.strip())
    mentions = len(re.findall(rf"(?<!\w){name}(?!\w)", sentence))
    credits = re.findall(rf"((?:\w+(?:,| and| or) )?\w+) by (?:[a-z]\w* ){{0,4}}{name}(?!\w)", sentence)
    done = [_works(credit) for credit in credits]
    return bool(done) and len(done) == mentions and all(works and not works & wanted for works in done)


def _works(text: str) -> set[str]:
    """The kinds of work that the words of a relation or of a credit name."""
    words = re.findall(r"[a-z]+", text.casefold())
    return {kind for kind, stems in _WORKS.items() if any(w.startswith(stems) for w in words)}


def _of_the_other_end(relation: str, value: str, sentence: str) -> bool:
    """Whether a birth is asked for and the sentence gives ``value`` of a death, or the reverse.

    The word for either that stands last before the value decides, else the first after it; in brackets what stands before a
    dash is a birth's, what stands behind it a death's.
    """
    if bool(_BIRTH.search(relation)) == bool(_DEATH.search(relation)):
        return False
    told, wanted = fold(sentence), fold(value)
    if not wanted or wanted not in told:
        return False
    before, _, after = told.partition(wanted)
    events = [(m.start(), True) for m in _BIRTH.finditer(before)]
    events += [(m.start(), False) for m in _DEATH.finditer(before)]
    opened = before.rfind("(")
    in_brackets = opened > before.rfind(")")  # "(3 May 1801, Holm – 4 June 1850, Ennis)"
    if in_brackets:
        events += [(opened + m.start(), False) for m in _DASH.finditer(before[opened:])]
    if events:
        is_birth = max(events)[1]
    elif in_brackets:
        if not _DASH.search(after.partition(")")[0]):
            return False
        is_birth = True
    else:
        births, deaths = _BIRTH.search(after), _DEATH.search(after)
        if births is None and deaths is None:
            return False
        is_birth = deaths is None or (births is not None and births.start() < deaths.start())
    return is_birth != bool(_BIRTH.search(relation))


def in_the_form_asked(question: str, value: str) -> str | None:
    """``value`` as an answer to ``question``: the year alone where a year is asked for; None when it is of another kind, as a day
    of the calendar is where the question has no word for time, or when the question says it itself and offers no choice.

    >>> in_the_form_asked("In what year was Alda Brenn born?", "4 May 1890")
    '1890'
    """
    if is_named_by(question, value):
        return None
    asked = _ASKED_FOR.match(question)
    if asked and not fits(asked.group(), value):
        return None
    date = parse_date(value)
    is_a_day = bool(date and date[1]) and _DATE.fullmatch(value.strip()) is not None
    if is_a_day and not _TELLS_TIME.search(question):
        return None
    return str(date[0]) if date and date[0] > 0 and _ASKS_YEAR.search(question) else value


def is_named_by(question: str, value: str) -> bool:
    """Whether the words of ``value`` stand in ``question`` and are none of several that it offers to choose from.

    >>> is_named_by("Which river of Norland rises on Mount Ada?", "Norland"), is_named_by("Who is older, Ada or Bo?", "Ada")
    (True, False)
    """
    asked, said = f" {folded_words(question)} ", folded_words(value)
    if said in ("", "yes", "no") or f" {said} " not in asked or " or " in asked:
        return False
    return not re.search(rf" and (?:the )?{re.escape(said)} | {re.escape(said)} and ", asked)


def compare(operation: Operation, compared: Sequence[str], values: Sequence[str]) -> str | None:
    """The answer of a comparison: one of ``compared``, "yes" or "no"; None when the values do not decide it.

    ``values`` belong to ``compared`` one by one. Dates of different precision are compared as far as both go.
    """
    if len(values) != len(compared) or len(values) < 2:
        return None
    if operation is Operation.SAME:
        return "yes" if all(same(values[0], v) for v in values[1:]) else "no"
    if len(values) > 2:
        return None
    keys = _ordered_keys(operation, values)
    if keys is None or keys[0] == keys[1]:
        return None
    first_is_less = keys[0] < keys[1]
    wants_less = operation in (Operation.EARLIER, Operation.SMALLER)
    return compared[0] if first_is_less == wants_less else compared[1]


def facts(text: str) -> list[str]:
    """The numbers and the capitalised words of a claim, folded: what its source must contain."""
    words = _FACT.findall(plain(text))
    return [
        fold(w) for w in words if w[0].isdigit() or (w[0].isupper() and fold(w) not in FUNCTION_WORDS)
    ]  # fmt: skip


def supports(source: str, claim: str) -> bool:
    """Whether every number and name of the claim stands in the source, and something of it does."""
    present = set(_FACT.findall(fold(source)))
    needed = facts(claim) or [w for w in _FACT.findall(fold(claim)) if w not in FUNCTION_WORDS]
    return bool(needed) and all(_stands_in(word, present) for word in needed)


def share_told(source: str, claim: str) -> float:
    """The share of the claim's numbers and names that stand in the source; 1 where it has none.

    >>> share_told("Alda Brenn was born in 1801.", "Was Alda Brenn born in 1802?")
    0.6666666666666666
    """
    present = set(_FACT.findall(fold(source)))
    needed = facts(claim)
    return sum(_stands_in(word, present) for word in needed) / len(needed) if needed else 1.0


def _stands_in(word: str, present: set[str]) -> bool:
    return word in present or word.removesuffix("s") in present or f"{word}s" in present


def _ordered_keys(
    operation: Operation, values: Sequence[str]
) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    if operation in (Operation.EARLIER, Operation.LATER):
        first, second = parse_date(values[0]), parse_date(values[1])
        if first is None or second is None:
            return None
        return _comparable(first, second)
    one, other = _quantity(values[0]), _quantity(values[1])
    if one is None or other is None:
        return None
    # a value is often read without its unit: then both are taken to be in the same one
    if not (one[1] and other[1]):
        return (one[0],), (other[0],)
    return ((one[0] * one[2],), (other[0] * other[2],)) if one[1] == other[1] else None


def _comparable(first: Date, second: Date) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Both dates cut to the precision that they share."""
    precision = 1
    for part in (1, 2):
        if first[part] and second[part]:
            precision = part + 1
        else:
            break
    return first[:precision], second[:precision]
