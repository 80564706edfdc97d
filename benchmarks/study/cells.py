"""What is compared: the cells of the disease, and the cures of jobs that are sick."""

from dataclasses import dataclass, field

ACTOR = "actor_rollout_ref.actor."
EACH = {"trainer.save_freq": -1, "trainer.test_freq": 10, "trainer.export": None, "guard.action": "warn"}


@dataclass(frozen=True)
class Cell:
    """Runs that differ in their seed alone.

    Attributes:
        part: ``disease``, or the sick job that is to be cured.
        name: unique within the part.
        experiment: the record that it runs.
        settings: overrides over the record.
        steps: of each run.
    """

    part: str
    name: str
    experiment: str
    settings: dict = field(hash=False)
    steps: int

    @property
    def overrides(self) -> dict:
        return EACH | self.settings


@dataclass(frozen=True)
class SickJob:
    """A job that fails, and what may cure it.

    Attributes:
        experiment: its record.
        band: [low, high] nats in which its entropy is to stay.
        arms: name -> overrides over the record.
        steps: of each run.
    """

    experiment: str
    band: tuple[float, float]
    arms: dict[str, dict]
    steps: int

    @property
    def fixed(self) -> list[str]:
        """The arms that have nothing but constant coefficients."""
        return [name for name in self.arms if name.startswith(("none", "bonus", "anchor"))]


# The disease: three questions, asked together.
ENDS = {"known": "tiny", "unknown": "tiny_no_turn_end"}
FILTERS = {"correctness": "accuracy", "reward": "reward"}  # what makes a group worth training on
PENALTY = {"reward.overlong_buffer_len": 16}  # what makes shaped reward differ from correctness
REGULARISATIONS = {
    "none": {},  # V0
    "bonus": {ACTOR + "entropy_coeff": 0.2},  # V1, V2
    "bonus and anchor": {ACTOR + "entropy_coeff": 0.2, ACTOR + "kl_loss_coef": 1.0},  # V3, V4, V5
}
DISEASE_STEPS = 40


def disease() -> list[Cell]:
    """Turn end × filter × regularisation."""
    return [
        Cell(
            "disease", f"{end}, {filtered}, {regularisation}", experiment,
            {"algorithm.group_filter.metric": metric} | PENALTY | settings, DISEASE_STEPS,
        )
        for end, experiment in ENDS.items()
        for filtered, metric in FILTERS.items()
        for regularisation, settings in REGULARISATIONS.items()
    ]  # fmt: skip


# The cure: arms that go over any of the sick jobs, each named for what it adds.
GO_ON = {"trainer.max_empty_steps": 1000}  # no rule ends a run whose groups have died
BAND = (0.17, 0.3)  # nats; the embedded job starts at 0.24 and, healthy, ends at 0.18
ANCHOR = {ACTOR + "kl_loss_coef": 0.05}
REFRESH = {ACTOR + "kl_loss_coef": 0.05, "actor_rollout_ref.ref.refresh.every": 10}
COVARIANCE = {  # the published constants, arXiv 2505.22617
    "clip-cov": {ACTOR + "policy_loss.loss_mode": "clip-cov", ACTOR + "policy_loss.clip_cov_ratio": 2e-4},
    "kl-cov": {
        ACTOR + "policy_loss.loss_mode": "kl-cov", ACTOR + "policy_loss.kl_cov_ratio": 2e-3,
        ACTOR + "policy_loss.ppo_kl_coef": 1.0,
    },
}  # fmt: skip


def _held(actuator: str, low: float, high: float) -> dict:
    """What a control is told lies inside the band, so that it acts before the band's edge."""
    return {
        "control.entropy.unit": "nats", "control.entropy.band": [low, high], "control.entropy.actuator": actuator,
    }  # fmt: skip


STEERED = {
    "control: advantage": _held("advantage", 0.2, 0.26),
    "control: bonus": _held("bonus", 0.2, 0.22)
    | {  # on the scale of this model: what it bears for a while, reached in five steps, and gone at once
        ACTOR + "entropy_coeff": 0.0, "control.entropy.bonus.delta": 0.03,
        "control.entropy.bonus.max": 0.15,
    },
    "rollback": {"guard.action": "rollback", "trainer.save_freq": 5},
    "stop after best": {"trainer.test_freq": 5, "trainer.stop_after_best.patience": 2},
}  # fmt: skip
TIGHT = {
    ACTOR + "clip_ratio_low": 0.1, ACTOR + "clip_ratio_high": 0.14, ACTOR + "ppo_epochs": 2,
    ACTOR + "entropy_coeff": 0.0,
}  # fmt: skip
OTHERS = {"tight clip": TIGHT, "refresh": REFRESH} | COVARIANCE | STEERED


def _bonus(*coefficients: float) -> dict[str, dict]:
    return {f"bonus {coefficient:g}": {ACTOR + "entropy_coeff": coefficient} for coefficient in coefficients}


SICK_JOBS = {
    "sharpens": SickJob("tiny_sharpens", BAND, {"none": {}} | _bonus(0.1, 0.3) | {"anchor": ANCHOR} | OTHERS, 50),
    "scatters": SickJob("tiny_scatters", BAND, {"none": {}} | _bonus(0.0, 0.2) | {"anchor": ANCHOR} | OTHERS, 50),
    "declines": SickJob("tiny_declines", BAND, {"none": {}} | _bonus(0.1, 0.3) | {"anchor": ANCHOR} | OTHERS, 50),
    "collapse": SickJob("tiny_collapse", BAND, {"none": GO_ON, "rollback": STEERED["rollback"]}, 50),
}
PARTS = ("disease", *SICK_JOBS)


def cells(part: str) -> list[Cell]:
    """The cells of a part."""
    if part == "disease":
        return disease()
    job = SICK_JOBS[part]
    return [Cell(part, name, job.experiment, settings, job.steps) for name, settings in job.arms.items()]
