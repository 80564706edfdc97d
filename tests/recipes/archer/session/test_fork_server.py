"""Workers as forks: what they share with the process that they are forked from, and what is their own."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil
import pytest

from launching import SESSION, Launch, left_behind_by
from recipes.archer.session import fork_server as module
from recipes.archer.session import forked_worker
from recipes.archer.session.fork_server import fork_server, workers_forked

DRIVER = """
import fcntl, os, random, signal, sys, tempfile
from recipes.archer.session.fork_server import fork_server

held = open("lock", "w")
fcntl.flock(held, fcntl.LOCK_EX)
signal.signal(signal.SIGTERM, lambda *_: print("the driver's handler", flush=True))
random.seed(0)
tempfile.gettempdir()
print("said before", end="")
with fork_server(["counted"]) as path:
    print()
    print(path, flush=True)
    sys.stdin.read()
"""
WORKER = """
import json, os, random, signal, sys, tempfile

print(json.dumps({
    "name": __name__, "arguments": sys.argv[1:], "folder": os.getcwd(), "loaded": "counted" in sys.modules,
    "variable": os.environ.get("VARIABLE"), "job": os.environ.get("JOB"), "only_the_drivers": "DRIVERS" in os.environ,
    "files": [os.readlink(f"/proc/self/fd/{name}") for name in os.listdir("/proc/self/fd")
              if os.path.exists(f"/proc/self/fd/{name}")],
    "temporary": tempfile.gettempdir(), "chance": random.random(), "server": os.getppid(), "group": os.getpgid(0),
    "handlers": [signal.getsignal(number) == signal.SIG_DFL for number in (signal.SIGTERM, signal.SIGCHLD)],
}))
print("complaint", file=sys.stderr)
"""
PLAIN = "import json, sys; print(json.dumps(sys.argv[1:]))"


class World:
    def __init__(self, folder: Path, imports: str = ""):
        self.folder = folder
        (folder / "counted.py").write_text(f"open('imports', 'a').write('1')\n{imports}")
        (folder / "worker.py").write_text(WORKER)
        (folder / "plain.py").write_text(PLAIN)
        paths = os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH"), os.getcwd()])])
        self.driver = subprocess.Popen(
            [sys.executable, "-P", "-c", DRIVER], cwd=folder, env=os.environ | {"PYTHONPATH": paths, "DRIVERS": "1"},
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self.driver.stdout.readline() == "said before\n"
        self.socket = self.driver.stdout.readline().strip()

    def ask(self, *arguments: str, context: dict | None = None, socket: str | None = None, job: str = "01000000"):
        """What a worker says on standard output, once it has said it, and on standard error."""
        # the pipes end with the worker, which outlives the command
        done = self.start("worker.py", *arguments, context=context, socket=socket, job=job, capture_output=True)
        return json.loads(done.stdout), done.stderr.decode()

    def start(self, script: str, *arguments: str, context=None, socket=None, job="01000000", **output):
        """Ray's command for a worker, which has ended."""
        command = [sys.executable, forked_worker.__file__, "--language=PYTHON"]
        command.append(f"{forked_worker._CONTEXT}{json.dumps(context or {})}")
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        environment |= {
            forked_worker.SOCKET: socket or self.socket,
            forked_worker.PLAIN: str(self.folder / "plain.py"),
            "VARIABLE": "own",
            "TMPDIR": str(self.folder),
            "RAY_JOB_ID": job,
        }
        return subprocess.run(
            [*command, str(self.folder / script), *arguments],
            cwd="/",
            env=environment,
            timeout=60,
            check=True,
            **output,
        )


@pytest.fixture
def world(tmp_path):
    world = World(tmp_path)
    yield world
    world.driver.kill()
    world.driver.communicate()


def gone(process: int) -> bool:
    for _ in range(600):
        if not Path(f"/proc/{process}").exists():
            return True
        time.sleep(0.1)
    return False


def test_workers_share_imports_and_have_all_else_of_their_own(world):
    context = {"env_vars": {"JOB": "7"}, "command_prefix": [], "py_executable": sys.executable}
    first, said = world.ask("--token=1", context=context)
    second, _ = world.ask("--token=2", context=context)
    assert (world.folder / "imports").read_text() == "1" and first["loaded"]  # both, once
    assert first["name"] == "__main__" and first["arguments"] == ["--token=1"] and first["folder"] == "/"
    assert (first["variable"], first["job"], first["only_the_drivers"]) == ("own", "7", False)
    assert said == "complaint\n" and first["handlers"] == [True, True]
    assert first["temporary"] == str(world.folder)
    assert first["chance"] != second["chance"]
    assert not [path for path in first["files"] if path.endswith("/lock")]
    assert first["group"] == first["server"] != os.getpgid(world.driver.pid)  # no Ctrl-C reaches it


@pytest.mark.parametrize("how", ["ends", "is killed"])
def test_the_server_ends_with_the_driver(world, how):
    server = world.ask()[0]["server"]
    if how == "ends":
        world.driver.communicate(timeout=60)
    else:
        world.driver.kill()
    assert gone(server) and not Path(world.socket).parent.exists()


