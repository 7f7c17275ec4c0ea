"""From tokens to text: completions, streams that hold back stop strings, and the choice of the next token."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeVar

from ragpool.types import Usage

if TYPE_CHECKING:
    import torch

    from ragpool.kvcache import KeepPlan
    from ragpool.models.structured import Constraint

FinishReason = Literal["stop", "length"]

_T = TypeVar("_T")
_WINDOW = 48  # tokens that are decoded together; keeps a long stream linear
_OVERLAP = 8  # tokens kept when the window moves: a character spans fewer


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """A generated token as text, its log-probability, and the likeliest tokens in its place, best first."""

    token: str
    logprob: float
    top: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Completion:
    """A finished generation.

    ``logprob`` is the mean log-probability (natural log, temperature 1) of the generated tokens, the end
    token included; 0.0 when nothing was generated. ``completion_tokens`` counts the same tokens.
    ``finish_reason`` is "stop" for an end token or a stop string, "length" for the token limit.
    ``reused_tokens`` of the prompt were in the prefix cache. ``logprobs`` are there when they were asked for,
    ``plan`` says what was kept of the prompt's cache when a part was evicted.
    """

    text: str
    prompt_tokens: int
    completion_tokens: int
    logprob: float
    finish_reason: FinishReason
    reused_tokens: int = field(default=0, compare=False)
    logprobs: tuple[TokenLogprob, ...] | None = None
    plan: KeepPlan | None = field(default=None, compare=False)

    @property
    def usage(self) -> Usage:
        """The cost of this one call."""
        return Usage(llm_calls=1, prompt_tokens=self.prompt_tokens, completion_tokens=self.completion_tokens)


class Generation(Iterator[str]):
    """Text pieces as they are decoded. Once exhausted, ``completion`` holds the whole.

    Dropping or closing it cancels the generation between two tokens.
    """

    def __init__(self, pieces: Generator[str, None, Completion]) -> None:
        self._pieces = pieces
        self._completion: Completion | None = None

    def __next__(self) -> str:
        try:
            return next(self._pieces)
        except StopIteration as end:
            if end.value is not None:
                self._completion = end.value
            raise StopIteration from None

    def close(self) -> None:
        """Cancel."""
        self._pieces.close()

    @property
    def completion(self) -> Completion:
        """The finished generation; drains what is left of the stream."""
        for _ in self:
            pass
        if self._completion is None:
            raise RuntimeError("the generation was cancelled, so there is no completion")
        return self._completion


class TextStream:
    """Decodes a growing list of tokens piece by piece.

    Held back are bytes that do not form a character yet, and text that may turn out to be the beginning of
    a stop string; a stop string itself and what follows it never come out.
    """

    def __init__(self, decode: Callable[[list[int]], str], stop: Sequence[str] = ()) -> None:
        self._decode = decode
        self._stop = tuple(stop)
        self._longest = max(map(len, self._stop), default=0)
        self._window: list[int] = []
        self._seen = ""  # the text of the window that has been taken over into _held
        self._held = ""
        self.stopped = False

    def push(self, token: int) -> str:
        """The text that is certain after ``token``; may be empty."""
        if self.stopped:
            return ""
        self._window.append(token)
        text = self._decode(self._window)
        if text.endswith("\ufffd"):  # an unfinished character
            return ""
        piece = text[len(self._seen) :]
        if len(self._window) >= _WINDOW:
            self._window = self._window[-_OVERLAP:]
            text = self._decode(self._window)
        self._seen = text
        return self._release(piece)

    def finish(self) -> str:
        """What was held back, when no more tokens come."""
        if self.stopped:
            return ""
        piece = self._decode(self._window)[len(self._seen) :] if self._window else ""
        released = self._release(piece)
        if not self.stopped:
            released, self._held = released + self._held, ""
        return released

    def _release(self, piece: str) -> str:
        self._held += piece
        found = [at for at in map(self._held.find, self._stop) if at >= 0]
        if found:
            self.stopped = True
            return self._held[: min(found)]
        keep = next(
            (
                n
                for n in range(min(len(self._held), self._longest - 1), 0, -1)
                if any(s.startswith(self._held[-n:]) for s in self._stop)
            ),
            0,
        )
        cut = len(self._held) - keep
        released, self._held = self._held[:cut], self._held[cut:]
        return released


@dataclass(frozen=True, slots=True)
class Pick:
    """A chosen token, its log-probability, and the likeliest tokens with theirs where they were asked for."""

    token: int
    logprob: float
    top: tuple[tuple[int, float], ...] = ()


@dataclass
class Transcript:
    """Collects one sequence while it is decoded."""

    stream: TextStream
    prompt_tokens: int
    limit: int
    ends: frozenset[int]
    pieces: list[str] = field(default_factory=list)
    picks: list[Pick] = field(default_factory=list)
    finish_reason: FinishReason | None = None
    reused_tokens: int = 0
    plan: KeepPlan | None = None

    @property
    def left(self) -> int:
        """How many tokens more the limit allows."""
        return self.limit - len(self.picks)

    def add(self, pick: Pick) -> str:
        """Take one token; the text that it sets free. ``finish_reason`` is set when it was the last one."""
        self.picks.append(pick)
        if pick.token in self.ends:
            piece, self.finish_reason = self.stream.finish(), "stop"
        else:
            piece = self.stream.push(pick.token)
            if self.stream.stopped:
                self.finish_reason = "stop"
            elif self.left <= 0:
                piece += self.stream.finish()
                self.finish_reason = "stop" if self.stream.stopped else "length"
        self.pieces.append(piece)
        return piece

    def completion(self, text: Callable[[int], str] | None = None) -> Completion:
        """The finished generation; with ``text``, which writes a token out, it has ``logprobs``."""
        tokens = len(self.picks)
        listed = None
        if text is not None:
            listed = tuple(
                TokenLogprob(text(p.token), p.logprob, tuple((text(t), logprob) for t, logprob in p.top))
                for p in self.picks
            )
        return Completion(
            "".join(self.pieces),
            self.prompt_tokens,
            tokens,
            sum(p.logprob for p in self.picks) / tokens if tokens else 0.0,
            self.finish_reason or "length",
            self.reused_tokens,
            listed,
            self.plan,
        )


class Sampler:
    """Chooses the next token: the likeliest at temperature 0, else a draw from the softmax.

    The same ``seed`` gives the same draws; without one they differ from call to call. Under a ``constraint`` the
    choice is among the tokens that it allows; log-probabilities stay those of the whole vocabulary.
    """

    def __init__(
        self,
        temperature: float = 0.0,
        seed: int | None = None,
        top: int = 0,
        constraint: Constraint | None = None,
    ) -> None:
        self._constraint = constraint
        self._temperature = temperature
        self._seed = seed
        self._top = top
        self._generator: torch.Generator | None = None

    @property
    def greedy(self) -> bool:
        """Is every choice simply the likeliest token, whatever was chosen before?"""
        return self._temperature == 0 and self._constraint is None

    def pick(self, logits: torch.Tensor) -> Pick:
        """The next token from ``logits`` [vocabulary]."""
        import torch

        logprobs = torch.log_softmax(logits.float(), dim=-1)
        allowed = logprobs if self._constraint is None else self._constraint.allowed(logprobs)
        token = int(allowed.argmax()) if self._temperature == 0 else self._draw(allowed)
        if self._constraint is not None:
            self._constraint.take(token)
        best = torch.topk(logprobs, self._top)
        top = tuple(zip(best.indices.tolist(), best.values.tolist(), strict=True))
        return Pick(token, float(logprobs[token]), top)

    def _draw(self, logprobs: torch.Tensor) -> int:
        import torch

        if self._generator is None:
            self._generator = torch.Generator()
            if self._seed is None:
                self._generator.seed()
            else:
                self._generator.manual_seed(self._seed)
        weights = torch.softmax(logprobs / self._temperature, dim=-1).cpu()
        return int(torch.multinomial(weights, 1, generator=self._generator))


def returned(steps: Generator[str, None, _T]) -> _T:
    """What the steps return, when all of them are taken."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: _T = end.value
            return result
