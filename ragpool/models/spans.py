"""Which span of a few passages answers a question: the embedded sentence encoder, its upper layers trained on.

Every token gets two scores, as the first and as the last one of the answer (arXiv 1810.04805, section 4.2); the first
token of the sequence stands for "the passages do not tell". All passages of a reading are scored together, so their
spans compete. The words yes and no come before the passages and can be the answer too.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ragpool.errors import ModelError
from ragpool.models.embedder import read_folder
from ragpool.models.resolve import EMBEDDED, resolve
from ragpool.models.runtime import pick_device, pick_dtype, prepare_environment, set_threads

if TYPE_CHECKING:
    import torch

    from ragpool.settings import ModelSettings

Context = tuple[str, str]
"""(title, text) of a passage."""

MAX_TOKENS = 384  # of one sequence, as in training; passages beyond are read in another one
_QUERY_TOKENS = 80
_LONGEST = 20  # tokens of a value
_CONSIDERED = 40  # spans of a sequence that are looked at
_YES_NO = "yes no"
_OUTSIDE = (-1, 0, 0)

Place = tuple[int, int, int]
"""(context, start, end): the characters of ``title: text`` that a token stands for; context -1: none of them."""


@dataclass(frozen=True, slots=True)
class Encoded:
    """One sequence. ``places`` has one entry a token; ``starts`` and ``ends`` say where a value may begin and end."""

    ids: list[int]
    types: list[int]
    places: list[Place]
    starts: list[bool]
    ends: list[bool]


@dataclass(frozen=True, slots=True)
class Value:
    """A text that may answer, with the log-probability of all the places where it stands."""

    text: str
    logprob: float


@dataclass(frozen=True, slots=True)
class Reading:
    """``values``, the likeliest first; ``none`` is the log-probability that the passages do not tell; ``tokens`` were read."""

    values: tuple[Value, ...]
    none: float
    tokens: int


def shown(context: Context) -> str:
    """A passage as the model reads it."""
    title, text = context
    return f"{title}: {text}" if title else text


def encode(tokenizer: Any, query: str, contexts: Sequence[Context]) -> Iterator[Encoded]:
    """The sequences, at most MAX_TOKENS each, in which ``contexts`` are read; a passage that is longer is cut into several."""
    asked = tokenizer(query, add_special_tokens=False).input_ids[:_QUERY_TOKENS]
    choice = tokenizer(_YES_NO, add_special_tokens=False).input_ids
    cls, sep = tokenizer.cls_token_id, tokenizer.sep_token_id
    head = [cls, *asked, sep, *choice, sep]
    yes = len(asked) + 2
    room = MAX_TOKENS - len(head) - 1
    pieces: list[tuple[list[int], list[Place], list[bool]]] = []
    for number, context in enumerate(contexts):
        made = tokenizer(shown(context), add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        begins = [not token.startswith("##") for token in tokenizer.convert_ids_to_tokens(made.input_ids)]
        for at in range(0, len(made.input_ids), room):
            cut = slice(at, at + room)
            places = [(number, start, end) for start, end in made.offset_mapping[cut]]
            pieces.append((made.input_ids[cut], places, begins[cut]))
    while pieces:
        ids, types = list(head), [0] * len(head)
        places, starts, ends = [_OUTSIDE] * len(head), [False] * len(head), [False] * len(head)
        for n, (start, end) in enumerate(((0, 3), (4, 6))):
            places[yes + n] = (len(contexts), start, end)
            starts[yes + n] = ends[yes + n] = True
        while pieces and len(ids) + len(pieces[0][0]) + 1 <= MAX_TOKENS:
            tokens, where, begins = pieces.pop(0)
            ids += [*tokens, sep]
            types += [1] * (len(tokens) + 1)
            places += [*where, _OUTSIDE]
            starts += [*begins, False]
            ends += [*begins[1:], True, False]
        yield Encoded(ids, types, places, starts, ends)


class SpanModel:
    """The encoder with its trained upper layers. Threads may share it."""

    def __init__(self, encoder: Any, tokenizer: Any, head: Mapping[str, torch.Tensor], version: str) -> None:
        self.version = version
        self._encoder = encoder.eval()
        self._tokenizer = tokenizer
        self._head = head
        self._lock = threading.Lock()

    @classmethod
    def load(cls, folder: Path, settings: ModelSettings) -> SpanModel:
        """Read ``model.safetensors`` and ``config.json``. Raises ModelError when they are not such a model's, or were
        trained on another encoder than the embedded one."""
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        prepare_environment(settings.allow_download)
        base = resolve(EMBEDDED, settings, "embedder")
        set_threads(settings)
        device = pick_device(settings.device)
        encoder, tokenizer = read_folder(Path(base.location), pick_dtype(settings.dtype, device), device)
        try:
            config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
            tensors = load_file(folder / "model.safetensors", device=str(device))
            if config["base"] != base.version:
                raise ModelError(
                    f"{folder}: trained on {config['base']}, not on {base.version}; 'ragpool train spans' makes it again"
                )
            add_deltas(encoder, tensors)
            head = {name: tensors[name].to(encoder.dtype) for name in ("head.weight", "head.bias")}
            return cls(encoder, tokenizer, head, config["version"])
        except (OSError, ValueError, KeyError, SafetensorError) as error:
            raise ModelError(
                f"{folder}: no span reader ({error}); make one with 'ragpool train spans'"
            ) from error

    def read(self, query: str, contexts: Sequence[Context], most: int = 5) -> Reading:
        """The likeliest values, at most ``most``, from the sequence in which one is likeliest against none."""
        best, tokens = Reading((), 0.0, 0), 0
        with self._lock:
            sequences = list(encode(self._tokenizer, query, contexts))
        for encoded in sequences:
            found = self._read(encoded, contexts, most)
            tokens += found.tokens
            if not best.values or (
                found.values and found.values[0].logprob - found.none > best.values[0].logprob - best.none
            ):
                best = found
        return Reading(best.values, best.none, tokens)

    def _read(self, encoded: Encoded, contexts: Sequence[Context], most: int) -> Reading:
        import torch

        device = self._encoder.device
        with torch.inference_mode():
            hidden = self._encoder(
                input_ids=torch.tensor([encoded.ids], device=device),
                token_type_ids=torch.tensor([encoded.types], device=device),
            ).last_hidden_state[0]
            scores = torch.nn.functional.linear(hidden, self._head["head.weight"], self._head["head.bias"])
            first, last = log_probabilities(scores[None].float(), [encoded])
            first, last = first[0].cpu(), last[0].cpu()
        allowed = spans(encoded)
        together = (first[:, None] + last[None, :]).masked_fill(~allowed, -1e4)
        top = torch.topk(together.flatten(), min(_CONSIDERED, together.numel()))
        merged: dict[str, tuple[str, list[float]]] = {}
        for score, flat in zip(top.values.tolist(), top.indices.tolist(), strict=True):
            if score <= -1e3:
                break
            begin, end = divmod(flat, len(encoded.ids))
            context, start, _ = encoded.places[begin]
            text = shown(contexts[context]) if context < len(contexts) else _YES_NO
            value = text[start : encoded.places[end][2]]
            merged.setdefault(" ".join(value.casefold().split()), (value, []))[1].append(score)
        values = [
            Value(text, float(torch.logsumexp(torch.tensor(scores), 0))) for text, scores in merged.values()
        ]
        values.sort(key=lambda value: -value.logprob)
        return Reading(tuple(values[:most]), float(first[0] + last[0]), len(encoded.ids))


def log_probabilities(scores: torch.Tensor, batch: Sequence[Encoded]) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probabilities [batch, tokens] of each token being the first and the last of the answer, from scores
    [batch, tokens, 2]: only tokens of passages, yes, no and the first token take part."""
    import torch

    width = scores.shape[1]
    apart = torch.tensor(
        [
            [n > 0 and place[0] < 0 for n, place in enumerate(e.places)] + [True] * (width - len(e.ids))
            for e in batch
        ],
        device=scores.device,
    )
    masked = scores.masked_fill(apart[:, :, None], -1e4).log_softmax(1)
    return masked[..., 0], masked[..., 1]


