from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest

from ragpool.cli import main


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    folder = tmp_path / "notes"
    folder.mkdir()
    (folder / "alda.txt").write_text(
        "Alda Brenn was a weaver. Alda Brenn was born in Port Ennis on 3 May 1801."
    )
    (folder / "ennis.md").write_text("# Port Ennis\n\nPort Ennis is a harbour town on the river Sorrel.")
    return folder


def ragpool(*line: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(list(line))
    assert isinstance(ended.value.code, int)
    return ended.value.code


def index(notes: Path) -> None:
    assert ragpool("index", str(notes), "--store", "s") == 0


def test_help_and_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert ragpool("--help") == 0
    assert ragpool("--version") == 0
    assert "ragpool 0." in capsys.readouterr().out


def test_help_loads_nothing_heavy() -> None:
    import subprocess

    heavy = "{'torch', 'transformers', 'chromadb', 'sqlalchemy', 'prefect', 'langchain_core', 'pydantic', 'numpy'}"
    code = f"import sys, ragpool.cli.app\nprint(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_index_then_search_as_json(notes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ragpool("index", str(notes), "--store", "s", "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["added"], report["total_documents"], report["failed"]) == (2, 2, [])
    assert ragpool("search", "harbour town", "--store", "s", "-k", "1", "--mode", "hybrid", "--json") == 0
    [hit] = json.loads(capsys.readouterr().out)["hits"]
    assert hit["document_id"] == "ennis.md"


def test_a_file_that_cannot_be_read_is_named_and_the_rest_goes_on(
    notes: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (notes / "broken.pdf").write_bytes(b"%PDF-1.4 nothing")
    (notes / "latin.txt").write_bytes("caf\xe9".encode("latin-1"))
    assert ragpool("index", str(notes), "--store", "s") == 1
    said = capsys.readouterr()
    assert "broken.pdf" in said.err
    assert "latin.txt" in said.err
    assert "2 added" in said.out


def test_prune_and_delete(notes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    index(notes)
    (notes / "alda.txt").unlink()
    assert ragpool("index", str(notes), "--store", "s", "--prune", "--json") == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["deleted"] == 1
    assert ragpool("index", "ennis.md", "--store", "s", "--delete") == 0
    assert ragpool("index", "ennis.md", "--store", "s", "--delete") == 1


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (["ask", "Who?", "--store", "nowhere"], "ragpool index"),
        (["search", "x", "--store", "nowhere"], "no index at nowhere"),
        (["search", "x", "--store", "nowhere", "--mode", "best"], "retrieve.mode"),
        (["ask", "Who?", "--set", "effort"], "name=value"),
        (["ask", "Who?", "--set", "efort=low"], "efort"),
        (["pool", "ls", "--store", "nowhere"], "no store"),
        (["pool", "rm"], "--job"),
        (["batch", "none.jsonl", "--out", "o.jsonl", "--store", "nowhere"], "no index at nowhere"),
        (["eval", "none.json"], "none.json"),
        (["train", "judge", "none.json", "--out", "w"], "no such file"),
        (["config", "show", "--config", "none.toml"], "config init"),
        (["frobnicate"], "No such command"),
    ],
)
def test_a_wrong_call_is_one_line_and_exit_code_2(
    line: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ragpool(*line) == 2
    error = capsys.readouterr().err
    assert words in " ".join(error.split())
    assert "Traceback" not in error


def test_debug_shows_the_error_itself() -> None:
    from ragpool.errors import StoreNotFoundError

    with pytest.raises(StoreNotFoundError):
        main(["search", "x", "--store", "nowhere", "--debug"])


def test_a_question_from_standard_input(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("  "))
    assert ragpool("ask", "--store", "nowhere") == 2
    assert "standard input" in capsys.readouterr().err


def test_config_init_and_show_agree(capsys: pytest.CaptureFixture[str]) -> None:
    assert ragpool("config", "init") == 0
    assert ragpool("config", "init") == 2
    capsys.readouterr()
    assert ragpool("config", "show", "--json") == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["effort"] == "medium"
    assert ragpool("config", "show", "--set", "models.api_key=hunter2") == 0
    assert "hunter2" not in capsys.readouterr().out


def test_doctor(notes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    index(notes)
    capsys.readouterr()
    assert ragpool("doctor", "--store", "s", "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert report["ok"]
    names = {c["name"] for c in report["checks"]}
    assert {"chat model", "embedder", "weights/plan", "weights/reader", "weights/judge", "store"} <= names
    assert ragpool("doctor", "--set", "models.embedder=./none", "--json") == 1


@pytest.mark.model
def test_ask_with_the_embedded_model_then_look_at_the_pool(
    notes: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    index(notes)
    capsys.readouterr()
    assert ragpool("ask", "Where was Alda Brenn born?", "--store", "s", "--show-evidence", "--json") == 0
    said = capsys.readouterr()
    answer = json.loads(said.out)
    assert answer["answer"] == "Port Ennis"
    assert answer["status"] in ("answered", "partial")
    assert answer["citations"][0]["document_id"] == "alda.txt"
    assert "round 0" in said.err
    run = answer["run_id"][:8]
    assert ragpool("pool", "show", run, "--store", "s") == 0
    assert "Port Ennis" in capsys.readouterr().out
    assert ragpool("pool", "export", run, "--store", "s") == 0
    assert json.loads(capsys.readouterr().out)["answer"]["answer"] == "Port Ennis"
    assert ragpool("pool", "ls", "--store", "s", "--json") == 0
    assert len(json.loads(capsys.readouterr().out)["runs"]) == 1
    assert ragpool("pool", "rm", run, "--store", "s") == 0
    assert ragpool("pool", "rm", run, "--store", "s") == 2


@pytest.mark.parametrize("own", ["stopped with 3 of 8; run the same command again to go on", ""])
def test_ctrl_c_in_a_batch_says_how_to_go_on(
    own: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stopped(*_: object, **__: object) -> None:
        raise KeyboardInterrupt(own)

    monkeypatch.setattr("ragpool.flows.answer.run_batch", stopped)
    with pytest.raises(SystemExit) as ended:
        main(["batch", "questions.jsonl", "--store", str(tmp_path), "--out", str(tmp_path / "a.jsonl")])
    assert ended.value.code == 130
    said = capsys.readouterr().err
    assert "run the same command again to go on" in said
    assert own in said


def test_ctrl_c_elsewhere_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stopped(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("ragpool.settings.Settings.load", stopped)
    with pytest.raises(SystemExit) as ended:
        main(["config", "show"])
    assert ended.value.code == 130
    assert capsys.readouterr().err.strip() == "ragpool: interrupted; what was committed is kept"
