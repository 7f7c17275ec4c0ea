"""A causal language model in memory: completions, batches, scores, and adapters on one base."""

from __future__ import annotations

import threading
from collections.abc import Generator, Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Unpack, cast

from ragpool.errors import ContextLengthError, ModelError, SettingsError
from ragpool.models import lookup
from ragpool.models.adapters import Adapters
from ragpool.models.batch import Row, common_prefix, decode, groups
from ragpool.models.decoding import Completion, Generation, Sampler, TextStream, Transcript, returned
from ragpool.models.folder import end_tokens, read_folder
from ragpool.models.gguf import cache_root, read_gguf, unpacked
from ragpool.models.prefix import PrefixCache, filled, plain_layers
from ragpool.models.prefix_files import PrefixFiles
from ragpool.models.request import Options, Request
from ragpool.models.resolve import Kind, fetch, resolve
from ragpool.models.runtime import (
    paused_collection,
    pick_device,
    pick_dtype,
    prepare_environment,
    set_threads,
    share_key_heads,
)
from ragpool.models.structured import Grammar

if TYPE_CHECKING:
    import torch
    from transformers import Cache, PreTrainedModel, PreTrainedTokenizerBase

    from ragpool.kvcache import KeepPlan
    from ragpool.kvcache.decoding import Thinner
    from ragpool.settings import ModelSettings

BLOCK = 256  # prompt tokens of one forward pass; between two of them a call can be cancelled
PREFIX_MEMORY = 512  # MB


