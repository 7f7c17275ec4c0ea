"""Keys, ownership, limits, headers, and pages of other origins."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import httpcore
import httpx
import pytest
from scripted import question
from served import Served, served
from typer.testing import CliRunner

from ragpool.cli.app import app as cli
from ragpool.errors import InputError, LoadError, NotFoundError, SettingsError
from ragpool.serve import fetch
from ragpool.serve.keys import KeyRing
from ragpool.serve.options import ServeOptions
from ragpool.serve.run import make_server

ASK = {"question": question("Ardona")}


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


# -- keys ------------------------------------------------------------------------------------------------------------


def test_a_key_is_kept_as_a_hash_and_opens_until_it_is_revoked(shared: Served) -> None:
    ring = KeyRing(shared.rag.index.database)
    key, text = ring.create("laptop")
    assert ring.owner(text) == key.id
    stored = json.dumps([k.sha256 for k in ring.all()]) + repr(ring.all())
    assert text.split("-", 2)[2] not in stored
    for wrong in ("", "x", text[:-1], f"{text}x", text.upper(), text.replace(key.id, "0" * 12)):
        assert ring.owner(wrong) is None
    ring.revoke(key.id)
    assert ring.owner(text) is None
    with pytest.raises(NotFoundError):
        ring.revoke(key.id)
    assert ring.forget() == 1  # the other tests of this module ask without a key
    shared.parts.keys.refresh()


def test_keys_on_the_command_line(store: Path) -> None:
    with served(store) as running:
        runner, options = CliRunner(), ["--store", str(store)]
        made = json.loads(runner.invoke(cli, ["keys", "create", "ci", "--json", *options]).stdout)
        listed = runner.invoke(cli, ["keys", "ls", *options]).stdout
        assert made["id"] in listed
        assert made["key"] not in listed
        running.parts.keys._read = float("-inf")  # a running server looks every two seconds
        assert running.http.get("/v1/models").status_code == 401
        assert running.http.get("/v1/models", headers=bearer(made["key"])).status_code == 200
        assert runner.invoke(cli, ["keys", "revoke", made["id"], *options]).exit_code == 0
        running.parts.keys._read = float("-inf")
        for headers in ({}, bearer("x"), bearer(made["key"])):  # to revoke the last key opens nothing
            refused = running.http.get("/v1/models", headers=headers)
            assert refused.status_code == 401
            assert "ragpool keys create" in refused.json()["error"]["message"]
        other = json.loads(runner.invoke(cli, ["keys", "create", "other", "--json", *options]).stdout)
        assert isinstance(runner.invoke(cli, ["keys", "forget", *options]).exception, InputError)
        assert runner.invoke(cli, ["keys", "revoke", other["id"], *options]).exit_code == 0
        assert runner.invoke(cli, ["keys", "forget", *options]).stdout == "2 revoked keys forgotten\n"
        running.parts.keys._read = float("-inf")
        assert running.http.get("/v1/models").status_code == 200


def test_another_host_needs_a_key(shared: Served, tmp_path: Path) -> None:
    fresh = [k for k in KeyRing(shared.rag.index.database).all() if k.revoked is None]
    assert not fresh
    with pytest.raises(SettingsError, match="ragpool keys create"):
        make_server(shared.rag, ServeOptions(host="0.0.0.0"))
    assert ServeOptions().loopback
    said = CliRunner().invoke(cli, ["serve", "--store", str(tmp_path / "new"), "--host", "0.0.0.0"])
    assert isinstance(said.exception, SettingsError)


def routes(running: Served) -> list[tuple[str, str]]:
    """Every (method, path) of the API."""
    document = running.http.get("/openapi.json").json()
    return [(method.upper(), path) for path, item in document["paths"].items() for method in item]


def test_every_route_but_health_needs_the_key(store: Path) -> None:
    with served(store) as running:
        running.key()
        for method, path in routes(running):
            if path in ("/health", "/ready"):
                assert running.http.request(method, path).status_code == 200
                continue
            where = path.replace("{", "").replace("}", "").replace("document_id:path", "x")
            body = {"json": {}} if method == "POST" else {}
            for headers in ({}, bearer("rp-" + "0" * 12 + "-" + "x" * 43), {"Authorization": "Basic eDp5"}):
                response = running.http.request(method, where, headers=headers, **body)  # type: ignore[arg-type]
                assert response.status_code == 401, (method, path)
                assert response.json()["error"]["code"] == "invalid_api_key"


def test_one_key_never_reaches_what_another_owns(store: Path) -> None:
    with served(store) as running:
        anna, bert = bearer(running.key("anna")), bearer(running.key("bert"))
        events = running.events("/v1/ask", {**ASK, "conversation": "talk"}, headers=anna)
        run_id = dict(events)["started"]["run_id"]
        upload = running.http.post(
            "/v1/documents", files={"file": ("n.txt", b"Anna's text.")}, headers=anna
        ).json()
        running.eventually(
            lambda: running.http.get(f"/v1/uploads/{upload['id']}", headers=anna).json()["state"] == "done"
        )
        [document] = running.http.get(f"/v1/uploads/{upload['id']}", headers=anna).json()["documents"]
        batch = running.parts.batches._folder(anna["Authorization"].split("-")[1], "a" * 32)
        batch.mkdir(parents=True)
        (batch / "questions.jsonl").write_text("{}\n")
        mine = [
            ("GET", f"/v1/pools/{run_id}"),
            ("GET", f"/v1/pools/{run_id}/export"),
            ("GET", f"/v1/pools/{run_id}/export?format=markdown"),
            ("GET", "/v1/conversations/talk"),
            ("GET", f"/v1/uploads/{upload['id']}"),
            ("GET", f"/v1/batches/{'a' * 32}"),
            ("GET", f"/v1/batches/{'a' * 32}/answers"),
        ]
        deletes = [("DELETE", f"/v1/pools/{run_id}"), ("DELETE", "/v1/conversations/talk")]
        for method, path in mine + deletes:
            assert running.http.request(method, path, headers=bert).status_code == 404, path
        assert running.http.delete(f"/v1/documents/{document}", headers=bert).status_code == 403
        assert running.http.get("/v1/pools", headers=bert).json() == {"pools": []}
        assert running.http.get("/v1/conversations", headers=bert).json() == {"conversations": []}
        assert running.http.get("/v1/documents", headers=bert).json()["uploads"] == []
        # the same name is another conversation for another key, with a pool of its own
        own = running.events("/v1/ask", {**ASK, "conversation": "talk"}, headers=bert)
        assert any(e["evidence"] for n, e in own if n == "pooled")
        assert len(running.http.get("/v1/conversations/talk", headers=bert).json()["turns"]) == 1
        for method, path in mine:
            assert running.http.request(method, path, headers=anna).status_code == 200, path
        for method, path in deletes[:1]:
            assert running.http.request(method, path, headers=anna).status_code == 204
        assert running.http.delete(f"/v1/documents/{document}", headers=anna).status_code == 204


# -- what comes from elsewhere -----------------------------------------------------------------------------------------


def test_other_origins_and_names_are_refused(shared: Served) -> None:
    for headers in ({"Origin": "https://evil.example"}, {"Origin": "null"}, {"Host": "evil.example"}):
        response = shared.http.post("/v1/search", json={"query": "x"}, headers=headers)
        assert response.status_code == 403, headers
        assert "access-control-allow-origin" not in response.headers
    same = {"Origin": shared.url}
    assert shared.http.post("/v1/search", json={"query": "x"}, headers=same).status_code == 200


def test_listed_origins_may_call(store: Path) -> None:
    with served(store, origins=("https://app.example",)) as running:
        headers = {"Origin": "https://app.example", "Access-Control-Request-Method": "POST"}
        allowed = running.http.options("/v1/search", headers=headers)
        assert allowed.headers["access-control-allow-origin"] == "https://app.example"
        other = running.http.options("/v1/search", headers={**headers, "Origin": "https://evil.example"})
        assert other.status_code == 403


def test_security_headers_are_on_every_answer(shared: Served) -> None:
    for path in ("/", "/health", "/v1/nothing", "/v1/models", "/static/none"):
        headers = shared.http.get(path).headers
        policy = headers["content-security-policy"]
        assert "unsafe" not in policy
        assert "default-src 'none'" in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["x-frame-options"] == "DENY"
        assert "server" not in headers


def test_bodies_are_limited_with_and_without_a_length(store: Path) -> None:
    with served(store, body_bytes=2_000, upload_bytes=5_000) as running:
        large = json.dumps({"query": "x" * 3_000}).encode()
        kind = {"Content-Type": "application/json"}
        assert running.http.post("/v1/search", content=large, headers=kind).status_code == 413
        chunked = running.http.post("/v1/search", content=iter([large[:1500], large[1500:]]), headers=kind)
        assert chunked.status_code == 413
        assert chunked.json()["error"]["type"] == "invalid_request_error"
        files = {"file": ("a.txt", b"x" * 6_000)}
        assert running.http.post("/v1/documents", files=files).status_code == 413


def test_messages_and_history_are_limited(store: Path) -> None:
    with served(store, messages=3, message_chars=100, question_chars=50) as running:
        one = {"role": "user", "content": "x"}
        for messages in (
            [one] * 4,
            [{"role": "assistant", "content": "y" * 101}, one],
            [{"role": "user", "content": "x" * 51}],
        ):
            body = {"model": "ragpool-low", "messages": messages}
            assert running.http.post("/v1/chat/completions", json=body).status_code == 400
        assert running.http.post("/v1/ask", json={"question": "x" * 51}).status_code == 400


def test_the_rate_limit_is_on_every_route(store: Path) -> None:
    with served(store, rate=10) as running:
        answers = [running.http.get("/v1/models") for _ in range(12)]
        refused = [r for r in answers if r.status_code == 429]
        assert len(refused) >= 2
        assert refused[0].json()["error"]["type"] == "rate_limit_error"
        assert int(refused[0].headers["retry-after"]) >= 1


def test_no_secret_is_said(store: Path, caplog: pytest.LogCaptureFixture) -> None:
    with served(store) as running:
        key = running.key()
        running.chat.failures.append(RuntimeError("the password is hunter2"))
        events = running.events("/v1/ask", ASK, headers=bearer(key))
        assert events[-1][0] == "error"
        assert "hunter2" not in json.dumps(events)
        running.http.get("/v1/pools/" + "0" * 32, headers=bearer(key))
    assert key not in caplog.text


# -- addresses that a client names -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "127.8.9.1", "0.0.0.0", "10.0.0.1", "172.16.3.4", "192.168.1.1", "169.254.169.254", "100.64.0.1",
        "224.0.0.1", "255.255.255.255", "::1", "::", "fe80::1", "fd00::1", "::ffff:127.0.0.1", "64:ff9b::7f00:1",
        "2002:7f00:1::", "ff02::1",
    ],
)  # fmt: skip
def test_private_addresses_are_not_fetched(address: str) -> None:
    assert not fetch.is_public(address)
    with pytest.raises(LoadError, match="not on the public internet"):
        fetch.fetch("http://docs.example/x", 1000, lambda host, port: [address])


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/", "http://localhost/", "http://[::1]/", "http://2130706433/", "http://0x7f.1/",
        "http://127.1/", "http://user:secret@93.184.215.14/", "file:///etc/passwd", "gopher://x/", "http:///x",
        "ftp://93.184.215.14/", "http://[fe80::1%25eth0]/",
    ],
)  # fmt: skip
def test_addresses_that_point_inside_in_another_spelling(url: str) -> None:
    with pytest.raises(LoadError):
        fetch.fetch(url, 1000)


def test_a_name_that_is_public_and_private_is_refused() -> None:
    with pytest.raises(LoadError, match="not on the public internet"):
        fetch.fetch("http://docs.example/", 1000, lambda host, port: ["93.184.215.14", "127.0.0.1"])


class Redirecting:
    """In place of the network: a public site that redirects to an address inside."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, location: str) -> None:
        self.connected: list[str] = []
        reply = f"HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n".encode()

        def connect(_: object, host: str, *__: Any) -> httpcore.NetworkStream:
            self.connected.append(host)
            return httpcore.MockStream([reply])

        monkeypatch.setattr(httpcore.SyncBackend, "connect_tcp", connect)


