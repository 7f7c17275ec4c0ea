"""Uploads in the background: progress, names, damage, the web."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from served import Served, served

from ragpool.serve import fetch


def upload(running: Served, name: str, content: bytes, state: str = "done") -> dict[str, Any]:
    response = running.http.post("/v1/documents", files={"file": (name, content)})
    assert response.status_code == 202, response.text
    job = response.json()
    assert job["state"] == "waiting"

    def ended() -> bool:
        job.update(running.http.get(f"/v1/uploads/{job['id']}").json())
        return job["state"] in ("done", "failed")

    running.eventually(ended)
    assert job["state"] == state, job
    return job


def test_an_upload_is_searched_opened_and_deleted(shared: Served) -> None:
    text = "Ironvale is a country in the east. The capital of Ironvale is Rookhaven."
    job = upload(shared, "Ironvale notes.txt", text.encode())
    [name] = job["documents"]
    assert (name, job["error"], job["done"]) == ("upload/local/Ironvale notes.txt", None, 1)
    hits = shared.http.post("/v1/search", json={"query": "capital of Ironvale", "k": 1}).json()["hits"]
    assert hits[0]["document_id"] == name
    shown = shared.http.get(f"/v1/documents/{name}", params={"passage": hits[0]["passage_id"]}).json()
    assert shown["text"][shown["start"] : shown["end"]] == text
    assert shown["title"] == "Ironvale notes"
    listed = shared.http.get("/v1/documents", params={"q": "ironvale"}).json()
    assert (listed["total"], listed["documents"][0]["yours"]) == (1, True)
    assert shared.http.delete(f"/v1/documents/{name}").status_code == 204
    assert shared.http.get(f"/v1/documents/{name}").status_code == 404
    assert shared.http.delete(f"/v1/documents/{name}").status_code == 404


@pytest.mark.parametrize(
    "name",
    [
        "../../../etc/cron.d/x.txt",
        "/etc/passwd.txt",
        "C:\\windows\\x.txt",
        "..%2f..%2fx.txt",
        "\u202etxt.exe.txt",
        ".txt",
    ],
)
def test_a_name_never_becomes_a_path(shared: Served, tmp_path: Path, name: str) -> None:
    before = {p for p in shared.rag.folder.rglob("*") if "txt" in p.name}
    job = upload(shared, name, b"A text that is here.") if name != ".txt" else None
    if job is not None:
        [identifier] = job["documents"]
        assert identifier.startswith("upload/local/")
        assert "/" not in identifier.removeprefix("upload/local/")
        shared.http.delete(f"/v1/documents/{identifier}")
    assert {p for p in shared.rag.folder.rglob("*") if "txt" in p.name} == before
    assert not list(Path(shared.parts.ingest._folder.name).iterdir())


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.pdf", b"%PDF-1.4 no"),
        ("a.docx", b"PK\x03\x04"),
        ("a.txt", b"\xff\xfe\x00"),
        ("a.jsonl", b"{"),
        ("a.md", b"   "),
    ],
)
def test_a_damaged_file_fails_with_a_reason_and_stops_nothing(
    shared: Served, name: str, content: bytes
) -> None:
    job = upload(shared, name, content, state="failed")
    assert job["error"]
    assert "/tmp" not in job["error"]
    again = upload(shared, "fine.txt", b"This one is fine.")
    shared.http.delete(f"/v1/documents/{again['documents'][0]}")


def test_what_is_refused_at_once(shared: Served) -> None:
    def status(name: str, content: bytes) -> int:
        return shared.http.post("/v1/documents", files={"file": (name, content)}).status_code

    assert status("a.exe", b"MZ") == 415
    assert status("a.txt", b"") == 400
    assert shared.http.post("/v1/documents", data={"x": "y"}).status_code == 400
    assert shared.http.post("/v1/documents/fetch", json={"url": "file:///etc/passwd"}).status_code == 400


def test_a_page_from_the_web(shared: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    page = b"<html><head><title>Ironvale</title></head><body><p>The capital of Ironvale is Rookhaven, as all know.</p></body></html>"
    monkeypatch.setattr("ragpool.serve.documents.fetch", lambda url, limit: (page, "text/html", url))
    assert fetch.is_public("93.184.215.14")
    job = shared.http.post("/v1/documents/fetch", json={"url": "https://example.org/iron"}).json()
    shared.eventually(lambda: shared.http.get(f"/v1/uploads/{job['id']}").json()["state"] == "done")
    [name] = shared.http.get(f"/v1/uploads/{job['id']}").json()["documents"]
    assert name.startswith("https://example.org/iron#")
    assert shared.http.delete("/v1/documents/" + name.replace("#", "%23")).status_code == 204


def test_too_many_uploads_wait(store: Path) -> None:
    with served(store, waiting_documents=2) as running:
        with running.rag.index._changing:  # as if a long indexing were going on
            answers = [
                running.http.post("/v1/documents", files={"file": (f"{n}.txt", b"text")}).status_code
                for n in range(6)
            ]
        assert 429 in answers
        running.eventually(
            lambda: all(u["state"] == "done" for u in running.http.get("/v1/documents").json()["uploads"])
        )
