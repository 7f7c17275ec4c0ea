"""A small world, a chat model that knows how to plan and read in it, and a program that runs a batch over it.

The program is what the tests kill: ``python scripted.py QUESTIONS STORE OUT CALLS WORKERS DELAY``. Each call of the
chat model is a line in CALLS before it is answered.
"""

from __future__ import annotations

import json
import os
import re
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from langchain_core.callbacks import CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from pydantic import PrivateAttr

from ragpool.index import Index
from ragpool.sdk import RagPool
from ragpool.settings import Settings
from ragpool.types import Document, Question, Usage

CAPITALS = {
    "Ardona": "Selwick", "Brevia": "Port Callan", "Corvane": "Tilbrook", "Dunmore": "Ashgrove", "Estrel": "Hollin",
    "Farrow": "Kestmoor", "Galden": "Wrenfield", "Hesper": "Dovecliff",
}  # fmt: skip
FOUNDERS = {
    "Selwick": "Ana Veld", "Port Callan": "Bors Tamm", "Tilbrook": "Cela Orne", "Ashgrove": "Dov Harrick",
    "Hollin": "Edda Marsh", "Kestmoor": "Finn Aldous", "Wrenfield": "Gita Lorne", "Dovecliff": "Hugo Penn",
}  # fmt: skip


def documents() -> list[Document]:
    countries = [
        Document(
            country, country, f"{country} is a country in the north. The capital of {country} is {capital}."
        )
        for country, capital in CAPITALS.items()
    ]
    towns = [
        Document(town, town, f"{town} is a town by a river. The founder of {town} was {founder}, a merchant.")
        for town, founder in FOUNDERS.items()
    ]
    return countries + towns


def question(country: str) -> str:
    return f"Who was the founder of the capital of {country}?"


def write_questions(path: Path, count: int = 8) -> Path:
    lines = [
        json.dumps({"id": f"q{n}", "question": question(c)}) for n, c in enumerate(list(CAPITALS)[:count])
    ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def settings(**overrides: Any) -> Settings:
    return Settings(judge={"kind": "rules"}, retrieve={"k": 2, "gap_k": 2}, **overrides)


class ScriptedChat(BaseChatModel):
    """Plans and reads questions of the small world by pattern. ``failures`` are raised first, one a call."""

    calls: Path | None = None
    delay: float = 0.0
    failures: list[Exception] = []  # noqa: RUF012 - a pydantic field
    _lock: threading.Lock = PrivateAttr(default_factory=threading.Lock)

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        prompt = re.sub(r"<<<[0-9a-f]{16}", "<<<nonce", messages[-1].text)  # the same prompt in each run
        with self._lock:
            self._log(prompt)
            if self.failures:
                raise self.failures.pop(0)
        time.sleep(self.delay)
        text = self._reply(prompt)
        usage = {"input_tokens": len(prompt) // 4, "output_tokens": 4, "total_tokens": len(prompt) // 4 + 4}
        return ChatResult(generations=[ChatGeneration(message=AIMessage(text, usage_metadata=usage))])  # type: ignore[arg-type]

    def _log(self, prompt: str) -> None:
        if self.calls is not None:
            log_call(self.calls, prompt)

    def _reply(self, prompt: str) -> str:
        asked = re.split(r"uestion: |question: ", prompt)[-1].splitlines()[0]
        if prompt.startswith("Split"):
            country = asked.rpartition(" of ")[2].strip("?")
            return f"{country} | capital | ?1\n?1 | founder | ?2"
        founders = re.findall(r"founder of ([\w ]+) was ([A-Z]\w+ [A-Z]\w+)", prompt)
        capitals = dict(re.findall(r"capital of (\w+) is ([\w ]+)\.", prompt))
        if prompt.startswith("You answer"):
            place = next((capital for country, capital in capitals.items() if country in asked), "")
            number = next((n for n in range(1, 9) if re.search(rf"<<<nonce {n}>>>\n{place}:", prompt)), 1)
            founder = dict(founders).get(place)
            return f"{founder} [{number}]" if founder else "NOT FOUND"
        found = [capital for country, capital in capitals.items() if country in asked and "capital" in asked]
        found += [founder for town, founder in founders if town in asked and "founder" in asked]
        return found[0] if found else "none"


def build_store(folder: Path, embedder: Any = None) -> Path:
    """The small world in a store; without ``embedder`` with the one that ships."""
    with Index.open(folder, settings(), write=True, create=True, embedder=embedder) as index:
        index.add(documents())
    return folder


def open_rag(store: Path, chat: ScriptedChat, embedder: Any, chosen: Settings | None = None) -> RagPool:
    chosen = chosen or settings()
    return RagPool(store, chosen, Index.open(store, chosen, embedder=embedder), chat)


def main(questions: str, store: str, out: str, calls: str, workers: str, delay: str) -> None:
    """One batch; its report goes to standard output."""
    from fakes import HashEmbedder
    from ragpool.flows.answer import run_batch

    chat = ScriptedChat(calls=Path(calls), delay=float(delay))
    report = run_batch(
        Path(questions),
        Path(store),
        Path(out),
        settings=settings(),
        workers=int(workers),
        open_rag=lambda: open_rag(Path(store), chat, HashEmbedder()),
    )
    sys.stdout.write(
        json.dumps({"answered": report.answered, "already": report.already, "failed": report.failed})
    )
    sys.stdout.flush()


def embedded(questions: str, store: str, out: str, calls: str) -> None:
    """One batch with the models that ship; each plan and each reading, which are committed as one step, is a line in
    ``calls``."""
    from ragpool.flows.answer import run_batch

    from ragpool.plan import TrainedPlanner
    from ragpool.slots import PairReader, Reading

    plan, read = TrainedPlanner.plan, PairReader.read

    def planned(planner: TrainedPlanner, question: str) -> tuple[Question, Usage]:
        log_call(Path(calls), f"plan\n{question}")
        return plan(planner, question)

    def logged(reader: PairReader, query: str, contexts: Sequence[tuple[str, str]]) -> Reading:
        log_call(Path(calls), f"read\n{query}\n{contexts}")
        return read(reader, query, contexts)

    TrainedPlanner.plan = planned  # type: ignore[method-assign]
    PairReader.read = logged  # type: ignore[method-assign]
    run_batch(Path(questions), Path(store), Path(out), settings=Settings())


def log_call(calls: Path, prompt: str) -> None:
    with calls.open("ab", buffering=0) as file:
        line = {"pid": os.getpid(), "thread": threading.get_ident(), "prompt": prompt}
        file.write(json.dumps(line).encode() + b"\n")


def forks() -> None:
    """Import everything once, then run a batch in a fork for each line of arguments on standard input.

    A process that is killed ten times need not pay for its imports ten times. Writes the fork's pid, and when it has
    ended its exit code (negative: the signal).
    """
    import chromadb  # noqa: F401
    import peft  # noqa: F401
    import transformers  # noqa: F401

    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            os.dup2(2, 1)
            arguments = json.loads(line)
            main(*arguments) if len(arguments) > 4 else embedded(*arguments)
            sys.exit(0)
        sys.stdout.write(f"{pid}\n")
        sys.stdout.flush()
        sys.stdout.write(f"{os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))
    main(*sys.argv[1:]) if sys.argv[1:] else forks()
