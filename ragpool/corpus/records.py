"""JSON Lines, read so that every fault has a file and a line number."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from ragpool.types import Document

# An odd number of backslashes: an even one is a text about "\\u0000".
_ESCAPED_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")
_MAX_DEPTH = 100  # nested lists and objects; far below where Python's own recursion gives up


@dataclass(frozen=True, slots=True)
class Record:
    """One parsed line. ``value`` is None when the line is broken; ``fault`` then says how."""

    line: int
    value: dict[str, Any] | None
    fault: str = ""


def read_records(lines: Iterable[bytes]) -> Iterator[Record]:
    """A record for each line that is not blank; lines end at LF only, the first may begin with a BOM."""
    for number, raw in enumerate(lines, 1):
        if number == 1:
            raw = raw.removeprefix(b"\xef\xbb\xbf")
        if raw.strip():
            yield _parse(number, raw)


def parse_json(text: str) -> Any:
    """``json.loads`` that takes only what RFC 8259 allows. Every fault is a ValueError."""
    try:
        value = json.loads(text, parse_constant=_no_constant)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    level, depth = [value], 0
    while level := [c for v in level for c in _children(v)]:
        depth += 1
        if depth > _MAX_DEPTH:
            raise ValueError("nested too deeply")
    return value


def json_fault(error: ValueError) -> str:
    """The reason, short enough for one line, of an error of ``parse_json``."""
    if isinstance(error, json.JSONDecodeError):
        return f"not valid JSON ({error.msg} at column {error.colno})"
    return f"not valid JSON ({error})"


def document_from(value: Mapping[str, Any]) -> Document:
    """The document of one record of documents.jsonl. Raises ValueError with the reason.

    A number as id is taken as its text. Everything beside id, title and text is metadata; the entries of an
    object called "metadata" are lifted out of it, lists and objects are kept as their JSON text.
    """
    identifier = identifier_from(value)
    text = value.get("text")
    if not (isinstance(text, str) and text.strip()):
        raise ValueError('has no "text" (a string that is not empty); add it or remove the line')
    title = value.get("title")
    if title is not None and not isinstance(title, str):
        raise ValueError('has a "title" that is not a string; put it in quotes')
    extra = {k: v for k, v in value.items() if k not in ("id", "title", "text")}
    nested = extra.get("metadata")
    if isinstance(nested, dict):
        del extra["metadata"]
        extra = {**nested, **extra}
    metadata = {
        k: json.dumps(v, ensure_ascii=False) if isinstance(v, (list, dict)) else v for k, v in extra.items()
    }
    return Document(identifier, title or "", text, metadata)


def identifier_from(value: Mapping[str, Any], key: str = "id") -> str:
    """The record's id as a string. Raises ValueError when there is none."""
    identifier = value.get(key)
    if isinstance(identifier, int) and not isinstance(identifier, bool):
        return str(identifier)
    if not isinstance(identifier, str) or not identifier.strip():
        raise ValueError(f'has no "{key}" (a string); add it or remove the line')
    return identifier


def _parse(number: int, raw: bytes) -> Record:
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        fault = f"not UTF-8 (byte 0x{raw[error.start]:02x} at position {error.start} of the line)"
        return Record(number, None, f"{fault}; save the file as UTF-8")
    try:
        value = parse_json(text)
    except ValueError as error:
        return Record(number, None, f"{json_fault(error)}; fix or remove the line")
    if not isinstance(value, dict):
        return Record(number, None, "not a JSON object; write {...} or remove the line")
    # Neither SQLite nor PostgreSQL stores these, and the escapes that make them are easy to write in JSON.
    if "\\u" in text:
        plain = json.dumps(value, ensure_ascii=False)
        if any("\ud800" <= character <= "\udfff" for character in plain):
            return Record(number, None, "holds half of a surrogate pair (\\ud800 to \\udfff); fix the escape")
        if _ESCAPED_NUL.search(plain):
            return Record(number, None, "holds a NUL character (\\u0000); remove it")
    return Record(number, value)


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


def _children(value: Any) -> list[Any]:
    """The lists and objects directly inside a list or an object."""
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [child for child in inside if isinstance(child, (dict, list))]
