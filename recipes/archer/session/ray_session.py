"""Ray for one run: started with what the run needs, in a folder of its own, and gone afterwards."""

import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import TextIO

from recipes.archer.ending import UserError
from recipes.archer.session import loopback, reaper
from recipes.archer.session.fork_server import workers_forked
from recipes.archer.session.temporary import hold, leftovers

ROOT = Path(__file__).resolve().parents[3]
FOLDERS = Path("/tmp")  # short: sockets live there
PREFIX = "archer-ray-"
KV_CACHE_GIB = 1  # of an engine on a CPU
SHARED_MEMORY = Path("/dev/shm")
LEAST_OBJECT_STORE = 1 << 30  # bytes
# of a batch: three columns of prompt and response and nine of the response, eight bytes each or four
BYTES_A_TOKEN = 96
WORKER_ENVIRONMENT = {
    # the first worker waits for an agent of Ray's that is still starting; it would be asked again after a second
    "RAY_agent_manager_retry_interval_ms": "100",
    # the raylet asks for its own object store, which is starting as well: every second, ten times
    "RAY_raylet_client_connect_timeout_milliseconds": "50",
    "RAY_raylet_client_num_connect_attempts": "200",
    # a worker that hears nothing from the driver for so long hangs up, and a call that it is in the middle of is lost
    "RAY_grpc_keepalive_timeout_ms": "120000",
    "TOKENIZERS_PARALLELISM": "true",
    "NCCL_DEBUG": "WARN",
    "VLLM_LOGGING_LEVEL": "WARN",
    "CUDA_DEVICE_MAX_CONNECTIONS": "1",
    "RAY_DEDUP_LOGS": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "PYTHONSAFEPATH": "1",  # what lies in the current folder is no module
    "RAY_prestart_worker_first_driver": "0",  # one a core, whose environment is no worker's: each would only start
    "VLLM_NO_USAGE_STATS": "1",  # nothing is sent; each engine would start a process to describe the machine
}