@pytest.mark.parametrize(
    "location", ["http://169.254.169.254/latest", "http://inside.example/", "file:///etc/passwd"]
)
def test_redirects_inside_are_refused(monkeypatch: pytest.MonkeyPatch, location: str) -> None:
    site = Redirecting(monkeypatch, location)
    names = {"docs.example": ["93.184.215.14"], "inside.example": ["10.0.0.7"]}
    with pytest.raises(LoadError):
        fetch.fetch("http://docs.example/", 1000, lambda host, port: names.get(host, [host]))
    assert site.connected == ["93.184.215.14"]


def test_a_name_that_changes_its_mind_is_checked_where_it_is_connected(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    site = Redirecting(monkeypatch, "http://docs.example/again")
    answers = iter([["93.184.215.14"], ["127.0.0.1"]])
    with pytest.raises(LoadError, match="not on the public internet"):
        fetch.fetch("http://docs.example/", 1000, lambda host, port: next(answers))
    assert site.connected == ["93.184.215.14"]


def test_addresses_as_people_write_them_are_encoded(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[bytes] = []

    class Wire(httpcore.MockStream):
        def write(self, buffer: bytes, timeout: float | None = None) -> None:
            sent.append(buffer)

    page = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 4\r\n\r\nK\xc3\xa4s"
    monkeypatch.setattr(httpcore.SyncBackend, "connect_tcp", lambda *_, **__: Wire([page]))
    asked: list[str] = []

    def resolver(host: str, port: int) -> list[str]:
        asked.append(host)
        return ["93.184.215.14"]

    body, media, _ = fetch.fetch("http://müller.example/wiki/Käse?q=ä b#top", 1000, resolver)
    assert (body, media, asked) == ("Käs".encode(), "text/plain", ["xn--mller-kva.example"])
    assert b"".join(sent).startswith(b"GET /wiki/K%C3%A4se?q=%C3%A4%20b HTTP/1.1\r\n")
    assert b"Host: xn--mller-kva.example\r\n" in b"".join(sent)


@pytest.mark.parametrize(
    "url", ["http://\u0c7d\udc80/", "http://a..b/", "http://[", "http://x:99999/", "http://１２７.0.0.1/"]
)
def test_hosts_that_are_no_names(url: str) -> None:
    with pytest.raises(LoadError):
        fetch.fetch(url, 1000)


def test_a_fetch_of_an_inside_address_through_the_server(shared: Served) -> None:
    with socket.socket() as secret:
        secret.bind(("127.0.0.1", 0))
        secret.listen()
        secret.settimeout(0.5)
        url = f"http://127.0.0.1:{secret.getsockname()[1]}/"
        upload = shared.http.post("/v1/documents/fetch", json={"url": url}).json()
        shared.eventually(
            lambda: shared.http.get(f"/v1/uploads/{upload['id']}").json()["state"] == "failed"
        )  # fmt: skip
        with pytest.raises(TimeoutError):
            secret.accept()


def test_headers_of_a_proxy_change_nothing(shared: Served) -> None:
    headers = {
        "X-Forwarded-Host": "evil.example",
        "X-Forwarded-For": "1.2.3.4",
        "Forwarded": "host=evil.example",
    }
    body = {"model": "ragpool-low", "messages": [{"role": "user", "content": question("Ardona")}]}
    done = shared.http.post("/v1/chat/completions", json=body, headers=headers).json()
    assert "evil" not in json.dumps(done)


def test_raw_requests_do_not_crash_it(shared: Served) -> None:
    host, port = shared.url.removeprefix("http://").split(":")
    for raw in (
        b"GET /../../etc/passwd HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
        b"POST /v1/ask HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: -5\r\n\r\n",
        b"POST /v1/ask HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"\x00\xff\r\n\r\n",
        b"GET /static/%2e%2e%2f%2e%2e%2fapp.py HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
    ):
        with socket.create_connection((host, int(port)), timeout=5) as connection:
            connection.sendall(raw)
            connection.shutdown(socket.SHUT_WR)
            assert b" 200 " not in connection.recv(4096).split(b"\r\n")[0]
    assert shared.http.get("/health").status_code == httpx.codes.OK
