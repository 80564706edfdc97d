"""Made-up runs for the monitor: rows as a real training writes them, with seeded noise."""

import math

import numpy as np

PROMPTS = 64


def stream(num_steps: int = 300, *, seed: int = 0, **shapes) -> list[dict]:
    """A healthy run on mathematics, with ``shapes`` in place of single metrics.

    Args:
        num_steps: rows, from step 1.
        seed: of the noise.
        shapes: metric with ``__`` for ``/`` -> function of (step, noise generator).
    """
    noise = np.random.default_rng(seed)
    shapes = {name.replace("__", "/"): shape for name, shape in shapes.items()}
    return [_row(step, num_steps, noise, shapes) for step in range(1, num_steps + 1)]


def _row(step: int, num_steps: int, noise, shapes) -> dict:
    x = step / num_steps
    accuracy = 0.1 + 0.4 * (1 - math.exp(-3 * x)) + 0.02 * noise.normal()
    none = int(PROMPTS * 0.5 * math.exp(-1.5 * x))
    solved = int(6 * x)
    row = {
        "step": step,
        "critic/score/mean": float(accuracy),
        "actor/entropy": 4.2 + 0.5 * math.sin(step / 40) + 0.15 * float(noise.normal()),
        "actor/kl_loss": 0.8 * x + 0.02 * float(noise.random()),
        "actor/grad_norm": 2 + 0.4 * float(noise.random()),
        "batch/solve_none": none,
        "batch/solve_all": solved,
        "batch/valid": PROMPTS - none - solved,
        "response/ended/mean": 0.9 + 0.05 * float(noise.random()),
        "response_length/mean": 700 + 50 * float(noise.normal()),
        "response_length/pos/mean": 600 + 40 * float(noise.normal()),
        "logical_connectives/mean": 6 + float(noise.normal()),
        "logical_connectives/pos/mean": 8 + float(noise.normal()),
        "repetition/ratio/mean": 0.04 + 0.01 * float(noise.random()),
        "timing_s/step": 90 + 10 * float(noise.random()),
        "val/accuracy": None,
    }
    return row | {name: shape(step, noise) for name, shape in shapes.items()}


def tiny_stream(num_steps: int = 60, seed: int = 0) -> list[dict]:
    """The embedded job as it goes when all is well: accuracy to 0.95, entropy to 0.1 nats, no group left to learn."""
    noise = np.random.default_rng(seed)
    rows = []
    for step in range(1, num_steps + 1):
        learned = 1 / (1 + math.exp(-(step - 20) / 6))
        none, solved = int(3 * (1 - learned)), int(15 * learned**2)
        rows.append(
            {
                "step": step,
                "reward/accuracy/mean": 0.25 + 0.7 * learned + 0.03 * float(noise.normal()),
                "critic/score/mean": 0.25 + 0.7 * learned + 0.03 * float(noise.normal()),
                "actor/entropy": 0.08 + 0.7 * (1 - learned) + 0.02 * float(noise.random()),
                "actor/kl_loss": 0.3 * learned,
                "actor/grad_norm": 0.12 + 0.05 * float(noise.random()),
                "batch/solve_none": none,
                "batch/solve_all": solved,
                "batch/valid": 16 - none - solved,
                "response/ended/mean": 1.0,
                "response_length/mean": 42 + float(noise.normal()),
                "response_length/pos/mean": 42 - 10 * learned + float(noise.normal()),
                "logical_connectives/mean": 1.2 - 0.8 * learned + 0.1 * float(noise.normal()),
                "logical_connectives/pos/mean": 1.3 - 0.8 * learned + 0.1 * float(noise.normal()),
                "repetition/ratio/mean": 0.0,
                "timing_s/step": float(5 + 20 * noise.random()),  # two cores, shared
            }
        )
    return rows


def first_bad(monitor, rows: list[dict]) -> int | None:
    """The step at which a monitor first calls the run bad."""
    for row in rows:
        monitor.observe(row)
        if monitor.overall() == "bad":
            return row["step"]
    return None


def found(monitor, status: str) -> set[str]:
    """Criteria and detectors with a status: a detector's name, a criterion's metric."""
    return {v.criterion if v.criterion.isidentifier() else v.metric for v in monitor.verdicts if v.status == status}
