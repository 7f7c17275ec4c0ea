"""API keys: made once, kept only as a hash, compared in constant time."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import threading
import time
from dataclasses import asdict, dataclass

import sqlalchemy as sa

from ragpool import db
from ragpool.errors import InputError, NotFoundError

LOCAL = "local"  # the owner of what is asked without a key, on this machine
_PREFIX = "serve.key."
_FORM = re.compile(r"rp-([0-9a-f]{12})-([A-Za-z0-9_-]{20,128})")
FRESH = 1.0  # a running server looks this often, so that no request waits for the database
_STALE = 5.0  # and when it could not, a request does after this


@dataclass(frozen=True, slots=True)
class Key:
    """A key without its secret. ``id`` is the owner's name in scopes; times are seconds since the epoch."""

    id: str
    name: str
    sha256: str
    created: float
    revoked: float | None = None


class KeyRing:
    """The keys of a store; they are rows of its database, so several servers share them."""

    def __init__(self, database: db.Database) -> None:
        self._database = database
        self._lock = threading.Lock()
        self._known: tuple[Key, ...] = ()
        self._made = False
        self._read = float("-inf")

    def create(self, name: str) -> tuple[Key, str]:
        """A new key and its text, which is not kept and cannot be shown again."""
        name = " ".join(name.split())
        if not 1 <= len(name) <= 80:
            raise InputError("a key's name has 1 to 80 characters: name who or what uses it")
        identifier, secret = secrets.token_hex(6), secrets.token_urlsafe(32)
        key = Key(identifier, name, _digest(secret), time.time())
        with self._database.write() as connection:
            connection.execute(sa.insert(db.meta).values(key=_PREFIX + identifier, value=asdict(key)))
        self._read = float("-inf")
        return key, f"rp-{identifier}-{secret}"

    def revoke(self, identifier: str) -> Key:
        """From now on the key opens nothing. What it owned stays. Raises NotFoundError."""
        key = next((k for k in self.all() if k.id == identifier and k.revoked is None), None)
        if key is None:
            raise NotFoundError(f"no key {identifier!r} in use: list them with ragpool keys ls")
        revoked = Key(**{**asdict(key), "revoked": time.time()})
        with self._database.write() as connection:
            update = sa.update(db.meta).where(db.meta.c.key == _PREFIX + identifier)
            connection.execute(update.values(value=asdict(revoked)))
        self._read = float("-inf")
        return revoked

    def forget(self) -> int:
        """Drop the revoked keys and say how many; then the store is as if none had been made. Raises InputError while
        one is in use."""
        if any(key.revoked is None for key in self.all()):
            raise InputError("a key is in use: revoke it first (ragpool keys ls, ragpool keys revoke ID)")
        with self._database.write() as connection:
            gone = connection.execute(
                sa.delete(db.meta).where(db.meta.c.key.startswith(_PREFIX, autoescape=True))
            )
        self._read = float("-inf")
        return gone.rowcount

    def all(self) -> tuple[Key, ...]:
        """Every key that was ever made, oldest first."""
        select = sa.select(db.meta.c.value).where(db.meta.c.key.startswith(_PREFIX, autoescape=True))
        with self._database.read() as connection:
            found = [Key(**value) for value in connection.execute(select).scalars()]
        return tuple(sorted(found, key=lambda key: (key.created, key.id)))

    @property
    def stale(self) -> bool:
        """Whether ``active`` would have to read the database."""
        return time.monotonic() - self._read > _STALE

    def refresh(self) -> None:
        """Read which keys are in use."""
        found = self.all()
        known = tuple(key for key in found if key.revoked is None)
        with self._lock:
            self._known, self._made, self._read = known, bool(found), time.monotonic()

    def active(self) -> tuple[Key, ...]:
        """The keys that open something, as they were a moment ago."""
        if self.stale:
            self.refresh()
        return self._known

    def made(self) -> bool:
        """Whether there is a key, also a revoked one: to revoke the last key must open nothing."""
        if self.stale:
            self.refresh()
        return self._made

    def owner(self, token: str) -> str | None:
        """The id of the key that ``token`` is; None when it is none of them."""
        found = _FORM.fullmatch(token)
        identifier, secret = (found.group(1), found.group(2)) if found else ("", "")
        wanted = _digest(secret)
        opened: str | None = None
        for key in self.active():  # all of them, whichever fits: the time tells nothing
            same = hmac.compare_digest(key.sha256, wanted) & hmac.compare_digest(key.id, identifier)
            opened = key.id if same else opened
        return opened


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()  # 256 random bits need no slow hash
