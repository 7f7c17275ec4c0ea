"""What the local model's prefix cache and its batches save: fresh against re-used, one by one against together.

    python benchmarks/generator.py [--quick] [--json FILE] [--threads N] [--pools N] [--tokens N]

The embedded model (SmolLM2-135M, float32) reads the answer prompt over passages of the sample corpus. Five rounds of a
growing pool, then a second question on it, then the same after a restart (from the prompt file); each step once fresh
and once re-used, one after the other in the same process, so that a busy machine slows both. Then batches of 1, 2, 4
and 8, then replies with drafts from the prompt against one by one, and under a JSON schema against free ones. Seconds
are the process's CPU seconds, all threads together (with one thread and an idle machine: what the clock shows). Medians and their ratios; the last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from ragpool import prompts
from ragpool.corpus import read_questions
from ragpool.models import EMBEDDED, Completion, LocalModel, lookup
from ragpool.models.prefix import PrefixCache
from ragpool.prompts.delimiter import delimiter
from ragpool.settings import ModelSettings

CORPUS = Path(__file__).parent.parent / "corpora" / "zembrissa"
ROUNDS = 5
NEW_TOKENS = 8
BATCHES = (1, 2, 4, 8)


@dataclass(frozen=True)
class Asked:
    """Seconds to the first piece of the answer and to its end, and the answer."""

    first: float
    whole: float
    completion: Completion


class Bench:
    """The model with two prefix caches to switch between: one that keeps nothing and one that keeps 2 GB."""

    def __init__(self, threads: int) -> None:
        self.model = LocalModel.load(EMBEDDED, ModelSettings(threads=threads))
        self._none, self.kept = PrefixCache(0), PrefixCache(2**31)
        rows = (json.loads(line) for line in (CORPUS / "documents.jsonl").open(encoding="utf-8"))
        self.passages = [f"{row['title']}: {row['text']}" for row in rows]
        self.questions = [q.question for q in read_questions(CORPUS / "questions.jsonl")]

    def prompt(self, passages: Sequence[str], question: str) -> str:
        """The answer prompt as ChatGenerator writes it."""
        nonce = delimiter(passages[0])
        shown = "\n".join(f"<<<{nonce} {n}>>>\n{text}" for n, text in enumerate(passages, start=1))
        text = prompts.load("answer").fill(
            nonce=nonce, passages=f"{shown}\n<<<{nonce} end>>>", question=question
        )
        return self.model.render([{"role": "user", "content": text}])

    def ask(self, prompt: str, *, reuse: bool, folder: Path | None = None) -> Asked:
        self.model.prefixes = self.kept if reuse else self._none
        begun = time.process_time()
        stream = self.model.stream(prompt, max_new_tokens=NEW_TOKENS, prefix_folder=folder)
        first = next((time.process_time() - begun for piece in stream if piece), 0.0)
        completion = stream.completion
        return Asked(first, time.process_time() - begun, completion)

    def pool(self, number: int, tokens: int) -> list[str]:
        """Passages of the corpus, of ``tokens`` tokens in all; another part of it for each number."""
        chosen: list[str] = []
        size, at = 0, number * 997
        while size < tokens:
            passage = self.passages[at % len(self.passages)]
            chosen.append(passage)
            size, at = size + self.model.count_tokens(passage) + 12, at + 1
        return chosen


def rounds(bench: Bench, pools: int, tokens: int) -> dict[str, Any]:
    """Fresh and re-used seconds of the rounds of each pool, of a second question, and after a restart."""
    rows, sizes, same = [], [], []
    for number in range(pools):
        passages = bench.pool(number, tokens)
        question, other = bench.questions[2 * number : 2 * number + 2]
        shown = [passages[: -(-len(passages) * n // ROUNDS)] for n in range(1, ROUNDS + 1)]
        prompted = [*(bench.prompt(some, question) for some in shown), bench.prompt(passages, other)]
        bench.kept.clear()
        fresh, reused = [], []
        with tempfile.TemporaryDirectory() as folder:
            for at, prompt in enumerate(prompted):
                if at % 2:
                    fresh.append(bench.ask(prompt, reuse=False))
                reused.append(
                    bench.ask(prompt, reuse=True, folder=Path(folder) if at == ROUNDS - 1 else None)
                )
                if not at % 2:
                    fresh.append(bench.ask(prompt, reuse=False))
            bench.kept.clear()  # as in a new process
            again = bench.ask(prompted[-1], reuse=True, folder=Path(folder))
            file_mb = sum(f.stat().st_size for f in Path(folder).iterdir()) / 1e6
        same += [a.completion.text == b.completion.text for a, b in zip(fresh, reused, strict=True)]
        same.append(again.completion.text == fresh[-1].completion.text)
        sizes.append(again.completion.prompt_tokens)
        row = {
            "rounds_fresh_s": sum(a.whole for a in fresh[:ROUNDS]),
            "rounds_reused_s": sum(a.whole for a in reused[:ROUNDS]),
            "second_fresh_s": fresh[-1].whole,
            "second_reused_s": reused[-1].whole,
            "second_first_token_fresh_s": fresh[-1].first,
            "second_first_token_reused_s": reused[-1].first,
            "restart_fresh_s": fresh[-1].whole,
            "restart_reused_s": again.whole,
            "file_mb": file_mb,
        }
        rows.append(row)
        print(f"pool {number}: " + json.dumps({k: round(v, 2) for k, v in row.items()}), flush=True)
    figures: dict[str, Any] = {name: round(median(row[name] for row in rows), 3) for name in rows[0]}
    for part in ("rounds", "second", "second_first_token", "restart"):
        ratios = [row[f"{part}_fresh_s"] / row[f"{part}_reused_s"] for row in rows]
        figures[f"{part}_ratio"] = round(median(ratios), 2)
    same_answers = f"{sum(same)}/{len(same)}"
    return {"pools": pools, "prompt_tokens": int(median(sizes)), "same_answers": same_answers, **figures}


def batches(bench: Bench, sizes: Sequence[int], repeats: int, new_tokens: int) -> dict[str, Any]:
    """Tokens per second, prompt included, of the same questions in batches of several sizes.

    "apart": short prompts that share little. "pool": questions on one pool, whose passages a batch reads once.
    """
    bench.model.prefixes = PrefixCache(0)
    asked = bench.questions[: max(sizes)]
    passages = bench.pool(50, 150)
    kinds = {
        "apart": [bench.model.render([{"role": "user", "content": question}]) for question in asked],
        "pool": [bench.prompt(passages, question) for question in asked],
    }
    figures: dict[str, Any] = {}
    for kind, prompted in kinds.items():
        speeds: dict[int, list[float]] = {size: [] for size in sizes}
        texts: dict[int, list[str]] = {}
        for _ in range(repeats):
            for size in sizes:
                begun = time.process_time()
                groups = [prompted[at : at + size] for at in range(0, len(prompted), size)]
                written = [
                    c
                    for group in groups
                    for c in bench.model.complete_batch(group, max_new_tokens=new_tokens)
                ]
                spent = time.process_time() - begun
                speeds[size].append(sum(c.completion_tokens for c in written) / spent)
                texts[size] = [c.text for c in written]
        for size in sizes:
            figures[f"{kind}_{size}_tokens_per_s"] = round(median(speeds[size]), 1)
        figures[f"{kind}_ratio"] = round(median(b / a for a, b in zip(speeds[1], speeds[8], strict=True)), 2)
        same = sum(a == b for size in sizes for a, b in zip(texts[1], texts[size], strict=True))
        figures[f"{kind}_same"] = f"{same}/{len(prompted) * len(sizes)}"
        print(f"batches, {kind}: " + json.dumps(figures), flush=True)
    return figures


def drafts(bench: Bench, repeats: int, new_tokens: int) -> dict[str, Any]:
    """CPU milliseconds a token with drafts from the prompt and one by one."""
    bench.model.prefixes = PrefixCache(2**28)
    most = lookup.MOST
    spent: dict[int, list[float]] = {0: [], most: []}
    same = 0
    for number in range(repeats):
        prompt = bench.prompt(bench.pool(number, 150), bench.questions[number])
        bench.model.complete(prompt, max_new_tokens=1)  # the prompt is read before
        texts = []
        for lookup.MOST in (0, most):
            begun = time.process_time()
            written = bench.model.complete(prompt, max_new_tokens=new_tokens)
            spent[lookup.MOST].append(1000 * (time.process_time() - begun) / written.completion_tokens)
            texts.append(written.text)
        same += texts[0] == texts[1]
    figures = {
        "one_by_one_ms_a_token": round(median(spent[0]), 1),
        "drafts_ms_a_token": round(median(spent[most]), 1),
        "ratio": round(sum(spent[0]) / sum(spent[most]), 2),
        "same": f"{same}/{repeats}",
    }
    print("drafts: " + json.dumps(figures), flush=True)
    return figures


def structured(bench: Bench, repeats: int, new_tokens: int) -> dict[str, Any]:
    """CPU milliseconds a token of replies that must follow a JSON schema, and of free ones to the same prompts."""
    words = {
        "type": "array",
        "items": {"type": "string"},
        "minItems": 99,
    }  # longer than what is written: no early end
    schema = json.dumps(
        {
            "type": "object",
            "properties": {"names": words},
            "required": ["names"],
            "additionalProperties": False,
        }
    )
    asked = [
        bench.model.render([{"role": "user", "content": f"{question} List names as JSON."}])
        for question in bench.questions[:repeats]
    ]
    bench.model.prefixes = PrefixCache(2**28)
    for prompt in asked:  # the prompt is read before: a token's time is decoding alone
        bench.model.complete(prompt, max_new_tokens=1, schema=schema)
    spent: dict[str, list[float]] = {"free": [], "schema": []}
    most = lookup.MOST
    lookup.MOST = 0  # under a schema there are no drafts, so here the free reply goes without too
    for prompt in asked:
        for name, wanted in (("free", None), ("schema", schema)):
            begun = time.process_time()
            tokens = bench.model.complete(prompt, max_new_tokens=new_tokens, schema=wanted).completion_tokens
            spent[name].append(1000 * (time.process_time() - begun) / tokens)
    lookup.MOST = most
    figures = {f"{name}_ms_a_token": round(median(found), 1) for name, found in spent.items()}
    figures["ratio"] = round(median(b / a for a, b in zip(spent["free"], spent["schema"], strict=True)), 3)
    print("structured: " + json.dumps(figures), flush=True)
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="one pool of 400 tokens, batches of 1 and 8 once"
    )
    parser.add_argument("--json", type=Path, help="write the figures to this file too")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--pools", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=3, help="of the batches")
    parser.add_argument("--tokens", type=int, default=4000, help="of a pool's passages after the last round")
    arguments = parser.parse_args()
    pools, tokens = (1, 400) if arguments.quick else (arguments.pools, arguments.tokens)
    bench = Bench(arguments.threads)
    bench.ask(bench.prompt(bench.pool(99, 200), "Who?"), reuse=False)  # warms up
    figures = {
        "threads": arguments.threads,
        **rounds(bench, pools, tokens),
        "drafts": drafts(bench, *((2, 16) if arguments.quick else (12, 32))),
        "structured": structured(bench, *((1, 16) if arguments.quick else (10, 48))),
        "batch": batches(bench, *(((1, 8), 1, 8) if arguments.quick else (BATCHES, arguments.repeats, 32))),
    }
    line = json.dumps(figures)
    if arguments.json:
        arguments.json.write_text(line + "\n", encoding="utf-8")
    print(line)


if __name__ == "__main__":
    main()
