"""The small world of tests/flows/scripted.py as a data set, and a chat model that can think and judge in it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import scripted
from fakes import HashEmbedder
from pydantic import PrivateAttr

from ragpool.evaluate import Evaluation, evaluate
from ragpool.index import Index
from ragpool.sdk import RagPool
from ragpool.settings import Settings

SETTINGS = Settings(judge={"kind": "rules"}, retrieve={"k": 2, "gap_k": 4})
"""Under which round 0 does not find all evidence, and a second search does."""


class ThinkingChat(scripted.ScriptedChat):
    """ScriptedChat that also writes thoughts and verdicts. It is interrupted at the call number ``stop_at`` (from 1)."""

    stop_at: int | None = None
    _made: int = PrivateAttr(default=0)

    def _reply(self, prompt: str) -> str:
        self._made += 1
        if self._made == self.stop_at:
            raise KeyboardInterrupt
        thinking = prompt.startswith("You answer a question step by step")
        if not thinking and not prompt.startswith("You check"):
            return super()._reply(prompt)
        country = re.findall(r"capital of (\w+)\?", prompt)[-1]
        capital = scripted.CAPITALS[country]
        founder = scripted.FOUNDERS[capital]
        known = f"capital of {country} is {capital}" in prompt
        told = known and f"founder of {capital} was {founder}" in prompt
        if thinking and told:
            return f"So the answer is: {founder}."
        if thinking:
            return (
                f"The capital of {country} is {capital}. More is not needed."
                if known
                else "Nothing is known."
            )
        missing = [] if told else [f"founder of {capital}" if known else f"capital of {country}"]
        return json.dumps({"sufficient": told, "probability": 0.9 if told else 0.2, "missing": missing})


def write_dataset(folder: Path, count: int = 4) -> Path:
    """questions.jsonl of two types, with documents.jsonl beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    documents = [{"id": d.id, "title": d.title, "text": d.text} for d in scripted.documents()]
    questions = [
        {
            "id": f"q{n}",
            "question": scripted.question(country),
            "answers": [scripted.FOUNDERS[capital]],
            "evidence": [country, capital],
            "metadata": {"type": ("even", "odd")[n % 2]},
        }
        for n, (country, capital) in enumerate(list(scripted.CAPITALS.items())[:count])
    ]
    for name, rows in (("documents", documents), ("questions", questions)):
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / f"{name}.jsonl").write_text(text, encoding="utf-8")
    return folder / "questions.jsonl"


def compare(questions: Path, store: Path, chat: scripted.ScriptedChat, **options: Any) -> Evaluation:
    """All methods over the data set (or the ``methods`` of the options), without any trained model."""

    def open_rag(place: Path, settings: Settings) -> RagPool:
        index = Index.open(place, settings, create=True, embedder=HashEmbedder())
        return RagPool(place, settings, index, chat)

    given: dict[str, Any] = {"methods": ["all"], "chat": chat, "open_rag": open_rag, **options}
    return evaluate(questions, store, given.pop("settings", SETTINGS), **given)
