"""What a run asks of Ray, without starting it; starting it is the end-to-end tests' affair."""

import ctypes
import io
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest

from recipes.archer.ending import UserError
from recipes.archer.session import forked_worker, ray_session, reaper, temporary
from recipes.archer.session.ray_session import remove_stale, worker_environment
from recipes.archer.settings.configuration import compose
from recipes.archer.workers.resources import POOL, HostResourcePoolManager


def _config(device: str, workers: int):
    return SimpleNamespace(trainer=SimpleNamespace(device=device, n_gpus_per_node=workers, nnodes=1))


@pytest.mark.parametrize(("cores", "workers", "threads"), [(2, 1, "2"), (2, 2, "1"), (16, 3, "5"), (2, 4, "1")])
def test_workers_share_the_cores(monkeypatch, cores, workers, threads):
    monkeypatch.setattr(os, "cpu_count", lambda: cores)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert worker_environment(_config("cpu", workers))["OMP_NUM_THREADS"] == threads


def test_what_the_user_has_set_stays(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.setenv("NCCL_DEBUG", "INFO")
    environment = worker_environment(_config("cpu", 1))
    assert (environment["OMP_NUM_THREADS"], environment["NCCL_DEBUG"]) == ("7", "INFO")  # also on other machines


def test_host_settings_are_not_for_gpus(monkeypatch):
    for name in ("VLLM_TARGET_DEVICE", "OMP_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    assert not {"VLLM_TARGET_DEVICE", "OMP_NUM_THREADS"} & worker_environment(_config("cuda", 4)).keys()


def test_only_folders_of_dead_processes_are_removed(tmp_path, monkeypatch):
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        ended.wait()
    names = [f"archer-ray-{ended.pid}-abc", f"archer-ray-{os.getpid()}-abc", "archer-ray-notes", "ray"]
    for name in names:
        (tmp_path / name / "session").mkdir(parents=True)
    monkeypatch.setattr(ray_session, "FOLDERS", tmp_path)
    remove_stale()
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(names[1:])


@pytest.fixture
def session_of_nobody(tmp_path, monkeypatch):
    """A session folder whose process number is of no process here."""
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        ended.wait()
    folder = tmp_path / f"archer-ray-{ended.pid}-abc"
    folder.mkdir()
    monkeypatch.setattr(ray_session, "FOLDERS", tmp_path)
    return folder


def test_a_session_in_another_container_is_left_alone(session_of_nobody):
    """Its process has a number of another namespace, but the lock on its folder is the kernel's."""
    held = temporary.hold(session_of_nobody)
    remove_stale()
    assert session_of_nobody.is_dir()
    os.close(held)
    remove_stale()
    assert not session_of_nobody.exists()


@pytest.fixture(params=["pipe", "socket", "file", "link", "link to nowhere", "another user's"])
def stranger(request, session_of_nobody, tmp_path, monkeypatch):
    """Something that has the name of a session's folder and is none of ours; and a folder that must stay."""
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "work").touch()
    session_of_nobody.rmdir()
    if request.param == "pipe":
        os.mkfifo(session_of_nobody)
    elif request.param == "socket":
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(session_of_nobody))
    elif request.param == "file":
        session_of_nobody.touch()
    elif request.param.startswith("link"):
        session_of_nobody.symlink_to(kept if request.param == "link" else tmp_path / "nowhere")
    else:
        session_of_nobody.mkdir()
        monkeypatch.setattr(os, "getuid", lambda: session_of_nobody.stat().st_uid + 1)
    return session_of_nobody


def test_what_only_has_the_name_of_a_session_is_left_alone(stranger, tmp_path, monkeypatch):
    """Nor is it waited for: a pipe that nobody writes to would hold up every run."""
    monkeypatch.setattr(reaper, "reap", lambda session: pytest.fail(f"{session} was reaped"))
    before = len(os.listdir("/proc/self/fd"))
    remove_stale()
    assert stranger.lstat() and (tmp_path / "kept" / "work").exists()
    assert len(os.listdir("/proc/self/fd")) == before


