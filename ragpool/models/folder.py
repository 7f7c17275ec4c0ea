"""Model folders in the Hugging Face format."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ragpool.errors import ModelError
from ragpool.models.runtime import quiet_transformers

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_END_TOKENS = ("<|im_end|>", "<|endoftext|>", "<|eot_id|>", "<end_of_turn>", "</s>")


def read_folder(
    path: Path, dtype: torch.dtype, device: torch.device
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The language model in ``path``. Raises ModelError when there is none that can be read."""
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM, AutoTokenizer

    try:
        with quiet_transformers():
            tokenizer = AutoTokenizer.from_pretrained(path, local_files_only=True)
            model: Any = AutoModelForCausalLM.from_pretrained(path, dtype=dtype, local_files_only=True)
    except (ValueError, OSError, KeyError, SafetensorError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ModelError(
            f"{path} could not be loaded as a language model ({reason}); check the folder"
        ) from error
    return model.to(device), tokenizer


def end_tokens(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """What ends a generation: the declared end tokens and the usual end-of-turn markers of the vocabulary."""
    config = model.generation_config
    declared = config.eos_token_id if config is not None else None
    ends = set(declared if isinstance(declared, list) else [declared])
    ends.add(tokenizer.eos_token_id)
    added = tokenizer.get_added_vocab()
    ends.update(added[token] for token in _END_TOKENS if token in added)
    return frozenset(int(token) for token in ends if token is not None)
