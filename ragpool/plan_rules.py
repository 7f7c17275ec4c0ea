"""Plans by pattern, without a model: "X or Y" comparisons, "the same R" questions, "the R of the S of X" chains.

A pattern speaks only when it accounts for the whole question; otherwise it leaves the question to a model.
"""

from __future__ import annotations

import re

# (what the question says, the relation that is compared, the operation); the first that is found counts
_COMPARISONS = tuple(
    (re.compile(rf"\b(?:{words})\b", re.IGNORECASE), relation, operation)
    for words, relation, operation in (
        ("older|born (?:first|earlier)", "date of birth", "earlier"),
        ("younger|born (?:later|last)", "date of birth", "later"),
        ("died? (?:first|earlier)", "date of death", "earlier"),
        ("died? (?:later|last)", "date of death", "later"),
        ("(?:released|came out|come out|published) (?:first|earlier)", "publication date", "earlier"),
        (
            "(?:released|came out|come out|published) (?:later|last|more recently)",
            "publication date",
            "later",
        ),
        ("(?:founded|formed|established|built|opened) (?:first|earlier)", "date founded", "earlier"),
        ("(?:founded|formed|established|built|opened) (?:later|last|more recently)", "date founded", "later"),
        ("(?:larger|more|higher|bigger) (?:population|inhabitants)", "population", "larger"),
        ("(?:smaller|fewer|lower) (?:population|inhabitants)", "population", "smaller"),
    )
)
_NAME = r"(?:[A-Z0-9\"'¡¿#$(]|[^\W\d_a-z])"  # a name begins with one of these, never with a lower case letter
# a subject that ends in a lower case word has swallowed one the pattern does not know: "The Lark educated | author"
_LEFT_OVER = re.compile(r"^[^?|][^|]*\s[a-z]{3,}\s*\|")
_ROLES = "director|author|writer|composer|performer|producer|founder"
# a role is a step only where something has it; else it says what the two are: "Which author was born first, ..."
_STEP = re.compile(
    rf"(?:\b(?:has|have|had|whose|with|by|did)\s+|['’]s?\s+)(?:(?:the|an?)\s+)?(?:[a-z]+\s+)?(?P<had>{_ROLES})s?\b"
    rf"|\b(?P<of>{_ROLES})s?\s+of\s+"
    r"(?:(?:which|both|these|the\s+two)\b|(?:(?:the|both|two)\s+)*(?:[a-z]+[,:]?\s+){0,2}$)"
)
_EITHER = re.compile(rf"(?:,\s*|\b(?:first|later|earlier|last|older|younger|recently|between|is|was|did)[,:]?\s+)"
                     rf"(?P<a>{_NAME}[^?]*?)\s+or\s+(?P<b>{_NAME}[^?]*?)\s*\?*$")  # fmt: skip
