"""Normal forms of texts: which queries are the same query, which passages have the same content."""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata

_KEPT = "#"  # "C#" is not "C"
_SHORT = 20  # words


def normalise_query(text: str) -> str:
    """The normal form of a query: compatibility forms, case, punctuation and white space are folded.

    Two queries with the same normal form are the same query. Idempotent.
    """
    while True:
        # folding case can bring out a sequence that composes, so once is not always enough
        folded = _fold(text)
        if folded == text:
            return folded
        text = folded


def query_key(text: str) -> str:
    """A digest of the query's normal form, 64 hexadecimal digits."""
    return _digest(normalise_query(text))


def question_key(question_id: str, question: str) -> str:
    """What makes a question the same one within a job: a digest of its id and text, 64 hexadecimal digits."""
    return _digest(json.dumps([question_id, question]))


def words_of(title: str, text: str) -> tuple[str, ...]:
    """The words that make up a passage's content, in normal form.

    A copy of a file often has another title, so titles do not count; but a short text ("It closed in 1950.")
    says something only together with its title.
    """
    words = tuple(re.findall(r"\w+", _fold(text)))
    return words if len(words) >= _SHORT else (*re.findall(r"\w+", _fold(title)), "\n", *words)


def storable(text: str) -> str:
    """``text`` without what a database refuses: NUL and lone surrogates become U+FFFD."""
    return text.replace("\x00", "\ufffd").encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _fold(text: str) -> str:
    text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    kept = []
    for character in text:
        category = unicodedata.category(character)
        if category == "Cf":  # soft hyphen, zero-width space: nobody sees them
            continue
        folded = category[0] == "P" and character not in _KEPT
        kept.append(" " if folded else character)
    return " ".join("".join(kept).split())


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
