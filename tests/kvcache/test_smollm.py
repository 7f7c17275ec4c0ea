"""The embedded model: the shipped table of heads fits it, and a fact survives where other methods lose it."""

from __future__ import annotations

import pytest
import torch

from ragpool.kvcache import HeadTable, KVChoice, compressed
from ragpool.kvcache.signals import fingerprint
from ragpool.models import LocalModel
from ragpool.training.heads import prompt
from ragpool.training.needles import needle


def test_the_shipped_table_fits_the_embedded_model(local_model: LocalModel) -> None:
    config = local_model._model.config
    table = HeadTable.shipped(fingerprint(config))

    assert table is not None
    assert table.model == local_model.version
    assert len(set(table.heads)) == len(table.heads) == 24
    assert all(
        0 <= layer < config.num_hidden_layers and 0 <= head < config.num_attention_heads
        for layer, head in table.heads
    )


@pytest.mark.model
@pytest.mark.parametrize("method", ["critic-rag:0.75", "reprefill:0.75"])
def test_the_sentence_asked_for_is_kept_whole_and_read(local_model: LocalModel, method: str) -> None:
    record = needle(3, 700, seed=303)  # one that the model answers from the whole cache
    layout, gold = prompt(local_model, record)
    tokenizer = local_model.tokenizer
    done = compressed(local_model._model, layout, KVChoice.parse(method, start=0), tokenizer=tokenizer)

    assert done.plan is not None
    assert all(done.plan.sentences[i].whole for i in gold)
    assert done.plan.kept <= round(len(layout) * 0.25) + 2  # text joined anew has its own token borders
    ids = torch.tensor([done.ids])
    with torch.inference_mode():
        written = local_model._model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            past_key_values=done.cache,
            max_new_tokens=24,
            do_sample=False,
        )
    assert record.answers[0] in tokenizer.decode(written[0, len(done.ids) :])
