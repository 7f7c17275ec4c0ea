"""``python -m ragpool.flows.serve``: the flows as deployments of a running Prefect server, executed here.

    prefect server start                                          # in another terminal
    export PREFECT_API_URL=http://127.0.0.1:4200/api
    python -m ragpool.flows.serve
    prefect deployment run answer-batch/ragpool -p questions=q.jsonl -p store=.ragpool -p out=answers.jsonl

Paths are those of the machine and folder in which this runs.
"""

from __future__ import annotations

import asyncio
import os
import sys


def main(limit: int = 1) -> int:
    """Serve until interrupted; at most ``limit`` runs at a time. Returns an exit code."""
    for name in ("PREFECT_SERVER_ANALYTICS_ENABLED", "PREFECT_TELEMETRY_ENABLE_RESOURCE_METRICS"):
        os.environ.setdefault(name, "false")
    os.environ.setdefault("DO_NOT_TRACK", "1")
    if not os.environ.get("PREFECT_API_URL"):
        sys.stderr.write(
            "ragpool: no Prefect server is named: run 'prefect server start' and set "
            "PREFECT_API_URL=http://127.0.0.1:4200/api\n"
        )
        return 2
    asyncio.run(_serve(limit))
    return 0


async def _serve(limit: int) -> None:
    from prefect import aserve
    from prefect.types.entrypoint import EntrypointType

    from .answer_flow import answer_batch
    from .evaluate_flow import evaluate
    from .ingest import ingest

    kind = EntrypointType.MODULE_PATH  # importable by name from an installed wheel, no source folder needed
    await aserve(
        await answer_batch.ato_deployment("ragpool", tags=["ragpool"], entrypoint_type=kind),
        await evaluate.ato_deployment("ragpool", tags=["ragpool"], entrypoint_type=kind),
        await ingest.ato_deployment("ragpool", tags=["ragpool"], entrypoint_type=kind),
        limit=limit,
    )


if __name__ == "__main__":
    sys.exit(main())
