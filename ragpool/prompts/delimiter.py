"""The word on the lines around quoted passages: nobody can guess it, and it stays while a pool grows."""

from __future__ import annotations

import hmac
import os
import secrets
from contextlib import suppress
from pathlib import Path

from ragpool.errors import StoreError

_BYTES = 32
_PROCESS_KEY = secrets.token_bytes(_BYTES)


def delimiter(first: str, key: bytes = _PROCESS_KEY) -> str:
    """16 hex digits, a digest of ``first`` under a secret key.

    ``first`` is what the quoted part begins with, so that prompts over the same growing pool share their beginning
    and a local model reads it once. Without the key it cannot be told from random digits, also by who wrote ``first``.
    """
    return hmac.new(key, first.encode("utf-8", "surrogatepass"), "sha256").hexdigest()[:16]


def delimiter_key(folder: Path | None) -> bytes:
    """The key that is kept in ``folder``, made with the first call; None: this process's own.

    Kept beside prompt files, it lets the next process use them. Raises StoreError when the folder cannot be used.
    """
    if folder is None:
        return _PROCESS_KEY
    file = folder / "delimiter.key"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not file.is_file():
            temporary = file.with_name(f"{file.name}.{secrets.token_hex(4)}")
            with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as new:
                new.write(secrets.token_bytes(_BYTES))
            with suppress(FileExistsError):  # whoever was first wins
                os.link(temporary, file)
            temporary.unlink()
        key = file.read_bytes()
    except OSError as error:
        raise StoreError(f"{file} cannot be used ({error.strerror}): choose another prefix_folder") from error
    if len(key) != _BYTES:
        raise StoreError(f"{file} is damaged: delete it, prompts are then read afresh once")
    return key
