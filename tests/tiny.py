"""Tiny randomly initialised models, made on the spot: real files and classes, no training, milliseconds to run."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from peft import LoraConfig, get_peft_model
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

END, START = "<|im_end|>", "<|im_start|>"
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
LAYERS, WIDTH, INNER, HEADS, KV_HEADS, CONTEXT = 2, 64, 96, 4, 2, 256
_BYTES = ["Ġ", "Ċ", *map(chr, range(33, 127))]  # space, newline and the printable rest of ASCII
_MERGE = ("t", "h")  # transformers reads no GGUF tokenizer without one
_TOKENS = [START, END, *_BYTES, "".join(_MERGE)]


def tokenizer() -> PreTrainedTokenizerFast:
    """One token an ASCII character (and one for "th"), two special ones; never adds any by itself."""
    raw = Tokenizer(models.BPE(vocab={token: i for i, token in enumerate(_TOKENS)}, merges=[_MERGE]))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    raw.add_special_tokens([AddedToken(START, special=True), AddedToken(END, special=True)])
    fast = PreTrainedTokenizerFast(tokenizer_object=raw, bos_token=START, eos_token=END, pad_token=END)
    fast.chat_template = TEMPLATE
    return fast


def llama(seed: int = 0) -> LlamaForCausalLM:
    """A random Llama with grouped query attention; its greedy choices vary with the prompt."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(_TOKENS),
        hidden_size=WIDTH,
        intermediate_size=INNER,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        num_key_value_heads=KV_HEADS,
        max_position_embeddings=CONTEXT,
        bos_token_id=0,
        eos_token_id=1,
        tie_word_embeddings=False,
        initializer_range=0.3,
    )
    return LlamaForCausalLM(config).eval()


def save(folder: Path, seed: int = 0) -> Path:
    """A model folder in the Hugging Face format."""
    llama(seed).save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder


def save_lora(folder: Path, seed: int, **changes: Any) -> Path:
    """A LoRA adapter for ``llama()`` whose both halves are random, so that it changes the output."""
    options = {
        "r": 4,
        "target_modules": ["q_proj", "v_proj", "down_proj"],
        "init_lora_weights": False,
    } | changes
    base = llama()
    torch.manual_seed(seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # peft asks transformers for a deprecated property
        get_peft_model(base, LoraConfig(**options)).save_pretrained(str(folder))
    return folder


def save_gguf(file: Path, seed: int = 0) -> Path:
    """The random Llama as a Q4_1 file with a byte tokenizer, as llama.cpp writes them."""
    writer = gguf.GGUFWriter(file, "llama")
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(WIDTH)
    writer.add_feed_forward_length(INNER)
    writer.add_block_count(LAYERS)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10000.0)
    writer.add_rope_dimension_count(WIDTH // HEADS)
    writer.add_vocab_size(len(_TOKENS))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(_TOKENS)
    writer.add_token_types([gguf.TokenType.CONTROL] * 2 + [gguf.TokenType.NORMAL] * (len(_BYTES) + 1))
    writer.add_token_merges([" ".join(_MERGE)])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(1)
    writer.add_chat_template(TEMPLATE)
    for name, weight in _gguf_tensors(llama(seed)):
        if weight.ndim == 1:
            writer.add_tensor(name, weight)
        else:
            kind = gguf.GGMLQuantizationType.Q4_1
            writer.add_tensor(name, gguf.quants.quantize(weight, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


def _gguf_tensors(model: LlamaForCausalLM) -> list[tuple[str, np.ndarray[Any, Any]]]:
    inside = {
        "input_layernorm": "attn_norm",
        "post_attention_layernorm": "ffn_norm",
        "self_attn.q_proj": "attn_q",
        "self_attn.k_proj": "attn_k",
        "self_attn.v_proj": "attn_v",
        "self_attn.o_proj": "attn_output",
        "mlp.gate_proj": "ffn_gate",
        "mlp.up_proj": "ffn_up",
        "mlp.down_proj": "ffn_down",
    }
    names = {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight"}
    names["lm_head.weight"] = "output.weight"
    for layer in range(LAYERS):
        for ours, theirs in inside.items():
            names[f"model.layers.{layer}.{ours}.weight"] = f"blk.{layer}.{theirs}.weight"
    return [(names[name], weight.detach().numpy()) for name, weight in model.state_dict().items()]
