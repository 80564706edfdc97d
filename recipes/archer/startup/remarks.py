"""What works but is seldom meant, said before a run starts."""

from omegaconf import DictConfig

from recipes.archer.experiments.courses import foreign
from recipes.archer.experiments.records import record_in
from recipes.archer.losses.constants import ACTOR
from recipes.archer.settings.checks import idle_settings
from recipes.archer.settings.engine import ROLLOUT

MENDED = "v5_mended"  # the experiment with both repairs


def remarks(config: DictConfig) -> list[str]:
    """A sentence each."""
    return [*_on_sampling(config), *_on_old_faults(config), *_on_going_back(config), *idle_settings(config)]


def _on_going_back(config: DictConfig) -> list[str]:
    record = record_in(config) if config.guard.action == "rollback" else None
    return foreign(record) if record is not None else []


def _on_old_faults(config: DictConfig) -> list[str]:
    """The two faults that V0 to V5 ran with and keep for the record."""
    groups, kept = config.algorithm.group_filter, []
    if not config.actor_rollout_ref.rollout.stop_at_turn_end:
        kept.append(
            f"{ROLLOUT}.stop_at_turn_end=false lets responses run on after the answer, through invented turns, where "
            "the model's files do not name the token that closes a turn"
        )
    if groups.enable and groups.metric == "reward":
        kept.append(
            "algorithm.group_filter.metric=reward keeps groups whose shaped rewards differ, also where every answer is "
            "wrong and one was cut: the others are then rewarded for being wrong"
        )
    if not kept:
        return []
    name = config.record.name if config.get("record") else "this configuration"
    return [f"{name} differs from {MENDED}, which does neither: {'; '.join(kept)}"]


def _on_sampling(config: DictConfig) -> list[str]:
    rollout, plain = config.actor_rollout_ref.rollout, {"repetition_penalty": 1.0, "top_p": 1.0, "top_k": -1}
    changed = [f"{ROLLOUT}.{name}={rollout[name]}" for name, value in plain.items() if rollout[name] != value]
    if not changed or config.actor_rollout_ref.actor.rollout_is_threshold is not None:
        return []
    return [
        f"{' '.join(changed)}: the engine then samples from another distribution than the trainer's; "
        f"rollout/log_ratio shows how far, {ACTOR}.rollout_is_threshold=2.0 corrects for it"
    ]
