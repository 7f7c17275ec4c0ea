from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from ragpool.errors import LoadError
from ragpool.models import LocalModel
from ragpool.plan import PLAN_PROMPT_VERSION, adapter_folder, parse_plan, write_plan
from ragpool.prompts import load as load_prompt
from ragpool.slots import READ_PROMPT_VERSION, stands_in
from ragpool.training import data, lora, mined, plan, reader, readings, statements, written
from ragpool.training.data import (
    HOTPOT,
    MUSIQUE,
    TWOWIKI,
    Paragraph,
    Record,
    Step,
    is_dev,
    read_records,
    split_sentences,
    training_split,
)
from ragpool.training.gold import gold_plan
from ragpool.training.hotpot_plans import HOTPOT_PLANS
from ragpool.types import Operation

VILLAGES = {
    "_id": "v1",
    "type": "bridge_comparison",
    "question": "Which film has the director who was born later, Green Harbour (1950 Film) or Salt Roads?",
    "answer": "Salt Roads",
    "context": [
        ["Green Harbour (1950 film)", ["Green Harbour is a film by Ann Pell.", " It was shot in spring."]],
        ["Salt Roads", ["Salt Roads is a film directed by Bo Reed."]],
        ["Ann Pell", ["Ann Pell (born 3 May 1900) was a director."]],
        ["Bo Reed", ["Bo Reed was born on May 4, 1921.", "He lives in Orr."]],
        ["Blue Harbour", ["Blue Harbour is a film by Cy Dunn."]],
        ["Cy Dunn", ["Cy Dunn was a director from Orr."]],
    ],
    "supporting_facts": [
        ["Green Harbour (1950 film)", 0],
        ["Salt Roads", 0],
        ["Ann Pell", 0],
        ["Bo Reed", 0],
    ],
    "evidences": [
        ["Salt Roads", "director", "Bo Reed"],
        ["Green Harbour", "director", "Ann Pell"],
        ["Bo Reed", "date of birth", "4 May 1921"],
        ["Ann Pell", "date of birth", "May 3, 1900"],
    ],
}
STEPS = {
    "id": "2hop__1_2",
    "question": "Where is the mill in the town where Ann Pell was born?",
    "answer": "High Street",
    "answer_aliases": ["the High Street"],
    "answerable": True,
    "paragraphs": [
        {
            "idx": 0,
            "title": "Ann Pell",
            "paragraph_text": "Ann Pell was born in Orr. She moved.",
            "is_supporting": True,
        },
        {
            "idx": 1,
            "title": "Orr",
            "paragraph_text": "Orr has a mill on High Street. It is old.",
            "is_supporting": True,
        },
        {"idx": 2, "title": "Mill", "paragraph_text": "A mill grinds grain.", "is_supporting": False},
    ],
    "question_decomposition": [
        {"id": 1, "question": "Ann Pell >> place of birth", "answer": "Orr", "paragraph_support_idx": 0},
        {"id": 2, "question": "where is the mill in #1", "answer": "High Street", "paragraph_support_idx": 1},
    ],
}


@pytest.fixture
def records(tmp_path: Path) -> dict[str, Record]:
    """One invented question of each data set, read from files in the original formats."""
    plain = {k: v for k, v in VILLAGES.items() if k != "evidences"} | {"_id": "h1"}
    (tmp_path / "hotpot.json").write_text(json.dumps([plain]))
    (tmp_path / "2wiki.json").write_text(json.dumps([VILLAGES]))
    (tmp_path / "musique.jsonl").write_text(json.dumps(STEPS) + "\n")
    found = read_records([tmp_path / name for name in ("hotpot.json", "2wiki.json", "musique.jsonl")])
    return {record.dataset: record for record in found}


def test_files_are_told_apart_by_their_content(records: dict[str, Record]) -> None:
    assert set(records) == {HOTPOT, TWOWIKI, MUSIQUE}
    wiki, musique = records[TWOWIKI], records[MUSIQUE]
    assert [p.title for p in wiki.supporting] == [
        "Green Harbour (1950 film)",
        "Salt Roads",
        "Ann Pell",
        "Bo Reed",
    ]
    assert wiki.steps[0] == Step("Bo Reed", "Salt Roads", "director")
    assert musique.answers == ("High Street", "the High Street")
    assert musique.paragraphs[1] == Paragraph("Orr", ("Orr has a mill on High Street.", "It is old."), (0,))


