"""The comparison of losses: which runs are made, and what is written of them."""

import json
import subprocess

import pytest
import yaml

from benchmarks import algorithms
from benchmarks.algorithms import EXPERIMENTS, SETTINGS, figures, job_of
from benchmarks.algorithms_page import BEGIN, END, draw, put_into_page, table
from benchmarks.jobs import Job, made, whole
from recipes.archer.runs.folder import read_run
from recipes.archer.settings.configuration import compose

STEPS = 20


def write(job: Job, shift: float = 0.0, status: str = "finished", **settings) -> None:
    """A run as the launcher leaves it: accuracy rises by a hundredth a step, held out every tenth."""
    config: dict = {}
    for name, value in (job.overrides | settings).items():
        *parents, key = name.split(".")
        node = config
        for parent in parents:
            node = node.setdefault(parent, {})
        node[key] = value
    job.folder.mkdir(parents=True)
    (job.folder / "config.yaml").write_text(yaml.safe_dump(config))
    facts = {"status": status, "val_before": {"val/accuracy": 0.1 + shift}}
    (job.folder / "run.json").write_text(json.dumps(facts))
    rows = [
        {
            "step": step,
            "val/accuracy": 0.1 + shift + step / 100 if step % 10 == 0 else None,
            "reward/accuracy/mean": step / 100,
            "actor/entropy": 1 - step / 100 + shift,
            "actor/pg_clipfrac": 0.02 if step > 1 else None,
            "actor/kl_loss": 0.5,
            "actor/num_updates": 8,
            "actor/ratio/max": 1 + step / 10,
        }
        for step in range(1, STEPS + 1)
    ]
    (job.folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture
def job(tmp_path):
    return lambda loss="grpo", seed=1, steps=STEPS: job_of(loss, seed, steps, tmp_path)


@pytest.fixture
def result(job):
    runs: dict = {}
    for loss, better in (("grpo", 0.0), ("aspo", 0.1)):
        for seed in (1, 2):
            write(job(loss, seed), better + 0.02 * seed)
            runs.setdefault(loss, {})[str(seed)] = figures(whole(job(loss, seed)))
    return {"date": "2026-01-02T03:04:05+00:00", "command": "python -m x", "steps": STEPS, "losses": runs}


def test_a_run_that_is_there_is_not_made_again(job, monkeypatch):
    write(job())
    monkeypatch.setattr(subprocess, "run", None)
    assert made(job()).rows[-1]["step"] == STEPS


def test_a_run_that_is_absent_or_cut_short_is_made(job, monkeypatch):
    def launch(command, env, cwd):
        assert env["EXPERIMENT"] == "tiny_archer" and f"trainer.total_training_steps={STEPS}" in command
        write(job("archer"))
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(subprocess, "run", launch)
    assert made(job("archer")).facts["status"] == "finished"
    write(job("archer", 2), status="running")
    assert whole(job("archer", 2)) is None


def test_a_launcher_that_fails_ends_it(job, monkeypatch):
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: subprocess.CompletedProcess([], 3))
    with pytest.raises(SystemExit, match="grpo_seed1 ended with 3"):
        made(job())


def test_a_launcher_that_fails_with_a_whole_run_ends_it_too(job, monkeypatch):
    def launch(command, env, cwd):
        write(job())
        return subprocess.CompletedProcess(command, 3)

    monkeypatch.setattr(subprocess, "run", launch)
    with pytest.raises(SystemExit, match="grpo_seed1 ended with 3"):
        made(job())


def test_runs_with_other_settings_are_not_mixed_in(job):
    write(job(), **{"actor_rollout_ref.actor.ppo_epochs": 9})
    with pytest.raises(SystemExit, match="made with actor_rollout_ref.actor.ppo_epochs=9, not 2"):
        whole(job())


def test_the_table_has_means_and_deviations_over_the_seeds(result):
    grpo, aspo = table(result).splitlines()[2:]
    cells = [cell.strip() for cell in grpo.strip("|").split("|")]
    assert cells == [
        "GRPO", "0.130 ± 0.014", "0.230 ± 0.014", "0.330 ± 0.014", "0.155 ± 0.000", "1.020 ± 0.014", "0.875 ± 0.014",
        "0.0200 ± 0.0000", "3.00 ± 0.00", "8.0 ± 0.0",
    ]  # fmt: skip
    assert aspo.startswith("| ASPO | 0.230 ± 0.014 |")


def test_one_seed_has_no_deviation(result):
    result["losses"] = {"grpo": {"1": result["losses"]["grpo"]["1"]}}
    assert table(result).splitlines()[2].startswith("| GRPO | 0.120 | 0.220 | 0.320 |")


def test_the_page_is_changed_between_its_marks_only(result, tmp_path):
    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    for _ in range(2):
        put_into_page(result, page)
        text = page.read_text()
        assert text.startswith(f"before\n{BEGIN}\n") and text.endswith(f"{END}\nafter\n")
        assert "old" not in text and text.count("| GRPO |") == 1 and "20 steps, 2 seeds" in text
    page.write_text("no marks")
    with pytest.raises(ValueError, match="once each"):
        put_into_page(result, page)


def test_the_figure_is_drawn(result, tmp_path):
    draw(result, tmp_path / "images" / "picture.png")
    assert (tmp_path / "images" / "picture.png").read_bytes().startswith(b"\x89PNG")


def test_rows_without_a_value_are_left_out(job):
    write(job())
    found = figures(read_run(job().folder))
    assert [step for step, _ in found["series"]["val/accuracy"]] == [0, 10, 20]
    assert found["means"]["actor/pg_clipfrac"] == pytest.approx(0.02) and found["actor/ratio/max"] == 3


@pytest.mark.parametrize("loss", EXPERIMENTS)
def test_every_loss_trains_off_policy_on_settings_that_exist(job, loss):
    overrides = [word for word in job(loss).command() if "=" in word]
    files = ["data.train_files=a", "data.val_files=b", "actor_rollout_ref.model.path=m"]
    config = compose([f"experiment={EXPERIMENTS[loss]}", "device=cpu", *files, *overrides])
    actor = config.actor_rollout_ref.actor
    assert actor.policy_loss.loss_mode == {"grpo": "vanilla"}.get(loss, loss)
    assert config.data.train_batch_size // actor.ppo_mini_batch_size * actor.ppo_epochs == 8
    assert actor.kl_loss_high_entropy_scale == (1.0 if loss == "grpo" else 0.0)
    assert actor.optim.lr == SETTINGS["actor_rollout_ref.actor.optim.lr"]


def test_the_committed_result_is_the_pages():
    """Figure, table and JSON come from one run of the command."""
    page = algorithms.PAGE.read_text(encoding="utf-8")
    if not algorithms.RESULT.is_file():
        assert "not measured yet" in page.split(BEGIN)[1].split(END)[0]
        return
    committed = json.loads(algorithms.RESULT.read_text(encoding="utf-8"))
    assert table(committed) in page and committed["command"] in page and algorithms.PICTURE.is_file()
