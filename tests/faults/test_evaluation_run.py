"""`archer evaluate` with two real engines, killed and stopped on its way: it goes on with one and ends the same."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from comparing import REAPED_S
from injecting import Plan, Point
from launching import ROOT, Launch, environment, left_behind_by, processes_with

pytestmark = [pytest.mark.fault, pytest.mark.timeout(1200)]

SAMPLING = ("-n", "4", "--temperature", "0.8", "--top-p", "0.95", "--max-tokens", "96", "--device", "cpu")
DEADLINE_S = 300
# while engines load, between responses, when all are there, and just before the result takes its name
POINTS = [
    Point("recipes.archer.evaluation.engine_pool:EnginePool._start", fault="kill"),
    Point("recipes.archer.evaluation.course:_Drawing._keep", call=2, fault="kill"),
    Point("recipes.archer.evaluation.course:_Drawing._keep", call=2, fault="term"),
    Point("recipes.archer.evaluation.responses:ResponseFile.finish", fault="kill", fraction=0.0),
    Point("recipes.archer.evaluation.responses:write_scores", fault="kill", fraction=0.0),
]


@pytest.fixture
def evaluate(straight, tiny, tmp_path):
    """Evaluates the run's last checkpoint into a folder; models in the making have a folder of their own."""
    (tmp_path / "tmp").mkdir()

    def call(out: str, num_engines: int, plan: Plan | None = None) -> Launch:
        program = "from recipes.archer.commands.cli import main; main()"
        target, data = straight.folder / "global_step_4", tiny / "val.json"
        words = (str(target), "--data", str(data), "--out", out, *SAMPLING, "--engines", str(num_engines))
        injected = plan.environment() if plan else {}
        injected["PYTHONPATH"] = os.pathsep.join([*filter(None, [injected.get("PYTHONPATH")]), str(ROOT)])
        process = subprocess.Popen(
            [sys.executable, "-P", "-c", program, "evaluate", *words],
            cwd=tmp_path,
            env=environment(tmp_path, TMPDIR=str(tmp_path / "tmp"), **injected),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        try:
            said, _ = process.communicate(timeout=DEADLINE_S)
        finally:
            process.kill()
        return Launch(process.returncode, said, tmp_path / out, process.pid)

    return call


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def left_by(launch: Launch, temporary: Path) -> list[str]:
    """Its processes, graders and engines among them, and its session's folder; waits for the reaper."""
    deadline = time.monotonic() + REAPED_S
    while (found := processes_with(str(temporary)) + left_behind_by(launch)) and time.monotonic() < deadline:
        time.sleep(0.2)
    return found


def test_killed_at_every_stage_with_two_engines_it_ends_with_one_as_if_nothing_had_been(evaluate, planned, tmp_path):
    whole = evaluate("whole", 1)
    assert whole.code == 0, whole.output[-3000:]
    plan, num_lines = planned("evaluation", POINTS), []
    for number, point in enumerate(POINTS):
        cut = evaluate("cut", 2, plan)
        assert plan.num_fired == number + 1, cut.output[-3000:]
        assert cut.code == (143 if point.fault == "term" else -signal.SIGKILL), cut.output[-3000:]
        assert left_by(cut, tmp_path / "tmp") == []
        found = cut.folder.glob("*/*/responses.jsonl")
        num_lines.append(sum(path.read_bytes().count(b"\n") for path in found))
    assert num_lines[0] == 0 < num_lines[1] < num_lines[2] < num_lines[3] == num_lines[4] == 256
    last = evaluate("cut", 1)
    assert last.code == 0, last.output[-3000:]
    assert files(last.folder) == files(whole.folder)
    assert list((tmp_path / "tmp").glob("archer-*")) == []  # torch keeps what it compiled
