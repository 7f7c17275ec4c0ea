"""One writer at a time: a lock file in the store folder, and a note beside it that says who holds it.

The lock is the operating system's (``flock`` through filelock), so it ends with its process, also by ``kill -9``.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

from filelock import FileLock, Timeout

from ragpool.errors import StoreError, StoreLockedError

_LOCK_FILE = "index.lock"
_HOLDER_FILE = "index.lock.holder"


class WriterLock:
    """The right to change a store. ``acquire`` raises StoreLockedError that names the process holding it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = FileLock(folder / _LOCK_FILE, thread_local=False)
        self._holder = folder / _HOLDER_FILE

    @property
    def held(self) -> bool:
        return self._lock.is_locked

    def acquire(self, timeout: float = 1.0) -> None:
        """Take the lock within ``timeout`` seconds."""
        if not self.try_acquire(timeout):
            raise StoreLockedError(
                f"{self._folder} is being written by {self._holder_name()}: wait until it is done, or stop it"
            )

    def try_acquire(self, timeout: float = 0.0) -> bool:
        try:
            self._lock.acquire(timeout=timeout)
        except Timeout:
            return False
        except OSError as error:
            raise StoreError(
                f"cannot lock {self._folder}: {error.strerror}; is the folder writable?"
            ) from error
        self._holder.write_text(json.dumps({"pid": os.getpid(), "since": time.time()}), encoding="utf-8")
        return True

    def release(self) -> None:
        if self._lock.is_locked:
            self._holder.unlink(missing_ok=True)
            self._lock.release()

    def _holder_name(self) -> str:
        try:
            return f"process {int(json.loads(self._holder.read_text(encoding='utf-8'))['pid'])}"
        except (OSError, ValueError, KeyError, TypeError):
            return "another process"  # it is just taking or releasing the lock
