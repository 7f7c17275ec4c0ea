from __future__ import annotations

import json
from pathlib import Path

import pytest
from trials import write_dataset

from ragpool.cli import main


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def ragpool(*line: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(list(line))
    assert isinstance(ended.value.code, int)
    return ended.value.code


def test_wrong_calls_are_one_line_and_leave_nothing(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    questions = str(write_dataset(tmp_path / "set", 1))
    for line, said in (
        (["nowhere.json"], "nowhere.json"),
        ([questions, "--methods", "double"], "iter-retgen-2"),
        ([questions, "--split", "half"], "heldout"),
        ([questions, "--corpus", "nowhere.jsonl"], "nowhere.jsonl"),
        ([questions, "--report", "none/r.html"], "no such folder"),
    ):
        assert ragpool("eval", *line) in (1, 2)
        told = capsys.readouterr().err.strip().splitlines()
        assert len(told) == 1
        assert said in told[0]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["set"]


@pytest.mark.model
def test_two_files_every_output_and_again(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    files = [str(write_dataset(tmp_path / name, 1)) for name in ("one", "two")]
    corpus = tmp_path / "corpus.jsonl"
    corpus.write_text('{"title": "Ardona", "text": "Ardona is also a fish."}\n', encoding="utf-8")
    line = [
        "eval",
        *files,
        "--methods",
        "single,iter-retgen-2,ircot",
        "--limit",
        "1",
        "--corpus",
        str(corpus),
    ]
    line += ["--json", "e.json", "--report", "r.html", "--markdown", "t.md"]
    assert ragpool(*line) == 0
    said = capsys.readouterr()
    assert "iter-retgen-2" in said.out
    assert "17 documents" in said.out
    first = json.loads((tmp_path / "e.json").read_text())
    assert [d["dataset"] for d in first["datasets"]] == ["one", "two"]
    assert "<svg" in (tmp_path / "r.html").read_text()
    table = (tmp_path / "t.md").read_text()
    assert table.startswith("`ragpool eval ")
    assert "**two: 1 question, 17 documents**" in table

    assert ragpool(*line) == 0
    assert "3 of 3 answers were there" in capsys.readouterr().err
    assert json.loads((tmp_path / "e.json").read_text()) == first