_OUT_OF = re.compile(
    rf"\b(?:out of|between|among)\s+(?P<a>{_NAME}[^?]*?)\s+and\s+(?P<b>{_NAME}[^?]*?)\s*\?*$"
)
_WHICH_OF_TWO = re.compile(
    rf"^(?:Was|Were|Did|Is)\s+(?P<a>{_NAME}[^?]*?)\s+or\s+(?P<b>{_NAME}[^?]*?)\s+(?:born|die|released|published|founded)\b"
)
_AFTER_NAME = re.compile(
    r"\s+(?:(?:was|is|were)\s+)?(?:born|die|died|released|published|founded|come out)\s+\w+$"
)
_SAME = re.compile(
    rf"^(?:Are|Were|Is|Do|Did|Does|Was)\s+(?P<head>(?:[a-z]\w*[,:]?\s+)*)(?P<a>{_NAME}[^?]*?),?\s+(?:and|as)\s+"
    rf"(?:the\s+)?(?:directors?\s+of\s+(?:the\s+)?(?:films?|movies?)\s+)?(?P<b>{_NAME}[^?]*?),?\s+"
    r"(?:(?:both(?:\s+(?!born|located|situated|in|of|from|originate|share|ha)[a-z]+)?|members|films|movies)\s+)*"
    r"(?P<how>(?:located|born|situated)\s+in|in|of|from|originate\s+from|share|have|has)\s+(?:the\s+)?"
    rf"(?:(?P<role>{_ROLES})s?\s+"
    r"(?:(?:who|that)\s+)?(?:(?:are|were)\s+)?(?:from|share|of|have)\s+(?:the\s+)?)?same\s+(?P<r>[a-z ]+?)\s*\?*$"
)
_SAME_AS = re.compile(
    rf"^(?:Does|Did|Is|Was)\s+(?P<a>{_NAME}[^?]*?)\s+(?:have|share|of|from|come from)\s+the\s+same\s+(?P<r>[a-z]+)\s+"
    rf"(?:as|with)\s+(?P<b>{_NAME}[^?]*?)\s*\?*$"
)
_WORKS = re.compile(
    r"\b(?:films?|movies?|bands?|songs?|albums?|series|books?|novels?|magazines?)\b", re.IGNORECASE
)
_ASKS = (
    (re.compile(r"^(?:When|Where|Why)\s+(?:did|does)\s+(?P<rest>.+?)\s+die\s*\?*$"), "death"),
    (re.compile(r"^(?:When|Where)\s+(?:was|is)\s+(?P<rest>.+?)\s+born\s*\?*$"), "birth"),
    (re.compile(r"^When\s+(?:was|is)\s+(?P<rest>.+?)\s*'s\s+birthday\s*\?*$"), "birth"),
    (
        re.compile(r"^What\s+(?:nationality|is the nationality)\s+(?:is|was|of)\s+(?P<rest>.+?)\s*\?*$"),
        "nationality",
    ),
    (
        re.compile(
            r"^(?:Which|What)\s+country\s+(?:is\s+|was\s+)?(?P<rest>.+?)\s+(?:is\s+|was\s+)?from\s*\?*$"
        ),
        "nationality",
    ),
    (
        re.compile(
            r"^Where\s+did\s+(?P<rest>.+?)\s+(?:study|graduate from|graduate|go to (?:school|college))\s*\?*$"
        ),
        "study",
    ),
    (
        re.compile(
            r"^(?:What|Which)\s+(?:is the\s+)?awards?\s+(?:that\s+)?(?:did\s+)?(?P<rest>.+?)\s+(?:received?|got|get|won|win)\s*\?*$"
        ),
        "award",
    ),
    (re.compile(r"^(?:What|Who|Where|When|Which)\s+(?:is|was|are|were)\s+(?P<rest>.+?)\s*\?*$"), ""),
)
_ASKED = {
    ("When", "death"): "date of death",
    ("Where", "death"): "place of death",
    ("Why", "death"): "cause of death",
    ("When", "birth"): "date of birth",
    ("Where", "birth"): "place of birth",
    ("What", "nationality"): "country of citizenship",
    ("Which", "nationality"): "country of citizenship",
    ("Where", "study"): "educated at",
    ("What", "award"): "award received",
    ("Which", "award"): "award received",
}
_HOP = re.compile(
    r"^(?:the\s+)?(?P<hop>(?:date|place|cause|country)\s+of\s+(?:birth|death|burial|origin|citizenship)"
    r"|[a-z][a-z-]*(?:\s+[a-z][a-z-]*){0,2}?)\s+of\s+"
)
_KIND = re.compile(rf"^(?:the\s+)?(?:film|movie|song|album|book|novel|band|play|series)\s+(?={_NAME})")
_OWNED = re.compile(r"^(?P<owner>.+?)\s*(?:'s|s')\s+(?P<hop>[a-z][a-z-]*(?:\s+[a-z-]+)?)$")
_CLAUSE = re.compile(
    r"\b(?:where|who|which|that|when|whose|located|formed|born|died|made|produced|directed)\b"
)

