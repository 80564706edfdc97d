"""`archer submit` and `archer job` against a stub `runai` of either generation."""

import dataclasses
import functools
import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from recipes.archer.cluster import job as job_module
from recipes.archer.commands.cli import main
from recipes.archer.ending import UserError
from recipes.archer.experiments import registry
from recipes.archer.settings.configuration import compose

STUB = Path(__file__).resolve().parents[3] / "support" / "runai_stub.py"
ROOT = Path(__file__).resolve().parents[4]
LAUNCHER = "scripts/train/run_archer2.0_qwen3_0.6b_math.sh"
KEY = "0123456789abcdef0123456789abcdef01234567"
SETTINGS = """
project = "nlp"
image = "registry.example/archer:1"
workdir = "{workdir}"
node_pools = ["h100", "a100"]
retries = 4
priority = "high"
preemptible = true
pvc = [{{ claim = "me-data", path = "/data" }}, {{ claim = "shared", path = "/shared" }}]
env = {{ HF_HOME = "/data/hf" }}
[secrets]
WANDB_API_KEY = {{ name = "wandb", key = "api-key" }}
"""


class Site:
    """A machine with a stub runai, settings, and a checkout as the container would see it."""

    def __init__(self, tmp_path: Path, monkeypatch, capfd):
        self.tmp_path, self._monkeypatch, self._capfd = tmp_path, monkeypatch, capfd
        self.workdir = tmp_path / "the checkout"
        self.settings = tmp_path / "cluster.toml"
        self.settings.write_text(SETTINGS.format(workdir=self.workdir))
        self.record = tmp_path / "record.json"
        binaries = tmp_path / "bin"
        binaries.mkdir()
        shutil.copy(STUB, binaries / "runai")
        (binaries / "runai").chmod(0o755)
        monkeypatch.setenv("PATH", f"{binaries}{os.pathsep}{os.environ['PATH']}")
        monkeypatch.setenv("STUB_RECORD", str(self.record))
        monkeypatch.setenv("HOME", str(tmp_path / "home"))
        monkeypatch.setenv("WANDB_API_KEY", KEY)

    def generation(self, which: str) -> "Site":
        self._monkeypatch.setenv("STUB_GENERATION", which)
        return self

    def archer(self, *arguments: str, cluster: bool = True) -> tuple[int, str, str]:
        """Exit code, stdout and stderr of one call."""
        options = ["--cluster", str(self.settings)] if cluster else []
        self._monkeypatch.setattr(sys, "argv", ["archer", *arguments, *options])
        with pytest.raises(SystemExit) as ended:
            main()
        streams = self._capfd.readouterr()
        return ended.value.code or 0, streams.out, streams.err

    def recorded(self) -> dict:
        return json.loads(self.record.read_text())

    def checkout(self, launcher: str) -> None:
        """A checkout with the real job script and a launcher that tells what it was given."""
        lib = self.workdir / "scripts/train/lib"
        lib.mkdir(parents=True)
        shutil.copy(ROOT / "scripts/train/lib/job.sh", lib / "job.sh")
        (self.workdir / LAUNCHER).write_text(launcher)


@pytest.fixture(autouse=True, scope="module")
def composed_once():
    """Composing takes a quarter of a second; the same overrides give the same configuration."""
    with pytest.MonkeyPatch.context() as patch:
        cached = functools.cache(lambda overrides: compose(list(overrides)))
        patch.setattr(job_module, "compose", lambda overrides: cached(tuple(overrides)))
        yield


@pytest.fixture
def site(tmp_path, monkeypatch, capfd):
    return Site(tmp_path, monkeypatch, capfd)


def values(record: dict, flag: str) -> list[str]:
    return [value for name, value in record["flags"] if name == flag]


