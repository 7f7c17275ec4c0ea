"""Small networks over feature rows: training and calibration (torch), the arrays that inference needs (numpy)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ragpool.feedback.passages import Vector


@dataclass(frozen=True, slots=True)
class Recipe:
    """``hidden`` 0 is logistic regression; ``networks`` are trained from different seeds and averaged."""

    hidden: int = 32
    networks: int = 6
    epochs: int = 30
    rate: float = 5e-3
    decay: float = 3e-2
    dropout: float = 0.2
    batch: int = 256
    seed: int = 0


def fit(rows: Vector, labels: npt.NDArray[np.bool_], weights: Vector, recipe: Recipe) -> dict[str, Vector]:
    """Arrays of networks (see ``feedback.trained.Network``), trained side by side.

    ``rows`` [n, features]; ``weights`` [networks, n] weighs each row in each network's loss, 0 hides it.
    """
    import torch
    from torch import Tensor, nn

    mean, std = rows.mean(axis=0), rows.std(axis=0) + 1e-3
    x = torch.from_numpy(np.clip((rows - mean) / std, -6, 6).astype(np.float32))
    y, w = torch.from_numpy(labels.astype(np.float32)), torch.from_numpy(weights.astype(np.float32))
    generator = torch.Generator().manual_seed(recipe.seed)
    count, features, hidden = len(w), x.shape[1], recipe.hidden or 2
    w1: Tensor = nn.Parameter(torch.randn(count, features, hidden, generator=generator) * features**-0.5)
    b1: Tensor = nn.Parameter(torch.zeros(count, 1, hidden))
    w2: Tensor = nn.Parameter(torch.randn(count, hidden, 1, generator=generator) * hidden**-0.5)
    b2: Tensor = nn.Parameter(torch.zeros(count, 1, 1))
    optimiser = torch.optim.AdamW([w1, b1, w2, b2], lr=recipe.rate, weight_decay=recipe.decay)
    size = min(recipe.batch, len(x))
    steps = recipe.epochs * (len(x) // size)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, recipe.rate, total_steps=steps + 1)
    for _ in range(recipe.epochs):
        order = torch.stack([torch.randperm(len(x), generator=generator) for _ in range(count)])
        for start in range(0, len(x) - size + 1, size):
            batch = order[:, start : start + size]
            h = x[batch] @ w1 + b1
            if recipe.hidden:
                keep = torch.rand(h.shape, generator=generator) >= recipe.dropout
                h = torch.relu(h) * keep / (1 - recipe.dropout)
            logits = (h @ w2 + b2).squeeze(-1)
            loss = nn.functional.binary_cross_entropy_with_logits(
                logits, y[batch], weight=w.gather(1, batch), reduction="none"
            )
            optimiser.zero_grad()
            loss.mean(dim=1).sum().backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            schedule.step()
    if not recipe.hidden:  # z = relu(z) - relu(-z): inference needs no second form
        line, b2 = w1 @ w2, b1 @ w2 + b2
        w1, b1 = torch.cat([line, -line], dim=2), torch.zeros(count, 1, 2)
        w2 = torch.tensor([[[1.0], [-1.0]]]).expand(count, 2, 1)
    arrays = {"w1": w1, "b1": b1.squeeze(1), "w2": w2.squeeze(2), "b2": b2.flatten()}
    plain = {name: np.ascontiguousarray(value.detach().numpy()) for name, value in arrays.items()}
    return {"mean": mean.astype(np.float32), "std": std.astype(np.float32), **plain}


def pick(arrays: dict[str, Vector], networks: slice) -> dict[str, Vector]:
    """Some of the networks of an ensemble."""
    shared = ("mean", "std")
    return {key: value if key in shared else value[networks].copy() for key, value in arrays.items()}


def calibrate(logits: Vector, labels: npt.NDArray[np.bool_], weights: Vector) -> tuple[float, float]:
    """Platt scaling: (scale, shift) that minimise the weighted log loss of logits [n] not seen in training.

    Newton's method on two parameters; a small ridge keeps separable data finite.
    """
    z = np.stack([logits.astype(np.float64), np.ones(len(logits))], axis=1)
    line = np.array([1.0, 0.0])
    for _ in range(50):
        p = 1 / (1 + np.exp(-np.clip(z @ line, -30, 30)))
        gradient = z.T @ (weights * (p - labels)) + 1e-3 * line
        hessian = (z * (weights * p * (1 - p))[:, None]).T @ z + 1e-3 * np.eye(2)
        step = np.linalg.solve(hessian, gradient)
        line = line - step
        if np.abs(step).max() < 1e-9:
            break
    return float(line[0]), float(line[1])