def test_what_outlived_driver_and_reaper_is_ended(session_of_nobody):
    marked = os.environ | {reaper.MARK: str(session_of_nobody)}
    with subprocess.Popen(["sleep", "600"], env=marked) as left:
        remove_stale()
        assert left.wait(10) == -signal.SIGKILL
    assert not session_of_nobody.exists()


@pytest.fixture
def started(monkeypatch):
    """What a session asks of Ray, which does not start; and a configuration for it."""
    calls = []
    monkeypatch.setattr("ray.init", lambda **arguments: calls.append(arguments | {"environment": dict(os.environ)}))
    monkeypatch.setattr("ray.shutdown", lambda: None)
    monkeypatch.setattr(ray_session.loopback, "closed_ray", lambda *_: nullcontext())  # it stays in the process
    monkeypatch.setattr(ray_session, "remove_stale", lambda: None)
    monkeypatch.setattr(ray_session, "worker_environment", lambda config: {})  # it would stay in this process's own
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    config = _config("cuda", 1)
    config.ray_init = SimpleNamespace(num_cpus=1, log_to_driver=False, object_store_memory=1 << 30)
    return calls, config


def test_what_outlived_the_reaper_is_ended_with_the_session(started, monkeypatch):
    """The reaper was killed while the run went on; the run itself is not ended by its own hand."""
    watchers, start_reaper = [], ray_session._start_reaper
    monkeypatch.setattr(ray_session, "_start_reaper", lambda f: watchers.append(start_reaper(f)) or watchers[0])
    with ray_session.ray_session(started[1]) as folder:
        left = subprocess.Popen(["sleep", "600"])
        watchers[0].kill()
    assert left.wait(10) == -signal.SIGKILL
    assert not folder.parent.exists()


@pytest.mark.parametrize("address", [None, "", "local"])
def test_on_one_machine_ray_is_started_on_loopback_in_a_closed_folder(started, monkeypatch, address):
    calls, config = started
    if address is not None:
        monkeypatch.setenv("RAY_ADDRESS", address)
    with ray_session.ray_session(config) as logs:
        assert logs.parent.stat().st_mode & 0o777 == 0o700
        assert (logs.parent / "key.pem").stat().st_mode & 0o777 == 0o600
    (asked,) = calls
    # "local": else Ray would join whatever /tmp/ray says is the latest cluster here, which anybody can write
    assert (asked["address"], asked["_node_ip_address"], asked["_temp_dir"]) == ("local", "127.0.0.1", str(logs))
    assert asked["environment"]["RAY_USE_TLS"] == "1"
    assert asked["environment"]["DIST_INIT_METHOD"] == f"file://{logs.parent}/process_group"
    assert "RAY_USE_TLS" not in os.environ


def test_ray_starts_no_worker_that_nobody_has_asked_for_and_forks_those_where_there_is_a_server(started, tmp_path):
    calls, config = started
    for forks in (None, tmp_path / "socket"):
        with ray_session.ray_session(config, forks=forks):
            pass
    assert ray_session.WORKER_ENVIRONMENT["RAY_prestart_worker_first_driver"] == "0"
    assert [asked["environment"].get(forked_worker.SOCKET) for asked in calls] == [None, str(tmp_path / "socket")]


@pytest.mark.parametrize("mode", [0o755, 0o750, 0o777, 0o701])
def test_a_folder_that_was_opened_to_others_is_not_worked_in(started, monkeypatch, mode):
    monkeypatch.setattr("ray.init", lambda **arguments: Path(arguments["_temp_dir"]).parent.chmod(mode))
    with pytest.raises(RuntimeError, match="not a folder of this user alone"):
        ray_session.ray_session(started[1]).__enter__()


def test_a_cluster_that_is_named_is_not_asked_for_loopback(started, monkeypatch):
    calls, config = started
    config.trainer.nnodes = 2
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    with ray_session.ray_session(config) as logs:
        assert logs is None
    assert not {"_node_ip_address", "_temp_dir"} & calls[0].keys()
    assert calls[0]["job_config"]._py_driver_sys_path == [str(ray_session.ROOT)]
    assert not {"RAY_USE_TLS", "GLOO_SOCKET_IFNAME", "DIST_INIT_METHOD"} & calls[0]["environment"].keys()


