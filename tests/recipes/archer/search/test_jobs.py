"""A cluster's executor: through `archer submit` to the command line of either kind, and found again."""

import json
import os
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from recipes.archer.cluster.job import check_name
from recipes.archer.commands.search import _archer
from recipes.archer.ending import UserError
from recipes.archer.search import driver as driver_module
from recipes.archer.search import jobs as jobs_module
from recipes.archer.search.folder import SearchFolder
from recipes.archer.search.jobs import JobExecutor
from recipes.archer.search.starting import Search
from recipes.archer.search.study import state_of
from searching import LR

STUBS = Path(__file__).resolve().parents[3] / "support"
SETTINGS = """
project = "nlp"
image = "registry.example/archer:1"
workdir = "/data/archer"
[kubernetes]
operator_namespace = "kuberay"
"""
NAMED = ["trainer.experiment_name=trial-000"]


def install(stub, folder, monkeypatch):
    """Puts a stub in the place of the command that it stands for."""
    folder.mkdir()
    command = folder / stub.partition("_")[0]
    command.write_text(f"#!{sys.executable}\n" + (STUBS / stub).read_text().partition("\n")[2])
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")


class Site:
    """A machine with a stub, and searches on it; every look asks the cluster anew."""

    def __init__(self, tmp_path, monkeypatch, backend):
        self.tmp_path, self.monkeypatch, self.backend, self.told = tmp_path, monkeypatch, backend, []
        self.settings, self.objects = tmp_path / "cluster.toml", tmp_path / "objects"
        self.settings.write_text(SETTINGS)
        self.objects.mkdir()
        install("runai_stub.py" if backend == "runai" else "kubectl_stub.py", tmp_path / "bin", monkeypatch)
        for name, value in (("RECORD", "record.json"), ("OBJECTS", "objects"), ("SAYS", "says")):
            monkeypatch.setenv(f"STUB_{name}", str(tmp_path / value))
        monkeypatch.setenv("STUB_GENERATION", "v2")
        monkeypatch.setenv("PYTHONPATH", os.environ.get("PYTHONPATH", ""))
        for name in ("ASK_EVERY_S", "GONE_WITHIN_S"):
            monkeypatch.setattr(jobs_module, name, 0.0)

    def executor(self, name="s", output="output", nodes=1) -> JobExecutor:
        folder = SearchFolder(name, self.tmp_path / output)
        if not folder.path.exists():
            folder.take()
        made = JobExecutor(
            folder, _archer(), "v5_mended", self.backend,
            cluster=str(self.settings), nodes=nodes, tell=self.told.append,
        )  # fmt: skip
        folder.give_back()
        return made

    def recorded(self):
        return json.loads((self.tmp_path / "record.json").read_text())

    def names(self) -> set[str]:
        return {path.name for path in self.objects.iterdir()} - {"silent", "listed"}

    def deleted(self) -> list[str]:
        asked = self.tmp_path / "asked"
        return [line for line in asked.read_text().splitlines() if line.startswith("delete")] if asked.exists() else []

    def silent(self, whether=True):
        (self.objects / "silent").touch() if whether else (self.objects / "silent").unlink()

    def status(self, path, **status):
        """What the cluster's controller writes to an object."""
        path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | {"status": status}))

    def pod(self, job, phase, waiting):
        """A pod of a job, whose container waits."""
        status = {"phase": phase, "containerStatuses": [{"image": "i", "state": {"waiting": waiting}}]}
        labels = {"app.kubernetes.io/instance": job}
        pod = {"kind": "Pod", "metadata": {"name": f"{job}-x", "labels": labels}, "status": status}
        (self.objects / "listed").write_text(yaml.safe_dump([pod]))


@pytest.fixture
def runai(tmp_path, monkeypatch):
    return Site(tmp_path, monkeypatch, "runai")


@pytest.fixture
def kubernetes(tmp_path, monkeypatch):
    return Site(tmp_path, monkeypatch, "kubernetes")