class LocalModel:
    """One base model in memory with any number of LoRA adapters, of which each call names one or none.

    Threads may share it: every forward pass holds a lock, so calls take turns token by token. Greedy
    decoding gives the same text every time. Prompts are raw text in which special tokens count as such;
    ``escape`` makes foreign text harmless.

    What two prompts have in common at their beginning is read once (``prefixes``); logits differ by rounding
    then, about 3e-5. An adapter changes keys and values, so only calls with the same adapter share.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        version: str,
        prefix_memory: int = PREFIX_MEMORY,
    ) -> None:
        self.version = version
        self.name = version.partition("@")[0]
        self.tokenizer = tokenizer
        self.max_context = int(model.config.max_position_embeddings)
        self._model = cast(Any, model).eval()  # transformers leaves eval() untyped
        self._adapters = Adapters(model)
        self._lock = threading.RLock()
        self._ends = end_tokens(model, tokenizer)
        self.prefixes = PrefixCache(prefix_memory * 2**20)
        self.last_plan: KeepPlan | None = None  # of the last prompt whose cache was compressed
        self._files: dict[Path, PrefixFiles] = {}
        self._grammars: Grammar | None = None

    @classmethod
    @paused_collection()
    def load(cls, name: str, settings: ModelSettings) -> LocalModel:
        """Load ``name`` (embedded, a folder, a .gguf file or a hub name) onto the device of the settings.

        Raises SettingsError when there is no such model, ModelError when it cannot be read.
        """
        prepare_environment(settings.allow_download)
        resolved = resolve(name, settings)
        if resolved.kind is Kind.PROVIDER:
            raise SettingsError(f"{name} is a remote model; load_chat opens it, not LocalModel")
        resolved = fetch(resolved)
        set_threads(settings)
        device = pick_device(settings.device)
        share_key_heads(device)
        dtype = pick_dtype(settings.dtype, device)
        path: Path | None = Path(resolved.location)
        if path is not None and path.is_file():
            file, path = path, unpacked(path, cache_root(settings.cache))
            if path is None:
                model, tokenizer = read_gguf(file, dtype, device)
                return cls(model, tokenizer, resolved.version, settings.prefix_memory)
        assert path is not None
        model, tokenizer = read_folder(path, dtype, device)
        return cls(model, tokenizer, resolved.version, settings.prefix_memory)

    @property
    def device(self) -> torch.device:
        device: torch.device = self._model.device
        return device

    @property
    def adapters(self) -> Mapping[str, str]:
        """Loaded adapters: name -> ``name@12 hex digits`` of the weights."""
        return MappingProxyType(self._adapters.versions)

    def load_adapter(self, name: str, folder: Path) -> str:
        """Load a peft LoRA folder (adapter_config.json, adapter_model.safetensors) beside the base weights; its version,
        ``name@digits of its hash``.

        Loading the same folder under the same name again does nothing. Raises ModelError when the files are
        missing or do not fit the base model.
        """
        with self._lock:
            return self._adapters.load(name, folder)

    def count_tokens(self, text: str) -> int:
        """Tokens of ``text``, without the begin token."""
        return len(self._encode(text, special=False))

    def escape(self, text: str) -> str:
        """``text`` with every special token broken up, so that a document cannot end a turn or forge one."""
        for special in self.tokenizer.all_special_tokens:
            if special in text:
                text = text.replace(special, f"{special[0]} {special[1:]}")
        return text

    def render(self, messages: Sequence[Mapping[str, str]]) -> str:
        """The chat template's prompt for ``messages`` (dicts with role and content), ready for the reply.

        Contents are escaped. Raises ModelError when the model has no template or it refuses the roles.
        """
        from jinja2 import TemplateError

        if self.tokenizer.chat_template is None:
            raise ModelError(f"{self.name} has no chat template; use complete() or a model tuned for chat")
        safe = [{"role": m["role"], "content": self.escape(m["content"])} for m in messages]
        try:
            text = self.tokenizer.apply_chat_template(safe, tokenize=False, add_generation_prompt=True)
        except TemplateError as error:
            raise ModelError(f"the chat template of {self.name} refuses these messages: {error}") from error
        return str(text)

    def complete(self, prompt: str, **options: Unpack[Options]) -> Completion:
        """Continue ``prompt`` until an end token, a stop string or the limit. ``options``: see Request.

        Raises ContextLengthError when prompt and ``max_new_tokens`` together exceed ``max_context``: nothing is
        ever cut off.
        """
        return self.stream(prompt, **options).completion

    def stream(self, prompt: str, **options: Unpack[Options]) -> Generation:
        """Like ``complete``, piece by piece; the pieces joined are the same text.

        A piece is empty where nothing was written in a step; between two pieces the caller may stop.
        """
        request = Request(**options)
        return Generation(self._decode(self._row(prompt, request), request))

    def complete_batch(self, prompts: Sequence[str], **options: Unpack[Options]) -> list[Completion]:
        """What ``complete`` gives for each prompt, in order, decoded together in left-padded batches.

        Prompts of similar length share a batch, and a batch reads the beginning that all its prompts share
        once. Padding changes the order of additions, so log-probabilities differ by rounding (about 1e-5).
        """
        request = Request(**options)
        rows = [self._row(prompt, request) for prompt in prompts]
        if request.kv is not None and request.kv.evicts:  # each keeps other tokens
            return [returned(self._decode(row, request)) for row in rows]
        for group in groups(rows):
            self._decode_group(group, request)
        return [self._completion(row, request) for row in rows]

    def score(self, prompt: str, continuations: Sequence[str], *, adapter: str | None = None) -> list[float]:
        """Sum of log-probabilities of each continuation's tokens after ``prompt``.

        The prompt is read once. Prompt and continuation are tokenised separately, so a continuation that
        follows a word should begin with its space.
        """
        import torch

        self._adapters.check(adapter)
        ids = self._encode(prompt)
        tails = [self._encode(text, special=False) for text in continuations]
        if not tails:
            return []
        longest = max(map(len, tails))
        self._check_length(len(ids), longest)
        logits, cache, _ = returned(self._prefill(ids, adapter))
        first = torch.log_softmax(logits.float(), dim=-1)
        scores = [float(first[tail[0]]) if tail else 0.0 for tail in tails]
        if longest < 2:
            return scores
        # the tokens that follow a continuation's first one are scored in one right-padded batch: what is
        # padded comes after everything that counts, so the causal mask hides it
        cache.batch_repeat_interleave(len(tails))
        inputs = torch.tensor([tail[:-1] + [0] * (longest - max(len(tail), 1)) for tail in tails])
        after = torch.log_softmax(self._forward(inputs, adapter=adapter, cache=cache).float(), dim=-1)
        for row, tail in enumerate(tails):
            scores[row] += sum(float(after[row, at, token]) for at, token in enumerate(tail[1:]))
        return scores

    def _encode(self, text: str, special: bool = True) -> list[int]:
        # a rendered chat template carries its begin token already
        begin = self.tokenizer.bos_token
        add = special and not (begin and text.startswith(begin))
        return list(self.tokenizer(text, add_special_tokens=add)["input_ids"])

    def _check_length(self, prompt_tokens: int, new_tokens: int) -> None:
        excess = prompt_tokens + new_tokens - self.max_context
        if excess > 0:
            raise ContextLengthError(
                f"the prompt has {prompt_tokens} tokens and {new_tokens} more are asked for, {excess} over the "
                f"{self.max_context} of {self.name}; shorten the context by {excess} tokens"
            )

    def _row(self, prompt: str, request: Request) -> Row:
        self._adapters.check(request.adapter)
        ids = self._encode(prompt)
        if not ids:
            raise ModelError("the prompt is empty; give the model at least one token")
        self._check_length(len(ids), request.max_new_tokens)
        stream = TextStream(self._text, request.stop)
        transcript = Transcript(stream, len(ids), request.max_new_tokens, self._ends)
        constraint = None if request.schema is None else self._grammar().constraint(request.schema)
        sampler = Sampler(request.temperature, request.seed, request.top_logprobs or 0, constraint)
        return Row(prompt, ids, transcript, sampler)

    def _grammar(self) -> Grammar:
        with self._lock:
            if self._grammars is None:
                self._grammars = Grammar(self.tokenizer, int(self._model.config.vocab_size), self._ends)
            return self._grammars

    def _completion(self, row: Row, request: Request) -> Completion:
        listed = request.top_logprobs is not None
        return row.transcript.completion((lambda token: self._text([token], all=True)) if listed else None)

    def _text(self, ids: list[int], all: bool = False) -> str:
        skip = not all  # special tokens are no text
        return str(self.tokenizer.decode(ids, skip_special_tokens=skip, clean_up_tokenization_spaces=False))

    def _decode(self, row: Row, request: Request) -> Generator[str, None, Completion]:
        import torch

        from ragpool.models.roomy import take_back

        transcript, adapter = row.transcript, request.adapter
        after, cache = yield from self._read(row, request)
        thinner = self._thinner(row, request, cache)
        cache = cache if thinner is None else thinner.cache
        drafts = thinner is None and row.sampler.greedy and plain_layers(cache) is not None
        ids, drafted, logits = list(row.ids), list[int](), after[None]
        while True:
            for accepted, after in enumerate(logits):  # behind the last token, then behind each of the draft
                pick = row.sampler.pick(after)
                ids.append(pick.token)
                if piece := transcript.add(pick):
                    yield piece
                if transcript.finish_reason is not None or drafted[accepted : accepted + 1] != [pick.token]:
                    break
            if transcript.finish_reason is not None:
                break
            take_back(cache, len(drafted) - accepted)
            drafted = lookup.draft(ids, min(lookup.MOST, transcript.left - 1)) if drafts else []
            with self._lock, nullcontext() if thinner is None else thinner.watching():
                (logits,) = self._forward(
                    torch.tensor([[pick.token, *drafted]]), adapter=adapter, cache=cache
                )
        files = self._prefix_files(request.prefix_folder)
        if files is not None:
            version = self._adapters.version(adapter)
            with self._lock:
                known = self.prefixes.find(row.ids, version)
            files.save(row.ids[: known.tokens], version, known.layers)
        return self._completion(row, request)

    def _read(self, row: Row, request: Request) -> Generator[str, None, tuple[torch.Tensor, Cache]]:
        """Read the prompt, and evict from its cache what ``request.kv`` says. Yields empty pieces."""
        import torch

        kv, adapter, files = request.kv, request.adapter, self._prefix_files(request.prefix_folder)
        if kv is None or not kv.evicts or len(row.ids) < kv.start:
            logits, whole, row.transcript.reused_tokens = yield from self._prefill(row.ids, adapter, files)
            return logits, whole
        from ragpool.kvcache import PromptLayout, compressed, readable_prefix

        layout = PromptLayout.parse(self.tokenizer, row.prompt)
        cache: Cache | None = None
        if first := readable_prefix(layout, kv):  # the context, which stays whole for the next question
            head = list(layout.ids[:first])
            _, cache, row.transcript.reused_tokens = yield from self._prefill(head, adapter, files)
        with self._lock:
            self._adapters.use(adapter)
            done = compressed(self._model, layout, kv, cache=cache, tokenizer=self.tokenizer)
        rest = torch.tensor([done.ids[done.logical_length :]])
        logits = self._forward(rest, adapter=adapter, cache=done.cache, logits_to_keep=1)[0, -1]
        row.transcript.plan = self.last_plan = done.plan
        return logits, done.cache

    def _thinner(self, row: Row, request: Request, cache: Cache) -> Thinner | None:
        """What compresses ``cache`` while the answer is written, where that is asked for."""
        if request.kv is None or request.kv.every is None:
            return None
        from ragpool.kvcache import PromptLayout
        from ragpool.kvcache.decoding import Thinner

        layout = PromptLayout.parse(self.tokenizer, row.prompt)
        return Thinner.of(self._model, cache, request.kv, len(layout) - layout.context_end)

    def _prefill(
        self, ids: list[int], adapter: str | None, files: PrefixFiles | None = None
    ) -> Generator[str, None, tuple[torch.Tensor, Cache, int]]:
        """Read tokens, block by block, from where a known prefix ends.

        Yields an empty piece between blocks, where a caller may stop. Returns the logits after them
        [vocabulary], their cache, and how many of them were known.
        """
        import torch

        from ragpool.models.roomy import roomy_cache

        version = self._adapters.version(adapter)
        cache: Cache = roomy_cache(self._model.config)
        with self._lock:
            known = self.prefixes.find(ids, version)
            if not known.tokens and files is not None and (kept := files.load(ids, version)) is not None:
                like = {"device": self.device, "dtype": self._model.dtype}
                layers = [(keys.to(**like), values.to(**like)) for keys, values in kept[1]]
                self.prefixes.put(kept[0], version, layers, None)
                known = self.prefixes.find(ids, version)
        if known.tokens:
            cache = filled(cache, known.layers)
        if known.logits is not None:
            return known.logits, cache, known.tokens
        for start in range(known.tokens, len(ids), BLOCK):
            if start > known.tokens:
                yield ""
            block = torch.tensor([ids[start : start + BLOCK]])
            logits = self._forward(block, adapter=adapter, cache=cache, logits_to_keep=1)[0, -1]
        with self._lock:
            self.prefixes.put(ids, version, plain_layers(cache), logits)
        return logits, cache, known.tokens

    def _prefix_files(self, folder: Path | None) -> PrefixFiles | None:
        """The files in ``folder``; one object for each, which remembers what it has written."""
        if folder is None:
            return None
        with self._lock:
            return self._files.setdefault(folder, PrefixFiles(folder, self.version))

    def _decode_group(self, group: list[Row], request: Request) -> None:
        from ragpool.models.roomy import roomy_cache

        cache: Cache = roomy_cache(self._model.config)
        shared = common_prefix(group)
        if shared:
            _, cache, reused = returned(self._prefill(shared, request.adapter))
            cache.batch_repeat_interleave(len(group))
            for row in group:
                row.transcript.reused_tokens = reused
        decode(group, partial(self._forward, adapter=request.adapter), cache, len(shared))

    def _forward(
        self,
        inputs: torch.Tensor,
        *,
        adapter: str | None,
        cache: Cache,
        logits_to_keep: int = 0,
        **masks: Any,
    ) -> torch.Tensor:
        """Logits [batch, kept, vocabulary], on the CPU, for ``inputs`` [batch, new]; extends ``cache``."""
        import torch

        with self._lock, torch.inference_mode():
            self._adapters.use(adapter)
            output = self._model(
                input_ids=inputs.to(self.device),
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=logits_to_keep,
                **{name: tensor.to(self.device) for name, tensor in masks.items()},
            )
            logits: torch.Tensor = output.logits.cpu()
        return logits
