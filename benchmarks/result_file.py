"""Where a benchmark leaves what it measured."""

import json
import os
import platform
from pathlib import Path

from recipes.archer.settings.configuration import ROOT

RESULTS = ROOT / "benchmarks" / "results"


def write(name: str, result: dict) -> Path:
    """Writes and prints a result; ``name`` is that of the file, without its ending."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    file = RESULTS / f"{name}.json"
    text = json.dumps(result, indent=1, ensure_ascii=False)
    file.write_text(text + "\n", encoding="utf-8")
    print(f"{text}\nwritten to {file}", flush=True)
    return file


def add(name: str, result: dict) -> None:
    """Prints a result and adds it as a line to those that are there: of what is measured on several days."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    file = RESULTS / f"{name}.jsonl"
    with file.open("a", encoding="utf-8") as lines:
        lines.write(json.dumps(result, ensure_ascii=False) + "\n")
    print(f"{json.dumps(result, indent=1, ensure_ascii=False)}\nadded to {file}", flush=True)


def machine() -> dict[str, str | int | None]:
    """The processor's model, as Linux names it, and the number of cores."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {"cpu": models[0] if models else platform.machine(), "cores": os.cpu_count()}


def write_judged(name: str, result: dict, load_before: float) -> int:
    """Writes a result that says whether it is ``within_target``, with the machine's facts; returns the exit code."""
    write(name, result | {"python": platform.python_version(), **machine(), "load_before": load_before})
    return 0 if result["within_target"] else 1
