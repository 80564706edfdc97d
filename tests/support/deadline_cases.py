"""Deadlines of worker calls, by hand."""

from omegaconf import DictConfig, OmegaConf

NULL = ("set_up", "load", "scoring", "update", "validation", "save")


def deadlines_config(rollout: float | None = 3600, **stages: float) -> DictConfig:
    """The settings that ``Deadlines`` reads, null where not given."""
    deadlines = dict.fromkeys(NULL) | stages
    engine = {"rollout": {"deadline_s": rollout}}
    return OmegaConf.create({"trainer": {"deadlines_s": deadlines}, "actor_rollout_ref": engine})
