"""``make bench``: every benchmark in turn, results in benchmarks/results/; step times as lines of step_time.jsonl."""

import argparse
import subprocess
import sys
from datetime import UTC, datetime

from benchmarks.result_file import add, machine
from recipes.archer.settings.configuration import ROOT

PARTS = (
    "benchmarks.bench_text_metrics",
    "benchmarks.bench_save_cost",
    "benchmarks.grading.bench_grading",
    "benchmarks.bench_reports",
    "benchmarks.bench_evaluation",
)


def main() -> None:
    """Step time against TRL first, then the parts that measure themselves."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=("step_time", "parts"), help="one half of it")
    only = parser.parse_args().only
    if only != "parts":
        from benchmarks.step_time.bench_step_time import main as step_time

        add("step_time", {"date": datetime.now(UTC).isoformat(timespec="seconds"), **machine()} | step_time())
    if only != "step_time":
        ends = [subprocess.run([sys.executable, "-m", part], check=False, cwd=ROOT).returncode for part in PARTS]
        sys.exit(max(ends))  # a missed target is 1, and no reason to leave out the parts after it


if __name__ == "__main__":
    main()
