"""Every route against its OpenAPI document, with made-up requests, right ones and wrong ones."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import hypothesis
import pytest
import requests
import schemathesis
from schemathesis.specs.openapi.checks import positive_data_acceptance
from scripted import question
from served import Served, served

from ragpool.serve.app import create_app

DOCUMENT = create_app(None).openapi()  # type: ignore[arg-type] - the document needs no store
SCHEMA = schemathesis.openapi.from_dict(DOCUMENT)
OPERATIONS = [found.ok() for found in SCHEMA.get_all_operations()]
CASES = 30


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("contract") / "store", waiting=1000, workers=2) as opened:
        over = threading.Event()
        # no Prefect server for made-up batches: to the routes one is running already, which is an answer of theirs
        opened.parts.batches._thread = threading.Thread(target=over.wait)
        opened.parts.batches._thread.start()
        yield opened
        over.set()


def test_the_document_says_what_there_is() -> None:
    paths = {f"{method.upper()} {path}" for path, item in DOCUMENT["paths"].items() for method in item}
    assert {
        "POST /v1/chat/completions", "GET /v1/models", "POST /v1/ask", "POST /v1/search", "GET /v1/pools",
        "GET /v1/pools/{run_id}", "GET /v1/pools/{run_id}/export", "DELETE /v1/pools/{run_id}", "POST /v1/documents",
        "GET /v1/documents", "DELETE /v1/documents/{document_id}", "POST /v1/batches", "GET /v1/batches/{batch_id}",
        "GET /health", "GET /ready", "GET /metrics",
    } <= paths  # fmt: skip
    assert not any(
        "422" in operation["responses"] for item in DOCUMENT["paths"].values() for operation in item.values()
    )
    events = DOCUMENT["paths"]["/v1/ask"]["post"]["description"]
    for name in (
        "started",
        "retrieved",
        "pooled",
        "planned",
        "judged",
        "refined",
        "token",
        "citation",
        "answered",
        "error",
    ):
        assert f"`{name}`" in events


def real_ids(running: Served, key: dict[str, str]) -> dict[str, str]:
    """Of each kind one that the key owns."""
    asked = {"question": question("Ardona"), "conversation": "talk"}
    run_id = dict(running.events("/v1/ask", asked, headers=key))["started"]["run_id"]
    files = {"file": ("note.txt", b"A note.")}
    upload = running.http.post("/v1/documents", files=files, headers=key).json()["id"]
    where = f"/v1/uploads/{upload}"
    running.eventually(lambda: running.http.get(where, headers=key).json()["state"] == "done")
    [document] = running.http.get(where, headers=key).json()["documents"]
    batch = running.parts.batches._folder(key["Authorization"].split("-")[1], "a" * 32)
    batch.mkdir(parents=True)
    (batch / "questions.jsonl").write_text("{}\n")
    return {
        "run_id": run_id, "conversation": "talk", "upload_id": upload, "document_id": document, "batch_id": "a" * 32,
        "model": "ragpool-low",
    }  # fmt: skip


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda o: o.label)
def test_no_server_error_and_no_schema_violation(running: Served, operation: Any) -> None:
    key = {} if operation.path in ("/health", "/ready") else {"Authorization": f"Bearer {running.key()}"}
    # what a schema cannot say: a file is right by its name's ending, ids of a batch are each there once, the last
    # message is the user's
    unsaid = ("POST /v1/documents", "POST /v1/batches", "POST /v1/chat/completions")
    excluded = [positive_data_acceptance] if operation.label in unsaid else []
    ids = real_ids(running, key) if "{" in operation.path else {}
    statuses: list[int] = []
    with requests.Session() as session:

        @hypothesis.settings(
            max_examples=CASES,
            deadline=None,
            database=None,
            suppress_health_check=list(hypothesis.HealthCheck),
        )
        @hypothesis.seed(5)
        @hypothesis.given(case=operation.as_strategy())
        def check(case: Any) -> None:
            if ids and len(statuses) % 2 == 0:  # made-up ids are never there
                case.path_parameters.update({n: ids[n] for n in case.path_parameters})
            response = case.call_and_validate(
                base_url=running.url, session=session, headers=key, excluded_checks=excluded
            )
            statuses.append(response.status_code)

        check()
    assert max(statuses) < 500
    if operation.label not in (
        "POST /v1/documents",
        "POST /v1/batches",
    ):  # no made-up file has a known ending
        assert any(200 <= status < 300 for status in statuses), "only refusals were looked at"
