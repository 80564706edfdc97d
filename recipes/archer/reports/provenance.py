"""What ran, from run.json and config.yaml, as (name, text) lines."""

from typing import Any

from recipes.archer.printable import printable
from recipes.archer.runs.folder import Run, last_change
from recipes.archer.runs.times import seconds_at_work

SILENT_S = 3600  # a running run that has written nothing for so long may be dead
SETTINGS = (
    ("model", "actor_rollout_ref.model.path"),
    ("training data", "data.train_files"),
    ("validation data", "data.val_files"),
    ("prompts a step", "data.train_batch_size"),
    ("responses a prompt", "actor_rollout_ref.rollout.n"),
    ("longest response", "data.max_response_length"),
    ("loss", "actor_rollout_ref.actor.policy_loss.loss_mode"),
    ("learning rate", "actor_rollout_ref.actor.optim.lr"),
    ("entropy coefficient", "actor_rollout_ref.actor.entropy_coeff"),
    ("KL coefficient", "actor_rollout_ref.actor.kl_loss_coef"),
    ("temperature", "actor_rollout_ref.rollout.temperature"),
)


def status(run: Run, now: float) -> str:
    """How the run stands, with how long it has been silent if it says that it is running.

    Args:
        now: seconds since the epoch.
    """
    word = printable(run.facts.get("status") or "unknown")
    silent = now - last_change(run.folder)
    return f"{word} (silent for {_duration(silent)})" if word == "running" and silent > SILENT_S else word


def provenance(run: Run, now: float) -> list[tuple[str, str]]:
    """Lines of what ran, where, when, from which code, and how it ended; only what is known."""
    facts = run.facts
    lines = [
        ("experiment", run.experiment),
        ("forked from", run.forked_from),
        ("went back", turns(run)),
        ("status", status(run, now)),
        ("reason", facts.get("reason")),
        ("exit code", facts.get("exit_code")),
        ("guard's verdict", _verdict(facts.get("verdict"))),
        ("steps", run.rows[-1]["step"] if run.rows else 0),
        ("last checkpoint", facts.get("last_checkpoint")),
        ("best checkpoint", facts.get("best_checkpoint")),
        ("failed saves", facts.get("failed_saves") or None),
        ("started", facts.get("started")),
        ("finished", facts.get("finished")),
        ("took", _took(facts)),
        ("attempts", facts.get("attempts")),
        ("seed", facts.get("seed")),
        ("device", _device(facts)),
        ("host", facts.get("host")),
        ("code", _code(facts.get("git"))),
        ("versions", _pairs(facts.get("versions"))),
        ("command", _command(facts.get("command"))),
        ("metrics", "; ".join(run.notes)),
        ("folder", run.folder.resolve()),
    ]
    return [(name, printable(value)) for name, value in lines if value not in (None, "")]


COURSE_HEADINGS = ("course", "from step", "left at step", "why", "what was changed", "settings")


def course_lines(run: Run) -> list[tuple[str, ...]]:
    """Each time that the run went back, a line as in ``COURSE_HEADINGS``."""
    lines = [
        (c.number, c.back_to or "the start", c.left, c.verdict, f"{c.change} ({c.source})", " ".join(c.overrides))
        for c in run.courses
    ]
    return [tuple(map(printable, line)) for line in lines]


def turns(run: Run) -> str:
    """How the run went back, in few words; empty where it did not."""
    return ", ".join(f"{c.left} ↩ {c.back_to}" for c in run.courses)


def main_settings(run: Run) -> list[tuple[str, str]]:
    """The settings that one asks about first."""
    lines = [(name, _setting(run.config, path)) for name, path in SETTINGS]
    return [(name, printable(value)) for name, value in lines if value is not None]


def _setting(config: Any, path: str) -> Any:
    for key in path.split("."):
        config = config.get(key) if isinstance(config, dict) else None
    return config


def _took(facts: dict) -> str | None:
    seconds = seconds_at_work(facts)
    return None if seconds is None else _duration(seconds)  # not ended yet, or a run.json of other making


def _duration(seconds: float) -> str:
    minutes = int(seconds // 60)
    if minutes < 1:
        return f"{seconds:.0f} s"
    if minutes < 120:
        return f"{minutes} min"
    return f"{minutes / 60:.1f} h" if minutes < 2880 else f"{minutes / 1440:.1f} days"


def _device(facts: dict) -> str | None:
    words = [facts.get("device_name") or facts.get("device")]
    if facts.get("world_size"):
        words.append(f"× {facts['world_size']}")
    return " ".join(str(word) for word in words if word) or None


def _code(git: Any) -> str | None:
    if not isinstance(git, dict) or not git.get("commit"):
        return None
    return f"commit {git['commit']}" + (", with changes not committed" if git.get("dirty") else "")


def _verdict(verdict: Any) -> str | None:
    return verdict.get("overall") if isinstance(verdict, dict) else None


def _pairs(versions: Any) -> str | None:
    if not isinstance(versions, dict):
        return None
    return ", ".join(f"{name} {version}" for name, version in versions.items() if version)


def _command(command: Any) -> str | None:
    return " ".join(map(str, command)) if isinstance(command, list) else command
