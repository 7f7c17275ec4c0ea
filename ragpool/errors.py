"""Every error that ragpool raises on purpose.

    RagpoolError
    ├── SettingsError           a setting, option or model name is wrong           (exit code 2)
    ├── InputError              a question, document or data file is wrong         (exit code 2)
    │   └── LoadError           one file or URL could not be read; names it and the reason
    ├── MissingExtraError       an optional package is not installed; names the command that installs it
    ├── StoreError              the store on disk
    │   ├── StoreNotFoundError  no index there yet
    │   ├── StoreLockedError    another process is writing
    │   ├── EmbedderMismatchError  the index was built with another embedder
    │   └── SchemaError         the database is newer than this ragpool
    ├── ModelError              a model failed to load or to answer
    │   ├── TransientModelError network or rate limit; worth a retry
    │   └── ContextLengthError  the prompt does not fit; says by how much
    └── NotFoundError           a run, pool or document id that does not exist

Each message is one line and says what to do next.
"""

from __future__ import annotations


class RagpoolError(Exception):
    """Base of all errors raised on purpose. ``exit_code`` is what the command line returns."""

    exit_code = 1


class SettingsError(RagpoolError):
    """A setting, an option or a model name is wrong."""

    exit_code = 2


class InputError(RagpoolError):
    """A question, a document or a data file is wrong."""

    exit_code = 2


class LoadError(InputError):
    """One source could not be read. ``source`` names it, ``reason`` says why."""

    exit_code = 1

    def __init__(self, source: str, reason: str) -> None:
        super().__init__(f"{source}: {reason}")
        self.source = source
        self.reason = reason


class MissingExtraError(RagpoolError):
    """An optional package is needed."""

    exit_code = 2

    def __init__(self, package: str, extra: str | None, purpose: str) -> None:
        command = f"pip install 'ragpool[{extra}]'" if extra else f"pip install {package}"
        super().__init__(f"{purpose} needs the package {package}: {command}")
        self.package = package
        self.extra = extra


class StoreError(RagpoolError):
    """The store on disk cannot be used as asked."""


class StoreNotFoundError(StoreError):
    """There is no index at the given place."""

    exit_code = 2


class StoreLockedError(StoreError):
    """Another process is writing to the store."""


class EmbedderMismatchError(StoreError):
    """The index was built with another embedder than the settings name."""

    exit_code = 2


class SchemaError(StoreError):
    """The database has a schema that this version does not know."""


class ModelError(RagpoolError):
    """A model failed to load or to answer."""


class TransientModelError(ModelError):
    """The model was not reached or refused for now (network, rate limit): worth a retry."""


class ContextLengthError(ModelError):
    """The prompt does not fit the model's context."""


class NotFoundError(RagpoolError):
    """No such run, pool, document or passage."""

    exit_code = 2
