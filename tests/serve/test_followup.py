from __future__ import annotations

import pytest
from served import StreamingChat

from ragpool.generate import UNVERIFIED
from ragpool.serve.followup import Exchange, PromptedRewriter, RuleRewriter
from ragpool.serve.prose import Prose
from ragpool.types import Answer, AnswerStatus, Judgement, StopReason, Usage

MOTHER = Exchange("Who was the mother of Alda Brenn?", "Cora Vell")
YEAR = Exchange("When was Alda Brenn born?", "1910")


@pytest.mark.parametrize(
    ("question", "earlier", "expected"),
    [
        ("Where was she born?", MOTHER, "Where was Cora Vell born?"),
        ("Where was he educated?", YEAR, "Where was Alda Brenn educated?"),
        ("Who were her children?", MOTHER, "Who were Cora Vell's children?"),
        ("Which river runs through it?", Exchange("Where was Alda Brenn born?", "Port Ennis"), "Which river runs through Port Ennis?"),
        ("What about Tomas Brenn?", MOTHER, "Who was the mother of Tomas Brenn?"),
        ("And his father?", YEAR, "Who was Alda Brenn's father?"),
        ("Where was Ilse Marr born?", MOTHER, "Where was Ilse Marr born?"),
        ("Was it so?", Exchange("Is that true?", "yes"), "Was it so?"),
    ],
)  # fmt: skip
def test_rules(question: str, earlier: Exchange, expected: str) -> None:
    assert RuleRewriter().rewrite(question, [earlier]) == expected
    assert RuleRewriter().rewrite(question, []) == question


def test_a_model_rewrites_and_the_rules_catch_it_when_it_fails() -> None:
    chat = StreamingChat()
    rewriter = PromptedRewriter(chat)
    assert rewriter.rewrite("Where was he born?", []) == "Where was he born?"
    assert rewriter.rewrite("Where was he born?", [MOTHER]) == "Where was Cora Vell born?"
    chat.failures.append(ConnectionError("gone"))
    assert rewriter.rewrite("Where was he born?", [YEAR]) == "Where was Alda Brenn born?"


def answer(text: str, status: AnswerStatus = AnswerStatus.ANSWERED, missing: tuple[str, ...] = ()) -> Answer:
    return Answer(
        "q", "Q?", text, text, status, (), (), (), 1, StopReason.SUFFICIENT, Judgement(True, 1.0), Usage(), 0.1,
        "r", "c", missing,
    )  # fmt: skip


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100])
def test_marks_never_leave_in_the_text_however_it_is_cut(size: int) -> None:
    raw = "Ana Veld [1] founded it [23], in [the year] 1999[4]."
    prose = Prose()
    given = [prose.feed(raw[n : n + size]) for n in range(0, len(raw), size)]
    given.append(prose.finish(answer(raw)))
    assert "".join(given) == prose.text == "Ana Veld founded it, in [the year] 1999."


@pytest.mark.parametrize("raw", ["NOT FOUND", '"NOT FOUND"', "[NOT FOUND]", "[1] Not found"])
@pytest.mark.parametrize("size", [1, 4, 100])
def test_not_found_is_said_in_other_words(size: int, raw: str) -> None:
    prose = Prose()
    assert [prose.feed(raw[n : n + size]) for n in range(0, len(raw), size)] == [""] * -(-len(raw) // size)
    prose.finish(answer("", AnswerStatus.INSUFFICIENT, ("the founder",)))
    assert prose.text == "The documents do not answer this. Missing: the founder."


def test_what_was_checked_is_said_at_the_end() -> None:
    prose = Prose()
    prose.feed("Nobody")
    prose.finish(answer(f"Nobody {UNVERIFIED}", AnswerStatus.PARTIAL, ("a", "b")))
    assert prose.text == f"Nobody {UNVERIFIED}\n\nNot complete. Missing: a; b."
