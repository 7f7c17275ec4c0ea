"""What each method of KV-cache compression keeps of a context, against the full cache.

    python benchmarks/kv.py [FILE ...] [--contexts N] [--only NAMES] [--rows FILE] [--plots DIR] [--quick] [--json FILE]

FILE: data sets in the HotpotQA, 2WikiMultihopQA or MuSiQue format; only questions of the training split are used, with
paragraphs of other questions added up to 2,200, 4,000 and 6,000 tokens (of ten contexts seven, two and one); files take
turns, each from its end (methods were tuned on what comes first). Every third context is a needle: a made-up fact at one of ten depths of made-up text. Each context is read
once; every method works on a copy of that cache. kept: the share of the context's gain in log-likelihood of the gold
answer that survives, summed over contexts; KL: of the next-token distributions over the gold answer, full cache against
compressed, in nats a token, mean. All times are CPU seconds of one thread. ``--rows`` keeps each finished context in a
file and goes on from there; ``--only critic-rag,snapkv`` measures these methods alone. ``--quick`` (under 50 s on a free core) uses a few made-up texts. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import mean, median
from typing import Any

import torch
from transformers import DynamicCache

from ragpool.kvcache import METHODS, Budget, Critic, Signals, nbytes
from ragpool.kvcache.criteria import key_gradients
from ragpool.kvcache.evicted import EvictedCache, cropped
from ragpool.kvcache.packed import quantised
from ragpool.kvcache.plan import KeepPlan
from ragpool.kvcache.rag import CriticRag
from ragpool.kvcache.reprefill import shortened
from ragpool.kvcache.selectors import Selector
from ragpool.kvcache.signals import probed
from ragpool.models import LocalModel, local_model
from ragpool.settings import ModelSettings
from ragpool.training.data import Record, read_records, training_split
from ragpool.training.heads import filled, prompt
from ragpool.training.needles import DEPTHS, needle

RATIOS = (0.5, 0.75, 0.9)
LENGTHS = (2200, 2200, 4000, 2200, 2200, 2200, 2200, 6000, 2200, 4000)
WINDOW = 64
MARKS = {0.5: (0.95, 0.03), 0.75: (0.92, 0.08), 0.9: (0.88, 0.15)}


def benchmark_records(files: Sequence[Path], count: int) -> list[Record]:
    """Training-split questions with distractors, two of three; needles in between."""
    sets = [
        [
            r
            for r in reversed(training_split(read_records([f])))
            if r.answers[0].casefold() not in ("yes", "no")
        ]
        for f in files
    ]
    records = [r for together in zip(*sets, strict=False) for r in together]
    found: list[Record] = []
    for number in range(count):
        tokens = LENGTHS[number % len(LENGTHS)]
        if number % 3 == 2 or not records:
            found.append(needle(number // 3 % DEPTHS, tokens, seed=number))
            continue
        at = (number - number // 3) % len(records)
        others = [p for r in (*records[at + 1 :], *records[:at]) for p in r.paragraphs]
        paragraphs = filled(records[at].paragraphs, others, tokens, seed=number)
        found.append(replace(records[at], id=f"{records[at].id}@{tokens}", paragraphs=paragraphs))
    return found


class Trial:
    """One context, read once: the full cache, what it says of the answer, and what compressed ones say."""

    def __init__(self, local: LocalModel, record: Record, *, heavy: bool) -> None:
        self.local = local
        self.model: Any = local._model
        self.layout, _ = prompt(local, record)
        self._gradients: tuple[torch.Tensor, ...] | None = None
        self.answer = local.tokenizer(record.answers[0], add_special_tokens=False)["input_ids"]
        self.cache = DynamicCache(config=self.model.config)
        first = max(self.layout.context_end - WINDOW, 0)
        fed = len(self.layout) - 1
        begun = time.process_time()
        with torch.inference_mode(), probed(self.model, None if heavy else fed - first) as probe:
            self.model(
                input_ids=torch.tensor([self.layout.ids[:fed]]),
                past_key_values=self.cache,
                use_cache=True,
                logits_to_keep=1,
            )
            self.prefill = time.process_time() - begun
            self.signals = Signals.of(self.cache, probe)
        self.full = self.answer_logits(cropped(self.cache, fed))
        self.with_context = self.likelihood(self.full)
        bare, _ = prompt(local, replace(record, paragraphs=()))
        empty = DynamicCache(config=self.model.config)
        with torch.inference_mode():
            self.model(input_ids=torch.tensor([bare.ids[:-1]]), past_key_values=empty, logits_to_keep=1)
        self.without = self.likelihood(self.answer_logits(empty))

    def answer_logits(self, cache: Any, last: int | None = None) -> torch.Tensor:
        """Log-probabilities [answer tokens, vocabulary] after the prompt's last token."""
        ids = [self.layout.ids[-1] if last is None else last, *self.answer[:-1]]
        with torch.inference_mode():
            logits = self.model(input_ids=torch.tensor([ids]), past_key_values=cache, use_cache=True).logits
        return torch.log_softmax(logits[0].float(), dim=-1)

    def likelihood(self, logits: torch.Tensor) -> float:
        return float(logits.gather(1, torch.tensor(self.answer)[:, None]).sum())

    def compare(self, logits: torch.Tensor) -> dict[str, float]:
        divergence = (self.full.exp() * (self.full - logits)).sum(dim=-1).mean()
        return {"likelihood": self.likelihood(logits), "kl": float(divergence)}

    def evict(self, selector: Selector, ratio: float, *, int8: bool = False) -> dict[str, float]:
        cache, _, seconds = self.evicted(selector, ratio)
        row: dict[str, float] = {"score_seconds": seconds, "bytes": nbytes(cache)}
        if int8:
            cache = quantised(cache)
            row["bytes"] = nbytes(cache)
        return row | self.compare(self.answer_logits(cache))

    def evicted(self, selector: Selector, ratio: float) -> tuple[EvictedCache, KeepPlan, float]:
        begun = time.process_time()
        signals = self.signals
        if getattr(selector, "needs", "") == "gradient":
            signals = replace(signals, gradient=self._gradient())
        if isinstance(selector, CriticRag):
            with torch.inference_mode():
                signals = selector.informed(self.model, self.layout, signals)
        with torch.inference_mode():
            critic = Critic(selector, Budget(ratio=ratio))
            plan = critic.plan(self.layout, signals)
            return critic.apply(self.cache, plan, self.model), plan, time.process_time() - begun

    def _gradient(self) -> tuple[torch.Tensor, ...]:
        """Computed once a context: only the first ratio's time holds it."""
        if self._gradients is None:
            self._gradients = key_gradients(self.model, self.layout, self.cache)
        return self._gradients

    def reprefill(self, ratio: float) -> dict[str, float]:
        begun = time.process_time()
        keep = round(len(self.layout) * (1 - ratio))
        short, _ = shortened(self.local.tokenizer, self.layout, keep)
        cache = DynamicCache(config=self.model.config)
        with torch.inference_mode():
            self.model(input_ids=torch.tensor([short.ids[:-1]]), past_key_values=cache, logits_to_keep=1)
        seconds = time.process_time() - begun
        row = self.compare(self.answer_logits(cache, short.ids[-1]))
        return row | {"seconds": seconds, "bytes": nbytes(cache)}