def test_a_trial_is_a_job_of_its_own_name(runai):
    jobs = runai.executor("Lr_KL")
    overrides = ["trainer.experiment_name=trial-003", "record.title='Trial 3: it\\'s'"]
    jobs.begin("trial-003", overrides, 0, 1)
    record = runai.recorded()
    assert record["name"] == jobs.name("trial-003") and record["name"].startswith("archer-lr-kl-")
    assert "trainer.experiment_name=trial-003" in record["command"][-1]
    assert f"trial-003 is job {record['name']}" in runai.told
    assert jobs.alive("trial-003") and jobs.code("trial-003") is None
    folder = jobs.folder.run_folder("trial-003")
    folder.mkdir()
    (folder / "run.json").write_text('{"status": "stopped", "exit_code": 20}')
    assert not jobs.alive("trial-003")  # an end that a retry would only repeat


def test_searches_with_names_alike_leave_each_other_s_jobs_alone(kubernetes):
    ones = [kubernetes.executor("lr-kl", "a"), kubernetes.executor("lr-kl", "b"), kubernetes.executor("Lr_KL", "a")]
    for jobs in ones:
        jobs.begin("trial-000", NAMED, 0, 1)
    assert len(kubernetes.names()) == 3 and all(jobs.alive("trial-000") for jobs in ones)
    ones[0].stop("trial-000")
    assert [jobs.alive("trial-000") for jobs in ones] == [False, True, True]
    assert not kubernetes.executor("lr-kl", "c").begun("trial-000", 1)


def test_a_search_that_is_begun_afresh_where_another_was_has_jobs_of_its_own(kubernetes):
    kubernetes.executor().begin("trial-000", NAMED, 0, 1)
    (kubernetes.tmp_path / "output").rename(kubernetes.tmp_path / "removed")
    jobs = kubernetes.executor()
    jobs.begin("trial-000", NAMED, 0, 1)
    assert jobs.alive("trial-000") and len(kubernetes.names()) == 2 and not kubernetes.deleted()


def test_a_job_that_an_earlier_version_submitted_is_found_by_its_name_of_then(kubernetes):
    jobs = kubernetes.executor("Lr_KL")
    jobs.begin("trial-000", NAMED, 0, 1)
    (new,), old = kubernetes.names(), "archer-lr-kl-trial-000"
    job = (kubernetes.objects / new).read_text().replace(jobs.name("trial-000"), old)
    (kubernetes.objects / new).unlink()
    (kubernetes.objects / f"job-{old}").write_text(job)
    for record in (jobs.folder.path / "processes").iterdir():
        record.unlink()  # which that version did not write
    again = kubernetes.executor("Lr_KL")
    assert again.begun("trial-000", 1) and again.alive("trial-000")
    again.begin("trial-001", ["trainer.experiment_name=trial-001"], 0, 1)
    assert f"job-{again.name('trial-001')}" in kubernetes.names()
    again.stop("trial-000")
    assert kubernetes.names() == {f"job-{again.name('trial-001')}"}


def test_a_search_that_was_moved_finds_its_jobs_again(kubernetes):
    jobs = kubernetes.executor("s", "a")
    jobs.begin("trial-000", NAMED, 0, 1)
    (kubernetes.tmp_path / "a").rename(kubernetes.tmp_path / "b")
    moved = kubernetes.executor("s", "b")
    assert moved.alive("trial-000") and moved.begun("trial-000", 1)


def test_a_job_that_is_not_of_this_search_is_not_deleted_for_its_name(kubernetes):
    jobs = kubernetes.executor()
    jobs._identity(make=True)
    taken = kubernetes.objects / f"job-{jobs.name('trial-000')}"  # as from the same path on another volume
    taken.write_text(yaml.safe_dump({"kind": "Job", "metadata": {"name": jobs.name("trial-000")}}))
    jobs.begin("trial-000", NAMED, 0, 1)
    assert not kubernetes.deleted() and taken.exists()
    assert not jobs.alive("trial-000") and jobs.code("trial-000") == 1
    assert "already exists" in jobs.folder.last_words("trial-000")


