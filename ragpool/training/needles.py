"""Made-up facts in made-up text: contexts whose evidence is known without any label."""

from __future__ import annotations

import random

from ragpool.training.data import Paragraph, Record

DEPTHS = 10
_TOWN_TOKENS = 75  # tokens of one paragraph, about


def needle(depth: int, tokens: int, seed: int) -> Record:
    """A question about one of many made-up towns, told at ``depth`` tenths of about ``tokens`` tokens."""
    picker = random.Random(seed)
    count = max(tokens // _TOWN_TOKENS, 4)
    names = [_name(picker) for _ in range(count)]
    paragraphs = [Paragraph(name, _facts(name, picker)) for name in names]
    at = min(int((depth + 0.5) / DEPTHS * count), count - 1)
    town, keeper = names[at], f"{_name(picker)} {_name(picker)}"
    facts = list(paragraphs[at].sentences)
    facts.insert(2, f"The keeper of the lighthouse archive of {town} is called {keeper}.")
    paragraphs[at] = Paragraph(town, tuple(facts), (2,))
    question = f"Who is the keeper of the lighthouse archive of {town}?"
    return Record(f"needle-{depth}-{seed}", "needle", question, (keeper,), "needle", tuple(paragraphs))


def _facts(name: str, picker: random.Random) -> tuple[str, ...]:
    building = picker.choice(("mill", "bridge", "school", "market hall"))
    known = picker.choice(("cheese", "glass", "clocks", "wool", "bells"))
    return (
        f"{name} is a town on the river {_name(picker)}.",
        f"Its {building} was built in {picker.randint(1500, 1990)} by {_name(picker)} {_name(picker)}.",
        f"About {picker.randint(2, 90)},000 people live there, most of them from {_name(picker)}.",
        f"The town is known for its {known}.",
    )


def _name(picker: random.Random) -> str:
    return "".join(picker.choice("bdfgklmnprstvz") + picker.choice("aeiou") for _ in range(3)).capitalize()