def measure(
    local: LocalModel, record: Record, ratios: Sequence[float], *, heavy: bool, only: Sequence[str] = ()
) -> dict[str, Any]:
    """Every method, or ``only`` some, at every ratio on one context."""
    trial = Trial(local, record, heavy=heavy)
    wanted = only or (*METHODS, "reprefill", "critic-rag int8")
    methods: dict[str, dict[str, dict[str, float]]] = {}
    for name, make in METHODS.items():
        selector = make()
        if name not in wanted or (getattr(selector, "needs", "") == "all" and not heavy):
            continue
        methods[name] = {str(ratio): trial.evict(selector, ratio) for ratio in ratios}
    if "reprefill" in wanted:  # half of the prompt read again would save nothing
        methods["reprefill"] = {str(ratio): trial.reprefill(ratio) for ratio in ratios if ratio > 0.5}
    if "critic-rag int8" in wanted:
        methods["critic-rag int8"] = {"0.75": trial.evict(METHODS["critic-rag"](), 0.75, int8=True)}
    return {
        "id": record.id,
        "kind": record.dataset,
        "tokens": len(trial.layout),
        "prefill": trial.prefill,
        "bytes": nbytes(trial.cache),
        "with": trial.with_context,
        "without": trial.without,
        "methods": methods,
    }


