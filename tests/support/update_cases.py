"""Updates of the actor, by every loss, that must not depend on cut, padding, filler or the number of workers."""

from dataclasses import replace

from actor_cases import REMOVED, UPDATE_ROWS, Case

EVERYTHING = {
    "policy_loss": {"loss_mode": "archer"},
    "entropy_coeff": 0.01,
    "use_kl_loss": True,
    "kl_loss_coef": 0.05,
    "kl_loss_high_entropy_scale": 0.3,
    "rollout_is_threshold": 1.5,
    "token_class_from": "rollout",
}
COVARIANCE = {"clip_cov_ratio": 0.2, "clip_cov_lb": 0.05, "kl_cov_ratio": 0.2}
LOSSES = {
    "vanilla": {"policy_loss": {"loss_mode": "vanilla"}},
    "clip-higher": {"policy_loss": {"loss_mode": "clip-higher"}, "clip_ratio_high": 0.28},
    "archer": {"policy_loss": {"loss_mode": "archer"}, "kl_loss_high_entropy_scale": 0.0},
    "aspo": {"policy_loss": {"loss_mode": "aspo"}, "ratio_cap": 1.4},
    "clip-cov": {"policy_loss": {"loss_mode": "clip-cov"} | COVARIANCE},
    "kl-cov": {"policy_loss": {"loss_mode": "kl-cov"} | COVARIANCE},
}
BASES = [
    *(Case(name, {"use_kl_loss": False, **settings}) for name, settings in LOSSES.items()),
    Case("entropy bonus", {"entropy_coeff": 1.0, "use_kl_loss": False}, zero_advantages=True),
    Case("KL", {"kl_loss_coef": 1.0, "kl_loss_high_entropy_scale": 0.3}, zero_advantages=True),
    Case("all terms", EVERYTHING),
    Case("sum", EVERYTHING | {"loss_agg_mode": "seq-mean-token-sum"}),
    Case("mean of means", EVERYTHING | {"loss_agg_mode": "seq-mean-token-mean"}),
    Case("Dr. GRPO", EVERYTHING | {"loss_agg_mode": "seq-mean-token-sum-norm"}),
    Case("tied", EVERYTHING, tied=True),
    Case("on-policy", EVERYTHING, without=("old_log_probs",)),
    Case("short last mini-batch", EVERYTHING | {"ppo_epochs": 2}, mini_batch_rows=4, learning_rate=0.02),
]


EVERY_CUT = ("all terms", "clip-cov")  # the others, which differ in the loss alone, are cut in each of these ways once


def _variants(base: Case) -> list[Case]:
    removed = base.settings | REMOVED  # of padding, of which there is more in wide rows
    variants = [base, replace(base, cut="one row"), replace(base, wide=True, cut="by tokens", settings=removed)]
    if base.mini_batch_rows == UPDATE_ROWS:  # filler of one update is another mini-batch of several
        variants.append(replace(base, filler=5, cut="four rows"))
    if base.name in EVERY_CUT:
        variants.append(replace(base, cut="one row", settings=base.settings | {"delay_gradient_sync": False}))
        variants += [replace(base, cut=cut) for cut in ("four rows", "by tokens")]
        variants.append(replace(base, wide=True, cut="by tokens"))
        variants.append(replace(base, wide=True, cut="one row", settings=removed))
    return variants


CASES = [variant for base in BASES for variant in _variants(base)]
