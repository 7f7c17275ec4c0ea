from __future__ import annotations

from pathlib import Path

import pytest
import tiny
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ragpool.errors import ModelError
from ragpool.models import LocalModel
from ragpool.models.spans import MAX_TOKENS, SpanModel, add_deltas, deltas, encode, shown, spans
from ragpool.plan import adapter_folder
from ragpool.settings import ModelSettings
from ragpool.slots import TOLD, Calibration, PairReader, Weighing
from ragpool.training import spans as training
from ragpool.training.data import Paragraph, Record
from ragpool.training.readings import Sample

MOTHER = (
    "Lothair II",
    "Lothair II was the son of Emperor Lothair I and Ermengarde of Tours. He was married to Teutberga.",
)
TOURS = ("Tours", "Tours is a city on the Loire in western France.")


@pytest.fixture(scope="session")
def model() -> SpanModel:
    return SpanModel.load(adapter_folder("spans"), ModelSettings())


@pytest.fixture(scope="session")
def tokenizer() -> object:
    return training.load_base()[1]


# --- sequences


@settings(max_examples=60)
@given(
    st.text(max_size=40),
    st.lists(st.tuples(st.text(max_size=15), st.text(max_size=300)), max_size=4),
    st.integers(1, 8),
)
def test_every_word_of_every_passage_is_read(
    tokenizer: object, query: str, contexts: list[tuple[str, str]], times: int
) -> None:
    contexts = [(title, text * times) for title, text in contexts]
    read: dict[int, set[int]] = {n: set() for n in range(len(contexts))}
    for encoded in encode(tokenizer, query, contexts):
        assert len(encoded.ids) <= MAX_TOKENS
        for number, start, end in encoded.places:
            if 0 <= number < len(contexts):
                read[number].update(range(start, end))
    for number, context in enumerate(contexts):
        missed = {c for n, c in enumerate(shown(context)) if n not in read[number]}
        assert not any(c.isascii() and c.isalnum() for c in missed)


def test_a_span_is_whole_words_of_one_passage(tokenizer: object) -> None:
    contexts = [("Zuckmayerhaus", "Antidisestablishment"), ("B", "c d")]
    (encoded,) = encode(tokenizer, "what?", contexts)
    texts = set()
    for begin, end in spans(encoded).nonzero().tolist():
        number, start, _ = encoded.places[begin]
        source = shown(contexts[number]) if number < 2 else "yes no"
        texts.add(source[start : encoded.places[end][2]])
    assert {"yes", "no", "Zuckmayerhaus", "Antidisestablishment", "c d", "B: c"} <= texts
    assert not any("Anti" in t and not t.endswith("Antidisestablishment") for t in texts)


# --- weights


def test_differences_are_kept_to_a_127th_of_a_rows_largest() -> None:
    before = {"a": torch.randn(5, 7), "b": torch.randn(7), "same": torch.ones(3)}
    after = {"a": before["a"] + torch.randn(5, 7) * 0.1, "b": before["b"] + 1, "same": before["same"]}
    made = deltas(before, after)
    assert set(made) == {"a", "a.scale", "b", "b.scale"}
    module = torch.nn.ParameterDict({k: v.clone() for k, v in before.items()})
    add_deltas(module, made)
    for name, wanted in after.items():
        change = (wanted - before[name]).abs().amax(-1, keepdim=True)
        assert ((module[name] - wanted).abs() <= change / 127 + 1e-6).all()


def test_weights_of_another_encoder_are_refused(tmp_path: Path) -> None:
    encoder, _, _ = training.load_base()
    weights = dict(encoder.named_parameters())
    training.save(tmp_path, deltas(weights, weights), torch.nn.Linear(384, 2), "other@0")
    with pytest.raises(ModelError, match="trained on other@0"):
        SpanModel.load(tmp_path, ModelSettings())


