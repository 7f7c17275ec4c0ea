from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ragpool.flows.lines import AnswersFile

from ragpool.errors import InputError
from ragpool.types import Answer, AnswerStatus, Judgement, StopReason, Usage

ANSWER = Answer(
    id="q0",
    question="Why?",
    answer="Grüße",
    text="Grüße [1]",
    status=AnswerStatus.ANSWERED,
    citations=(),
    evidence=(),
    queries=(),
    rounds=1,
    stop_reason=StopReason.SUFFICIENT,
    judgement=Judgement(True, 1.0),
    usage=Usage(),
    seconds=0.5,
    run_id="r",
    config_hash="c",
)
QUESTIONS = {f"q{n}": "Why?" for n in range(4)}


def answers_file(path: Path) -> AnswersFile:
    return AnswersFile(path, QUESTIONS, "c")


def ids(path: Path) -> list[str]:
    return [json.loads(line)["id"] for line in path.read_text(encoding="utf-8").splitlines()]


def test_each_answer_has_one_line(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "answers.jsonl"
    file = answers_file(path)
    assert file.append(ANSWER)
    assert file.append(replace(ANSWER, id="q1"))
    assert not file.append(ANSWER)
    assert ids(path) == ["q0", "q1"]
    assert answers_file(path).done == {"q0", "q1"}
    assert [line["answer"] for line in file.read()] == ["Grüße", "Grüße"]


@given(cut=st.integers(min_value=0))
def test_a_torn_last_line_is_cut_off_and_written_again(
    tmp_path_factory: pytest.TempPathFactory, cut: int
) -> None:
    path = tmp_path_factory.mktemp("torn") / "answers.jsonl"
    file = answers_file(path)
    for name in ("q0", "q1", "q2"):
        file.append(replace(ANSWER, id=name))
    whole = path.read_bytes()
    path.write_bytes(whole[: cut % (len(whole) + 1)])
    again = answers_file(path)
    for name in ("q0", "q1", "q2"):
        again.append(replace(ANSWER, id=name))
    assert path.read_bytes() == whole


def test_space_that_a_crash_left_unwritten_is_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    answers_file(path).append(ANSWER)
    whole = path.read_bytes()
    path.write_bytes(whole + b"\0" * 100)
    assert answers_file(path).done == {"q0"}
    assert path.read_bytes() == whole


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"notes to myself", "line 1 is not an answer"),
        (b'{"id": "q0", "question": "Why?"}\n', "line 1 is not an answer"),
        (b"[1, 2]\n", "line 1 is not an answer"),
        (b'{"id": "q0", "question": "W\n{"id": "q1"}\n', "line 1 is not an answer"),
    ],
)
def test_a_file_that_is_not_ours_is_refused_and_left_alone(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "answers.jsonl"
    path.write_bytes(content)
    with pytest.raises(InputError, match=said):
        answers_file(path)
    assert path.read_bytes() == content


def test_answers_with_other_settings_or_to_another_question_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    answers_file(path).append(ANSWER)
    with pytest.raises(InputError, match="line 1 was answered with other settings"):
        AnswersFile(path, QUESTIONS, "d")
    with pytest.raises(InputError, match="answers another question under the id q0"):
        AnswersFile(path, {"q0": "Who?"}, "c")


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is a folder"):
        answers_file(tmp_path)
