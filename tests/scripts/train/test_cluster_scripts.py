"""The shell side of a job: job.sh runs it, wandb.sh loads the key."""

import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

LIB = Path(__file__).resolve().parents[3] / "scripts/train/lib"
KEY = "0123456789abcdef0123456789abcdef01234567"


def job(tmp_path: Path, script: str, final: str = "2,20", uuid: str | None = None) -> list[str]:
    prefix = ["env", f"JOB_UUID={uuid}"] if uuid else ["env", "-u", "JOB_UUID"]
    log = str(tmp_path / "output/job.log")
    return [*prefix, "bash", str(LIB / "job.sh"), "--log", log, "--final", final, "--", "bash", "-c", script]


def run(command: list[str], **options) -> subprocess.CompletedProcess:
    return subprocess.run(command, capture_output=True, text=True, timeout=30, **options)


def log(tmp_path: Path) -> str:
    return (tmp_path / "output/job.log").read_text()


@pytest.mark.parametrize("code", [0, 1, 20, 127])
def test_the_exit_code_and_all_output_are_the_commands(tmp_path, code):
    done = run(job(tmp_path, f"echo out; echo err >&2; exit {code}"))
    assert done.returncode == code
    assert done.stdout == "out\nerr\n" == log(tmp_path)


def test_a_retry_appends_to_the_log(tmp_path):
    for word in ("one", "two"):
        run(job(tmp_path, f"echo {word}; exit 1"))
    assert log(tmp_path) == "one\ntwo\n"


@pytest.mark.parametrize("answer", [0, 7, 143])
def test_sigterm_reaches_the_command_which_then_may_save(tmp_path, answer):
    script = f"trap 'sleep 0.3; echo saved; exit {answer}' TERM; echo ready; while :; do sleep 0.05; done"
    process = subprocess.Popen(job(tmp_path, script), stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGTERM)
    rest, _ = process.communicate(timeout=20)
    assert process.returncode == answer
    assert rest == "saved\n" and log(tmp_path) == "ready\nsaved\n"


def test_a_final_end_is_not_started_again_in_the_same_job(tmp_path):
    command = job(tmp_path, "echo trained; exit 20", uuid="u1")
    assert run(command).returncode == 20
    again = run(command)
    assert again.returncode == 20 and "trained" not in again.stdout and "not started again" in again.stdout
    # submitted anew, it is another job
    assert "trained" in run(job(tmp_path, "echo trained; exit 20", uuid="u2")).stdout


def test_what_is_remembered_is_whole(tmp_path):
    run(job(tmp_path, "exit 20", uuid="u1"))
    assert sorted(path.name for path in (tmp_path / "output").iterdir()) == ["job.final", "job.log"]
    assert (tmp_path / "output/job.final").read_text() == "u1 20\n"


@pytest.mark.parametrize(
    "torn", ["", "u1", "u1\n", "u1 ", "u1 2", "u1 20", "u1 \n", "u1 0\n", "u1 1\n", "u1 *\n", "u1 20 2\n"]
)
def test_a_torn_memory_of_an_end_ends_no_job(tmp_path, torn):
    """Written by a machine that went down, or to a full disk; a code that is not among the final ones is none."""
    (tmp_path / "output").mkdir()
    (tmp_path / "output/job.final").write_text(torn)
    done = run(job(tmp_path, "echo trained; exit 0", uuid="u1"))
    assert (done.returncode, done.stdout) == (0, "trained\n")


def test_a_crash_is_started_again(tmp_path):
    command = job(tmp_path, "echo trained; exit 1", uuid="u1")
    run(command)
    assert "trained" in run(command).stdout


def test_without_a_jobs_identity_nothing_is_remembered(tmp_path):
    command = job(tmp_path, "echo trained; exit 20")
    run(command)
    assert "trained" in run(command).stdout