# kinship in steps that texts state, the last step first: a father-in-law is the father of the spouse
_KIN = {
    "wife": ("spouse",),
    "husband": ("spouse",),
    "paternal grandfather": ("father", "father"),
    "paternal grandmother": ("mother", "father"),
    "maternal grandfather": ("father", "mother"),
    "maternal grandmother": ("mother", "mother"),
    "father-in-law": ("father", "spouse"),
    "mother-in-law": ("mother", "spouse"),
    "stepmother": ("spouse", "father"),
    "stepfather": ("spouse", "mother"),
    "son-in-law": ("spouse", "child"),
    "daughter-in-law": ("spouse", "child"),
    "child-in-law": ("spouse", "child"),
    "sibling-in-law": ("sibling", "spouse"),
    "nationality": ("country of citizenship",),
    "birthplace": ("place of birth",),
    "birthday": ("date of birth",),
}


def plan_lines(question: str) -> list[str]:
    """The plan's lines, or none."""
    text = " ".join(question.split())
    lines = _compared(text) or _same(text) or _chain(text)
    return [] if any(_LEFT_OVER.search(line) for line in lines) else lines


def _compared(text: str) -> list[str]:
    for pattern, relation, operation in _COMPARISONS:
        if not pattern.search(text):
            continue
        names = _WHICH_OF_TWO.match(text) or _EITHER.search(text) or _OUT_OF.search(text)
        if names:
            pair = (names["a"], _AFTER_NAME.sub("", names["b"]))
            return _two_chains(pair, _step(text[: names.start("a")]), relation, operation)
    return []


def _same(text: str) -> list[str]:
    names = _SAME.match(text)
    if names:
        through = names["role"] or _step(names["head"])
        kind = names["head"].split()[-1:]  # what the two are: of "film directors" the last word says it
        about = " ".join([*kind, text[names.start("a") :]])
        relation = _shared(names["r"].strip(), names["how"], about, through)
        second = re.sub(r"\s+(?:films|movies)$", "", names["b"])
        return _two_chains((names["a"], second), through, relation, "same")
    names = _SAME_AS.match(text)
    return (
        _two_chains((names["a"], names["b"]), None, _shared(names["r"], "from", text, None), "same")
        if names
        else []
    )


def _step(head: str) -> str | None:
    """The role that leads from each of the two to what is compared, by the words before their names."""
    role = _STEP.search(head)
    return (role["had"] or role["of"]) if role else None


def _shared(asked: str, how: str, text: str, through: str | None) -> str:
    """The relation behind "the same ...": what a country is to a place, a work or a person."""
    if asked == "place":
        return "place of birth" if "born" in how else "location"
    if asked not in ("country", "nationality"):
        return asked
    if "in" in how.split():
        return "country"
    return "country of origin" if _WORKS.search(text) and not through else "country of citizenship"


def _two_chains(names: tuple[str, str], through: str | None, relation: str, operation: str) -> list[str]:
    lines: list[str] = []
    for name in names:
        subject = name.strip(" ,")
        for hop in ([through] if through else []) + [relation]:
            lines.append(f"{subject} | {hop} | ?{len(lines) + 1}")
            subject = f"?{len(lines)}"
    return [*lines, f"= {operation}"]


def _chain(text: str) -> list[str]:
    """``What is the R of the S of X?``: X | S | ?1, ?1 | R | ?2."""
    matches = ((pattern.match(text), about) for pattern, about in _ASKS)
    asked, about = next(((match, about) for match, about in matches if match), (None, ""))
    if asked is None:
        return []
    hops = [_ASKED[text.split()[0], about]] if about else []
    rest = asked["rest"]
    while hop := _HOP.match(rest):
        hops += _KIN.get(hop["hop"], (hop["hop"],))
        rest = rest[hop.end() :]
    rest = _KIND.sub("", rest).removeprefix("the ").strip()
    owned = _OWNED.match(rest)
    if owned:
        hops += _KIN.get(owned["hop"], (owned["hop"],))
        rest = _KIND.sub("", owned["owner"])
    if not hops or not re.match(_NAME, rest) or _CLAUSE.search(rest) or "?" in rest:
        return []
    subjects = [rest, *(f"?{n}" for n in range(1, len(hops)))]
    return [
        f"{s} | {hop} | ?{n}"
        for n, (s, hop) in enumerate(zip(subjects, reversed(hops), strict=True), start=1)
    ]
