"""What a batch shows in Prefect: its progress, a table of the answers, and a report with a picture."""

from __future__ import annotations

import asyncio
import base64
import io
import re
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from prefect.artifacts import (
    acreate_image_artifact,
    acreate_markdown_artifact,
    acreate_progress_artifact,
    acreate_table_artifact,
    aupdate_progress_artifact,
)

from .batch import Batch

TABLE_ROWS = 500
"""The newest answers that the table shows; an artifact is one value in the server's database."""

_INTERVAL = 2.0  # seconds between two updates of the progress
_STATUSES = {"answered": "#2a78b5", "partial": "#e39b2d", "insufficient": "#9aa0a6"}  # also apart in grey

Line = Mapping[str, Any]


@dataclass(slots=True)
class ProgressArtifact:
    """The share of questions that have their answer, kept up to date but not at every question."""

    batch: Batch
    id: UUID
    _shown: int = -1
    _at: float = field(default_factory=time.monotonic)

    @classmethod
    async def create(cls, batch: Batch) -> ProgressArtifact:
        key = artifact_key(batch, "progress")
        return cls(batch, await acreate_progress_artifact(_percent(batch), key, _counts(batch)))

    async def update(self, *, last: bool = False) -> None:
        now = time.monotonic()
        if self.batch.finished == self._shown or (not last and now - self._at < _INTERVAL):
            return
        self._shown, self._at = self.batch.finished, now
        await aupdate_progress_artifact(self.id, _percent(self.batch), _counts(self.batch))


async def publish(batch: Batch) -> None:
    """The table and the report, over every line of the answers file."""
    lines = await asyncio.to_thread(batch.work.file.read)
    shown = lines[-TABLE_ROWS:]
    left_out = "" if len(shown) == len(lines) else f"The newest {len(shown)} of {len(lines)} answers. "
    where = f"{left_out}All of them, with evidence: {batch.work.file.path}"
    await acreate_table_artifact([table_row(line) for line in shown], artifact_key(batch, "answers"), where)
    image = await asyncio.to_thread(picture, lines) if lines else ""
    text = report(batch.work.job, batch.work.total, lines, batch.failed, image)
    await acreate_markdown_artifact(
        text, artifact_key(batch, "report"), f"Report of the batch {batch.work.job}"
    )
    if image:  # once more by itself: some viewers of Markdown show no data URIs
        await acreate_image_artifact(
            image, artifact_key(batch, "picture"), f"The batch {batch.work.job} at a glance"
        )


def artifact_key(batch: Batch, kind: str) -> str:
    """The key under which Prefect keeps the versions of an artifact: lower-case letters, digits and dashes."""
    job = re.sub(r"[^a-z0-9]+", "-", batch.work.job.lower()).strip("-")
    return f"{job[:60]}-{kind}" if job else kind


def table_row(line: Line) -> dict[str, Any]:
    """A line of answers.jsonl as a row for people."""
    cited = dict.fromkeys(citation["document_id"] for citation in line["citations"])
    return {
        "id": line["id"],
        "question": line["question"],
        "answer": line["answer"],
        "status": line["status"],
        "rounds": line["rounds"],
        "stop reason": line["stop_reason"],
        "citations": ", ".join(cited),
        "seconds": round(line["seconds"], 1),
    }


def report(
    job: str, total: int, lines: Sequence[Line], failed: Sequence[tuple[str, str]], image: str = ""
) -> str:
    """The report as Markdown; ``image`` is the address of its picture."""
    parts = [
        f"# Batch {job}",
        "",
        f"{len(lines)} answers in the file, {total} questions asked, {len(failed)} failed.",
        "",
    ]
    if lines:
        usage = {key: sum(line["usage"][key] for line in lines) for key in lines[0]["usage"]}
        seconds = sorted(line["seconds"] for line in lines)
        parts += [
            *_markdown_table(("status", "questions"), _counted(lines, "status")),
            *_markdown_table(("stop reason", "questions"), _counted(lines, "stop_reason")),
            *_markdown_table(
                ("cost", "sum", "a question"),
                [
                    *(
                        (name.replace("_", " "), f"{n:,}", f"{n / len(lines):,.1f}")
                        for name, n in usage.items()
                    ),
                    ("seconds", f"{sum(seconds):,.1f}", f"{seconds[len(seconds) // 2]:.2f} (median)"),
                ],
            ),
        ]
    if image:
        parts += [f"![Status by rounds, stop reasons, and seconds a question]({image})", ""]
    if failed:
        parts += ["## Failed", "", "The next run of the same batch tries them again.", ""]
        parts += _markdown_table(("id", "reason"), failed)
    return "\n".join(parts)


def picture(lines: Sequence[Line]) -> str:
    """A PNG as a data URI, so that it needs no file beside it: what became of the questions by rounds and by stop
    reason, and the seconds they took."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 3.2), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    by_rounds, by_reason, by_time = figure.subplots(1, 3, width_ratios=(1, 1.25, 1))
    rounds = sorted({line["rounds"] for line in lines})
    reasons = [reason for reason, _ in Counter(line["stop_reason"] for line in lines).most_common()][::-1]
    so_far, so_far_reason = [0] * len(rounds), [0] * len(reasons)
    for status, colour in _STATUSES.items():
        of_status = [line for line in lines if line["status"] == status]
        if not of_status:
            continue
        counts = [sum(line["rounds"] == number for line in of_status) for number in rounds]
        by_rounds.bar([str(number) for number in rounds], counts, bottom=so_far, color=colour, label=status)
        so_far = [a + b for a, b in zip(so_far, counts, strict=True)]
        counts = [sum(line["stop_reason"] == name for line in of_status) for name in reasons]
        by_reason.barh([name.replace("_", " ") for name in reasons], counts, left=so_far_reason, color=colour)
        so_far_reason = [a + b for a, b in zip(so_far_reason, counts, strict=True)]
    by_time.hist([line["seconds"] for line in lines], bins=min(20, max(5, len(lines) // 4)), color="#5f6b73")
    for axes, title, label in (
        (by_rounds, "Rounds of retrieval", "rounds"),
        (by_reason, "Why the loop stopped", "questions"),
        (by_time, "Time a question took", "seconds"),
    ):
        axes.set_title(title, fontsize=10)
        axes.set_xlabel(label, fontsize=9)
        axes.tick_params(labelsize=8)
        axes.spines[["top", "right"]].set_visible(False)
    for axis in (by_rounds.yaxis, by_reason.xaxis, by_time.yaxis):
        axis.get_major_locator().set_params(integer=True)
    by_rounds.set_ylabel("questions", fontsize=9)
    figure.legend(loc="outside lower center", ncols=3, fontsize=8, frameon=False)
    data = io.BytesIO()
    figure.savefig(data, format="png")
    return f"data:image/png;base64,{base64.b64encode(data.getvalue()).decode('ascii')}"


def _counted(lines: Sequence[Line], key: str) -> list[tuple[str, int]]:
    return Counter(line[key].replace("_", " ") for line in lines).most_common()


def _markdown_table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> list[str]:
    cells = [head, ["---"] * len(head), *([str(cell).replace("|", "\\|") for cell in row] for row in rows)]
    return [*(f"| {' | '.join(row)} |" for row in cells), ""]


def _percent(batch: Batch) -> float:
    return 100.0 * batch.finished / max(batch.work.total, 1)


def _counts(batch: Batch) -> str:
    return f"{batch.finished} of {batch.work.total} questions answered"