@pytest.mark.parametrize("log_to_driver", [False, True])
def test_what_workers_of_a_cluster_print_is_noted_and_not_shown(started, monkeypatch, capsys, log_to_driver):
    from ray._private.worker import global_worker_stdstream_dispatcher as dispatcher
    from ray._private.worker import print_to_stdstream

    _, config = started
    config.ray_init.log_to_driver = log_to_driver
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    show, notes = partial(print_to_stdstream, ignore_prefix=False), io.StringIO()
    monkeypatch.setattr("ray.init", lambda **_: dispatcher.add_handler("ray_print_logs", show))
    monkeypatch.setattr("ray.shutdown", lambda: dispatcher.remove_handler("ray_print_logs"))
    words = {"is_err": True, "pid": 7, "ip": "10.0.0.2", "job": "1", "actor_name": "w", "task_name": "t"}
    with ray_session.ray_session(config, notes):
        dispatcher.emit(words | {"lines": ["Loading safetensors: 50%"]})
    dispatcher.emit(words | {"lines": ["after the end"]})
    shown = "".join(capsys.readouterr())
    assert ("Loading" in shown, "Loading" in notes.getvalue()) == (log_to_driver, not log_to_driver)
    assert "after the end" not in shown + notes.getvalue()


@pytest.mark.parametrize(
    ("experiment", "more", "free", "gib"),
    [
        ("v0", [], 99, 6.0),  # 2 x 96 bytes x 64 x 16 x (2048 + 30720)
        ("v5", [], 99, 1.125),
        ("tiny", ["device=cpu"], 99, 1.0),
        ("v0", ["ray_init.object_store_memory=2147483648"], 99, 2.0),
        ("v0", [], 4, 3.6),  # of what there is, nine tenths
        ("v0", [], 0, 1.0),
        ("v0", ["algorithm.group_filter.max_gen_batches=3"], 99, 18.0),
    ],
)
def test_the_object_store_takes_the_largest_batch_twice(monkeypatch, experiment, more, free, gib):
    monkeypatch.setattr(ray_session.shutil, "disk_usage", lambda _: SimpleNamespace(free=free << 30))
    names = ["data.train_files=a", "data.val_files=b", "actor_rollout_ref.model.path=m"]
    config = compose([f"experiment={experiment}", *names, *more])
    assert ray_session.object_store_memory(config) == int(gib * 2**30)


def test_several_machines_without_a_cluster_are_refused_in_a_sentence(started):
    started[1].trainer.nnodes = 2
    with pytest.raises(UserError, match="trainer.nnodes is 2, and RAY_ADDRESS names no cluster"):
        ray_session.ray_session(started[1]).__enter__()


def test_workers_look_for_modules_in_the_checkout_and_not_in_the_current_folder(started, tmp_path, monkeypatch):
    """What Ray does with it (``worker.connect``): it adds the current folder to what is there, unless a client has."""
    monkeypatch.chdir(tmp_path)
    with ray_session.ray_session(started[1]):
        pass
    job = started[0][0]["job_config"]
    assert job._client_job and job._py_driver_sys_path == [str(Path(__file__).resolve().parents[4])]
    assert ray_session.WORKER_ENVIRONMENT["PYTHONSAFEPATH"] == "1"


@pytest.mark.parametrize(("device", "use_gpu"), [("cpu", False), ("cuda", True)])
def test_one_pool_for_every_role(device, use_gpu):
    manager = HostResourcePoolManager.for_roles(["actor", "reference"], _config(device, 3).trainer, None)
    manager.create_resource_pool()
    pool = manager.resource_pool_dict[POOL]
    assert pool.use_gpu is use_gpu
    assert pool.world_size == 3
    assert manager.get_resource_pool("actor") is manager.get_resource_pool("reference") is pool