def test_a_file_of_another_kind_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text('[{"a": 1}]')
    with pytest.raises(LoadError, match=r"x\.json.*original"):
        read_records([tmp_path / "x.json"])


def test_three_in_ten_questions_are_held_out_for_good() -> None:
    held_out = [i for i in range(2000) if is_dev(f"question {i}")]
    assert 0.27 < len(held_out) / 2000 < 0.33
    assert [i for i in held_out if i < 12] == [i for i in range(12) if is_dev(f"question {i}")]
    assert not any(is_dev(key) for key in HOTPOT_PLANS)


def test_training_never_sees_a_held_out_question(records: dict[str, Record]) -> None:
    many = [
        Record(
            f"q{i}",
            TWOWIKI,
            f"Where was P{i}x born?",
            ("Orr",),
            "",
            (),
            (Step("Orr", f"P{i}x", "place of birth"),),
        )
        for i in range(60)
    ]
    text = "".join(e.prompt for e in plan.examples(training_split(many)))
    for record in many:
        assert (record.question in text) != is_dev(record.id)


def test_sentences_end_at_full_stops_that_end_them() -> None:
    assert split_sentences('J. R. Smith met Dr. Who. He left at 5.30 p.m. "Why?" she said.') == (
        "J. R. Smith met Dr. Who.",
        "He left at 5.30 p.m.",
        '"Why?" she said.',
    )
    assert split_sentences("  ") == ()


@given(st.text(alphabet=st.sampled_from("aB. !?\"')\n"), max_size=60))
def test_splitting_loses_no_letters(text: str) -> None:
    assert "".join("".join(split_sentences(text)).split()) == "".join(text.split())


def test_gold_triples_become_a_plan_in_the_words_of_the_question(records: dict[str, Record]) -> None:
    gold = gold_plan(records[TWOWIKI])
    assert gold is not None
    assert write_plan(gold).splitlines() == [
        "Green Harbour (1950 Film) | director | ?1",
        "?1 | date of birth | ?2",
        "Salt Roads | director | ?3",
        "?3 | date of birth | ?4",
        "= later",
    ]


