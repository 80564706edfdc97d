"""Random inputs of the losses, and the definitions of the losses written out token by token in plain Python."""

import math

import torch

from recipes.archer.losses.policy import low_entropy_mask

CLIP_LOW, CLIP_HIGH = (0.2, 0.25), (0.4, 0.5)


def random_batch(seed: int, rows: int = 5, width: int = 9, *, sign: int = 0, dtype=torch.float64) -> dict:
    """old_log_prob, log_prob, advantages, response_mask, low_entropy; ratios from about 0.05 to 20.

    The first row is full, the second empty, the third one token long, the rest of random length. `sign` makes all
    advantages positive or negative. Padding holds NaN, which no loss may let through.
    """
    generator = torch.Generator().manual_seed(seed)

    def normal(scale: float) -> torch.Tensor:
        return scale * torch.randn(rows, width, generator=generator, dtype=dtype)

    lengths = torch.randint(1, width + 1, (rows, 1), generator=generator)
    for row, length in ((0, width), (1, 0), (2, 1)):
        if row < rows:
            lengths[row] = length
    mask = torch.arange(width) < lengths
    old = -normal(1.0).abs()
    advantages = normal(1.0).abs() * sign if sign else normal(1.0)
    tensors = {"old_log_prob": old, "log_prob": old + normal(1.0), "advantages": advantages}
    low = low_entropy_mask(normal(1.0).abs(), mask)
    padded = {name: value.masked_fill(~mask, math.nan) for name, value in tensors.items()}
    return padded | {"response_mask": mask, "low_entropy": low}


def with_gradient(batch: dict) -> dict:
    return batch | {"log_prob": batch["log_prob"].clone().requires_grad_()}


def unpadded(seed: int, **kwargs) -> dict:
    """With zeros in the padding: upstream multiplies padding by zero, so NaN may not stand there."""
    batch = random_batch(seed, **kwargs)
    return {name: value.nan_to_num(0.0) if value.is_floating_point() else value for name, value in batch.items()}


def four(batch: dict) -> tuple:
    """The arguments every loss takes first."""
    return tuple(batch[name] for name in ("old_log_prob", "log_prob", "advantages", "response_mask"))


def clip_of(low_entropy: bool) -> tuple[float, float]:
    return CLIP_LOW if low_entropy else CLIP_HIGH


def aspo_coefficient(ratio: float, advantage: float, low_entropy: bool, cap: float) -> float:
    lower, upper = clip_of(low_entropy)
    if advantage >= 0:
        return min(1 / ratio, cap) if ratio <= 1 + upper else 0.0
    return min(ratio, cap) if ratio >= 1 - lower else 0.0


def archer_coefficient(ratio: float, advantage: float, low_entropy: bool, cap: float) -> float:
    """The gradient of the clipped loss with dual clip is ratio·A·∇log π where nothing stops it."""
    lower, upper = clip_of(low_entropy)
    if advantage >= 0:
        return ratio if ratio <= 1 + upper else 0.0
    return ratio if 1 - lower <= ratio <= cap else 0.0


def defined_gradient(coefficient, batch: dict, cap: float) -> list[list[float]]:
    """−c·A / (number of response tokens) at every response token, 0 elsewhere."""
    mask = batch["response_mask"].tolist()
    count = sum(map(sum, mask))
    old, new, advantages, low = (
        batch[name].tolist() for name in ("old_log_prob", "log_prob", "advantages", "low_entropy")
    )
    gradient = []
    for b, row in enumerate(mask):
        gradient.append([0.0] * len(row))
        for t, inside in enumerate(row):
            if inside:
                ratio = math.exp(max(-20.0, min(20.0, new[b][t] - old[b][t])))
                c = coefficient(ratio, advantages[b][t], low[b][t], cap)
                gradient[b][t] = -c * advantages[b][t] / count
    return gradient
