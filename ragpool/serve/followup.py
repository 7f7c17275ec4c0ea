"""A follow-up question, rewritten to stand alone: retrieval sees no conversation.

Two rewriters: rules for the embedded model, which is too small to rewrite, and a prompt to any larger chat model.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel

log = logging.getLogger("ragpool.serve")

_KEPT_TURNS = 6  # of the conversation, in the prompt
_LONGEST = 400  # characters of a rewritten question
_NAME = re.compile(r"(?:[A-Z][\w'’-]*)(?:\s+(?:of|the|de|la|van|von|and)\s+(?=[A-Z])|\s+(?=[A-Z])|[\w'’-])*")
_OPENERS = frozenset(
    "who what when where which why how did does do is was were are has have had can could the a an and in on at of "
    "for from to by with whose whom tell give name list".split()
)
_POSSESSIVE = re.compile(r"\b(?:his|its|their|her)\b(?=\s+[a-z])", re.IGNORECASE)
_PERSONAL = re.compile(
    r"\b(?:he|she|it|they|him|them|her|there|this (?:person|place|town|city|country|company|one)|"
    r"that (?:person|place|town|city|country|company|one))\b",
    re.IGNORECASE,
)
_ELLIPSIS = re.compile(r"^(?:and|what about|how about|and what about)\s+(.+?)\??$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Exchange:
    """An earlier question, in its stand-alone form where that is known, and its short answer."""

    question: str
    answer: str


class Rewriter(Protocol):
    """Makes a question stand alone. Returns it unchanged when it already does."""

    def rewrite(self, question: str, earlier: Sequence[Exchange]) -> str: ...


class RuleRewriter:
    """Puts the last answer, or else the last question's subject, in the place of pronouns.

    >>> RuleRewriter().rewrite("Where was she born?", [Exchange("Who was the mother of Alda Brenn?", "Cora Vell")])
    'Where was Cora Vell born?'
    >>> RuleRewriter().rewrite("And her mother?", [Exchange("When was Alda Brenn born?", "1910")])
    "Who was Alda Brenn's mother?"
    >>> RuleRewriter().rewrite("What about Tomas Brenn?", [Exchange("Who was the mother of Alda Brenn?", "Cora Vell")])
    'Who was the mother of Tomas Brenn?'
    """

    def rewrite(self, question: str, earlier: Sequence[Exchange]) -> str:
        if not earlier:
            return question
        last = earlier[-1]
        subject = next(iter(names(last.question)[::-1]), "")
        answered = last.answer if _is_name(last.answer) else ""
        about = answered or subject
        if found := _ELLIPSIS.match(question.strip()):
            rest = found.group(1).strip()
            if about and _POSSESSIVE.match(rest):
                return f"Who was {_POSSESSIVE.sub(_owned(about), rest, count=1)}?"
            if subject and names(rest):
                return last.question.replace(subject, rest)
        if not about:
            return question
        rewritten = _POSSESSIVE.sub(_owned(about), question)
        return _PERSONAL.sub(lambda _: about, rewritten, count=1) if rewritten == question else rewritten


class PromptedRewriter:
    """Asks the chat model; falls back on the rules where its answer cannot be a question."""

    def __init__(self, chat: BaseChatModel) -> None:
        self._chat = chat
        self._prompt = resources.files("ragpool.serve").joinpath("prompts/followup.md").read_text("utf-8")

    def rewrite(self, question: str, earlier: Sequence[Exchange]) -> str:
        if not earlier:
            return question
        from langchain_core.messages import HumanMessage

        talk = "\n".join(f"Q: {e.question}\nA: {e.answer[:300]}" for e in earlier[-_KEPT_TURNS:])
        prompt = self._prompt.replace("{conversation}", talk).replace("{question}", question)
        try:
            said = str(self._chat.invoke([HumanMessage(prompt)]).text).strip().strip('"').splitlines()
        except (
            Exception
        ):  # whatever the provider's client raises: the run itself says it with the right status
            log.exception("the follow-up was not rewritten by the model")
            said = []
        text = said[0].strip() if said else ""
        if not text or len(text) > _LONGEST:
            return RuleRewriter().rewrite(question, earlier)
        return text


def names(text: str) -> list[str]:
    """Capitalised names in order, without words that only begin a question.

    >>> names("Who founded Port Ennis?")
    ['Port Ennis']
    """
    found = []
    for name in _NAME.findall(text):
        words = name.split()
        while words and words[0].lower() in _OPENERS:
            words.pop(0)
        if words:
            found.append(" ".join(words))
    return found


def _is_name(answer: str) -> bool:
    """Whether a pronoun can stand for the answer: a capitalised name, no yes or no, date or number."""
    return bool(answer) and len(answer) <= 80 and answer[0].isupper() and answer.lower() not in ("yes", "no") and (
        re.search(r"\d", answer) is None
    )  # fmt: skip


def _owned(name: str) -> str:
    return f"{name}'" if name.endswith("s") else f"{name}'s"