def test_rays_handler_does_not_replace_ours():
    """Ray puts one in its place that ends the process, in ``ray.init``."""
    received = []
    before = signal.signal(signal.SIGTERM, lambda *_: received.append(1))
    try:
        with ray_session._own_sigterm_handler():
            signal.signal(signal.SIGTERM, lambda *_: sys.exit(15))
        signal.raise_signal(signal.SIGTERM)
        assert received == [1]
        with pytest.raises(SystemExit), ray_session._own_sigterm_handler():
            signal.signal(signal.SIGTERM, lambda *_: sys.exit(15))
            signal.raise_signal(signal.SIGTERM)  # while Ray's is in place
        assert received == [1, 1]
    finally:
        signal.signal(signal.SIGTERM, before)


def _is_caught(number: int) -> bool:
    """Whether the kernel knows a handler of this process for a signal."""
    (caught,) = re.findall(r"^SigCgt:\s*(\w+)$", Path("/proc/self/status").read_text(), re.MULTILINE)
    return bool(int(caught, 16) >> (number - 1) & 1)


@pytest.mark.parametrize("address", ["local", "auto"])
def test_a_stop_after_the_session_is_ours_again(started, monkeypatch, address):
    """Ray's library resets SIGTERM where it ends: between two sessions of a run nothing of Python's would see one."""
    caught, received = [], []
    node = SimpleNamespace(kill_all_processes=lambda **how: caught.append(_is_caught(signal.SIGTERM)))

    def shutdown():
        ctypes.CDLL(None).signal(signal.SIGTERM.value, None)
        if address == "local":
            node.kill_all_processes(check_alive=False, allow_graceful=True)
            ctypes.CDLL(None).signal(signal.SIGTERM.value, None)

    monkeypatch.setenv("RAY_ADDRESS", address)
    monkeypatch.setattr(ray_session, "_words_of_workers_to", lambda notes: None)
    monkeypatch.setattr("ray._private.worker._global_node", node if address == "local" else None)
    monkeypatch.setattr("ray.shutdown", shutdown)
    before = signal.signal(signal.SIGTERM, lambda *_: received.append(1))
    try:
        with ray_session.ray_session(started[1]):
            pass
        assert _is_caught(signal.SIGTERM) and caught == [True] * (address == "local")
        signal.raise_signal(signal.SIGTERM)
        assert received == [1]
    finally:
        signal.signal(signal.SIGTERM, before)


GROUPS = """
import os, subprocess
from ray._private.services import start_ray_process
from recipes.archer.session.ray_session import _in_process_group

watcher = subprocess.Popen(["sleep", "100"], process_group=0)
before = os.getpgrp()
with _in_process_group(watcher.pid):
    inside = start_ray_process(["sleep", "100"], "test", fate_share=False).process
    print(os.getpgid(inside.pid) == watcher.pid, os.getpgrp() == before)
after = start_ray_process(["sleep", "100"], "test", fate_share=False).process
print(os.getpgid(after.pid) == before)
for process in (watcher, inside, after):
    process.kill()
"""


@pytest.mark.parametrize("options", [{}, {"process_group": 0}, {"start_new_session": True}])
def test_rays_processes_are_in_a_group_of_their_own_and_the_driver_stays_in_its(options):
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[4])}
    done = subprocess.run([sys.executable, "-c", GROUPS], env=environment, capture_output=True, text=True, **options)
    assert done.stdout.split() == ["True"] * 3, done.stderr


def test_temporary_files_end_with_the_session_and_kernels_do_not(tmp_path, monkeypatch):
    for name in ("TMPDIR", "TORCHINDUCTOR_CACHE_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", "/cache")
    before = tempfile.gettempdir()
    with ray_session._temporary_files_in(tmp_path):
        assert os.environ["TMPDIR"] == tempfile.gettempdir() == str(tmp_path / "tmp")
        assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == "/cache/archer/torchinductor"
    assert not {"TMPDIR", "TORCHINDUCTOR_CACHE_DIR"} & os.environ.keys()
    assert tempfile.gettempdir() == before


def test_a_folder_for_temporary_files_that_the_user_chose_is_used(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", "/scratch")
    with ray_session._temporary_files_in(tmp_path):
        assert os.environ["TMPDIR"] == "/scratch"
    assert list(tmp_path.iterdir()) == []
