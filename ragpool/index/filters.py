"""Metadata filters: one meaning for the dense and the sparse index."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ragpool.errors import InputError

Where = Mapping[str, Any]


def matches(where: Where) -> Callable[[Mapping[str, Any]], bool]:
    """The predicate of ``where``: every key must match.

    ``{"year": 1990}`` is equality, ``{"year": {"$in": [1990, 1991]}}`` membership. Numbers are equal across int and
    float, true is not 1, and a missing key matches nothing (not even None). Raises InputError for anything else.
    """
    accepted: dict[str, list[Any]] = {}
    for key, condition in where.items():
        values = [condition]
        if isinstance(condition, Mapping):
            if set(condition) != {"$in"} or not isinstance(condition["$in"], list | tuple | set | frozenset):
                raise InputError(f'filter {key!r}: use a value or {{"$in": [values]}}')
            values = list(condition["$in"])
        if not all(value is None or isinstance(value, str | int | float | bool) for value in values):
            raise InputError(f"filter {key!r}: values are text, numbers, true, false or null")
        accepted[key] = values

    def predicate(metadata: Mapping[str, Any]) -> bool:
        return all(
            key in metadata and any(_equal(metadata[key], value) for value in values)
            for key, values in accepted.items()
        )

    return predicate


def _equal(left: Any, right: Any) -> bool:
    return isinstance(left, bool) == isinstance(right, bool) and bool(left == right)
