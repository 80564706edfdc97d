"""Which tokens Clip-Cov and KL-Cov restrain: chosen over the whole optimizer step, on every worker alike.

Upstream chooses within each micro-batch, so that its result depends on the cut.
"""

import torch
import torch.distributed as dist
from torch import Tensor

from recipes.archer.losses.batch import Batch
from recipes.archer.losses.constants import LossConfig
from recipes.archer.losses.covariance import clip_cov_selection, kl_cov_selection


def select_by_covariance(batch: Batch, log_prob: Tensor, config: LossConfig) -> Tensor:
    """Tokens of this worker's rows that are among the chosen of all workers' rows.

    Args:
        batch: ``row`` (rows,), the row's place in the step, distinct over all workers; response_mask,
            advantages and, if off-policy, old_log_probs, (rows, response_length).
        log_prob: (rows, response_length) under the current policy.
        config: ``policy_loss`` clip_cov or kl_cov, and its constants.

    Returns:
        (rows, response_length) bool.
    """
    own = {
        "row": batch["row"].to(log_prob.dtype)[:, None].expand_as(log_prob),
        "mask": batch["response_mask"].to(log_prob.dtype),
        "advantages": batch["advantages"].to(log_prob.dtype),
        "old": batch.get("old_log_probs", log_prob),
        "new": log_prob,
    }
    stacked = torch.stack([t.contiguous() for t in own.values()])  # (5, rows, response_length)
    everything, rank = _gather(stacked)  # (workers, 5, rows, response_length)
    rows = everything[:, 0, :, 0].flatten()
    order = torch.argsort(rows)  # the same order whatever the number of workers
    _, mask, advantages, old, new = everything.transpose(0, 1).flatten(1, 2)[:, order]
    if config.policy_loss == "clip_cov":
        generator = torch.Generator().manual_seed(int(mask.sum()))
        selected = clip_cov_selection(
            old,
            new,
            advantages,
            mask,
            clip=(config.clip_ratio_low, config.clip_ratio_high),
            ratio=config.clip_cov_ratio,
            bounds=(config.clip_cov_lb, config.clip_cov_ub),
            generator=generator,
        )
    else:
        selected = kl_cov_selection(new, advantages, mask, ratio=config.kl_cov_ratio)
    unsorted = torch.empty_like(selected)
    unsorted[order] = selected
    return unsorted.view(everything.shape[0], -1, selected.shape[1])[rank]


def _gather(tensor: Tensor) -> tuple[Tensor, int]:
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return tensor[None], 0
    parts = [torch.empty_like(tensor) for _ in range(dist.get_world_size())]
    dist.all_gather(parts, tensor)
    return torch.stack(parts), dist.get_rank()