@pytest.mark.parametrize("generation", ["v1", "v2"])
def test_submit_runs_a_command_that_the_generation_documents(site, generation):
    code, out, err = site.generation(generation).archer("submit", "v3")
    assert (code, out) == (0, ""), err
    record = site.recorded()
    assert record["name"] == "archer-qwen3-math-v3"
    assert values(record, "-i") == ["registry.example/archer:1"] and values(record, "-p") == ["nlp"]
    assert values(record, "-g") == ["4"]  # trainer.n_gpus_per_node of v3
    assert values(record, "--existing-pvc") == [
        "claimname=me-data,path=/data",
        "claimname=shared,path=/shared",
    ]
    assert values(record, "--large-shm") == [True] and values(record, "--backoff-limit") == ["4"]
    assert values(record, "--node-pools") == (["h100 a100"] if generation == "v1" else ["h100", "a100"])
    assert record["command"][:2] == ["/bin/bash", "-lc"] and len(record["command"]) == 3
    script = record["command"][2]
    assert "EXPERIMENT=v3" in script and LAUNCHER in script and "output/archer-qwen3-math-v3.log" in script


def test_overrides_without_a_name_of_their_own_are_remarked_upon(site):
    override = "actor_rollout_ref.actor.entropy_coeff=0.05"
    site.generation("v2")
    assert "continues the experiment's own run folder" in site.archer("submit", "v3", override, "--dry-run")[2]
    for overrides in ([], [override, "trainer.experiment_name=other"]):
        assert "own run folder" not in site.archer("submit", "v3", *overrides, "--dry-run")[2]


def test_an_experiment_whose_plan_is_not_written_is_not_submitted(site, monkeypatch):
    record = dataclasses.replace(registry.load_record("v3"), title="TODO: one line")
    monkeypatch.setattr(registry, "load_record", lambda name: record)
    code, _, err = site.generation("v2").archer("submit", "v3")
    assert code == 2 and "experiment/v3.yaml: the plan is not written yet: title" in err
    assert not site.record.exists()
    code, out, err = site.archer("submit", "v3", "--dry-run")
    assert code == 0 and "archer-qwen3-math-v3" in out and "the plan is not written yet" in err


@pytest.mark.parametrize("generation", ["v1", "v2"])
def test_the_key_is_a_reference_and_never_a_value(site, generation):
    site.generation(generation).archer("submit", "v3")
    record = site.recorded()
    assert KEY not in json.dumps(record)
    if generation == "v1":
        assert values(record, "-e") == ["HF_HOME=/data/hf", "WANDB_API_KEY=SECRET:wandb,api-key"]
    else:
        assert values(record, "-e") == ["HF_HOME=/data/hf"]
        assert values(record, "--env-secret") == ["WANDB_API_KEY=wandb,key=api-key"]


def test_v2_says_how_the_job_may_be_preempted(site):
    site.generation("v2").archer("submit", "v3", "trainer.grace_s=100")
    record = site.recorded()
    assert values(record, "--termination-grace-period") == ["130s"]  # the trainer's and 30 s more
    assert values(record, "--preemptibility") == ["preemptible"] and values(record, "--priority") == ["high"]


def test_a_grace_of_the_sites_that_is_too_short_is_said(site):
    site.settings.write_text("grace_s = 60\n" + site.settings.read_text())
    said = "grace_s=60 in "
    assert said in site.generation("v2").archer("submit", "v3")[2]
    assert said not in site.archer("submit", "v3", "trainer.grace_s=30")[2]


def test_v1_says_what_it_cannot_pass_on(site):
    code, _, err = site.generation("v1").archer("submit", "v3")
    assert code == 0 and "priority" in err and "grace" in err
    assert "grace" not in site.archer("submit", "v3", "trainer.grace_s=20")[2]


def test_an_evaluation_is_a_job_on_one_gpu(site):
    call = ("submit", "--evaluate", "output/Archer2.0/My run_3", "--", "-n", "8", "--steps", "all")
    options, arguments = call[:3], call[3:]
    code, _, err = site.generation("v2").archer(*options, "--cluster", str(site.settings), *arguments, cluster=False)
    assert code == 0, err
    record = site.recorded()
    assert record["name"] == "archer-eval-my-run-3" and values(record, "-g") == ["1"]
    script = record["command"][2]
    command = shlex.split(script.partition(" && exec ")[2])
    assert command[-6:] == ["scripts/eval/run_eval_math500.sh", "output/Archer2.0/My run_3", *call[4:]]
    assert (ROOT / command[-6]).is_file() and "output/archer-eval-my-run-3.log" in command
    code, _, err = site.archer("submit", "--evaluate", "r", "--nodes", "2")
    assert code == 2 and "an evaluation takes one node" in err