def test_a_record_that_names_another_job_is_none(kubernetes):
    jobs = kubernetes.executor()
    for name in ("archer-thesis", "--all", 7, "archer-x-trial-0001"):
        (jobs.folder.path / "processes" / "trial-000.job").write_text(json.dumps({"name": name}))
        assert jobs._job("trial-000").name == jobs.name("trial-000")


def test_a_silent_cluster_is_waited_for_and_no_job_is_submitted_twice(kubernetes, monkeypatch):
    jobs = kubernetes.executor()
    jobs.begin("trial-000", NAMED, 0, 1)
    (path,) = kubernetes.names()
    kubernetes.silent()
    again = kubernetes.executor()  # as of a search that was killed and started again
    assert all(jobs.alive("trial-000") for _ in range(3)) and jobs.begun("trial-000", 1)
    assert again.begun("trial-000", 1) and again.alive("trial-000")
    told = [line for line in kubernetes.told if "does not say" in line]
    assert len(told) == 2 and "TLS handshake timeout" in told[0]  # once for each process
    kubernetes.silent(False)
    assert jobs.alive("trial-000") and "answers again" in kubernetes.told[-1]
    kubernetes.silent()
    monkeypatch.setattr(jobs_module, "SILENT_S", 0.0)
    with pytest.raises(UserError, match="has not said for .* TLS handshake"):
        jobs.alive("trial-000")
    assert kubernetes.names() == {path} and not kubernetes.deleted()


def test_a_cluster_that_is_silent_at_the_submission_refuses_nothing(kubernetes):
    jobs = kubernetes.executor()
    kubernetes.silent()
    jobs.begin("trial-000", NAMED, 0, 1)
    assert jobs.alive("trial-000") and jobs.code("trial-000") is None
    assert kubernetes.executor().begun("trial-000", 1)
    kubernetes.silent(False)
    jobs.alive("trial-000")
    assert not jobs.alive("trial-000") and jobs.code("trial-000") is None  # lost, and begun once more
    jobs.begin("trial-000", NAMED, 0, 2)
    assert jobs.alive("trial-000")


def test_a_run_has_begun_where_its_folder_says_so_and_the_submission_s_answer_was_lost(kubernetes):
    jobs, facts = kubernetes.executor(), {"status": "finished", "exit_code": 0}
    folder = jobs.folder.run_folder("trial-000")
    for start in (1, 2):
        kubernetes.silent()
        jobs.begin("trial-000", NAMED, 0, start)
        kubernetes.silent(False)  # the job came to be, ran, and is gone
        assert not kubernetes.executor().begun("trial-000", start)  # an earlier start's folder says nothing
        folder.mkdir(exist_ok=True)
        (folder / "run.json").write_text(json.dumps(facts | {"attempt_started": f"2026-01-0{start}T00:00:00+00:00"}))
        again = kubernetes.executor()
        assert again.begun("trial-000", start) and not again.alive("trial-000")
        assert not again.begun("trial-000", start + 1)  # which was never submitted


def test_a_submission_that_is_still_on_its_way_is_waited_for(kubernetes, monkeypatch):
    jobs, slept = kubernetes.executor(), []
    jobs.begin("trial-000", NAMED, 0, 1)
    (path,) = kubernetes.objects.iterdir()
    manifest = path.read_text()
    path.unlink()
    jobs._keep("trial-000", replace(jobs._record("trial-000"), submitted=False))  # as of a search killed meanwhile
    monkeypatch.setattr(jobs_module, "ASK_EVERY_S", 60.0)
    clock = {"sleep": lambda seconds: slept.append(seconds) or path.write_text(manifest)}
    monkeypatch.setattr(jobs_module, "time", SimpleNamespace(**(vars(time) | clock)))
    assert kubernetes.executor().begun("trial-000", 1)
    assert len(slept) == 1 and 50 < slept[0] <= 60


