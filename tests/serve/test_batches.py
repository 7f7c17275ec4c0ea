"""Batches through the real Prefect flow, which brings its own server."""

from __future__ import annotations

import gc
import json
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
from scripted import CAPITALS, FOUNDERS, question
from served import Served, served


@pytest.fixture(autouse=True)
def _prefects_sockets() -> Iterator[None]:
    """Prefect leaves connections to its server for the garbage collector; they go here, not in a later test."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        yield
        gc.collect()


def test_a_batch_runs_through_the_flow_and_is_followed(store: Path) -> None:
    countries = list(CAPITALS)[:2]
    with served(store) as running:
        body = {"questions": [{"id": c, "question": question(c)} for c in countries]}
        started = running.http.post("/v1/batches", json=body)
        assert started.status_code == 202
        batch = started.json()
        assert (batch["state"], batch["total"]) == ("running", 2)
        assert running.http.post("/v1/batches", json=body).status_code == 409
        path = f"/v1/batches/{batch['id']}"
        end = time.monotonic() + 120
        while running.http.get(path).json()["state"] == "running" and time.monotonic() < end:
            time.sleep(0.1)
        followed = running.http.get(path).json()
        assert (followed["state"], followed["answered"], followed["failed"], followed["error"]) == (
            "done",
            2,
            [],
            None,
        )
        lines = [json.loads(line) for line in running.http.get(f"{path}/answers").text.splitlines()]
        assert {line["id"]: line["answer"] for line in lines} == {c: FOUNDERS[CAPITALS[c]] for c in countries}
        assert len(running.http.get("/v1/pools").json()["pools"]) == 2  # a batch's runs are their owner's
    with served(store) as running:
        assert running.http.get(path).json()["state"] == "done"


@pytest.mark.parametrize(
    "questions",
    [
        [],
        [{"id": "a", "question": ""}],
        [{"id": "a", "question": "x"}, {"id": "a", "question": "y"}],
        [{"id": "a", "question": " "}],
    ],
)
def test_a_wrong_batch(shared: Served, questions: list[dict[str, str]]) -> None:
    assert shared.http.post("/v1/batches", json={"questions": questions}).status_code == 400
