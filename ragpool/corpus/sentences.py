"""Sentence boundaries by rule: no model, no word list longer than a screen, offsets always exact."""

from __future__ import annotations

import re

from ragpool.types import Span

# A stop, any closing quotes or brackets, then white space (or none after a full-width stop).
_CANDIDATE = re.compile(
    r"(?<![.!?…؟।])(?P<stop>[.!?…؟।]+)(?P<close>[\"'”’»)\]]*)(?=\s)"
    r"|(?P<wide>[。！？｡]+)(?P<wideclose>[」』”’）】》〉]*)"
    r"|\n\s*\n"
    r"|\n(?=[ \t]*(?:[-*•#|]|\d+[.)])[ \t#|])"
    r"|(?:(?<=\n)|\A)[ \t]*#{1,6}[ \t][^\n]*(?=\n)"
)
_NEXT = re.compile(r"\s*([\"'“‘«(\[]*\s?)(\w+|\S)")
_LAST_WORD = re.compile(r"[^\s(\[\"“‘'«—–/]*\Z")


# Never the end of a sentence: a name follows.
_TITLES = frozenset(
    "mr mrs ms mx dr prof st ste rev fr hon gen col maj capt cpt lt cmdr sgt cpl pvt adm gov sen rep "
    "pres mt ft messrs mme mlle mgr msgr vs v cf e.g i.e viz approx esp fig figs eq eds ed trans lit "
    "a.k.a rs th".split()
)
# Not the end when a number follows.
_NUMBERED = frozenset(
    "no nos vol vols p pp art sec ch chap ca c circa b d r fl op jan feb mar apr jun jul aug sep sept "
    "oct nov dec nr pt bk ser".split()
)
# The end only when the next word often opens a sentence; so are single letters and U.S., a.m., J.R.R.
_EITHER = frozenset(
    "inc ltd co corp llc plc bros etc al ph.d b.sc m.sc d.phil ll.b ll.d ave blvd rd dept univ assn jr "
    "sr esq".split()
)
_OPENERS = frozenset(
    "a after all although an and as at because before both but by during each every following for from "
    "he her his how however i if in it its many most near no not of on one other over she since so some "
    "such that the their then there these they this those though three to today two under unlike until "
    "we what when where which while who why with you".split()
)
_QUOTATIVE = "とって，,、"  # a quoted sentence that the outer one carries on


def sentences(text: str) -> list[Span]:
    """The sentences of ``text``, in order; each begins and ends at a non-space character, none overlap.

    Together they hold every non-space character. Blank lines, Markdown headings and list items end a
    sentence; a single line break does not. Blank text has none.
    """
    cuts = [match.end() for match in _CANDIDATE.finditer(text) if _is_end(text, match)]
    spans = []
    start = 0
    for cut in (*cuts, len(text)):
        piece = text[start:cut]
        stripped = piece.strip()
        if stripped:
            first = start + len(piece) - len(piece.lstrip())
            spans.append(Span(first, first + len(stripped)))
        start = cut
    return spans


def _is_end(text: str, match: re.Match[str]) -> bool:
    if match["wide"]:
        return not (match["wideclose"] and text[match.end() : match.end() + 1] in _QUOTATIVE)
    if not match["stop"]:
        return True
    following = _NEXT.match(text, match.end())
    if following is None:
        return True
    word = following[2]
    if word[0].islower():
        return False
    if match["stop"] != ".":
        return True
    last = _LAST_WORD.search(text, max(0, match.start() - 24), match.start())
    before = last[0] if last else ""
    lowered = before.lower()
    # "A." after "J." is the next initial, not the article.
    opens = word.lower() in _OPENERS and text[following.end() : following.end() + 1] != "."
    if lowered in _TITLES:
        return False
    if lowered in _NUMBERED:
        return not word[0].isdigit() and (len(before) > 1 or opens)
    if lowered in _EITHER or (re.fullmatch(r"(?:\w\.)*\w", before) and not before.isdigit()):
        return opens
    return True