def summary(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """kept with a bootstrap interval, KL, bytes and time of each method and ratio."""
    table: dict[str, dict[str, dict[str, float]]] = {}
    for name in dict.fromkeys(m for row in rows for m in row["methods"]):
        having = [row for row in rows if name in row["methods"]]
        table[name] = {}
        for ratio in having[0]["methods"][name]:
            cells = [row["methods"][name][ratio] for row in having]
            low, high = _interval(having, cells)
            cell = {
                "kept": _kept(having, cells),
                "low": low,
                "high": high,
                "kl": mean(c["kl"] for c in cells),
                "kl_median": median(c["kl"] for c in cells),
                "bytes": median(c["bytes"] / row["bytes"] for c, row in zip(cells, having, strict=True)),
                "contexts": len(cells),
            }
            for key, part in (("score_seconds", "score_share"), ("seconds", "time_share")):
                if key in cells[0]:
                    shares = [
                        c[key] / c.get("prefill", row["prefill"])
                        for c, row in zip(cells, having, strict=True)
                    ]
                    cell[part] = median(shares)
            table[name][ratio] = {k: round(v, 4) for k, v in cell.items()}
    return table


def _kept(rows: Sequence[dict[str, Any]], cells: Sequence[dict[str, float]]) -> float:
    gain = sum(row["with"] - row["without"] for row in rows)
    return sum(c["likelihood"] - row["without"] for c, row in zip(cells, rows, strict=True)) / gain


def _interval(rows: Sequence[dict[str, Any]], cells: Sequence[dict[str, float]]) -> tuple[float, float]:
    picker = random.Random(0)
    values = []
    for _ in range(500):
        drawn = [picker.randrange(len(rows)) for _ in rows]
        gain = sum(rows[i]["with"] - rows[i]["without"] for i in drawn)
        if gain > 0:
            values.append(_kept([rows[i] for i in drawn], [cells[i] for i in drawn]))
    values.sort()
    return (values[len(values) // 40], values[-len(values) // 40 - 1]) if values else (math.nan, math.nan)


def decoding(local: LocalModel, lengths: Sequence[int], steps: int) -> dict[str, Any]:
    """CPU milliseconds of a token with the full cache and with a quarter of it, interleaved; the cache's content is random."""
    model: Any = local._model
    config = model.config
    dim = config.hidden_size // config.num_attention_heads
    found: dict[str, Any] = {}
    for length in lengths:
        caches: dict[str, Any] = {}
        for name, held in (("full", length), ("half", length // 2), ("quarter", length // 4)):
            cache = DynamicCache()
            for layer in range(config.num_hidden_layers):
                states = torch.randn(1, config.num_key_value_heads, held, dim)
                cache.update(states, states.clone(), layer)
            caches[name] = cache
        taken: dict[str, list[float]] = {name: [] for name in caches}
        with torch.inference_mode():
            for step in range(steps + 1):
                for name, cache in caches.items():
                    begun = time.process_time()
                    model(input_ids=torch.tensor([[5]]), past_key_values=cache, use_cache=True)
                    if step:  # the first one warms up
                        taken[name].append(time.process_time() - begun)
        row = {f"{name}_ms": round(median(values) * 1000, 1) for name, values in taken.items()}
        found[str(length)] = row | {"faster": round(median(taken["full"]) / median(taken["quarter"]), 2)}
    return found


def table_lines(table: dict[str, Any]) -> Iterator[str]:
    yield "| method | " + " | ".join(f"{r:.0%} evicted: kept / KL" for r in RATIOS) + " | contexts |"
    yield "|---|" + "---|" * (len(RATIOS) + 1)
    order = sorted(table, key=lambda name: -table[name].get("0.75", {"kept": 0})["kept"])
    for name in order:
        cells = [
            f"{100 * c['kept']:.0f} % / {c['kl']:.3f}" if (c := table[name].get(str(r))) else ""
            for r in RATIOS
        ]
        yield f"| {name} | {' | '.join(cells)} | {table[name]['0.75']['contexts']} |"


def plot(table: dict[str, Any], folder: Path) -> None:
    """kept and KL against the evicted share, as SVG."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "ragpool"
    from matplotlib import pyplot

    folder.mkdir(parents=True, exist_ok=True)
    names = [n for n in table if len(table[n]) > 1]
    for key, label, low, high in (
        ("kept", "share of the context's gain kept", -0.5, 1.1),
        ("kl", "KL to the full cache", 0, 1.5),
    ):
        figure, axes = pyplot.subplots(figsize=(7, 4.2))
        for name in names:
            ratios = [r for r in RATIOS if str(r) in table[name]]
            values = [table[name][str(r)][key] for r in ratios]
            strong = name in ("critic-rag", "reprefill", "snapkv")
            axes.plot(
                ratios,
                values,
                marker="o",
                label=name,
                linewidth=2.4 if strong else 1,
                alpha=1 if strong else 0.6,
            )
        axes.set(xlabel="share of the cache evicted", ylabel=label, ylim=(low, high), xticks=RATIOS)
        axes.grid(alpha=0.3)
        axes.legend(fontsize=7, ncols=2, loc="lower left", bbox_to_anchor=(0, 0.015))
        figure.tight_layout()
        figure.savefig(folder / f"kv-{key}.svg", metadata={"Date": None})
        pyplot.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("files", nargs="*", type=Path)
    parser.add_argument("--contexts", type=int, default=60)
    parser.add_argument(
        "--heavy", type=int, default=6, help="contexts on which h2o and expected are run (slow)"
    )
    parser.add_argument("--rows", type=Path)
    parser.add_argument("--only", default="", help="names of methods, separated by commas")
    parser.add_argument("--plots", type=Path)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    local = local_model(ModelSettings(threads=1))
    assert local is not None
    if options.quick:
        records = [needle(depth, 700, seed=depth) for depth in (2, 7)]
    else:
        records = benchmark_records(options.files, options.contexts)
    only = [name.strip() for name in options.only.split(",") if name.strip()]
    rows: list[dict[str, Any]] = []
    if options.rows is not None and options.rows.exists():
        rows = [json.loads(line) for line in options.rows.read_text(encoding="utf-8").splitlines()]
    done = {row["id"] for row in rows}
    for number, record in enumerate(records):
        if record.id in done:
            continue
        heavy = number < options.heavy and not options.quick and not only
        row = measure(local, record, RATIOS, heavy=heavy, only=only)
        rows.append(row)
        if options.rows is not None:
            with options.rows.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
        print(f"{len(rows)}/{len(records)} {record.id} {row['tokens']} tokens", file=sys.stderr, flush=True)
    table = summary(rows)
    for line in table_lines(table):
        print(line)
    speed = decoding(local, (2048,) if options.quick else (2048, 4096, 8000), 4 if options.quick else 12)
    if options.plots is not None:
        plot(table, options.plots)
    lengths = [row["tokens"] for row in rows]
    ours = table.get("critic-rag")
    result = {
        "contexts": len(rows),
        "tokens": [min(lengths), int(median(lengths)), max(lengths)],
        "gain": round(sum(row["with"] - row["without"] for row in rows), 2),
        "table": table,
        "decode": speed,
        "marks": {
            str(r): ours[str(r)]["kept"] >= kept and ours[str(r)]["kl"] <= kl
            for r, (kept, kl) in MARKS.items()
            if ours is not None
        },
    }
    if options.json is not None:
        options.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
