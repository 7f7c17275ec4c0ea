"""What a batch shows in Prefect: its progress, a table of the answers, and a report with a picture."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, field
from uuid import UUID

from prefect.artifacts import acreate_progress_artifact, aupdate_progress_artifact

from .batch import Batch

_INTERVAL = 2.0  # seconds between two updates of the progress


@dataclass(slots=True)
class ProgressArtifact:
    """The share of questions that have their answer, kept up to date but not at every question."""

    batch: Batch
    id: UUID
    _shown: int = -1
    _at: float = field(default_factory=time.monotonic)

    @classmethod
    async def create(cls, batch: Batch) -> ProgressArtifact:
        return cls(batch, await acreate_progress_artifact(_percent(batch), artifact_key(batch, "progress"), _counts(batch)))

    async def update(self, *, last: bool = False) -> None:
        now = time.monotonic()
        if self.batch.finished == self._shown or (not last and now - self._at < _INTERVAL):
            return
        self._shown, self._at = self.batch.finished, now
        await aupdate_progress_artifact(self.id, _percent(self.batch), _counts(self.batch))


def artifact_key(batch: Batch, kind: str) -> str:
    """The key under which Prefect keeps the versions of an artifact: lower-case letters, digits and dashes."""
    job = re.sub(r"[^a-z0-9]+", "-", batch.work.job.lower()).strip("-")
    return f"{job[:60]}-{kind}" if job else kind


async def publish(batch: Batch) -> None:
    """Table and report of all answers of the file."""


def _percent(batch: Batch) -> float:
    return 100.0 * batch.finished / max(batch.work.total, 1)


def _counts(batch: Batch) -> str:
    return f"{batch.finished} of {batch.work.total} questions answered"