@pytest.mark.parametrize("killed_at", [1, 2])
def test_a_start_that_was_never_submitted_is_made_at_once_and_costs_no_attempt(
    kubernetes, searches, monkeypatch, killed_at
):
    real, begun, looks = JobExecutor.begin, [], []

    def begin(executor, run, overrides, slot, start):
        begun.append(start)
        if len(begun) == killed_at:
            raise KeyboardInterrupt
        real(executor, run, overrides, slot, start)

    def go_on():
        looks.append(len(looks))
        assert len(looks) < 50, "it waits for a job that is none"
        for name in kubernetes.names():
            if len(begun) < killed_at:
                (kubernetes.objects / name).unlink()
                continue
            folder = searches.output / "s" / name[-len("trial-000") :]
            folder.mkdir(exist_ok=True)
            (folder / "metrics.jsonl").write_text(json.dumps({"step": 6, "val/accuracy": 0.5}) + "\n")
            (folder / "run.json").write_text(json.dumps({"status": "finished", "exit_code": 0}))

    monkeypatch.setattr(JobExecutor, "begin", begin)
    monkeypatch.setattr(driver_module, "time", SimpleNamespace(sleep=lambda _: go_on()))
    given = {
        "base": "v5_mended", "set": {LR: "1e-7..1e-5:log"}, "trials": 2, "steps": 6, "every": 2, "pruner": "none",
        "executor": "kubernetes", "cluster": str(kubernetes.settings),
    }  # fmt: skip
    search = Search("s", given, _archer(), searches.told.append)
    with pytest.raises(KeyboardInterrupt):
        search.run()
    search.folder.give_back()
    monkeypatch.setattr(jobs_module, "ASK_EVERY_S", 60.0)
    search = Search("s", given, _archer(), searches.told.append)
    search.run()
    search.folder.give_back()
    assert [trial.state.name for trial in search.study.trials] == ["COMPLETE", "COMPLETE"]
    assert [state_of(trial).attempts for trial in search.study.trials] == [killed_at, 1]
    assert not any("running still" in line for line in searches.told)
    assert sum("is lost" in line for line in searches.told) == killed_at - 1


def test_a_runai_that_hangs_or_prints_anything_is_not_a_job_that_is_gone(runai, monkeypatch):
    jobs = runai.executor()
    jobs.begin("trial-000", NAMED, 0, 1)
    runai.tmp_path.joinpath("says").write_text("<html>502 Bad Gateway</html>\n")
    assert jobs.alive("trial-000")
    monkeypatch.setenv("STUB_EXIT", "1")
    assert jobs.alive("trial-000") and jobs.begun("trial-000", 1)
    runai.tmp_path.joinpath("says").write_text(f"The job {jobs.name('trial-000')} does not exist in project nlp.\n")
    jobs.alive("trial-000")
    assert not jobs.alive("trial-000") and jobs.failed("trial-000") is None


def test_an_end_is_asked_for_once_more_before_it_counts(kubernetes, monkeypatch):
    """How the run has ended may not be seen yet on a disk that is shared."""
    jobs = kubernetes.executor()
    jobs.begin("trial-000", NAMED, 0, 1)
    (name,) = kubernetes.names()
    kubernetes.status(kubernetes.objects / name, conditions=[{"type": "Complete", "status": "True"}])
    monkeypatch.setattr(jobs_module, "ASK_EVERY_S", 60.0)
    jobs._seen.clear()
    assert jobs.alive("trial-000")
    jobs._ended["trial-000"] -= 60
    assert not jobs.alive("trial-000") and jobs.failed("trial-000") is None


def test_a_job_that_failed_for_good_ends_with_the_cluster_s_words(kubernetes):
    jobs = kubernetes.executor()
    jobs.begin("trial-000", NAMED, 0, 1)
    (name,) = kubernetes.names()
    condition = {"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded", "message": "the limit"}
    kubernetes.status(kubernetes.objects / name, conditions=[condition])
    jobs.alive("trial-000")
    assert not jobs.alive("trial-000") and jobs.failed("trial-000") == "BackoffLimitExceeded: the limit"