def worker_environment(config) -> dict[str, str]:
    """What every worker process finds in its environment; of what the user has set, that."""
    environment = dict(WORKER_ENVIRONMENT)
    if config.trainer.device == "cpu":
        # Ray gives a worker one OpenMP thread unless told otherwise
        threads = max(1, (os.cpu_count() or 1) // config.trainer.n_gpus_per_node)
        environment |= {
            "OMP_NUM_THREADS": str(threads),
            "VLLM_USE_V1": "0",
            "VLLM_CPU_KVCACHE_SPACE": str(KV_CACHE_GIB),
            "VLLM_TARGET_DEVICE": "cpu",
            # Ray's 15 lets any other process take a core from under a worker, whose second thread then waits
            "RAY_worker_niceness": "0",
        }
    return {name: os.environ.get(name, value) for name, value in environment.items()}


def object_store_memory(config) -> int:
    """Bytes of shared memory that batches on their way to workers and back may take; more would go to a disk.

    Twice the largest batch, that which is asked and what is answered, as far as the machine's shared memory goes.
    """
    if config.ray_init.object_store_memory is not None:
        return int(config.ray_init.object_store_memory)
    rollout, refill = config.actor_rollout_ref.rollout, config.algorithm.group_filter
    rows = config.data.train_batch_size * rollout.n * (refill.max_gen_batches if refill.enable else 1)
    needed = 2 * BYTES_A_TOKEN * rows * (config.data.max_prompt_length + rollout.response_length)
    return max(LEAST_OBJECT_STORE, min(needed, int(0.9 * shutil.disk_usage(SHARED_MEMORY).free)))


def names_cluster() -> bool:
    """Whether ``RAY_ADDRESS`` names a cluster that was there before."""
    return os.environ.get("RAY_ADDRESS", "local") not in ("", "local")


@contextmanager
def ray_session(config, notes: TextIO | None = None, forks: Path | None = None):
    """Connects to the cluster that ``RAY_ADDRESS`` names, or starts Ray on this machine, closed to everyone else.

    Args:
        config: the whole configuration.
        notes: where what the workers print goes on a cluster, unless ``ray_init.log_to_driver``; None: nowhere.
        forks: where a fork server makes this machine's workers; None: Ray starts them.

    Yields:
        The folder with Ray's logs, None on a cluster that was there before.

    Raises:
        UserError: ``trainer.nnodes`` asks for more machines than this one, and there is no cluster.
    """
    import ray

    environment = worker_environment(config)
    if names_cluster():
        try:
            with _own_sigterm_handler():
                ray.init(runtime_env={"env_vars": environment}, log_to_driver=True, job_config=_job_config())
            if not config.ray_init.log_to_driver:
                _words_of_workers_to(notes)
            yield None
        finally:
            _shut_down()
        return
    if config.trainer.nnodes > 1:
        raise UserError(
            f"trainer.nnodes is {config.trainer.nnodes}, and RAY_ADDRESS names no cluster: start Ray on the machines "
            "and set RAY_ADDRESS, or submit the run (docs/cluster.md)"
        )
    os.environ.update(environment)  # workers of a local Ray inherit it; a runtime_env would cost a second each
    remove_stale()
    folder = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-", dir=FOLDERS))
    watcher, held, told = _start_reaper(folder), hold(folder), bool(config.ray_init.log_to_driver)
    try:
        closed = loopback.environment(folder)
        with _temporary_files_in(folder), _environment({reaper.MARK: str(folder)} | closed):
            try:
                with ExitStack() as around:
                    around.enter_context(_own_sigterm_handler())
                    around.enter_context(_in_process_group(watcher.pid))
                    around.enter_context(loopback.closed_ray(closed, told))
                    around.enter_context(workers_forked(forks))
                    ray.init(
                        address="local",  # not a Ray that somebody else has started here
                        num_cpus=config.ray_init.num_cpus or _num_cpus(config.trainer),
                        include_dashboard=False,
                        log_to_driver=told,
                        logging_level="ERROR",
                        object_store_memory=object_store_memory(config),
                        job_config=_job_config(),
                        _temp_dir=str(folder / "ray"),  # which Ray opens to everyone
                        _node_ip_address=loopback.ADDRESS,
                    )
                _check_private(folder)
                yield folder / "ray"
            finally:
                _shut_down()
    finally:
        watcher.communicate()  # closes its input: it kills what is left and removes the folder
        if watcher.returncode:  # it was killed
            reaper.reap(str(folder))
        os.close(held)


def _job_config():
    """Where workers look for modules: in this checkout, and not in the current folder, which Ray would add."""
    from ray.job_config import JobConfig

    return JobConfig(_client_job=True, _py_driver_sys_path=[str(ROOT)])


def _words_of_workers_to(notes: TextIO | None) -> None:
    """Loading bars and warnings of other libraries' are for when something goes wrong, not for the terminal."""
    from ray._private import worker

    name, dispatcher = "ray_print_logs", worker.global_worker_stdstream_dispatcher  # Ray removes the name at its end
    dispatcher.remove_handler(name)
    if notes is not None:
        dispatcher.add_handler(name, lambda words: worker.print_worker_logs(words, notes))


def _check_private(folder: Path) -> None:
    """Raises RuntimeError where another user could reach into the folder: sockets, the key and logs are in it."""
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or stat.S_IMODE(status.st_mode) != 0o700:
        raise RuntimeError(f"{folder}: not a folder of this user alone any more ({status.st_mode:o})")


def _num_cpus(trainer) -> int:
    """One for each worker and one for verl's register of them, however few there are."""
    return max(os.cpu_count() or 1, trainer.n_gpus_per_node + 1)


def _start_reaper(folder: Path) -> subprocess.Popen:
    # in a process group of its own: a signal to ours must not take it along
    command = [sys.executable, "-S", "-E", "-P", reaper.__file__, str(folder)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, process_group=0)


@contextmanager
def _own_sigterm_handler() -> Iterator[None]:
    """Keeps the process's own handler, in whose place Ray puts one that ends the process without a save."""
    ours = signal.getsignal(signal.SIGTERM)
    try:
        yield
    except SystemExit:  # from Ray's, which was there for a moment
        signal.signal(signal.SIGTERM, ours)
        signal.raise_signal(signal.SIGTERM)
        raise
    finally:
        signal.signal(signal.SIGTERM, ours)


def _shut_down() -> None:
    """Ends Ray; with its library goes every handler of SIGTERM, unseen by Python, which still names ours."""
    import ray
    from ray._private import worker

    def ours_again() -> None:
        signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGTERM))

    if (node := worker._global_node) is not None:  # its processes end last, which takes a second or more
        end_processes = node.kill_all_processes
        node.kill_all_processes = lambda **how: (ours_again(), end_processes(**how))
    ray.shutdown()
    ours_again()


@contextmanager
def _in_process_group(group: int) -> Iterator[None]:
    """Has Ray start its processes in another process group than ours.

    A Ctrl-C, a closed terminal or ``timeout`` signals the whole group; Ray's processes must outlive that by as long
    as a save takes. This process stays in its own meanwhile, or it would miss the signal.
    """
    from ray._private import services

    plain = services.ConsolePopen
    services.ConsolePopen = partial(plain, process_group=group)
    try:
        yield
    finally:
        services.ConsolePopen = plain


@contextmanager
def _temporary_files_in(folder: Path) -> Iterator[None]:
    """Temporary files of the session's processes go where they end with it, unless the user wants them elsewhere.

    torch's compiled kernels, which are worth keeping, do not.
    """
    if "TMPDIR" in os.environ:
        yield
        return
    temporary = folder / "tmp"
    temporary.mkdir()
    user_cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    kernels = os.environ.get("TORCHINDUCTOR_CACHE_DIR") or os.path.join(user_cache, "archer", "torchinductor")
    before, tempfile.tempdir = tempfile.tempdir, str(temporary)
    try:
        with _environment({"TMPDIR": str(temporary), "TORCHINDUCTOR_CACHE_DIR": kernels}):
            yield
    finally:
        tempfile.tempdir = before


@contextmanager
def _environment(variables: dict[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def remove_stale() -> None:
    """Ends what is left of sessions whose driver and reaper are both gone, and removes their folders."""
    for folder in leftovers(PREFIX, FOLDERS):
        reaper.reap(str(folder))
