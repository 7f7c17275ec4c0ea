"""Small networks over feature rows: training and calibration (torch), the arrays that inference needs (numpy)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ragpool.feedback.features import Vector


@dataclass(frozen=True, slots=True)
class Recipe:
    """``hidden`` 0 is logistic regression; ``networks`` are trained from different seeds and averaged."""

    hidden: int = 32
    networks: int = 5
    epochs: int = 30
    rate: float = 3e-3
    decay: float = 3e-2
    dropout: float = 0.2
    batch: int = 128
    seed: int = 0


def fit(rows: Vector, labels: npt.NDArray[np.bool_], weights: Vector, recipe: Recipe) -> dict[str, Vector]:
    """Arrays of the ensemble (see ``feedback.trained.Network``) for ``rows`` [n, features]."""
    import torch

    mean, std = rows.mean(axis=0), rows.std(axis=0) + 1e-3
    x = torch.from_numpy(np.clip((rows - mean) / std, -6, 6))
    y = torch.from_numpy(labels.astype(np.float32))
    w = torch.from_numpy(weights.astype(np.float32))
    parts = [_one(x, y, w, recipe, recipe.seed * 1000 + i) for i in range(recipe.networks)]
    arrays = {key: np.stack([part[key] for part in parts]) for key in parts[0]}
    return {"mean": mean.astype(np.float32), "std": std.astype(np.float32), **arrays}


def _one(x: object, y: object, w: object, recipe: Recipe, seed: int) -> dict[str, Vector]:
    import torch
    from torch import Tensor, nn

    assert isinstance(x, Tensor) and isinstance(y, Tensor) and isinstance(w, Tensor)
    generator = torch.Generator().manual_seed(seed)
    features, hidden = x.shape[1], recipe.hidden or 2
    w1: Tensor = nn.Parameter(torch.randn(features, hidden, generator=generator) * features**-0.5)
    b1: Tensor = nn.Parameter(torch.zeros(hidden))
    w2: Tensor = nn.Parameter(torch.randn(hidden, generator=generator) * hidden**-0.5)
    b2: Tensor = nn.Parameter(torch.zeros(()))
    optimiser = torch.optim.AdamW([w1, b1, w2, b2], lr=recipe.rate, weight_decay=recipe.decay)
    steps = recipe.epochs * (len(x) // recipe.batch + 1)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, recipe.rate, total_steps=steps)
    for _ in range(recipe.epochs):
        for batch in torch.randperm(len(x), generator=generator).split(recipe.batch):
            h = x[batch] @ w1 + b1
            if recipe.hidden:
                keep = torch.rand(h.shape, generator=generator) >= recipe.dropout
                h = torch.relu(h) * keep / (1 - recipe.dropout)
            loss = nn.functional.binary_cross_entropy_with_logits(h @ w2 + b2, y[batch], weight=w[batch])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
    if not recipe.hidden:  # z = relu(z) - relu(-z): inference needs no second form
        line, shift = w1 @ w2, b1 @ w2 + b2
        w1, b1 = torch.stack([line, -line], dim=1), torch.zeros(2)
        w2, b2 = torch.tensor([1.0, -1.0]), shift
    return {k: v.detach().numpy() for k, v in {"w1": w1, "b1": b1, "w2": w2, "b2": b2}.items()}


def calibrate(logits: Vector, labels: npt.NDArray[np.bool_], weights: Vector) -> tuple[float, float]:
    """Platt scaling: (scale, shift) that minimise the weighted log loss of logits not seen in training."""
    import torch

    z, y = torch.from_numpy(logits.astype(np.float64)), torch.from_numpy(labels.astype(np.float64))
    w = torch.from_numpy(weights.astype(np.float64))
    line = torch.tensor([1.0, 0.0], dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS([line], max_iter=100)

    def closure() -> torch.Tensor:
        optimiser.zero_grad()
        loss = torch.nn.functional.binary_cross_entropy_with_logits(line[0] * z + line[1], y, weight=w)
        loss.backward()
        return loss

    optimiser.step(closure)
    scale, shift = line.detach().tolist()
    return float(scale), float(shift)