def test_a_job_that_fails_and_is_tried_again_has_not_failed(kubernetes):
    jobs = kubernetes.executor()
    jobs.begin("trial-000", NAMED, 0, 1)
    (name,) = kubernetes.names()
    path = kubernetes.objects / name
    kubernetes.status(path, conditions=[{"type": "Failed", "status": "True", "reason": "x"}])
    jobs._look("trial-000")
    kubernetes.status(path, active=1)
    assert jobs.alive("trial-000") and jobs.failed("trial-000") is None


def test_a_job_that_cannot_start_is_told_given_up_and_deleted(kubernetes, monkeypatch):
    jobs = kubernetes.executor()
    jobs.begin("trial-000", NAMED, 0, 1)
    kubernetes.pod(jobs.name("trial-000"), "Pending", {"reason": "ImagePullBackOff", "message": 'no image "i"'})
    assert jobs.alive("trial-000") and jobs.alive("trial-000")
    (told,) = (line for line in kubernetes.told if "cannot start" in line)
    assert 'ImagePullBackOff: no image "i"' in told and not kubernetes.deleted()
    (kubernetes.objects / "listed").unlink()
    assert jobs.alive("trial-000")  # the registry was away for a moment
    kubernetes.pod(jobs.name("trial-000"), "Pending", {"reason": "ImagePullBackOff", "message": 'no image "i"'})
    jobs.alive("trial-000")
    since = jobs._stuck["trial-000"]
    kubernetes.silent()
    assert jobs.alive("trial-000") and jobs._stuck["trial-000"] == since  # silence is no word of a better state
    kubernetes.silent(False)
    monkeypatch.setattr(jobs_module, "STUCK_S", 0.0)
    jobs.alive("trial-000")
    assert not jobs.alive("trial-000") and 'ImagePullBackOff: no image "i"' in jobs.failed("trial-000")
    assert kubernetes.names() == set()


def test_a_submission_that_is_wrong_is_the_trial_s_end_with_its_words(runai):
    jobs = runai.executor()
    jobs.begin("trial-000", ["trainer.nope=1"], 0, 1)
    assert not jobs.alive("trial-000") and jobs.code("trial-000") == 2
    assert "trainer.nope" in jobs.folder.last_words("trial-000")


def test_a_dry_run_says_what_is_wrong(runai):
    jobs = runai.executor()
    with pytest.raises(UserError, match="trainer.nope"):
        jobs.rehearse(["trainer.nope=1"])
    jobs.rehearse(["trainer.experiment_name=x"])


def test_a_job_is_stopped_by_its_name(runai):
    jobs = runai.executor()
    jobs.stop("trial-001")
    assert runai.recorded()["argv"][:4] == ["training", "standard", "delete", jobs.name("trial-001")]


def test_what_could_not_be_deleted_is_not_taken_for_ended(kubernetes):
    jobs = kubernetes.executor()
    jobs.begin("trial-000", NAMED, 0, 1)
    kubernetes.silent()
    jobs.stop("trial-000")
    assert jobs.alive("trial-000")
    kubernetes.silent(False)
    jobs.stop("trial-000")
    assert not jobs.alive("trial-000") and kubernetes.names() == set()


@pytest.mark.parametrize("nodes", [1, 2])
def test_a_job_is_found_again_replaced_where_it_is_lost_and_stopped(kubernetes, nodes):
    more = ["trainer.nnodes=2"] if nodes == 2 else []
    kinds = {"rayjob", "networkpolicy"} if nodes == 2 else {"job"}
    first = kubernetes.executor(nodes=nodes)
    first.begin("trial-000", [*NAMED, *more], 0, 1)
    assert kubernetes.names() == {f"{kind}-{first.name('trial-000')}" for kind in kinds}
    again = kubernetes.executor(nodes=nodes)
    assert again.alive("trial-000") and again.begun("trial-000", 1) and not again.begun("trial-001", 1)
    path = kubernetes.objects / next(name for name in kubernetes.names() if "networkpolicy" not in name)
    written = path.stat().st_mtime_ns
    again.begin("trial-000", [*NAMED, *more], 0, 2)  # the cluster refuses a name that is taken
    assert again.alive("trial-000") and path.stat().st_mtime_ns > written
    again.stop("trial-000")
    assert not again.alive("trial-000") and kubernetes.names() == set()