@pytest.mark.parametrize("generation", ["v1", "v2"])
def test_dry_run_prints_the_command_that_a_submission_runs(site, generation):
    override = "data.train_files=['a b.parquet',\"c\"]"
    code, out, _ = site.generation(generation).archer("submit", "v3", override, "--dry-run")
    assert code == 0 and out.count("\n") == 1 and not site.record.exists()
    site.archer("submit", "v3", override)
    assert shlex.split(out) == ["runai", *site.recorded()["argv"]]


def test_a_dry_run_with_a_named_generation_needs_no_binary(site, monkeypatch):
    monkeypatch.setenv("PATH", str(site.tmp_path))
    code, out, _ = site.archer("submit", "v3", "--dry-run", "--cli", "v2")
    assert code == 0 and out.startswith("runai training standard submit archer-qwen3-math-v3 ")


def test_cli_option_overrides_what_the_binary_is(site):
    out = site.generation("v2").archer("submit", "v3", "--dry-run", "--cli", "v1")[1]
    assert out.startswith("runai submit --name ")


def test_the_cluster_command_runs_the_launcher_with_its_overrides(site):
    site.checkout('printf "%s\\n" "$EXPERIMENT" "$N_GPUS" "$PWD" "$@"; exit 20\n')
    overrides = ["actor_rollout_ref.actor.entropy_coeff=0.05", "data.train_files=['a b',\"$HOME `x`\"]"]
    site.generation("v2").archer("submit", "v3", *overrides)
    done = subprocess.run(site.recorded()["command"], capture_output=True, text=True, cwd="/", timeout=30)
    assert done.returncode == 20, done.stderr
    assert done.stdout.splitlines() == ["v3", "4", str(site.workdir), *overrides]
    assert (site.workdir / "output/archer-qwen3-math-v3.log").read_text() == done.stdout


def test_a_site_may_spell_a_flag_differently(site):
    site.settings.write_text(site.settings.read_text() + '[flags]\n"--existing-pvc" = "--pvc-exists"\n')
    assert site.generation("v1").archer("submit", "v3")[0] == 0
    assert len(values(site.recorded(), "--pvc-exists")) == 2


def test_the_exit_code_is_that_of_runai(site, monkeypatch):
    monkeypatch.setenv("STUB_EXIT", "3")
    assert site.generation("v2").archer("submit", "v3")[0] == 3


def test_tiny_runs_its_own_launcher_without_a_gpu(site):
    assert site.generation("v2").archer("submit", "tiny")[0] == 0
    record = site.recorded()
    assert values(record, "-g") == [] and record["name"] == "archer-qwen3-tiny"
    assert "run_archer2.0_qwen3_tiny_cpu.sh" in record["command"][2]


@pytest.mark.parametrize("generation", ["v1", "v2"])
@pytest.mark.parametrize("verb", ["status", "logs", "stop"])
def test_job_commands(site, generation, verb):
    code, _, err = site.generation(generation).archer("job", verb, "archer-qwen3-math-v3")
    assert code == 0, err
    record = site.recorded()
    assert "archer-qwen3-math-v3" in record["argv"] and record["project"] == "nlp"


@pytest.mark.parametrize(
    "name", ["--all", "-n", "-", "", "a" * 64, "a" * 300, "a\0b", "a/b", "a,b", "a b", "a\n", "A", "é"]
)
def test_what_could_be_more_than_a_name_is_none(name):
    with pytest.raises(UserError, match="job name") as error:
        job_module.check_name(name)
    assert len(str(error.value)) < 300


@pytest.mark.parametrize("backend", [[], ["--backend", "kubernetes"], ["--nodes", "2"]])
@pytest.mark.parametrize("verb", ["status", "logs", "stop"])
def test_what_is_no_jobs_name_reaches_no_command(site, monkeypatch, verb, backend):
    started = []
    monkeypatch.setattr(subprocess, "run", lambda command, **_: started.append(command))
    code, _, err = site.archer("job", verb, *backend, "--", "--all", cluster=False)
    assert (code, started) == (2, []) and "job name '--all'" in one_line(err)


