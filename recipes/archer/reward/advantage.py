"""Groups of rewards to advantages."""

import numpy as np

from recipes.archer.reward.overlong import overlong_filter_mask
from verl import DataProto
from verl.trainer.ppo.core_algos import compute_grpo_outcome_advantage


def add_advantages(batch: DataProto, n: int, *, norm_by_std: bool, cap: int | None = None) -> None:
    """Adds ``advantages``, (rows, response_length): GRPO's, a response's reward against its group's.

    Args:
        batch: whole groups, ``n`` rows each side by side, with ``token_level_rewards`` and ``response_mask``.
        norm_by_std: whether the difference is divided by the group's standard deviation (arXiv 2402.03300, section
            4.1.2; without: Dr. GRPO, arXiv 2503.20783).
        cap: tokens; responses that were cut there (by ``ended``) stay in their group's baseline but give no gradient:
            their mask becomes 0. None: all give one.
    """
    tensors = batch.batch
    groups = np.arange(len(batch)) // n
    tensors["advantages"], _ = compute_grpo_outcome_advantage(
        tensors["token_level_rewards"], tensors["response_mask"], groups, norm_adv_by_std_in_grpo=norm_by_std
    )
    if cap is not None:
        cut = overlong_filter_mask(tensors["response_mask"].sum(-1), cap, tensors["ended"])
        tensors["response_mask"] = tensors["response_mask"] * ~cut[:, None]
