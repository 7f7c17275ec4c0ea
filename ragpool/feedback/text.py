"""Words and names as the rules and the trained judge see them. Pure string work, no model."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

STOP_WORDS = frozenset(
    """a about above after again against all also an and any are as at be became because become been before being
    below between both but by can could did do does doing down during each either ever few first for from further
    had has have having he her here hers him his how i if in into is it its itself just last me more most my name
    named no nor not now of off on once one only or other our out over own part same she should so some such than
    that the their them then there these they this those through to too under until up upon us very was we were
    what when where which while who whom whose why will with would you your""".split()
)

_WORD = re.compile(r"\w+")
_NAME = re.compile(
    r"\b[A-Z0-9][\w'’.-]*(?:(?:\s+|\s*[:&]\s+)(?:(?:of|the|de|du|di|da|von|van|der|den|la|le|al|in|on|for|del|bin|ibn|y)\s+){0,2}"
    r"[A-Z0-9][\w'’.-]*)*"
)
_QUOTED = re.compile(r"[\"“]([^\"”]{2,80})[\"”]")
_QUESTION_WORDS = frozenset(
    """who what when where which whose whom how why is are was were do does did in on at of the a an for from by to
    has have had can between among both name during after before if with as""".split()
)


@lru_cache(maxsize=8192)
def words(text: str) -> tuple[str, ...]:
    """Lower-case word tokens without accents, in order."""
    plain = unicodedata.normalize("NFKD", text)
    plain = "".join(c for c in plain if not unicodedata.combining(c))
    return tuple(_WORD.findall(plain.casefold()))


def stem(word: str) -> str:
    """A crude stem: enough for "directed" to meet "director" and "born" nothing but itself."""
    if word.isdigit() or len(word) <= 4:
        return word
    for ending in (
        "ations",
        "ation",
        "ings",
        "ing",
        "ors",
        "ers",
        "or",
        "er",
        "ies",
        "ed",
        "es",
        "s",
        "e",
        "y",
    ):
        if word.endswith(ending) and len(word) - len(ending) >= 4:
            return word[: -len(ending)]
    return word


@lru_cache(maxsize=16384)
def content_words(text: str) -> frozenset[str]:
    """Stems of the words that are not stop words."""
    return frozenset(stem(w) for w in words(text) if w not in STOP_WORDS and (len(w) > 1 or w.isdigit()))


def core_title(title: str) -> str:
    """A title without its bracketed qualifier: "Devotion (1929 film)" is "Devotion"."""
    return re.sub(r"\s*\([^)]*\)\s*$", "", title).strip() or title


def occurs(needle: tuple[str, ...], haystack: tuple[str, ...]) -> int:
    """Index at which the words ``needle`` stand in ``haystack`` as one run, or -1."""
    size = len(needle)
    if not size or size > len(haystack):
        return -1
    first = needle[0]
    for i in range(len(haystack) - size + 1):
        if haystack[i] == first and haystack[i : i + size] == needle:
            return i
    return -1


@lru_cache(maxsize=16384)
def names(text: str) -> tuple[str, ...]:
    """Runs of capitalised words and quoted strings, each once, in order; a leading question word is cut off."""
    found: dict[str, None] = {}
    for match in _QUOTED.finditer(text):
        found[match.group(1).strip(" ,.?")] = None
    for match in _NAME.finditer(text):
        tokens = match.group().split()
        while tokens and tokens[0].casefold().strip(".,'’") in _QUESTION_WORDS:
            tokens = tokens[1:]
        name = " ".join(tokens).strip(" ,.?:&'’-")
        name = re.sub(r"['’]s$", "", name)
        if name and not (name.isdigit() and len(name) < 4) and not any(name in other for other in found):
            found[name] = None
    return tuple(found)
