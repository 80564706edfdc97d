"""A cluster's executor: through `archer submit` to the command line of either generation, and found again."""

import json
import os
import sys
from pathlib import Path

import pytest
import yaml

from recipes.archer.commands.search import _archer
from recipes.archer.ending import UserError
from recipes.archer.search.executors import JobExecutor, gpu_groups
from recipes.archer.search.folder import SearchFolder

STUBS = Path(__file__).resolve().parents[3] / "support"


def install(stub, folder, monkeypatch):
    """Puts a stub in the place of the command that it stands for."""
    folder.mkdir()
    command = folder / stub.partition("_")[0]
    command.write_text(f"#!{sys.executable}\n" + (STUBS / stub).read_text().partition("\n")[2])
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")


@pytest.fixture
def jobs(tmp_path, monkeypatch):
    """An executor on a machine with a stub runai."""
    install("runai_stub.py", tmp_path / "bin", monkeypatch)
    settings = tmp_path / "cluster.toml"
    settings.write_text('project = "nlp"\nimage = "registry.example/archer:1"\nworkdir = "/data/archer"\n')
    monkeypatch.setenv("STUB_RECORD", str(tmp_path / "record.json"))
    monkeypatch.setenv("STUB_GENERATION", "v2")
    monkeypatch.setenv("PYTHONPATH", os.environ.get("PYTHONPATH", ""))
    folder = SearchFolder("Lr_KL", tmp_path / "output")
    folder.take()
    return JobExecutor(folder, _archer(), "v5_mended", "runai", cluster=str(settings))


def recorded(tmp_path):
    return json.loads((tmp_path / "record.json").read_text())


def test_a_trial_is_a_job_of_its_own_name(jobs, tmp_path):
    overrides = ["trainer.experiment_name=trial-003", "record.title='Trial 3: it\\'s'"]
    jobs.begin("trial-003", overrides, 0, 1)
    record = recorded(tmp_path)
    assert record["name"] == "archer-lr-kl-trial-003" and "trainer.experiment_name=trial-003" in record["command"][-1]
    assert jobs.alive("trial-003") and jobs.code("trial-003") is None
    folder = jobs.folder.run_folder("trial-003")
    folder.mkdir()
    (folder / "run.json").write_text('{"status": "stopped", "exit_code": 20}')
    assert not jobs.alive("trial-003")  # an end that a retry would only repeat


def test_a_job_that_the_cluster_does_not_know_is_gone(jobs, monkeypatch):
    monkeypatch.setenv("STUB_EXIT", "1")
    assert not jobs.alive("trial-000") and not jobs.begun("trial-000", 1)


def test_a_submission_that_fails_is_the_trial_s_end_with_its_words(jobs, monkeypatch):
    jobs.begin("trial-000", ["trainer.nope=1"], 0, 1)
    assert not jobs.alive("trial-000") and jobs.code("trial-000") == 2
    assert "trainer.nope" in jobs.folder.last_words("trial-000")


def test_a_dry_run_says_what_is_wrong(jobs):
    with pytest.raises(UserError, match="trainer.nope"):
        jobs.rehearse(["trainer.nope=1"])
    jobs.rehearse(["trainer.experiment_name=x"])


def test_a_job_is_stopped_by_its_name(jobs, tmp_path):
    jobs.stop("trial-001")
    assert recorded(tmp_path)["argv"][:4] == ["training", "standard", "delete", "archer-lr-kl-trial-001"]
    assert not jobs.alive("trial-001")


def test_a_job_of_kubernetes_is_found_again_replaced_where_it_is_lost_and_stopped(tmp_path, monkeypatch):
    install("kubectl_stub.py", tmp_path / "bin", monkeypatch)
    objects, settings, folder = tmp_path / "objects", tmp_path / "cluster.toml", SearchFolder("s", tmp_path / "output")
    objects.mkdir()
    monkeypatch.setenv("STUB_OBJECTS", str(objects))
    settings.write_text('project = "nlp"\nimage = "registry.example/archer:1"\nworkdir = "/data/archer"\n')
    folder.take()

    def executor():
        return JobExecutor(folder, _archer(), "v5_mended", "kubernetes", cluster=str(settings))

    first = executor()
    first.begin("trial-000", ["trainer.experiment_name=trial-000"], 0, 1)
    (path,) = objects.iterdir()
    job = yaml.safe_load(path.read_text())
    assert (job["kind"], job["metadata"]["name"]) == ("Job", "archer-s-trial-000")
    assert "trainer.experiment_name=trial-000" in path.read_text()
    again = executor()  # as of a search that was killed and started again
    assert again.alive("trial-000") and again.begun("trial-000", 1) and not again.begun("trial-001", 1)
    written = path.stat().st_mtime_ns
    again.begin("trial-000", ["trainer.experiment_name=trial-000"], 0, 2)  # the cluster refuses a name that is taken
    assert again.alive("trial-000") and path.stat().st_mtime_ns > written
    again.stop("trial-000")
    assert not again.alive("trial-000") and not any(objects.iterdir())


@pytest.mark.parametrize("name", ["a", "A" * 40, "x_-_y", "9"])
def test_every_search_s_jobs_have_names_that_a_cluster_takes(tmp_path, name):
    from recipes.archer.cluster.job import check_name

    job = JobExecutor(SearchFolder(name, tmp_path), [], "v5", "runai").job("trial-000-seed-1000")
    assert check_name(job) == job and len(job) <= 47


@pytest.mark.parametrize(
    ("number", "named", "found", "groups"),
    [
        (2, None, 4, [["0", "1"], ["2", "3"]]),
        (2, "3,1", 8, [["3"], ["1"]]),
        (1, "GPU-a, GPU-b", 0, [["GPU-a", "GPU-b"]]),
    ],
)
def test_groups_of_gpus(number, named, found, groups):
    assert gpu_groups(number, {"CUDA_VISIBLE_DEVICES": named} if named else {}, found) == groups


@pytest.mark.parametrize(("number", "found"), [(2, 0), (3, 4), (5, 4)])
def test_gpus_that_cannot_be_shared_out(number, found):
    with pytest.raises(UserError, match=f"cut into {number} groups"):
        gpu_groups(number, {}, found)
