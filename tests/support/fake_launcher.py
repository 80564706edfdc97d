#!/usr/bin/env python3
"""A stand-in for a launcher: writes a run folder as ours do, without training; its figures follow from its settings.

The accuracy is best at a learning rate of 3e-4; above 1e-2 the guard's end is written. It waits between steps while
the file that SLOW_UNTIL names is not there, and notes every start in STARTS.
"""

import json
import math
import os
import sys
import time
from pathlib import Path

LR, KL = "actor_rollout_ref.actor.optim.lr", "actor_rollout_ref.actor.kl_loss_coef"


def main() -> None:
    words = dict(word.partition("=")[::2] for word in sys.argv[1:] if "=" in word)
    if os.environ.get("DRY_RUN") == "1":
        print("data: {val_files: val.json}\ntrainer: {device: cpu}")
        return
    name = words["trainer.experiment_name"]
    folder = Path(os.environ["OUTPUT_DIR"]) / words["trainer.project_name"] / name
    with open(os.environ["STARTS"], "a") as starts:
        starts.write(f"{name} {os.environ.get('CUDA_VISIBLE_DEVICES', '')}\n")
    if name in os.environ.get("FAILS", "").split():
        sys.exit("error: it cannot be")
    folder.mkdir(parents=True, exist_ok=True)
    lr, seed = float(words.get(LR, 2e-4)), int(words.get("seed", 1))
    learned = 1 / (1 + abs(math.log(lr / 3e-4))) - float(words.get(KL, 0)) + 0.001 * seed
    steps, every = int(words["trainer.total_training_steps"]), int(words["trainer.test_freq"])
    facts = {"name": name, "status": "running", "exit_code": None, "started": "2026-01-01T00:00:00+00:00"}
    if "PAUSED" in os.environ:  # for a year, between two attempts
        facts |= {"started": "2025-01-01T00:00:00+00:00", "attempt_started": "2026-01-01T00:03:00+00:00"}
        facts["earlier_s"] = 180
    write(folder, facts)
    files = os.environ.get("VAL_FILES", os.path.join(os.environ["OUTPUT_DIR"], "val.json")).split()
    sampling = {"n": 4, "temperature": 0.6, "top_p": 0.95, "do_sample": True}
    config = {"data": {"val_files": files, "max_response_length": 64, "max_val_response_length": None}}
    config["actor_rollout_ref"] = {"rollout": {"val_kwargs": sampling}}
    (folder / "config.yaml").write_text(json.dumps(config))
    held = "WAIT" in os.environ
    with open(folder / "metrics.jsonl", "w") as metrics:
        for step in range(1, steps + 1):
            while held and step > 1 and not Path(os.environ["WAIT"]).exists():
                time.sleep(0.01)
            value = round(learned * step / steps, 6) if step % every == 0 or step == steps else None
            row = {"step": step, "val/accuracy": value, "actor/entropy": 0.5, "batch/valid": 9}
            if value is not None:
                row |= {"val/accuracy/low": value - 0.1, "val/accuracy/high": value + 0.1}
            metrics.write(json.dumps(row) + "\n")
            metrics.flush()
            if lr > 1e-2 and step == 2:
                end(folder, facts, "stopped", "guard: bad since step 1: entropy_explosion", 20)
    end(folder, facts, "finished", "all steps done", 0)


def end(folder: Path, facts: dict, status: str, reason: str, code: int) -> None:
    write(
        folder, facts | {"status": status, "reason": reason, "exit_code": code, "finished": "2026-01-01T00:06:00+00:00"}
    )
    sys.exit(code)


def write(folder: Path, facts: dict) -> None:
    (folder / ".run").write_text(json.dumps(facts))
    os.replace(folder / ".run", folder / "run.json")


if __name__ == "__main__":
    main()
