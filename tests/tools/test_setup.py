"""tools/setup.sh: what is missing is named in one line with the remedy, and nothing is built or installed for it.

Each run sees a PATH of its own with what a small machine has and with stand-ins for what is at stake.
"""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "tools" / "setup.sh"
PLAIN = ("awk", "bash", "cat", "cut", "df", "dirname", "env", "find", "flock", "grep", "mkdir", "mktemp", "mv", "rm")
PLAIN += ("nproc", "sed", "sha256sum", "tail", "test", "uname")
UV = "uv-" + (ROOT / "requirements" / "uv.txt").read_text().partition("\nuv==")[2].split()[0]
APT = "install it with: sudo apt-get install -y"


class Machine:
    """A machine of an ordinary user; ``has`` adds a program, given as a shell script."""

    def __init__(self, folder: Path):
        self.programs, self.cache, self.venv = folder / "bin", folder / "cache", folder / "env" / "venv"
        self.programs.mkdir()
        for name in PLAIN:
            (self.programs / name).symlink_to(shutil.which(name))
        self.has("id", "echo 1000")
        self.has("python3.11", "exit 0")

    def has(self, name: str, script: str, folder: Path | None = None) -> None:
        program = (folder or self.programs) / name
        program.parent.mkdir(parents=True, exist_ok=True)
        program.unlink(missing_ok=True)
        program.write_text(f"#!{shutil.which('bash')}\n{script}\n")
        program.chmod(0o755)

    def setup(self, **variables: str) -> tuple[int, list[str]]:
        """(exit code, lines of stderr)"""
        environment = {"PATH": str(self.programs), "ARCHER_CACHE": str(self.cache), "VENV": str(self.venv)}
        environment |= {"DEVICE": "cpu"} | variables
        command = [shutil.which("bash"), str(SCRIPT)]
        done = subprocess.run(command, env=environment, cwd="/", capture_output=True, text=True, timeout=60)
        return done.returncode, done.stderr.splitlines()


@pytest.fixture
def machine(tmp_path) -> Machine:
    return Machine(tmp_path)


@pytest.fixture
def builder(machine) -> Machine:
    """A machine on which everything is there up to the build of vLLM."""
    include = machine.cache.parent / "include"
    include.mkdir()
    (include / "Python.h").touch()
    machine.has("python3.11", f'case "$*" in *sysconfig*) echo {include} ;; esac')
    machine.has("g++", "exit 0")
    machine.has("uv", "exit 1", machine.cache / UV / "bin")
    return machine


def test_no_python(machine):
    (machine.programs / "python3.11").unlink()
    code, (line,) = machine.setup()
    assert code == 1
    assert line == (
        f"setup: python3.11 (of any origin, on PATH) is missing; {APT} python3.11 python3.11-venv, "
        "or where apt has none: uv python install 3.11, with ~/.local/bin on PATH"
    )


def test_a_python_without_its_venv_module(machine):
    machine.has("python3.11", 'case "$*" in *ensurepip*) exit 1 ;; esac')
    assert machine.setup() == (1, [f"setup: python3.11-venv is missing; {APT} python3.11-venv"])


def test_no_compiler(builder):
    (builder.programs / "g++").unlink()
    assert builder.setup() == (1, [f"setup: a C++ compiler is missing; {APT} g++"])


def test_no_header_of_libnuma(builder):
    builder.has("g++", "exit 1")
    assert builder.setup() == (1, [f"setup: libnuma-dev is missing; {APT} libnuma-dev"])


def test_no_headers_of_python(builder):
    builder.has("python3.11", 'case "$*" in *sysconfig*) echo /nowhere ;; esac')
    assert builder.setup() == (1, [f"setup: Python.h of python3.11 is missing; {APT} python3.11-dev"])


def test_root_gets_it_installed(builder):
    """As far as it goes: the compiler comes with apt-get, then uv, a stand-in, fails."""
    (builder.programs / "g++").unlink()
    (builder.programs / "chmod").symlink_to(shutil.which("chmod"))
    builder.has("id", "echo 0")
    compiler = builder.programs / "g++"
    builder.has("apt-get", f'case "$*" in *" g++") echo >"{compiler}"; chmod +x "{compiler}" ;; esac')
    code, lines = builder.setup()
    assert code != 0 and not [line for line in lines if "missing" in line]
    assert compiler.exists()


def test_too_little_disk(machine):
    machine.has("df", 'echo "Filesystem 1024-blocks Used Available"; echo "/dev/x 9 9 3145728 9% /"')
    code, (line,) = machine.setup()
    assert code == 1
    assert line == (
        f"setup: {machine.cache} has 3 GiB free, 6 are needed; free some, or set ARCHER_CACHE and VENV to another disk"
    )
    assert "16 are needed" in machine.setup(DEVICE="gpu")[1][0]


