"""How a run goes on: steps, checkpoints, trackers, grading, guard, Ray. A line a setting; see ``rules.py``."""

import re
from typing import Any

from recipes.archer.settings.rules import (
    A_DAY_S,
    OnlyIf,
    Read,
    choice,
    listed,
    not_negative,
    number,
    positive,
    section,
    share,
    switch,
    text,
    whole,
)

LOGGERS = ("console", "tensorboard", "wandb")
GUARD_ACTIONS = ("off", "warn", "stop", "rollback")
ANSWER_FORMATS = ("boxed", "any")
ACTUATORS = ("bonus", "advantage")  # of the entropy control
START_STEPS = 5  # of a run, whose median entropy a band may be relative to
LEAST_GRADING_MB = 256
LEAST_OBJECT_STORE = 75 * 1024 * 1024  # Ray's
LONGEST_S = 10 * 365 * 24 * 3600  # far below what a timer takes
_FUNCTION = re.compile(r"math|[A-Za-z_][\w.]*:[A-Za-z_]\w*")


def _functions(value: Any) -> bool:
    names = value.values() if isinstance(value, dict) else [None]
    return all(isinstance(name, str) and _FUNCTION.fullmatch(name) for name in names)


def _seconds(by: str) -> Read:
    rule = not_negative(by)
    return Read(by, lambda value: rule.fits(value) and value <= LONGEST_S, "a number of seconds, 0 or more")


def _courses(value: Any) -> bool:
    lists = value if isinstance(value, list) else [None]
    return all(isinstance(o, list) and o and all(isinstance(text, str) and "=" in text for text in o) for o in lists)


_GOES_BACK = OnlyIf(lambda config: config.guard.action == "rollback", "it counts with guard.action=rollback")
_STOPS_AFTER_BEST = OnlyIf(
    lambda config: config.trainer.stop_after_best.patience is not None,
    "it counts with trainer.stop_after_best.patience",
)


def _band(*, null: bool = False) -> Read:
    def fits(value: Any) -> bool:
        if value is None:
            return null
        numbers = isinstance(value, list) and len(value) == 2 and all(map(not_negative("").fits, value))
        return numbers and value[0] < value[1]

    return Read("control/entropy", fits, f"[low, high] with 0 <= low < high, e.g. [0.5,1.5]{' or null' * null}")


_ENTROPY = "control.entropy"
CONTROL: dict[str, Read] = {
    f"{_ENTROPY}.actuator": choice("control/entropy", *ACTUATORS, null=True),
    f"{_ENTROPY}.band": _band(),
    f"{_ENTROPY}.unit": choice("control/entropy", "start", "nats"),
    f"{_ENTROPY}.final_band": _band(null=True),
    f"{_ENTROPY}.anneal_steps": whole("control/entropy", 1, null=True),
    f"{_ENTROPY}.warmup_steps": whole("control/entropy", 0),
    f"{_ENTROPY}.bonus.delta": positive("control/actuators"),
    f"{_ENTROPY}.bonus.max": positive("control/actuators"),
    f"{_ENTROPY}.advantage.proportional": not_negative("control/actuators"),
    f"{_ENTROPY}.advantage.integral": not_negative("control/actuators"),
    f"{_ENTROPY}.advantage.decay": number("control/actuators", lambda value: 0 <= value < 1, "from 0 to below 1"),
    f"{_ENTROPY}.advantage.max": share("control/actuators", zero=False),
    f"{_ENTROPY}.advantage.slew": positive("control/actuators"),
}


def _acts(*actuators: str) -> OnlyIf:
    how = f"it counts with {_ENTROPY}.actuator={' or '.join(actuators)}"
    return OnlyIf(lambda config: config.control.entropy.actuator in actuators, how)