def test_the_last_lines_are_in_the_log_before_the_job_ends(tmp_path):
    # the container ends with job.sh, and takes a tee that is not done with it
    (tmp_path / "tee").write_text(f'#!/bin/sh\nsleep 0.5\nexec {shutil.which("tee")} "$@"\n')
    (tmp_path / "tee").chmod(0o755)
    slow = os.environ | {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    process = subprocess.Popen(job(tmp_path, "echo last; exit 1"), stdout=subprocess.DEVNULL, env=slow)
    assert process.wait(timeout=20) == 1 and log(tmp_path) == "last\n"


@pytest.mark.parametrize("redirect", ["", ">/dev/null 2>&1"])
def test_a_daemon_left_behind_does_not_hold_the_job(tmp_path, redirect):
    pid = tmp_path / "pid"
    daemon = f"bash -c 'echo $$ >{pid}; exec sleep 120' {redirect} &"
    command = job(tmp_path, f"{daemon} until [ -s {pid} ]; do sleep 0.05; done; exit 1")
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        assert process.wait(timeout=60) == 1  # job.sh's 3 s on a slow machine, not the daemon's 120 s
        open_files = [os.readlink(entry) for entry in Path(f"/proc/{pid.read_text().strip()}/fd").iterdir()]
        assert any(name.startswith("pipe:") for name in open_files) == (not redirect)
    finally:
        os.kill(int(pid.read_text()), signal.SIGKILL)


def test_a_wrong_call_is_refused():
    assert run(["bash", str(LIB / "job.sh"), "--log", "x"]).returncode == 2


def load(script: str, **environment: str) -> subprocess.CompletedProcess:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    program = f"set -euo pipefail; source {LIB}/wandb.sh; {script}"
    return run(["bash", "-c", program], env=clean | environment)


@pytest.fixture
def key_file(tmp_path):
    path = tmp_path / "the key"
    path.write_text(KEY)  # without a newline, as some editors leave it
    path.chmod(0o600)
    return path


@pytest.mark.parametrize("ending", ["", "\n", "\r\n", " \n\n"])
def test_the_key_is_exported_without_its_newline(key_file, ending):
    key_file.write_text(KEY + ending)
    done = load("load_wandb_key; printenv WANDB_API_KEY", WANDB_API_KEY_FILE=str(key_file))
    assert done.stdout == KEY + "\n", done.stderr


def test_tracing_does_not_show_the_key_and_goes_on_afterwards(key_file):
    done = load("set -x; load_wandb_key; echo after", WANDB_API_KEY_FILE=str(key_file))
    assert done.returncode == 0 and KEY not in done.stderr + done.stdout
    assert "+ echo after" in done.stderr


def test_a_trace_that_was_off_stays_off(key_file):
    assert load("load_wandb_key; echo after", WANDB_API_KEY_FILE=str(key_file)).stderr == ""


def test_a_key_that_is_there_already_stays(key_file):
    done = load("load_wandb_key; printenv WANDB_API_KEY", WANDB_API_KEY="mine", WANDB_API_KEY_FILE=str(key_file))
    assert done.stdout == "mine\n"


def test_without_key_and_file_nothing_happens():
    done = load("load_wandb_key; echo ${WANDB_API_KEY-unset}")
    assert (done.returncode, done.stdout, done.stderr) == (0, "unset\n", "")


@pytest.mark.parametrize(
    ("mode", "text", "said"),
    [
        (0o640, KEY, "chmod 600"),
        (0o604, KEY, "chmod 600"),
        (0o600, "", "one line"),
        (0o600, f"{KEY}\n{KEY}\n", "one line"),
        (0o600, f"\n{KEY} {KEY}", "one line"),
        (0o600, f"{KEY}\0{KEY}", "one line"),
        (0o600, f"{KEY}\x1b[0m", "one line"),
        (0o600, KEY * 100, "one line"),
    ],
)
def test_a_bad_key_file_is_refused(key_file, mode, text, said):
    key_file.write_text(text)
    key_file.chmod(mode)
    done = load("load_wandb_key; echo started", WANDB_API_KEY_FILE=str(key_file))
    assert done.returncode == 2 and said in done.stderr and str(key_file) in done.stderr
    assert "started" not in done.stdout and KEY not in done.stderr


def test_a_key_file_that_is_a_pipe_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "key", 0o600)
    done = load("load_wandb_key", WANDB_API_KEY_FILE=str(tmp_path / "key"))
    assert done.returncode == 2 and "not readable" in done.stderr


def test_an_absent_key_file_is_refused(tmp_path):
    done = load("load_wandb_key", WANDB_API_KEY_FILE=str(tmp_path / "absent"))
    assert done.returncode == 2 and "not readable" in done.stderr