def test_an_answer_that_no_operation_gives_is_dropped(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text(json.dumps([{**VILLAGES, "answer": "Blue Harbour"}]))
    assert gold_plan(read_records([tmp_path / "x.json"])[0]) is None


def test_a_decomposition_becomes_a_plan(records: dict[str, Record]) -> None:
    gold = gold_plan(records[MUSIQUE])
    assert gold is not None
    assert write_plan(gold) == "Ann Pell | place of birth | ?1\n?1 | where mill | ?2"


def test_comparisons_are_also_taught_the_other_way_round(records: dict[str, Record]) -> None:
    pairs = plan.examples([records[TWOWIKI]])
    assert [p.target.splitlines()[-1] for p in pairs] == ["= later", "= earlier"]
    assert "born earlier" in pairs[1].prompt


def test_plans_are_scored_by_what_is_wrong(records: dict[str, Record]) -> None:
    record = records[TWOWIKI]
    gold = gold_plan(record)
    assert gold is not None
    assert plan.compare(gold, gold) is None
    lines = write_plan(gold)
    wrong = {
        "operation later read as earlier": lines.replace("later", "earlier"),
        "too few triples": "\n".join([*lines.splitlines()[:2], "Salt Roads | director | ?3", "= later"]),
        "relation": lines.replace("?1 | date of birth", "?1 | date of death"),
        "subject": lines.replace("Salt Roads |", "director |"),
    }
    for error, text in wrong.items():
        read = parse_plan(text, record.question)
        assert read is not None
        assert plan.compare(read, gold) == error
    figures = plan.score([record, record], [gold, None])[TWOWIKI]
    assert figures["plan"] == figures["shape"] == 0.5
    assert figures["errors"] == {"unreadable": 1}
    other_words = parse_plan(lines.replace("?1 | date of birth", "?1 | born on"), record.question)
    assert plan.score([record], [other_words])[TWOWIKI]["shape"] == 1


def test_held_out_plans_are_none_of_those_that_are_shown() -> None:
    shown = {plan.text for name in (written.PLANS, written.LONG_PLANS) for plan in written.plans(name)}
    held_out = written.planned()
    assert len(held_out) > 50
    assert not shown & {record.question for record in held_out}
    assert all((found := gold_plan(record)) and write_plan(found) == record.plan for record in held_out)


def test_lookups_come_with_their_answers_as_written(records: dict[str, Record]) -> None:
    found = {item.query: item.answer for item in readings.items(records[TWOWIKI])}
    assert found["Green Harbour (1950 Film), director?"] == "Ann Pell"
    assert found["Bo Reed, date of birth?"] == "May 4, 1921"
    asked = {item.query: item.answer for item in readings.items(records[MUSIQUE])}
    assert asked["Orr, where mill?"] == "High Street"
    assert asked["where is the mill in Orr"] == "High Street"


@given(st.integers(0, 10_000), st.booleans(), st.sampled_from([TWOWIKI, MUSIQUE]))
def test_the_target_stands_in_the_context_or_is_none(seed: int, missing: bool, dataset: str) -> None:
    raw = VILLAGES if dataset == TWOWIKI else STEPS
    for item in readings.items(data._record(raw)):
        made = readings.example(item, random.Random(seed), missing=missing)
        if made is None:
            continue
        _, contexts, target = made
        assert contexts
        if missing:
            assert target == "none"
            assert not stands_in(item.answer, contexts)
        else:
            assert stands_in(target, contexts)


def own_world(tmp_path: Path, **changes: Any) -> Record:
    """The record of a file in 2WikiMultihopQA's format that gives itself a name."""
    row = {
        "_id": "w1",
        "dataset": "harbours",
        "question": "Which lighthouse is taller, Kelp Light or Ram Light?",
        "answer": "Ram Light",
        "context": [
            ["Kelp Light", ["Kelp Light is 17.5 metres tall."]],
            ["Ram Light", ["Ram Light was designed by Bo Reed.", "It is 19 metres tall."]],
            ["Bo Reed", ["Bo Reed was an engineer."]],
        ],
        "supporting_facts": [["Kelp Light", 0], ["Ram Light", 1]],
        "evidences": [["Kelp Light", "height", "17.5 metres"], ["Ram Light", "height", "19 metres"]],
        **changes,
    }
    file = tmp_path / "own.json"
    file.write_text(json.dumps([row]), encoding="utf-8")
    return read_records([file])[0]


def test_a_file_may_name_its_data_set_and_compare_numbers(tmp_path: Path) -> None:
    record = own_world(tmp_path)
    assert record.dataset == "harbours"
    gold = gold_plan(record)
    assert gold is not None
    assert gold.operation is Operation.LARGER


def test_a_step_back_is_read_on_the_page_of_its_value(tmp_path: Path) -> None:
    record = own_world(
        tmp_path,
        question="How tall is the lighthouse designed by Bo Reed?",
        answer="19 metres",
        supporting_facts=[["Ram Light", 0], ["Ram Light", 1]],
        evidences=[["Bo Reed", "lighthouse designed", "Ram Light"], ["Ram Light", "height", "19 metres"]],
    )
    lookups = [item for item in readings.items(record) if item.kind == readings.LOOKUP]
    assert [(item.query, item.answer) for item in lookups] == [
        ("Bo Reed, lighthouse designed?", "Ram Light"),
        ("Ram Light, height?", "19 metres"),
    ]


def test_a_step_without_a_value_is_taught_as_none(tmp_path: Path) -> None:
    record = own_world(
        tmp_path,
        question="Where was the designer of Ram Light born?",
        answer="",
        supporting_facts=[["Ram Light", 0], ["Bo Reed", 0]],
        evidences=[["Ram Light", "designer", "Bo Reed"], ["Bo Reed", "birthplace", ""]],
    )
    asked = [item for item in readings.items(record) if not item.answer]
    assert [(item.kind, item.query) for item in asked] == [(readings.LOOKUP, "Bo Reed, birthplace?")]
    made = readings.example(asked[0], random.Random(0), missing=True)
    assert made is not None
    _, contexts, target = made
    assert target == "none"
    assert "Bo Reed" in [title for title, _ in contexts]
    assert readings.example(asked[0], random.Random(0), missing=False) is None


def test_what_was_written_by_hand_is_of_training_questions_only() -> None:
    names = (written.LOOKUPS, written.BACKWARD, written.PARAGRAPHS)
    lines = [line for name in names for line in written.lookups(name)]
    assert len(lines) > 25000
    assert not any(is_dev(line.record) for line in (*lines, *written.chains()))
    plans = written.plans()
    assert len({p.text for p in plans}) == len(plans) > 1000
    for one in plans:
        assert all(t.subject in one.text for t in one.triples if not t.subject.startswith("?"))


def test_written_questions_hold_their_answer_and_stay_with_their_benchmark_question() -> None:
    chain = next(c for c in written.chains() if c.key is not None and c.span and len(c.paragraphs) > 1)
    assert chain.key is not None
    assert chain.span is not None
    text = "x" * chain.span[0] + "Port Ennis." + " end" * chain.span[1]
    paragraphs = [Paragraph(f"Page {n}", (f"Page {n} tells nothing.",), ()) for n in range(25)]
    paragraphs[chain.key] = Paragraph("Home", (text,), ())
    record = Record(chain.record, "hotpotqa", "Where?", ("Tours",), "", tuple(paragraphs))
    made = next(r for r in written.records([record]) if r.question == chain.question)
    assert written.benchmark_id(made.id) == record.id
    assert {p.title for p in made.supporting} == {paragraphs[n].title for n in chain.paragraphs}
    assert made.answers[0] in text
    assert written.records([]) == []


def test_the_support_of_a_written_question_has_its_answer_as_whole_words() -> None:
    chain = next(
        c
        for c in written.chains()
        if c.span and len(c.paragraphs) > 1 and c.span[0] > c.span[1] - c.span[0] + 3
    )
    assert chain.key is not None
    assert chain.span is not None
    start, end = chain.span
    answer = "q" * (end - start)
    inside = answer + "x" * (start - len(answer) - 2) + "."  # the same letters in a longer word
    paragraphs = [Paragraph(f"Page {n}", ("It tells nothing.",), ()) for n in range(25)]
    paragraphs[chain.key] = Paragraph("Home", (inside, f"{answer} is it."), ())
    record = Record(chain.record, HOTPOT, "Where?", ("Tours",), "", tuple(paragraphs))
    made = next(r for r in written.records([record]) if r.question == chain.question)
    assert made.answers == (answer,)
    assert made.paragraphs[chain.key].support == (1,)


def test_the_support_of_a_yes_or_no_is_the_first_sentence() -> None:
    chain = next(c for c in written.chains() if c.said == "no" and len(c.paragraphs) > 1)
    paragraphs = tuple(Paragraph(f"Page {n}", ("Here it is.", "Nobody said no."), ()) for n in range(25))
    record = Record(chain.record, HOTPOT, "Where?", ("Tours",), "", paragraphs)
    made = next(r for r in written.records([record]) if r.question == chain.question)
    assert {p.support for p in made.supporting} == {(0,)}


def test_a_written_lookup_is_taught_with_its_answer_or_with_none() -> None:
    first = written.lookups()[0]
    own = [line for line in written.lookups() if line.record == first.record]
    paragraphs = tuple(
        Paragraph(f"Title {n}", (" ".join(f"p{n}word{m}" for m in range(200)),))
        for n in range(max(line.paragraph for line in own) + 2)
    )
    record = Record(first.record, HOTPOT, "?", ("x",), "", paragraphs)
    samples = written.examples([record], 1000, random.Random(0))
    assert len(samples) == len(own)
    for sample in samples:
        assert sample.target == "none" or stands_in(sample.target, sample.contexts)
        assert sample.as_example().target == f" {sample.target}"
    assert written.examples([], 1000, random.Random(0)) == []


def test_examples_depend_on_the_seed_alone(records: dict[str, Record]) -> None:
    everything = list(records.values())
    first = readings.examples(everything, random.Random("0-0"), {})
    assert first == readings.examples(everything, random.Random("0-0"), {})
    assert first != readings.examples(everything, random.Random("0-1"), {})


def test_facts_are_mined_from_running_text() -> None:
    record = Record(
        "m1",
        TWOWIKI,
        "?",
        ("?",),
        "",
        (
            Paragraph("Green Harbour (film)", ("Green Harbour is a 1950 Danish drama film directed by Ann Pell.",)),
            Paragraph(
                "Ann Pell",
                ("Ann Pell (3 May 1900 – 9 June 1971) was a Danish director.", "She was educated at Orr College.",
                 "Bo Reed was born in Tarn."),
            ),
        ),
    )  # fmt: skip
    found = {
        (f.subject, mined.PATTERNS[f.kind].names[0], f.value) for f in mined.facts([record]) if f.kind >= 0
    }
    assert found >= {
        ("Green Harbour", "director", "Ann Pell"),
        ("Green Harbour", "publication date", "1950"),
        ("Ann Pell", "date of birth", "3 May 1900"),
        ("Ann Pell", "date of death", "9 June 1971"),
        ("Ann Pell", "educated at", "Orr College"),
    }
    assert not any(value == "Tarn" for _, _, value in found), "a sentence about somebody else"


@pytest.mark.parametrize("make", [
    lambda rng, record: mined.examples([record], 12, rng),
    lambda rng, record: statements.examples(12, rng),
])  # fmt: skip
@given(seed=st.integers(0, 10_000))
def test_made_targets_stand_in_their_context_or_are_none(make: Any, seed: int) -> None:
    samples = make(random.Random(seed), data._record(VILLAGES))
    assert samples
    for sample in samples:
        assert sample.target == "none" or stands_in(sample.target, sample.contexts)


def test_the_fitted_curve_separates_right_from_wrong() -> None:
    curve = reader.fit_calibration(
        [(-0.1, True), (-0.2, True), (-0.3, False), (-1.5, False), (-2.0, False), (-0.05, True)]
    )
    assert curve(-0.05) > 0.6
    assert curve(-2.0) < 0.3


# --- LoRA, on a model of two layers

PAIRS = [lora.Example(f"Question: {n}\nPlan:\n", f"{n} | mother | ?1") for n in ("ab", "cde", "f", "gh")]


def fresh() -> tuple[Any, Any]:
    return tiny.llama(), tiny.tokenizer()


def trained(
    out: Path, log: lora.Log, frozen: int = 1, examples: list[lora.Example] = PAIRS
) -> dict[str, Any]:
    recipe = lora.Recipe(rank=4, alpha=8, rate=1e-2, batch_tokens=80, frozen=frozen, threads=1)
    return lora.train_lora([examples] * 3, out, recipe, log, base=fresh())


@pytest.mark.parametrize("keep", [True, False])
def test_the_split_forward_pass_is_the_whole_one(keep: bool) -> None:
    model, tokenizer = fresh()
    pairs = [
        (tokenizer("Who is it?").input_ids, tokenizer("me").input_ids),
        (tokenizer("Why?").input_ids, [1]),
    ]
    trunk = lora.Trunk(model, 1, keep=keep)
    with torch.no_grad():
        hidden = lora.upper(model, trunk(pairs), 1)
        again = lora.upper(model, trunk(pairs), 1)
        for row, (prompt, target) in enumerate(pairs):
            whole = model.model(input_ids=torch.tensor([prompt + target])).last_hidden_state[0]
            torch.testing.assert_close(hidden[row, : len(whole)], whole, rtol=1e-4, atol=1e-5)
    assert torch.equal(hidden, again)


def test_an_adapter_learns_and_loads_where_it_is_used(tmp_path: Path) -> None:
    figures = trained(tmp_path, lambda line: None)
    assert figures["losses"][-1] < figures["losses"][0]
    assert figures["examples"] == [4, 4, 4]
    assert figures["bytes"] == (tmp_path / "adapter_model.safetensors").stat().st_size
    kept = {p.name for p in tmp_path.iterdir()}
    assert kept == {"adapter_config.json", "adapter_model.safetensors", "figures.json"}
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == lora.BASE_NAME
    assert config["layers_to_transform"] == [1]
    model = LocalModel(*fresh(), version="tiny@0")
    before = model.score("Question: ab\nPlan:\n", ["ab | mother | ?1"])
    model.load_adapter("plan", tmp_path)
    after = model.score("Question: ab\nPlan:\n", ["ab | mother | ?1"], adapter="plan")
    assert after[0] > before[0]


def test_the_mean_of_an_adapter_with_itself_is_that_adapter(tmp_path: Path) -> None:
    trained(tmp_path / "one", lambda line: None)
    lora.mean([tmp_path / "one", tmp_path / "one"], tmp_path / "both")
    one, both = (load_file(tmp_path / name / "adapter_model.safetensors") for name in ("one", "both"))
    assert one.keys() == both.keys()
    assert all(torch.equal(one[name], both[name]) for name in one)


def test_a_run_that_was_interrupted_ends_like_one_that_was_not(tmp_path: Path) -> None:
    class Killed(Exception):
        pass

    def kill(line: str) -> None:
        if line.startswith("epoch 2 done"):
            raise Killed

    whole = trained(tmp_path / "whole", lambda line: None)
    with pytest.raises(Killed):
        trained(tmp_path / "parts", kill)
    lines: list[str] = []
    parts = trained(tmp_path / "parts", lines.append)
    assert lines[0] == "resumed after epoch 1"
    assert parts["losses"] == whole["losses"]
    a, b = ((tmp_path / name / "adapter_model.safetensors").read_bytes() for name in ("whole", "parts"))
    assert a == b


def test_a_stage_that_is_done_is_not_trained_again(tmp_path: Path) -> None:
    first = trained(tmp_path / "one", lambda line: None)
    lines: list[str] = []
    assert trained(tmp_path / "one", lines.append) == first
    assert not any(line.startswith("epoch") for line in lines)


def test_a_stage_is_trained_again_when_its_examples_or_its_start_are_others(tmp_path: Path) -> None:
    recipe = lora.Recipe(rank=4, alpha=8, rate=1e-2, batch_tokens=80, frozen=1, threads=1)
    starts = [tmp_path / "start", tmp_path / "other"]
    for seed, folder in enumerate(starts):
        lora.train_lora([PAIRS], folder, replace(recipe, seed=seed), lambda line: None, base=fresh())

    def again(examples: list[lora.Example], start: Path, lines: list[str]) -> bytes:
        lora.train_lora([examples], tmp_path / "out", recipe, lines.append, base=fresh(), start=start)
        return (tmp_path / "out" / "adapter_model.safetensors").read_bytes()

    first: list[str] = []
    adapter = again(PAIRS, starts[0], first)
    others = [replace(PAIRS[0], target="xy"), *PAIRS[1:]]
    for examples, start in ((others, starts[0]), (PAIRS, starts[1]), (PAIRS, starts[0])):
        lines: list[str] = []
        written_now = again(examples, start, lines)
        assert len(lines) == len(first) > 0
        assert (written_now == adapter) == (examples == PAIRS and start == starts[0])


@pytest.mark.parametrize("other", [{"frozen": 0}, {"examples": PAIRS[::-1]}])
def test_a_checkpoint_of_another_recipe_or_other_examples_is_not_resumed(
    tmp_path: Path, other: dict[str, Any]
) -> None:
    def kill(line: str) -> None:
        if line.startswith("epoch 3 done"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path, kill)
    lines: list[str] = []
    trained(tmp_path, lines.append, **other)
    assert not any(line.startswith("resumed") for line in lines)


# --- what ships


@pytest.mark.parametrize(
    ("name", "version", "prompt"),
    [("plan", PLAN_PROMPT_VERSION, "plan"), ("reader", READ_PROMPT_VERSION, "read")],
)
def test_shipped_adapters_are_small_described_and_fit_their_prompt(
    name: str, version: str, prompt: str
) -> None:
    folder = adapter_folder(name)
    assert (folder / "adapter_model.safetensors").stat().st_size < 10_000_000
    figures = json.loads((folder / "figures.json").read_text())
    assert (figures["prompt_version"], figures["prompt_sha"]) == (version, load_prompt(prompt).sha)
    card = (folder / "README.md").read_text()
    for part in (figures["prompt_sha"], "CC BY-SA 4.0", "Apache-2.0", "ragpool train", '"seed": 0'):
        assert part in card
    config = json.loads((folder / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == lora.BASE_NAME


def test_what_was_written_on_held_out_questions_measures_and_never_trains() -> None:
    lines, chains = written.lookups(written.HELD_OUT), written.chains(written.HELD_OUT_CHAINS)
    assert len(lines) > 600
    assert len(chains) > 400
    assert all(is_dev(one.record) for one in (*lines, *chains))
    own = [line for line in lines if line.record == lines[0].record]
    letters = "a b " * 400  # wherever a span is cut, it is of whole words
    paragraphs = tuple(Paragraph(f"Title {n}", (letters,)) for n in range(25))
    record = Record(lines[0].record, HOTPOT, "?", ("x",), "", paragraphs)
    asked = written.held_out([record], random.Random(0), 1000)
    looked_up = [target for item, _, target in asked if item.kind == readings.LOOKUP]
    assert len(looked_up) == len(own)
    assert looked_up.count("none") == sum(line.answer is None for line in own)
    for item, contexts, target in asked:
        assert item.record.dataset == written.WRITTEN
        assert target == "none" or stands_in(target, contexts) or target in ("yes", "no")
    assert written.held_out([], random.Random(0), 10) == []