# Of a control that does not act: a band may wait for a run that is given one later, and is told.
IDLE: dict[str, OnlyIf] = {
    name: _acts(*ACTUATORS) if name.count(".") == 2 else _acts(name.split(".")[2])
    for name in CONTROL
    if not name.endswith(".actuator")
}
# a run that has gone back may be resumed with another action: what its courses changed stays
IDLE["guard.rollback.reset_optimizer"] = _GOES_BACK
TABLE: dict[str, Read] = {
    **CONTROL,
    "trainer.project_name": text("main", "a name"),
    "trainer.experiment_name": text("main", "a name"),
    "trainer.output_dir": text("config/archer", "the path of a folder"),
    "trainer.default_local_dir": text("startup/opening", "the path of a folder"),
    "trainer.device": choice("workers/resources", "cuda", "cpu"),
    "trainer.nnodes": whole("workers/resources", 1),
    "trainer.n_gpus_per_node": whole("workers/resources", 1),
    "trainer.total_epochs": whole("control/rules", 1),
    "trainer.total_training_steps": whole("startup/inputs", 1, null=True),
    "trainer.save_freq": whole("trainer", -1),
    "trainer.test_freq": whole("trainer", -1),
    "trainer.val_before_train": switch("trainer"),
    "trainer.logger": listed("main", *LOGGERS),
    "trainer.console_metrics": choice("reports/live", "auto", "main", "all"),
    "trainer.samples_freq": whole("reports/live", 1),
    "trainer.samples_per_step": whole("reports/live", 0),
    "trainer.keep_last": whole("startup/resuming", 1),
    "trainer.keep_best": Read("startup/resuming", lambda value: value is None, "trainer.keep_best.metric=val/accuracy"),
    "trainer.keep_best.metric": text("startup/resuming", "a metric, e.g. val/accuracy", null=True),
    "trainer.keep_best.mode": choice(
        "startup/resuming",
        "max",
        "min",
        only_if=OnlyIf(
            lambda config: config.trainer.keep_best.metric is not None, "it counts with trainer.keep_best.metric"
        ),
    ),
    "trainer.stop_after_best.patience": whole("control/peak", 1, null=True),
    "trainer.stop_after_best.metric": text("control/peak", "a metric, e.g. val/accuracy", only_if=_STOPS_AFTER_BEST),
    "trainer.stop_after_best.mode": choice("control/peak", "max", "min", only_if=_STOPS_AFTER_BEST),
    "trainer.export": choice("export/making", "best", "last", null=True),
    "trainer.max_failed_saves": whole("startup/resuming", 1),
    "trainer.resume_mode": choice("startup/resuming", "auto", "disable", "resume_path"),
    "trainer.resume_from_path": text(
        "startup/resuming",
        "the path of a checkpoint, .../global_step_<n>",
        null=True,
        only_if=OnlyIf(
            lambda config: config.trainer.resume_mode == "resume_path", "set trainer.resume_mode=resume_path with it"
        ),
    ),
    "trainer.fork_from": text("startup/forking", "the folder of a run or of a checkpoint", null=True),
    "trainer.fork_optimizer": switch(
        "startup/forking",
        only_if=OnlyIf(lambda config: config.trainer.fork_from is not None, "it counts with trainer.fork_from"),
    ),
    "trainer.max_empty_steps": whole("control/rules", 1),
    "trainer.max_skipped_updates": whole("control/rules", 1),
    "trainer.trust_old_checkpoints": switch("startup/resuming"),
    "trainer.max_restarts": whole("main", 0),
    **{
        f"trainer.deadlines_s.{stage}": positive("workers/deadlines", infinite=True, null=True)
        for stage in ("set_up", "load", "scoring", "update", "validation", "save")
    },
    "trainer.grace_s": _seconds("main"),
    "trainer.tracker_grace_s": _seconds("reports/live"),
    "trainer.ray_wait_register_center_timeout": whole("verl/trainer/ppo/ray_trainer", 1),
    "ray_init.num_cpus": whole("session/ray_session", 1, null=True),
    "ray_init.log_to_driver": switch("session/ray_session"),
    "ray_init.object_store_memory": whole("session/ray_session", LEAST_OBJECT_STORE, null=True),
    "grading.workers": whole("startup/inputs", 1, null=True),
    "grading.timeout_s": number("startup/inputs", lambda value: 0 < value <= A_DAY_S, f"above 0, at most {A_DAY_S}"),
    "grading.budget_s": positive("startup/inputs", null=True),
    "grading.reject_restated": switch("startup/inputs"),
    "grading.answer_format": choice("startup/inputs", *ANSWER_FORMATS),
    "grading.memory_mb": whole("startup/inputs", LEAST_GRADING_MB, null=True),
    "grading.data_sources": section(
        "startup/inputs", _functions, "a function for each source, e.g. {sums: package.module:function}, or math"
    ),
    "guard.action": choice("monitoring/guard", *GUARD_ACTIONS),
    "guard.rollback.max": whole("control/going_back", 1, only_if=_GOES_BACK),
    "guard.rollback.to_start": switch("control/going_back", only_if=_GOES_BACK),
    "guard.rollback.reset_optimizer": switch("startup/resuming"),
    "guard.rollback.courses": Read(
        "experiments/courses",
        _courses,
        "a list of lists of overrides, e.g. [['reward.format_bonus=0.1']]",
        only_if=_GOES_BACK,
    ),
    "guard.detectors": section(
        "monitoring/monitor",
        lambda value: isinstance(value, dict),
        "thresholds by detector, e.g. {score_lost: {lost: 0.5}}",
        optional=True,
    ),
    "record": section(
        "experiments/records", lambda value: value is None or isinstance(value, dict), "the experiment's own file"
    ),
}
