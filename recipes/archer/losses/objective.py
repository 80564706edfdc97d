"""The whole objective of one micro-batch: policy loss, entropy bonus, KL to the reference policy.

Each term is a share of the optimizer step's: shares of all micro-batches and workers add up to the loss of
the step, however it was cut.
"""

from torch import Tensor

from recipes.archer.losses.aggregation import aggregate
from recipes.archer.losses.batch import Batch
from recipes.archer.losses.constants import LossConfig, setting_name, uses_reference
from recipes.archer.losses.kl import kl_token_loss, token_kl
from recipes.archer.losses.policy import low_entropy_mask, policy_token_loss, rollout_is_weight
from recipes.archer.losses.surrogate import inside
from recipes.archer.losses.token_stats import TokenStats, engine_stats, entropy_stats, kl_stats, merge_stats


def token_classes(batch: Batch, entropy: Tensor, config: LossConfig) -> Tensor:
    """Low-entropy tokens, (rows, response_length) bool, from the current policy or as frozen at rollout time.

    Raises:
        ValueError: classes are those of the rollout, the policy has moved since, and its entropies are not there.
    """
    source = entropy.detach()
    if config.token_class_from == "rollout":
        if "rollout_entropy" in batch.keys():  # noqa: SIM118
            source = batch["rollout_entropy"]
        elif "old_log_probs" in batch.keys():  # noqa: SIM118
            raise ValueError(f"{setting_name('token_class_from')} is 'rollout': the batch needs rollout_entropy")
        # without old_log_probs the current policy is the one that generated, and these entropies are the rollout's
    return low_entropy_mask(source, batch["response_mask"], config.token_entropy_quantile)


def step_loss(
    batch: Batch, log_prob: Tensor, entropy: Tensor, total: float, config: LossConfig, selected: Tensor | None = None
) -> tuple[Tensor, Tensor, TokenStats]:
    """This micro-batch's share of the step's loss.

    Args:
        batch: tensors of (rows, response_length): response_mask, advantages, and where they apply
            old_log_probs (absent: the batch is on-policy and the ratio is 1), ref_log_prob,
            rollout_log_probs, rollout_entropy.
        log_prob, entropy: of the current policy, with gradient.
        total: the step's denominator over all micro-batches and workers (``aggregation.denominator``).
        selected: tokens chosen by covariance over the whole step, for clip_cov and kl_cov.

    Returns:
        (scalar loss, scalar share of the policy loss alone, sums for the metrics)
    """
    mask, mode = batch["response_mask"].bool(), config.loss_agg_mode
    # what stands in padding, also NaN, reaches neither a value nor, through a product with zero, a gradient
    log_prob, entropy = inside(log_prob, mask), inside(entropy, mask)
    low = token_classes(batch, entropy, config)
    old_log_prob = batch.get("old_log_probs", log_prob.detach())
    token_loss, stats = policy_token_loss(
        config, old_log_prob, log_prob, batch["advantages"], mask, low, selected=selected
    )
    if config.rollout_is_threshold is not None:
        token_loss = token_loss * rollout_is_weight(
            old_log_prob, batch["rollout_log_probs"], config.rollout_is_threshold
        )
    policy_loss = aggregate(token_loss, mask, mode, total=total, norm_length=config.norm_length)
    loss, parts = policy_loss, [stats, entropy_stats(entropy.detach(), mask, low)]
    if "old_log_probs" not in batch.keys() and "rollout_log_probs" in batch.keys():  # noqa: SIM118
        parts.append(engine_stats(log_prob, batch["rollout_log_probs"], mask))  # one policy scored by both
    if config.entropy_coeff:
        loss = loss - config.entropy_coeff * aggregate(entropy, mask, mode, total=total, norm_length=config.norm_length)
    if uses_reference(config):
        reference = batch["ref_log_prob"]
        kl = kl_token_loss(log_prob, reference, low, *config.kl_coefs, kl_type=config.kl_loss_type)
        loss = loss + aggregate(kl, mask, mode, total=total, norm_length=config.norm_length)
        parts.append(kl_stats(token_kl(log_prob.detach(), reference, config.kl_loss_type), mask, low))
    return loss, policy_loss.detach(), merge_stats(parts)
