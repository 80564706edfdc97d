"""Run folders with made-up figures, written by the trainer's own writer."""

import json
import math
from pathlib import Path

import numpy as np
from omegaconf import OmegaConf

from recipes.archer.ending import Ending
from recipes.archer.evaluation.figures import counted
from recipes.archer.evaluation.scores import METHOD
from recipes.archer.runs.log import RunLog

HOSTILE = (
    "<script>document.title='owned'</script> </pre> <img src=x onerror=alert(1)> \x1b[2J\x1b[31m \u202e ``` \ud800 "
    "[click](javascript:alert(1)) $x$ & | คำตอบ: 7"
)
OUTCOMES = ("correct", "wrong", "no_answer", "timeout", "unparseable")


def healthy_rows(num_steps: int) -> list[dict]:
    """A run that learns; held-out accuracy every tenth of the way, some nulls."""
    noise = np.random.default_rng(0)
    rows = []
    for step in range(1, num_steps + 1):
        x = step / num_steps
        accuracy = 0.05 + 0.7 * (1 - math.exp(-4 * x)) + 0.01 * float(noise.normal())
        validated = step % max(1, num_steps // 10) == 0
        solved, failed = int(20 * x), int(40 * (1 - x))
        rows.append(
            {
                "step": step,
                "reward/accuracy/mean": accuracy,
                "val/accuracy": accuracy + 0.02 if validated else None,
                "critic/score/mean": accuracy - 0.05,
                "actor/entropy": 4 - 1.2 * x + 0.05 * float(noise.normal()),
                "actor/kl_loss": 0.001 + 0.5 * x * x,
                "actor/grad_norm": 0.3 + 0.2 * float(noise.random()),
                "actor/pg_clipfrac": 0.002 + 0.001 * float(noise.random()),
                "rollout/log_ratio/abs_mean": 0.01 + 0.002 * float(noise.random()),
                "response_length/mean": 300 + 200 * x,
                "response_length/pos/mean": None if step % 7 == 3 else 250 + 200 * x,
                "response_length/neg/mean": 400 + 300 * x,
                "response_length/clip_ratio": 0.08 * x,
                "response/bare_answer/mean": 0.02,
                "repetition/ratio/mean": 0.03 + 0.01 * float(noise.random()),
                "batch/solve_none": failed,
                "batch/solve_all": solved,
                "batch/valid": 64 - failed - solved,
                "logical_connectives/mean": 5 + 2 * x,
                "logical_connectives/pos/mean": None if step % 7 == 3 else 6 + x,
                "logical_connectives/neg/mean": 3 + x,
                "timing_s/step": 30 + 5 * x,
                "timing_s/gen": 15.0,
                "timing_s/update_actor": 8.0,
                "timing_s/old_log_prob": 3.0,
                "timing_s/ref": 2.0,
                "timing_s/reward_wait": 0.2,
                "timing_s/testing": 3.0 if validated else None,
            }
        )
    return rows


def collapsing_rows(num_steps: int) -> list[dict]:
    """A run whose policy dies from 60 % of the way on; a NaN and an infinity near the end."""
    rows = healthy_rows(num_steps)
    for row in rows:
        late = row["step"] / num_steps - 0.6
        if late <= 0:
            continue
        left = max(0.0, 1 - 4 * late)
        row["actor/entropy"] = max(0.05, 3.3 * left)
        row["reward/accuracy/mean"] *= left
        row["critic/score/mean"] *= left
        if row["val/accuracy"] is not None:
            row["val/accuracy"] *= left
        row["logical_connectives/mean"] *= math.exp(-22 * late)
        row["response_length/pos/mean"] = 400 * math.exp(-12 * late)
        row["repetition/ratio/mean"] = max(0.03, 2.4 * late)
        row["actor/grad_norm"] *= math.exp(20 * late)
        row["actor/kl_loss"] = 0.2 * math.exp(12 * late)
        dead = int(row["batch/valid"] * (1 - left))
        row["batch/valid"] -= dead
        row["batch/solve_none"] += dead
    if num_steps > 2:
        rows[-2]["actor/kl_loss"], rows[-2]["actor/grad_norm"] = math.inf, math.nan
    return rows


def sample_rows(step: int, number: int = 10) -> list[dict]:
    """Responses of every outcome; the first wrong one is hostile, the last one is long."""
    rows = []
    for i in range(number):
        outcome = OUTCOMES[i % len(OUTCOMES)]
        response = f"Step {step}, response {i}. We add, therefore \\boxed{{{i}}}."
        rows.append(
            {
                "step": step,
                "prompt": f"What is 3 + {i // 5}? <b>Think.</b>",
                "response": HOSTILE if i == 1 else response * 200 if i == number - 1 else response,
                "ground_truth": "7",
                "answer": {"correct": "7", "no_answer": None}.get(outcome, str(i)),
                "outcome": outcome,
                "score": float(outcome == "correct"),
                "reward": float(outcome == "correct") - 0.25,
                "length": 20 + i,
                "truncated": i == number - 1,
            }
        )
    return rows


def write_run(folder: Path, rows: list[dict], *, sampled=(), config=None, facts=None, ending=None) -> Path:
    """Writes a run folder as the trainer does; without ``ending`` it says that it is running."""
    log = RunLog(folder)
    known = {"project": folder.parent.name, "name": folder.name, "seed": 1, "device": "cpu", "world_size": 1}
    log.open(OmegaConf.create(config or default_config(folder.name)), known | (facts or {}), 0)
    for row in rows:
        log.write(row)
    for step in sampled:
        # the writer could not store a lone surrogate; a folder from elsewhere can hold its JSON escape
        log.samples(step, [{k: _storable(v) for k, v in row.items()} for row in sample_rows(step)])
        path = folder / "samples" / f"step_{step}.jsonl"
        path.write_text(path.read_text(encoding="utf-8").replace("LONE", "\\ud800"), encoding="utf-8")
    log.note(**({"val_before": facts["val_before"]} if facts and "val_before" in facts else {}))
    if ending is not None:
        log.close(ending)
    return folder


def _storable(value):
    return value.replace("\ud800", "LONE") if isinstance(value, str) else value


def default_config(name: str) -> dict:
    """A small part of a resolved configuration."""
    return {
        "data": {"train_files": "train.parquet", "val_files": "val.parquet", "max_response_length": 4096},
        "actor_rollout_ref": {
            "model": {"path": "models/m"},
            "actor": {"entropy_coeff": 0.01, "kl_loss_coef": 0.05, "optim": {"lr": 1e-6}},
            "rollout": {"n": 16, "temperature": 1.0},
        },
        "trainer": {"experiment_name": name, "default_local_dir": f"output/p/{name}"},
    }


RECORD = {
    "name": "hot",
    "title": "No regularisation",
    "parent": "v2",
    "date": None,
    "commit": None,
    "job": None,
    "problem": "Regularisation costs accuracy.",
    "hypothesis": "Accuracy rises & entropy stays <b>above</b> 1.",
    "changes": [{"key": "actor_rollout_ref.actor.entropy_coeff", "why": "To see what it does."}],
    "criteria": [
        {
            "metric": "actor/entropy",
            "good": [{"between": [3.0, 6.0], "at": 50}],
            "bad": [{"above": 7, "sustained": 3}, {"below": 1, "sustained": 3}],
        },
        {"metric": "response_length/pos/mean", "good": [{"above": 50}], "bad": [{"below": 20, "sustained": 3}]},
        {"metric": "batch/valid", "good": [{"above": 20, "from": 10}], "bad": [{"below": 10, "sustained": 3}]},
        {"metric": "logical_connectives/mean", "good": [{"above": 0.05}], "bad": [{"below": 0.02}]},
        {"metric": "actor/kl_loss", "good": [{"below": 3.0}], "bad": [{"above": 5.0}]},
        {"metric": "critic/score/mean", "good": [{"trend": "upward", "window": 20, "change": 0.02}], "bad": []},
    ],
    "contingency": [
        {
            "when": "entropy collapses",
            "metrics": ["actor/entropy"],
            "what": "restore the bonus",
            "overrides": ["actor_rollout_ref.actor.entropy_coeff=0.01"],
        },
    ],
    "results": None,
}

FINISHED = Ending("finished", "all steps done", 0)
STOPPED = Ending("stopped", "guard: entropy collapsed", 20)


def scores_of(num_correct, n: int = 4, **changes) -> dict:
    """Scores of an evaluation, as ``archer evaluate`` writes them: how many of the n responses are right to each."""
    questions = [
        {"question": f"q{i}", "data_source": "s", "row": i, "num_correct": int(c), "maj": float(2 * c > n)}
        for i, c in enumerate(num_correct)
    ]
    figures = counted([q["num_correct"] for q in questions], [q["maj"] for q in questions], n)
    rest = {"truncated": 0.25, "no_answer": 0.1, "unparseable": 0.0, "timeout": 0.0}
    figures |= rest | {"length": 20.0, "length_correct": None, "length_wrong": 20.4}
    labels = {"model": "m", "data": "aime.json", "plan": {"model": "c", "data": "d"}, "intervals": METHOD}
    return {**labels, **figures, "by_source": {"s": figures}, "questions": questions, **changes}


def write_scores(run: Path, name: str, scores: dict | str) -> Path:
    """The scores in the ``evaluations/`` of a run; of a text, that text."""
    path = run / "evaluations" / name / "scores.json"
    path.parent.mkdir(parents=True)
    path.write_text(scores if isinstance(scores, str) else json.dumps(scores))
    return path
