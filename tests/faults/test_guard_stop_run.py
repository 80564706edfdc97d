"""A run that is driven to collapse: the guard stops it, and everything says why."""

import json
import subprocess
import sys

import pytest

from launching import ROOT, launch

pytestmark = [pytest.mark.fault, pytest.mark.timeout(1200)]


@pytest.fixture(scope="module")
def collapse(tiny, output):
    """No regularisation, fifty times the learning rate; dead from the second step on, stopped at the ninth."""
    return launch(
        "run_archer2.0_qwen3_tiny_cpu.sh",
        "trainer.total_training_steps=20",
        "trainer.val_before_train=false",
        "data.train_batch_size=8",
        "actor_rollout_ref.actor.ppo_mini_batch_size=8",
        "trainer.logger=[console,tensorboard,wandb]",
        output=output,
        name="Archer-tiny/tiny_collapse",
        EXPERIMENT="tiny_collapse",
        TINY_DIR=str(tiny),
    )


def archer(*words):
    program = "from recipes.archer.commands.cli import main; main()"
    return subprocess.run([sys.executable, "-c", program, *words], cwd=ROOT, capture_output=True, text=True)


def test_the_guard_stops_it_early_with_its_own_code(collapse):
    assert collapse.code == 20, collapse.output[-3000:]
    assert len(collapse.rows) <= 12
    assert collapse.run["status"] == "stopped" and collapse.run["exit_code"] == 20
    assert collapse.run["reason"].startswith("guard: bad since step ")


def test_its_state_is_saved(collapse):
    last = collapse.rows[-1]["step"]
    assert (collapse.folder / f"global_step_{last}" / "manifest.json").is_file()
    assert collapse.run["last_checkpoint"] == last


def test_run_json_has_the_verdict_with_what_to_try(collapse):
    verdict = collapse.run["verdict"]
    assert (verdict["overall"], verdict["exit_code"]) == ("bad", 20)
    worst = verdict["verdicts"][0]
    assert worst["status"] == "bad" and worst["since"] >= 1
    assert "actor_rollout_ref.actor.optim.lr=2e-4" in worst["contingency"][0]["overrides"]


def test_the_trackers_are_told(collapse):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    told = EventAccumulator(str(collapse.folder / "tensorboard")).Reload().Scalars("guard/verdict")
    assert (told[-1].step, told[-1].value) == (collapse.rows[-1]["step"], 20)
    (wandb_file,) = collapse.folder.rglob("*.wandb")
    assert b"guard/reason" in wandb_file.read_bytes()


def test_the_command_gives_the_same_verdict(collapse):
    done = archer("monitor", str(collapse.folder), "--json")
    assert done.returncode == 20, done.stderr
    assert json.loads(done.stdout)["verdicts"] == collapse.run["verdict"]["verdicts"]


def test_the_report_shows_why(collapse):
    done = archer("report", str(collapse.folder))
    assert done.returncode == 0, done.stderr
    page = (collapse.folder / "report" / "report.html").read_text()
    worst = collapse.run["verdict"]["verdicts"][0]
    assert '<span class="state poor">bad</span>' in page
    for text in (worst["detail"], "optim.lr=2e-4", "stopped", "<td>20</td>"):
        assert text in page, text
