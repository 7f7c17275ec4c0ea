"""How many cache positions are kept."""

from __future__ import annotations

from dataclasses import dataclass

from ragpool.errors import SettingsError

FLOOR = 300  # fewer positions than this lose the answer on every model we measured


@dataclass(frozen=True, slots=True)
class Budget:
    """One of: ``ratio`` evicted, ``tokens`` kept, or ``mass`` of importance kept (as few positions as hold it).

    ``floor``: at least so many positions are kept with ``tokens`` and ``mass``; a ratio is taken at its word.
    """

    ratio: float | None = None
    tokens: int | None = None
    mass: float | None = None
    floor: int = FLOOR

    def __post_init__(self) -> None:
        if sum(value is not None for value in (self.ratio, self.tokens, self.mass)) != 1:
            raise SettingsError("a budget is one of ratio, tokens and mass; give exactly one")
        if self.ratio is not None and not 0 <= self.ratio < 1:
            raise SettingsError(f"the evicted ratio {self.ratio} must be from 0 to less than 1")
        if self.mass is not None and not 0 < self.mass <= 1:
            raise SettingsError(f"the kept mass {self.mass} must be above 0 and at most 1")

    def keep(self, length: int, after: int, importance: list[float] | None = None) -> int:
        """Positions to keep of ``length``, of which the last ``after`` (question, task) are always kept.

        ``importance``: for ``mass``, one non-negative number a position, in any order.
        """
        if self.ratio is not None:
            kept = round(length * (1 - self.ratio))
        elif self.tokens is not None:
            kept = max(self.tokens, self.floor)
        else:
            kept = max(self._by_mass(importance or []), self.floor)
        return min(length, max(kept, after + 1))

    def _by_mass(self, importance: list[float]) -> int:
        assert self.mass is not None
        wanted = self.mass * sum(importance)
        so_far = 0.0
        for count, value in enumerate(sorted(importance, reverse=True), start=1):
            so_far += value
            if so_far >= wanted:
                return count
        return len(importance)