def test_nor_is_a_job_submitted_under_it(site):
    code, _, err = site.generation("v2").archer("submit", "v3", "--name=--all", "--dry-run")
    assert code == 2 and "job name '--all'" in one_line(err)


def test_a_key_file_is_named_and_not_read_here(site):
    text = site.settings.read_text().partition("[secrets]")[0]
    site.settings.write_text('wandb_key_file = "/data/me/wandb_key"\n' + text)
    assert site.generation("v2").archer("submit", "v3")[0] == 0
    assert "WANDB_API_KEY_FILE=/data/me/wandb_key" in values(site.recorded(), "-e")


def test_without_a_key_the_user_hears_that_the_run_is_offline(site):
    site.settings.write_text(site.settings.read_text().partition("[secrets]")[0])
    code, out, err = site.generation("v2").archer("submit", "v3", "--dry-run")
    assert code == 0 and "offline" in err and str(site.settings) in err and out.startswith("runai ")


def one_line(error: str) -> str:
    assert error.startswith("archer: ") and error.count("\n") == 1, error
    return error


@pytest.mark.parametrize(("missing", "option"), [("image", "--image"), ("project", "--project")])
def test_a_missing_setting_is_one_line_with_the_remedy(site, missing, option):
    lines = site.settings.read_text().splitlines(keepends=True)
    site.settings.write_text("".join(line for line in lines if not line.startswith(missing)))
    code, out, err = site.generation("v2").archer("submit", "v3")
    assert (code, out) == (2, "") and not site.record.exists()
    assert missing in one_line(err) and option in err and str(site.settings) in err
    assert site.archer("submit", "v3", option, "given")[0] == 0
    assert "given" in site.recorded()["argv"]


def test_a_missing_binary_is_one_line_with_the_remedy(site, monkeypatch):
    monkeypatch.setenv("PATH", str(site.tmp_path))
    for arguments in (["submit", "v3"], ["submit", "v3", "--cli", "v2"], ["job", "status", "archer-x"]):
        code, _, err = site.archer(*arguments)
        assert code == 2 and "no runai on PATH" in one_line(err) and str(site.settings) in err


def test_a_binary_of_neither_generation_is_refused(site, monkeypatch):
    (site.tmp_path / "bin/runai").write_text("#!/bin/sh\necho hello\n")
    code, _, err = site.archer("submit", "v3")
    assert code == 2 and "--cli v1|v2" in one_line(err)


def test_a_variable_of_the_containers_environment_is_left_to_it(site):
    code, out, err = site.generation("v2").archer("submit", "v3", "seed=${oc.env:SEED_OF_THE_POD}", "--dry-run")
    assert code == 0 and "SEED_OF_THE_POD" in out, err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["submit", "v99"], "unknown experiment 'v99'"),
        (["submit", "v3", "actor_rollout_ref.actor.ratio_cap=0.5"], "ratio_cap is 0.5: a cap on the ratio must"),
        (["submit", "v3", "no.such.key=1"], "no.such.key"),
        (["submit", "v3", "trainer.total_training_steps=${nope}"], "Interpolation key 'nope'"),
        (["submit", "v3", "--name", "Not_A_Label"], "job name 'Not_A_Label'"),
        (["submit", "v3", "--backend", "runai", "--nodes", "2"], "--backend kubernetes"),
        (["submit", "v3", "+trainer.wandb_api_key=x"], "no place for a secret"),
        (["submit", "v3", f"trainer.project_name={KEY}"], "WANDB_API_KEY"),
    ],
)
def test_a_wrong_call_is_one_line_and_starts_nothing(site, arguments, said):
    code, out, err = site.generation("v2").archer(*arguments)
    assert (code, out) == (2, "") and said in one_line(err) and KEY not in err
    assert not site.record.exists()


def test_a_secret_as_a_plain_value_is_refused(site):
    site.settings.write_text(site.settings.read_text().replace("HF_HOME", "HF_TOKEN"))
    code, _, err = site.generation("v2").archer("submit", "v3")
    assert code == 2 and "[secrets.HF_TOKEN]" in one_line(err)