@pytest.mark.parametrize("broken", ["missing", "not json", "not weights"])
def test_what_is_no_span_reader_is_refused_with_the_command_that_makes_one(
    tmp_path: Path, broken: str
) -> None:
    if broken != "missing":
        (tmp_path / "config.json").write_text(
            "{" if broken == "not json" else '{"base": "x", "version": "1"}'
        )
        (tmp_path / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(ModelError, match="ragpool train spans"):
        SpanModel.load(tmp_path, ModelSettings())


# --- reading with the shipped weights


def test_it_points_at_the_value_or_at_nothing(model: SpanModel) -> None:
    assert model.read("Lothair II, spouse?", [MOTHER, TOURS]).values[0].text == "Teutberga"
    untold = model.read("Lothair II, place of burial?", [MOTHER, TOURS])
    assert untold.none > untold.values[0].logprob
    assert model.read("Lothair II, mother?", []).values == ()


def test_a_long_reading_takes_several_sequences(model: SpanModel) -> None:
    filler = [(f"Village {n}", "It lies among fields. " * 12) for n in range(12)]
    reading = model.read("Lothair II, spouse?", [*filler, MOTHER])
    assert reading.tokens > MAX_TOKENS
    assert reading.values[0].text == "Teutberga"


def test_probabilities_are_shared_out_over_spans_and_none(model: SpanModel) -> None:
    reading = model.read("On which river does Tours lie?", [TOURS], most=40)
    shares = torch.tensor([v.logprob for v in reading.values] + [reading.none]).exp()
    assert 0.5 < float(shares.sum()) <= 1.0 + 1e-4  # the rest is of pairs that are no spans
    assert [v.logprob for v in reading.values] == sorted((v.logprob for v in reading.values), reverse=True)


def test_both_readers_are_weighed_as_they_are_told(model: SpanModel, tmp_path: Path) -> None:
    local = LocalModel(tiny.llama(), tiny.tokenizer(), version="tiny@0")
    adapter = tiny.save_lora(tmp_path / "reader", seed=1)
    told = [
        PairReader(model, local, tmp_path, adapter, weighing=Weighing(1.0, doubt, Calibration()))
        .read("Tours, river?", [("Tours", "Tours is on the Loire.")])
        .told
        for doubt in (50.0, -50.0)
    ]
    assert told[0] > TOLD > told[1]
    assert not (tmp_path / "weighing.json").exists()


# --- training


def test_a_few_steps_teach_what_they_show(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "BATCH_TOKENS", 200)
    monkeypatch.setattr(training, "RATE", 1e-3)
    torch.manual_seed(0)
    encoder, tokenizer, base = training.load_base()
    before = {name: weight.detach().clone() for name, weight in encoder.named_parameters()}
    shown_often = [
        Sample("Tours, river?", (TOURS,), "Loire"),
        Sample("Lothair II, spouse?", (MOTHER,), "Teutberga"),
        Sample("Tours, mayor?", (TOURS,), "none"),
    ] * 24
    epoch = training.prepared(shown_often, tokenizer)
    head = torch.nn.Linear(encoder.config.hidden_size, 2)
    figures = training.fit(encoder, head, [epoch], tmp_path / "checkpoint.pt", seed=0, log=lambda line: None)
    assert figures["examples"] == [72]
    training.save(tmp_path, deltas(before, dict(encoder.named_parameters())), head, base)
    taught = SpanModel.load(tmp_path, ModelSettings())
    assert taught.read("Tours, river?", [TOURS]).values[0].text == "Loire"
    assert taught.read("Lothair II, spouse?", [MOTHER]).values[0].text == "Teutberga"


def test_training_goes_on_from_a_span_reader(model: SpanModel, tmp_path: Path) -> None:
    encoder, _, base = training.load_base()
    before = {name: weight.detach().clone() for name, weight in encoder.named_parameters()}
    head = torch.nn.Linear(encoder.config.hidden_size, 2)
    training.go_on_from(adapter_folder("spans"), encoder, head)
    training.save(tmp_path, deltas(before, dict(encoder.named_parameters())), head, base)
    again = SpanModel.load(tmp_path, ModelSettings())
    first, second = (m.read("Lothair II, spouse?", [MOTHER, TOURS]) for m in (model, again))
    assert [v.text for v in second.values] == [v.text for v in first.values]
    assert second.none == pytest.approx(first.none, abs=1e-3)
    with pytest.raises(ModelError, match="no span reader to go on from"):
        training.go_on_from(tmp_path / "elsewhere", encoder, head)


def test_an_answer_is_marked_wherever_it_stands_as_whole_words(tokenizer: object) -> None:
    contexts = (("Loire", "The Loire, the Loiret and the loire."),)
    ((encoded, answer),) = training.prepared([Sample("river?", contexts, "Loire")], tokenizer)
    texts = [shown(contexts[0])[encoded.places[a][1] : encoded.places[b][2]] for a, b in answer]
    assert texts == ["Loire", "Loire", "loire"]
    assert training.prepared([Sample("river?", contexts, "Rhine")], tokenizer) == []


def test_an_answer_is_marked_where_it_stands_after_letters_that_folding_lengthens(tokenizer: object) -> None:
    contexts = (("Weg", "Die große Straße in BONN liegt am Rhein."),)
    ((encoded, answer),) = training.prepared([Sample("Weg, Stadt?", contexts, "Bonn")], tokenizer)
    texts = [shown(contexts[0])[encoded.places[a][1] : encoded.places[b][2]] for a, b in answer]
    assert texts == ["BONN"]


def test_samples_depend_on_the_seed_alone() -> None:
    import random

    record = Record("x", "hotpotqa", "Where?", ("Tours",), "", (Paragraph("Tours", (TOURS[1],), (0,)),))
    first = training.samples([record], random.Random(1))
    assert first == training.samples([record], random.Random(1))