def spans(encoded: Encoded) -> torch.Tensor:
    """Which (first, last) pairs of tokens [tokens, tokens] are spans: whole words of one passage, not too long."""
    import torch

    count = len(encoded.ids)
    context = torch.tensor([place[0] for place in encoded.places])
    starts, ends = torch.tensor(encoded.starts), torch.tensor(encoded.ends)
    band = torch.ones(count, count, dtype=torch.bool).triu() & torch.ones(count, count).tril(_LONGEST).bool()
    return band & (context[:, None] == context[None, :]) & starts[:, None] & ends[None, :]


def add_deltas(encoder: Any, tensors: Mapping[str, torch.Tensor]) -> None:
    """Add to an encoder's weights the differences that training made: int8 rows, each with a scale."""
    import torch

    weights = dict(encoder.named_parameters())
    with torch.no_grad():
        for name, difference in tensors.items():
            if name.startswith("head.") or name.endswith(".scale"):
                continue
            scale = tensors[f"{name}.scale"]
            step = scale[..., None] if difference.dim() > 1 else scale
            weights[name] += (difference.float() * step).to(weights[name].dtype)


def deltas(before: Mapping[str, torch.Tensor], after: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """What ``add_deltas`` adds to the weights ``before`` to get, nearly, those ``after``: 8 bits a weight."""
    import torch

    made: dict[str, torch.Tensor] = {}
    for name, old in before.items():
        difference = after[name].detach().float() - old.detach().float()
        if not bool(difference.any()):
            continue
        scale = difference.abs().amax(dim=-1) / 127 + 1e-12
        rows = difference / (scale[..., None] if difference.dim() > 1 else scale)
        made[name] = rows.round().to(torch.int8).contiguous()
        made[f"{name}.scale"] = scale.contiguous()
    return made