def test_what_is_left_of_a_job_of_several_nodes_is_not_in_the_way_of_the_next_one(kubernetes):
    jobs = kubernetes.executor(nodes=2)
    jobs.begin("trial-000", [*NAMED, "trainer.nnodes=2"], 0, 1)
    (kubernetes.objects / f"rayjob-{jobs.name('trial-000')}").unlink()  # by hand, and not its policy
    jobs.alive("trial-000")
    assert not jobs.alive("trial-000")
    jobs.begin("trial-000", [*NAMED, "trainer.nnodes=2"], 0, 2)
    assert jobs.alive("trial-000") and jobs.code("trial-000") is None and len(kubernetes.names()) == 2


def test_a_job_of_several_nodes_is_one_also_for_a_search_that_has_other_ones_now(kubernetes):
    kubernetes.executor(nodes=2).begin("trial-000", [*NAMED, "trainer.nnodes=2"], 0, 1)
    assert kubernetes.executor(nodes=1).alive("trial-000")


@pytest.mark.parametrize("name", ["a", "A" * 40, "x_-_y", "9"])
def test_every_search_s_jobs_have_names_that_a_cluster_takes(tmp_path, name):
    for run in ("trial-000", "trial-9999-seed-2147483747"):
        job = JobExecutor(SearchFolder(name, tmp_path), [], "v5", "runai").name(run)
        assert check_name(job) == job and len(job) <= 47


def test_a_search_on_a_cluster_that_falls_silent_and_loses_jobs(kubernetes, searches, monkeypatch):
    """Three trials: while one runs the cluster is silent, the job of one is lost once, one never starts."""
    cluster = kubernetes
    monkeypatch.setattr(jobs_module, "STUCK_S", 0.05)
    lost = []

    def go_on():
        """What the cluster does between two looks of the search."""
        for name in list(cluster.names()):
            run = name[-len("trial-000") :]
            folder = searches.output / "s" / run
            if run == "trial-000":
                quiet = (cluster.objects / "silent").exists()
                if not folder.exists():
                    cluster.silent(not quiet)
                if quiet:
                    ends(folder, 0.5)
                continue
            if run == "trial-001" and not lost:
                lost.append((cluster.objects / name).unlink())
            elif run == "trial-001":
                ends(folder, 0.7)
            else:
                cluster.pod(name.removeprefix("job-"), "Pending", {"reason": "InvalidImageName", "message": "no image"})

    def ends(folder, value):
        if not (folder / "run.json").exists():
            folder.mkdir(exist_ok=True)
            (folder / "metrics.jsonl").write_text(json.dumps({"step": 6, "val/accuracy": value}) + "\n")
            (folder / "run.json").write_text(json.dumps({"status": "finished", "exit_code": 0, "reason": "all steps"}))

    monkeypatch.setattr(driver_module, "time", SimpleNamespace(sleep=lambda _: go_on()))  # not where a command waits
    given = {
        "base": "v5_mended", "set": {LR: "1e-6,2e-6,3e-6"}, "sampler": "grid", "steps": 6, "every": 2, "pruner": "none",
        "executor": "kubernetes", "cluster": str(cluster.settings),
    }  # fmt: skip
    search = Search("s", given, _archer(), searches.told.append)
    search.run()
    search.folder.give_back()
    trials = search.study.trials
    assert [trial.state.name for trial in trials] == ["COMPLETE", "COMPLETE", "FAIL"]
    assert "InvalidImageName: no image" in trials[2].user_attrs["outcome"]
    assert sum("does not say how trial-000 is" in line for line in searches.told) == 1
    assert [line for line in searches.told if "is lost" in line] == ["trial-001 is lost: it is begun once more"]
    created = [line for line in (cluster.tmp_path / "asked").read_text().splitlines() if line.startswith("create")]
    assert len(created) == 4  # each once, and the one that was lost once more
