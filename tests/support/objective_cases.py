"""A batch for the whole objective, and its value."""

import math

import torch

from recipes.archer.losses.aggregation import denominator
from recipes.archer.losses.constants import LossConfig
from recipes.archer.losses.objective import step_loss

LENGTHS = (9, 0, 1, 4, 7)
WIDTH = max(LENGTHS)


def make_batch(
    seed: int = 0, padding: float = math.nan, dtype=torch.float64
) -> tuple[dict, torch.Tensor, torch.Tensor]:
    """A batch, log_prob and entropy with a gradient; padding holds what a careless product would let through."""
    random = torch.Generator().manual_seed(seed)

    def normal(scale: float) -> torch.Tensor:
        return scale * torch.randn(len(LENGTHS), WIDTH, generator=random, dtype=torch.float64)

    mask = torch.arange(WIDTH) < torch.tensor(LENGTHS)[:, None]
    log_prob, entropy = -normal(1.0).abs(), normal(1.0).abs()
    others = {"old_log_probs": 0.5, "ref_log_prob": 1.0, "rollout_log_probs": 0.3}
    batch = {name: log_prob + normal(scale) for name, scale in others.items()}
    batch |= {"advantages": normal(1.0), "rollout_entropy": entropy + normal(1.0).abs()}
    batch = {name: value.masked_fill(~mask, padding).to(dtype) for name, value in batch.items()}
    own = [value.masked_fill(~mask, padding).to(dtype).requires_grad_() for value in (log_prob, entropy)]
    return batch | {"response_mask": mask}, *own


def value_of(batch: dict, log_prob: torch.Tensor, entropy: torch.Tensor, config: LossConfig):
    total = float(denominator(batch["response_mask"], config.loss_agg_mode))
    return step_loss(batch, log_prob, entropy, total, config)
