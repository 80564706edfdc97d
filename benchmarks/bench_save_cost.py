"""What checkpoints cost: the share of the embedded job's time that goes into saving every 10 steps.

The bar is 5%. The time of a save is the driver's: from the call until the pointers are on the disk, everything
flushed, hashed and read back in between. ``python -m benchmarks.bench_save_cost``
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.result_file import machine, write
from recipes.archer.checkpoints.manifest import listed
from recipes.archer.settings.configuration import ROOT

STEPS, SAVE_FREQ, TURNS = 40, 10, 2
BAR = 0.05


def run(output: Path) -> dict:
    """One run of the embedded job; seconds in saves and in steps, and the size of a checkpoint in bytes."""
    overrides = [
        f"trainer.total_training_steps={STEPS}",
        f"trainer.save_freq={SAVE_FREQ}",
        "trainer.test_freq=-1",
        "trainer.val_before_train=false",
        "trainer.logger=[console]",
    ]
    launcher = ROOT / "scripts" / "train" / "run_archer2.0_qwen3_tiny_cpu.sh"
    environment = os.environ | {"OUTPUT_DIR": str(output), "VENV": sys.prefix}
    # the last step validates; that is no part of a step's time here
    subprocess.run(["bash", launcher, *overrides], check=True, env=environment, stdout=subprocess.DEVNULL)
    folder = output / "Archer-tiny" / "tiny"
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    facts = json.loads((folder / "run.json").read_text())
    steps = sum(row["timing_s/step"] - (row["timing_s/testing"] or 0.0) for row in rows)
    return {
        "saves_s": facts["all_saves_s"],
        "steps_s": round(steps, 3),
        "checkpoint_bytes": sum(listed(folder / f"global_step_{STEPS}").values()),
    }


def main() -> None:
    """Runs the turns and writes the result."""
    turns = []
    for _ in range(TURNS):
        with tempfile.TemporaryDirectory() as output:
            turns.append(run(Path(output)))
        print(turns[-1], flush=True)
    shares = [turn["saves_s"] / (turn["saves_s"] + turn["steps_s"]) for turn in turns]
    result = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        **machine(),
        "steps": STEPS,
        "save_freq": SAVE_FREQ,
        "share_of_time_in_saves": round(statistics.median(shares), 4),
        "bar": BAR,
        "seconds_a_save": round(statistics.median(t["saves_s"] * SAVE_FREQ / STEPS for t in turns), 4),
        "seconds_a_step": round(statistics.median(t["steps_s"] / STEPS for t in turns), 4),
        "checkpoint_bytes": turns[0]["checkpoint_bytes"],
        "turns": turns,
    }
    write("save_cost", result)


if __name__ == "__main__":
    main()
