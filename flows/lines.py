"""answers.jsonl as a file that can be killed: one line a question, on the disk before the next one is begun."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ragpool.errors import InputError
from ragpool.pool import answer_json
from ragpool.types import Answer

_BEGINNING = b'{"id": "'  # of every line written here


class AnswersFile:
    """The answers of a batch, in the order in which the questions finished.

    Opening it reads what is there: ``done`` are the ids that have their line. A last line that a kill tore is cut
    off, one that lacks only its line end gets it. A file that this batch did not write is refused with InputError and
    left as it is. Safe to use from several threads; one process at a time.
    """

    def __init__(self, path: Path, questions: Mapping[str, str], config_hash: str) -> None:
        self.path = path
        self.done: set[str] = set()
        self._questions = questions
        self._config_hash = config_hash
        self._lock = threading.Lock()
        try:
            self._read()
        except OSError as error:
            raise InputError(f"{path}: {error.strerror}; name another file with --out") from error

    def append(self, answer: Answer) -> bool:
        """Write the answer's line; False when its question has one already. Raises OSError when the disk is full."""
        line = json.dumps(answer_json(answer), ensure_ascii=False).encode() + b"\n"
        with self._lock:
            if answer.id in self.done:
                return False
            is_new = not self.path.exists()
            with self.path.open("ab", buffering=0) as file:
                end = file.tell()
                try:
                    written = 0
                    while written < len(line):
                        written += file.write(line[written:])
                    os.fsync(file.fileno())
                except OSError:
                    file.truncate(end)  # half a line helps nobody
                    raise
            if is_new:
                _sync_folder(self.path.parent)
            self.done.add(answer.id)
            return True

    def read(self) -> list[dict[str, Any]]:
        """All lines as they are in the file."""
        if not self.path.exists():
            return []
        return [json.loads(line) for line in self.path.read_bytes().splitlines()]

    def _read(self) -> None:
        if not self.path.exists():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            return
        if self.path.is_dir():
            raise InputError(f"{self.path}: is a folder; name a file with --out")
        whole = 0  # bytes up to the end of the last good line
        with self.path.open("rb") as file:
            for number, line in enumerate(file, 1):
                value = _parse(line)
                if value is None and not line.endswith(b"\n") and _torn(line):
                    break
                self._check(number, value)
                whole += len(line)
                if not line.endswith(b"\n"):
                    whole = -1
        self._repair(whole)

    def _check(self, number: int, value: dict[str, Any] | None) -> None:
        place = f"{self.path}: line {number}"
        if value is None or not {"id", "question", "answer", "run_id", "config_hash"} <= value.keys():
            raise InputError(f"{place} is not an answer of 'ragpool batch'; name another file with --out")
        identifier = str(value["id"])
        if value["config_hash"] != self._config_hash:
            raise InputError(
                f"{place} was answered with other settings ({value['config_hash']}, now {self._config_hash}); "
                "name another file with --out, or use the settings of then"
            )
        asked = self._questions.get(identifier)
        if asked is not None and asked != value["question"]:
            raise InputError(
                f"{place} answers another question under the id {identifier}; name another file with --out"
            )
        self.done.add(identifier)

    def _repair(self, whole: int) -> None:
        """Cut the file after ``whole`` bytes; -1: all of it is good, but the last line end is missing."""
        if whole == self.path.stat().st_size:
            return
        with self.path.open("r+b") as file:
            if whole < 0:
                file.seek(0, os.SEEK_END)
                file.write(b"\n")
            else:
                file.truncate(whole)
            file.flush()
            os.fsync(file.fileno())


def _parse(line: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(line)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def _torn(line: bytes) -> bool:
    """Is this the beginning of a line of ours, or space that a crash left unwritten?"""
    return line.startswith(_BEGINNING) or _BEGINNING.startswith(line) or not line.strip(b"\0")


def _sync_folder(folder: Path) -> None:
    """Make a new file's name durable, where folders can be synchronised at all."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