@pytest.mark.parametrize("name", ["ARCHER_CACHE", "VENV"])
def test_a_folder_that_cannot_be_written(machine, tmp_path, name):
    (tmp_path / "file").touch()
    code, (line,) = machine.setup(**{name: str(tmp_path / "file" / "sub" / "folder")})
    assert code == 1
    assert "cannot be written; set ARCHER_CACHE and VENV to folders that can" in line
    assert str(tmp_path / "file") in line


def test_the_cache_follows_xdg(machine):
    code, (line,) = machine.setup(ARCHER_CACHE="", HOME="", XDG_CACHE_HOME=f"{machine.programs}/id/x")
    assert code == 1 and f"{machine.programs}/id/x/archer cannot be written" in line


def test_another_kind_of_machine(machine):
    machine.has("uname", "echo Darwin arm64")
    code, (line,) = machine.setup()
    assert code == 1 and line == ("setup: this is Darwin arm64, the locks are for Linux x86_64; use such a machine")


def test_an_unknown_device(machine):
    assert machine.setup(DEVICE="tpu") == (1, ["setup: DEVICE=tpu is not known; use cpu or gpu"])


def test_a_build_that_fails_shows_its_end_and_names_its_log(builder):
    builder.has("uv", 'case "$*" in *no-binary*) echo cause >&2; exit 1 ;; esac', builder.cache / UV / "bin")
    code, lines = builder.setup()
    assert code == 1
    assert lines == ["cause", f"setup: vLLM did not build; the whole log is {builder.cache}/build-vllm.log"]
    assert not list(builder.cache.glob("build.*/")), "gigabytes are left behind"


def test_an_environment_of_the_other_device_is_made_anew(builder):
    """One folder holds one environment: its stamps would otherwise say that both devices' are there."""
    wheels = f"vllm-0.7.3-torch-{torch_pin()}-cp311-{os.uname().machine}"
    (builder.cache / "wheels" / wheels).mkdir(parents=True)
    (builder.cache / "wheels" / wheels / "vllm-0.7.3.whl").touch()
    builder.has("uv", "exit 0", builder.cache / UV / "bin")
    builder.has("python", "exit 0", builder.venv / "bin")
    assert builder.setup(DEVICE="gpu")[0] == 0
    assert builder.setup(DEVICE="cpu")[0] == 0
    assert [path.name for path in builder.venv.glob(".archer-*")] == [".archer-cpu"]


def test_flash_attn_is_built_once_there_is_a_compiler_for_it(machine):
    calls = machine.cache.parent / "calls"
    needs_ninja = f'case "$*" in *flash-attn*) command -v ninja >/dev/null || exit 1 ;; esac; echo "$*" >>{calls}'
    machine.has("uv", needs_ninja, machine.cache / UV / "bin")
    machine.has("python", "exit 0", machine.venv / "bin")
    machine.has("ninja", "exit 0", machine.venv / "bin")

    def installed() -> list[str]:
        calls.write_text("")
        assert machine.setup(DEVICE="gpu")[0] == 0
        return [word for word in calls.read_text().split() if word.endswith((".lock", "flash-attn.txt"))]

    assert installed() == ["requirements/gpu.lock"]
    assert installed() == []
    machine.has("nvcc", "echo Cuda compilation tools, release 13.0, V13.0.88")
    assert installed() == []
    machine.has("nvcc", "echo Cuda compilation tools, release 12.4, V12.4.131")
    assert installed() == ["requirements/gpu.lock", "requirements/gpu-flash-attn.txt"]
    assert installed() == []
    (machine.programs / "nvcc").unlink()  # as in another shell: what was built with it stays
    assert installed() == []


def test_the_environment_has_what_flash_attn_is_built_with():
    """It is built in the environment itself, against its torch."""
    pins = (ROOT / "requirements" / "gpu.lock").read_text().splitlines()
    needed = ("torch", "ninja", "packaging", "psutil", "setuptools", "wheel", "einops")
    assert [name for name in needed if not any(pin.startswith(f"{name}==") for pin in pins)] == []


@pytest.mark.parametrize("word", ["gpu", "cuda"])
def test_the_launchers_word_for_a_gpu_is_known_too(machine, word):
    machine.has("uv", "exit 0", machine.cache / UV / "bin")
    machine.has("python", "exit 0", machine.venv / "bin")
    assert machine.setup(DEVICE=word) == (0, [])
    assert [path.name for path in machine.venv.glob(".archer-*")] == [".archer-gpu"]


def torch_pin() -> str:
    lock = (ROOT / "requirements" / "cpu.lock").read_text()
    return lock.partition("\ntorch==")[2].split()[0]
