"""Every constant of the actor's loss, checked when the configuration loads rather than at the first step."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

# Here, and not where they are computed: this file is read before torch is imported.
AGGREGATION_MODES = ("token-mean", "seq-mean-token-sum", "seq-mean-token-mean", "seq-mean-token-sum-norm")
KL_TYPES = ("low_var_kl", "k3", "kl", "k1", "mse", "k2", "abs")
POLICY_LOSSES = ("vanilla", "clip_higher", "archer", "aspo", "clip_cov", "kl_cov")
TOKEN_CLASS_SOURCES = ("current", "rollout")
NULLABLE = ("norm_length", "rollout_is_threshold")

ACTOR = "actor_rollout_ref.actor"
# Where a setting is not called like its field; all are relative to ACTOR.
_PATHS = {
    "policy_loss": "policy_loss.loss_mode",
    "clip_cov_ratio": "policy_loss.clip_cov_ratio",
    "clip_cov_lb": "policy_loss.clip_cov_lb",
    "clip_cov_ub": "policy_loss.clip_cov_ub",
    "kl_cov_ratio": "policy_loss.kl_cov_ratio",
    "ppo_kl_coef": "policy_loss.ppo_kl_coef",
}


_ABSENT = object()


@dataclass(frozen=True)
class LossConfig:
    """Constants of the losses. Clips are ε: the ratio is held within [1 − lower, 1 + upper].

    Raises:
        ValueError: an impossible value; the message names the setting and the remedy.
    """

    policy_loss: str = "vanilla"
    clip_ratio_low: float = 0.2  # vanilla, clip_higher, clip_cov
    clip_ratio_high: float = 0.2
    clip_ratio_c: float = 3.0  # dual clip of vanilla, clip_higher and archer; infinity switches it off
    clip_low_entropy: tuple[float, float] = (0.2, 0.2)  # archer and aspo, (lower, upper)
    clip_high_entropy: tuple[float, float] = (0.4, 0.4)
    ratio_cap: float = 3.0  # aspo
    token_entropy_quantile: float = 0.8
    token_class_from: str = "current"  # or "rollout": classes stay fixed over the PPO epochs
    loss_agg_mode: str = "token-mean"
    norm_length: int | None = None  # tokens; seq-mean-token-sum-norm divides by it, whatever padding was trimmed
    entropy_coeff: float = 0.0
    use_kl_loss: bool = False
    kl_loss_coef: float = 0.001  # low-entropy tokens
    kl_loss_high_entropy_scale: float = 1.0  # high-entropy tokens get kl_loss_coef times this; Archer's is 0
    kl_loss_type: str = "low_var_kl"
    rollout_is_threshold: float | None = None  # None: no correction for the engine's probabilities
    clip_cov_ratio: float = 0.0002
    clip_cov_lb: float = 1.0
    clip_cov_ub: float = 5.0
    kl_cov_ratio: float = 0.0002
    ppo_kl_coef: float = 0.1  # kl_cov; as in upstream's configuration, whose function falls back to 1

    def __post_init__(self) -> None:
        # Upstream writes its names with a hyphen in some places and an underscore in others.
        object.__setattr__(self, "policy_loss", str(self.policy_loss).replace("-", "_"))
        for name in ("clip_low_entropy", "clip_high_entropy"):
            object.__setattr__(self, name, _pair(name, getattr(self, name)))
        self._check_names()
        self._check_clips()
        self._check_coefficients()
        self._check_covariance()

    @property
    def kl_coefs(self) -> tuple[float, float]:
        """(low-entropy, high-entropy) coefficient of the KL loss."""
        return self.kl_loss_coef, self.kl_loss_coef * self.kl_loss_high_entropy_scale

    @property
    def uses_token_classes(self) -> bool:
        """Whether the loss itself, not only its metrics, depends on the token classes."""
        return self.policy_loss in ("archer", "aspo") or (self.use_kl_loss and self.kl_loss_high_entropy_scale != 1.0)

    def _check_names(self) -> None:
        choices = {
            "policy_loss": POLICY_LOSSES,
            "token_class_from": TOKEN_CLASS_SOURCES,
            "loss_agg_mode": AGGREGATION_MODES,
            "kl_loss_type": KL_TYPES,
        }
        for name, known in choices.items():
            if getattr(self, name) not in known:
                raise _refusal(name, getattr(self, name), f"unknown; use one of {', '.join(known)}")

    def _check_clips(self) -> None:
        for name in ("clip_ratio_low", "clip_ratio_high"):
            _require(self, name, lambda value: value >= 0, "a clip cannot be negative; use 0 or more, e.g. 0.2")
        for name in ("clip_ratio_c", "ratio_cap"):
            _require(self, name, lambda value: value > 1, "a cap on the ratio must exceed 1; e.g. 3.0")
        _require(self, "token_entropy_quantile", lambda value: 0 < value <= 1, "choose a value in (0, 1], e.g. 0.8")
        if self.policy_loss == "clip_higher" and self.clip_ratio_high <= self.clip_ratio_low:
            remedy = f"clip_higher needs it above clip_ratio_low={self.clip_ratio_low}; e.g. 0.28, or use vanilla"
            raise _refusal("clip_ratio_high", self.clip_ratio_high, remedy)

    def _check_coefficients(self) -> None:
        _require(self, "entropy_coeff", math.isfinite, "must be finite; 0 switches the bonus off")
        for name in ("kl_loss_coef", "kl_loss_high_entropy_scale", "ppo_kl_coef"):
            _require(self, name, _finite_and_not_negative, "must be finite and 0 or more")
        if self.norm_length is not None:
            remedy = "is a length in tokens; use 1 or more, or null for the width of the batch"
            _require(self, "norm_length", lambda value: 1 <= value < math.inf, remedy)
        if self.rollout_is_threshold is not None:
            remedy = "must be at least 1, the weight of a matching token; e.g. 2.0, or null for no correction"
            _require(self, "rollout_is_threshold", lambda value: value >= 1, remedy)

    def _check_covariance(self) -> None:
        for name in ("clip_cov_ratio", "kl_cov_ratio"):
            _require(self, name, lambda value: 0 < value <= 1, "is a share of tokens; choose one in (0, 1]")
        _require(self, "clip_cov_lb", lambda value: not math.isnan(value), "must be a number, e.g. 1.0")
        remedy = f"must exceed clip_cov_lb={self.clip_cov_lb}; e.g. 5.0"
        _require(self, "clip_cov_ub", lambda value: value > self.clip_cov_lb, remedy)


def uses_reference(actor: Any) -> bool:
    """Whether there is a reference policy: a KL term with the coefficient 0 pulls nowhere, and none is held for it.

    Args:
        actor: the part of the configuration under `actor_rollout_ref.actor`, or a `LossConfig`.
    """
    return bool(actor.use_kl_loss and actor.kl_loss_coef)


def loss_config_from(actor: Mapping[str, Any]) -> LossConfig:
    """Reads a `LossConfig` from the actor's part of the configuration; a setting that is absent keeps its default.

    Args:
        actor: the mapping under `actor_rollout_ref.actor` (a plain dict or an OmegaConf node); `policy_loss` may be
            the loss's name alone.

    Raises:
        ValueError: an impossible value, or null where null means nothing.
    """
    if isinstance(actor.get("policy_loss"), str):
        actor = {**actor, "policy_loss": {"loss_mode": actor["policy_loss"]}}
    values = {}
    for field in fields(LossConfig):
        value = _read(actor, _PATHS.get(field.name, field.name))
        if (value is None or value is _ABSENT) and field.name in ("clip_ratio_low", "clip_ratio_high"):
            value = _read(actor, "clip_ratio")  # upstream's one clip for both sides
        if value is None and field.name not in NULLABLE:
            raise _refusal(field.name, value, f"leave it out for {field.default}, or give a value")
        if value is not _ABSENT:
            values[field.name] = value
    return LossConfig(**values)


def _read(actor: Mapping[str, Any], path: str) -> Any:
    """What stands under a dotted name; `_ABSENT` where nothing does."""
    node: Any = actor
    for key in path.split("."):
        if node is _ABSENT:
            return node
        if not isinstance(node, Mapping):
            raise ValueError(f"{ACTOR}.{path.partition('.')[0]} is {node!r}: must hold {path.partition('.')[2]}")
        node = node.get(key, _ABSENT)
    return node


def setting_name(field: str) -> str:
    """The dotted name under which a field of `LossConfig` is set."""
    return f"{ACTOR}.{_PATHS.get(field, field)}"


def _require(config: LossConfig, name: str, holds: Any, remedy: str) -> None:
    value = getattr(config, name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _refusal(name, value, "must be a number")
    if math.isnan(value) or not holds(value):
        raise _refusal(name, value, remedy)


def _pair(name: str, value: Any) -> tuple[float, float]:
    """A clip pair as a tuple; configuration hands over lists."""
    remedy = "must be [lower, upper], both numbers of 0 or more, e.g. [0.2, 0.2]"
    if isinstance(value, str | Mapping) or not hasattr(value, "__len__") or len(value) != 2:
        raise _refusal(name, value, remedy)
    pair = tuple(value)
    for bound in pair:
        if isinstance(bound, bool) or not isinstance(bound, int | float) or not bound >= 0:
            raise _refusal(name, value, remedy)
    return pair


def _finite_and_not_negative(value: float) -> bool:
    return math.isfinite(value) and value >= 0


def _refusal(name: str, value: Any, remedy: str) -> ValueError:
    return ValueError(f"{setting_name(name)} is {value!r}: {remedy}")
