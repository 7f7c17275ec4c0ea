"""The card of a trained adapter: what it is, how it was made, and its held-out figures."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ragpool import prompts
from ragpool.plan import PLAN_PROMPT_VERSION
from ragpool.slots import READ_PROMPT_VERSION
from ragpool.training.lora import BASE_NAME

_LICENCES = {
    "hotpot": "HotpotQA (CC BY-SA 4.0)",
    "2wiki": "2WikiMultihopQA (Apache-2.0)",
    "musique": "MuSiQue-Ans (CC BY 4.0)",
    "zembrissa": "other worlds of the sample corpus's script, by its --benchmark (CC0); never the sample corpus itself",
}
_FIGURES = """\
`relations`, `subjects`, `operation`, `plan`: share of questions with a gold plan for which these (`plan`: all of
them) are right; `shape`: each step asks about the right thing, whatever the words of its relation. `em`, `f1`: of
answers with the gold sentences among distractors. `none`: how often it says so rightly, and of the unanswerable ones
how many it notices. `auroc`: of the completion's mean log-probability for the answer being right (F1 of at least .5).
`calibration_error`: of the confidence fitted to it (on these same answers)."""


_LORA = f"A LoRA adapter (peft format, float16, {{size:.1f}} MB) for {BASE_NAME} (Apache-2.0)."


@dataclass(frozen=True, slots=True)
class Subject:
    """What a card is about: the part's name, what it does, what kind of file it is, an adapter's prompt file and that
    format's version."""

    name: str
    about: str
    form: str
    prompt: str = ""
    version: str = ""


PLAN_CARD = Subject(
    "plan",
    "Writes a question's plan, one look-up a line (`subject | relation | ?n`), and a comparison's operation.",
    _LORA,
    "plan",
    PLAN_PROMPT_VERSION,
)
READER_CARD = Subject(
    "reader",
    "Reads the shortest answer to a look-up or a question from distilled sentences, or says `none`.",
    _LORA,
    "read",
    READ_PROMPT_VERSION,
)
SPANS_CARD = Subject(
    "spans",
    "Points at the span of a few passages that answers a look-up or a question, or says that they do not tell.",
    "Two scores a token on all-MiniLM-L6-v2 (Apache-2.0), and what training changed in its upper four layers (8 bits a weight, {size:.1f} MB).",
)


def write_card(
    subject: Subject,
    files: Sequence[Path],
    out: Path,
    trained: Mapping[str, Any],
    held_out: Mapping[str, Any],
) -> dict[str, Any]:
    """README.md and figures.json beside the adapter; returns what figures.json holds."""
    prompt = prompts.load(subject.prompt) if subject.prompt else None
    sha = prompt.sha if prompt else ""
    shape = (
        f"- prompt: `ragpool/prompts/{subject.prompt}.md`, format version {subject.version}, hash {sha}\n"
        if prompt
        else ""
    )
    data = "\n".join(f"- {file.name}: {_licence(file.name)}" for file in files)
    command = f"ragpool train {subject.name} {' '.join(file.name for file in files)} --out DIR"
    card = f"""# {subject.name}

{subject.about}
{subject.form.format(size=trained["bytes"] / 1e6)}

{shape}- command: `{command}`
- recipe: `{json.dumps(trained["recipe"])}`
- examples in each epoch: {trained["examples"]}; tokens: {trained["tokens"]}
- loss of each epoch: {trained["losses"]}; {trained["seconds"]:.0f} seconds of training
{_later(trained)}
## Data

{data}
- look-ups over paragraphs of the training questions and questions with plans, written for this by a large language model (Claude)
  at the keyboard and checked by a script (`ragpool/training/written.py`): our own, Apache-2.0
- made-up questions and passages over invented names (`ragpool/training/grammar.py`, `statements.py`): our own, Apache-2.0

Samples of the training splits. Questions whose id hashes below 3 of 10 (`ragpool.training.data.is_dev`) were held
out from training.

## Figures on the held-out questions

```json
{json.dumps(held_out, indent=2)}
```

{_FIGURES}
"""
    (out / "README.md").write_text(card, encoding="utf-8")
    figures = {
        "adapter": subject.name,
        "prompt_version": subject.version,
        "prompt_sha": sha,
        "trained": dict(trained),
        "dev": dict(held_out),
    }
    (out / "figures.json").write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    return figures


def _later(trained: Mapping[str, Any]) -> str:
    """A line on each later stage."""
    return "".join(
        f"- later stage: {stage['examples']} examples, tokens {stage['tokens']}, loss"
        f" {stage['losses']}, {stage['seconds']:.0f} seconds, recipe `{json.dumps(stage['recipe'])}`\n"
        for stage in trained.get("later", ())
    )


def _licence(name: str) -> str:
    return next((text for key, text in _LICENCES.items() if key in name.casefold()), "your own data")
