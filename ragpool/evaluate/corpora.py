"""Further documents to search among, beside those of a data set."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ragpool.corpus import load
from ragpool.corpus.datasets import dataset_documents
from ragpool.errors import InputError, LoadError
from ragpool.types import Document

_NUMBER = re.compile(r" \(\d+\)$")


def read_distractors(path: Path) -> list[Document]:
    """The documents of a data set file, of {"title", "text"} lines without ids, or of anything ``ragpool index`` reads.

    Raises InputError.
    """
    if path.is_file() and path.suffix in (".json", ".jsonl"):
        try:
            return list(dataset_documents(path))
        except InputError:
            pass  # a documents.jsonl with ids, or broken: the loader below says what is wrong with it
    try:
        return list(load([path], on_error=_raise))
    except LoadError as error:
        raise InputError(str(error)) from error


def with_distractors(documents: Sequence[Document], further: Sequence[Document]) -> tuple[Document, ...]:
    """``documents`` and after them those of ``further`` that are new, by title and text (white space aside).

    Ids of ``documents`` stay, since gold evidence names them. A further document whose id is taken by another text
    gets " (2)", " (3)" and so on, as a data set's second paragraph under one title does.
    """
    known = {_content(document) for document in documents}
    ids = {document.id for document in documents}
    added: list[Document] = []
    for document in further:
        if _content(document) in known:
            continue
        known.add(_content(document))
        base = _NUMBER.sub("", document.id) if document.id != document.title.strip() else document.id
        identifier, number = document.id, 1
        while identifier in ids:
            number += 1
            identifier = f"{base} ({number})"
        ids.add(identifier)
        added.append(replace(document, id=identifier))
    return (*documents, *added)


def _content(document: Document) -> tuple[str, str]:
    return document.title.strip(), " ".join(document.text.split())


def _raise(error: LoadError) -> None:
    raise error