@pytest.mark.parametrize("sent", ["nothing", "streams alone", "half", "one stream", "all, and no answer awaited"])
def test_a_request_that_breaks_off_leaves_the_server_at_work(world, sent, capfd):
    server = world.ask()[0]["server"]
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(world.socket)
        if sent != "nothing":
            socket.send_fds(connection, [b"\n"], [1] if sent == "one stream" else [1, 2])
        body = json.dumps({"arguments": [str(world.folder / "plain.py")], "environment": {}, "folder": "/"}).encode()
        connection.sendall({"half": body[:9], "one stream": body, "all, and no answer awaited": body}.get(sent, b""))
    assert world.ask()[0]["server"] == server
    assert "Traceback" not in "".join(capfd.readouterr())


def test_what_tests_of_runs_look_for_is_a_kept_worker_too(tmp_path):
    """In neither its command nor the environment that the kernel shows is a word of the session's."""
    world = World(tmp_path, imports="import ray")
    (tmp_path / "kept.py").write_text("import time\nprint('kept', flush=True)\ntime.sleep(100)")
    run = Launch(0, "", tmp_path, world.driver.pid)
    session = Path(tempfile.mkdtemp(prefix=f"{SESSION}{run.driver}-", dir="/tmp"))
    with open(session / "worker.out", "w") as output:
        world.start("kept.py", stdout=output, stderr=output)
    while not (session / "worker.out").read_text():
        time.sleep(0.01)
    shutil.rmtree(session)
    (server,) = psutil.Process(run.driver).children()
    (worker,) = server.children()
    try:
        assert found(run) == {run.driver, server.pid, worker.pid}  # though the session's folder is gone
        world.driver.kill()
        world.driver.communicate()
        assert gone(server.pid) and found(run) == {worker.pid}
    finally:
        worker.kill()
    assert gone(worker.pid) and left_behind_by(run) == []


def found(run: Launch) -> set[int]:
    return {int(number) for number in re.findall(r"psutil.Process\(pid=(\d+)", "".join(left_behind_by(run)))}


def test_ctrl_c_does_not_end_the_server(world):
    server = world.ask()[0]["server"]
    os.kill(server, signal.SIGINT)
    assert world.ask()[0]["server"] == server


@pytest.mark.parametrize(
    ("argument", "others"),
    [
        ("--token=1", {"context": {"command_prefix": ["nsys"]}}),
        ("--token=1", {"context": {"py_executable": "/other/python"}}),
        ("--token=1", {"socket": "/nowhere/socket"}),
        ("--token=1", {"job": "02000000"}),
        ("--worker-type=SPILL_WORKER", {}),
    ],
)
def test_where_a_fork_is_not_enough_or_not_to_be_had_ray_starts_the_worker(world, argument, others):
    arguments, _ = world.ask(argument, **others)
    assert arguments[-1] == argument and arguments[0] == "--language=PYTHON"


def test_ray_is_loaded_with_what_it_looks_for_in_a_worker():
    program = (
        "import os\nfrom recipes.archer.session import fork_server as f\n"
        "with f.loading_ray(): print(os.environ['RAY_RAYLET_PID'] == str(os.getpid()), f.can_fork())\n"
        "import ray; print('RAY_JOB_ID' in os.environ, f.can_fork())"
    )
    done = subprocess.run([sys.executable, "-P", "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "True", "False", "False"]


def test_a_process_with_threads_is_not_forked():
    go_on = threading.Event()
    thread = threading.Thread(target=go_on.wait)
    thread.start()
    try:
        with pytest.raises(RuntimeError, match="threads"), fork_server([]):
            pass
    finally:
        go_on.set()
        thread.join()


def test_ray_is_told_of_the_server_only_while_it_starts(tmp_path):
    from ray._private import ray_constants

    plain = ray_constants.SETUP_WORKER_FILENAME
    with workers_forked(tmp_path):
        assert os.path.join("/folder", ray_constants.SETUP_WORKER_FILENAME) == forked_worker.__file__
        assert Path(os.environ[forked_worker.PLAIN]).is_file() and os.environ[forked_worker.SOCKET] == str(tmp_path)
    assert plain == ray_constants.SETUP_WORKER_FILENAME and forked_worker.SOCKET not in os.environ
    with workers_forked(None):
        assert plain == ray_constants.SETUP_WORKER_FILENAME


@pytest.mark.parametrize(
    ("said", "number"), [("2", 2), ("2,1", 2), (" 3 , 1", 3), ("", None), ("0", None), ("x", None)]
)
def test_a_worker_starts_whatever_openmp_is_told(said, number):
    """What raises here costs the run an hour: Ray has been told by then that there is a process."""
    assert module._threads({"OMP_NUM_THREADS": said}) == number


def test_a_worker_starts_where_openmp_is_told_nothing():
    assert module._threads({}) is None
