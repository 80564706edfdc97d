"""What the evaluation scripts would run, from a directory that is not the checkout."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]


def dry(tmp_path, *arguments: str, **variables: str) -> list[str]:
    script = ROOT / "scripts" / "eval" / "run_eval_math500.sh"
    known = {"PATH": os.environ["PATH"], "VENV": str(Path(sys.executable).parents[1]), "DRY_RUN": "1"}
    call = ["bash", script, *arguments]
    done = subprocess.run(call, cwd=tmp_path, env=known | variables, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return shlex.split(done.stdout)


def test_math500_is_four_answers_at_its_temperature(tmp_path):
    command = dry(tmp_path, "output/a run", "-n", "8")
    assert Path(command[0]).name == "archer" and command[1] == "evaluate"
    data = str(ROOT / "data/test/math500.json")
    assert command[2:] == ["--data", data, "-n", "4", "--temperature", "0.8", "output/a run", "-n", "8"]
    command = dry(tmp_path, "m", DATA_FILE="/x y.json", DEVICE="cpu")
    assert command[2:6] == ["--device", "cpu", "--data", "/x y.json"]
