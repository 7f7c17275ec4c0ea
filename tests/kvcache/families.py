"""Tiny random models of four families, in which attention differs by position and head, and a layout for them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from tiny import CONTEXT, tokenizer
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    GemmaConfig,
    GemmaForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from ragpool.kvcache import Kind, Piece, PromptLayout

_SHAPE = {
    "vocab_size": 128,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 2 * CONTEXT,
    "tie_word_embeddings": False,
    "initializer_range": 0.3,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": 1,
}


def _llama() -> PreTrainedModel:
    return LlamaForCausalLM(LlamaConfig(**_SHAPE))


def _qwen2() -> PreTrainedModel:
    return Qwen2ForCausalLM(Qwen2Config(**_SHAPE))


def _qwen3() -> PreTrainedModel:
    return Qwen3ForCausalLM(Qwen3Config(**_SHAPE, head_dim=16))


def _mistral() -> PreTrainedModel:
    return MistralForCausalLM(MistralConfig(**_SHAPE, sliding_window=None))


def _gemma() -> PreTrainedModel:
    return GemmaForCausalLM(GemmaConfig(**_SHAPE, head_dim=16))


FAMILIES: dict[str, Callable[[], PreTrainedModel]] = {
    "llama": _llama,
    "qwen2": _qwen2,
    "qwen3": _qwen3,
    "mistral": _mistral,
    "gemma": _gemma,
}


def model(family: str = "llama", attention: str = "sdpa", seed: int = 0) -> PreTrainedModel:
    torch.manual_seed(seed)
    made = FAMILIES[family]().eval()
    made.set_attn_implementation(attention)
    return made


def gemma2(window: int) -> PreTrainedModel:
    """One layer with a sliding window, one without; soft-capped scores."""
    torch.manual_seed(0)
    config = Gemma2Config(**_SHAPE, head_dim=16, sliding_window=window, attn_logit_softcapping=5.0)
    made = Gemma2ForCausalLM(config).eval()
    made.set_attn_implementation("eager")
    return made


PASSAGES = (
    ("Port Velm", ("It lies on the river Oss.", "Mira Tann built its harbour in 1801.")),
    ("Mira Tann", ("She was born in Quell.", "She kept bees.", "Her brother was a judge.")),
    ("Quell", ("The town has two mills.",)),
)
QUESTION = "Question: Where was the builder of the harbour of Port Velm born?"


def pieces(question: str = QUESTION) -> list[Piece]:
    made = [Piece(Kind.INSTRUCTION, "Answer from the passages.\n")]
    for number, (title, sentences) in enumerate(PASSAGES, start=1):
        made += [Piece(Kind.MARKER, f"[{number}] ", number), Piece(Kind.TITLE, f"{title}: ", number)]
        made += [Piece(Kind.SENTENCE, f"{sentence} ", number) for sentence in sentences]
    return [*made, Piece(Kind.QUESTION, f"\n{question}"), Piece(Kind.TASK, "\nAnswer: ")]


def layout(question: str = QUESTION) -> PromptLayout:
    """A prompt of one token a character (see tests/tiny.py)."""
    return PromptLayout.build(tokenizer(), pieces(question))


def left_padded(prompts: Sequence[PromptLayout]) -> dict[str, torch.Tensor]:
    """What a model is called with to read ``prompts`` as one batch [prompts, longest]."""
    lengths = [len(prompt) for prompt in prompts]
    width = max(lengths)
    mask = torch.tensor([[0] * (width - n) + [1] * n for n in lengths])
    return {
        "input_ids": torch.tensor([[1] * (width - len(p)) + list(p.ids) for p in prompts]),
        "attention_mask": mask,
        "position_ids": (mask.cumsum(-1) - 1).clamp(min=0),
    }


def after(batch: dict[str, torch.Tensor], new: torch.Tensor) -> dict[str, torch.Tensor]:
    """What it is called with to read ``new`` [1, tokens] behind each row of ``batch``."""
    mask = batch["attention_mask"]
    return {
        "input_ids": new.repeat(len(mask), 1),
        "attention_mask": torch.cat([mask, mask.new_ones(len(mask), new.shape[1])], dim=1),
        "position_ids": batch["position_ids"][:, -1:] + 1 + torch.arange(new.shape[1]),
    }
