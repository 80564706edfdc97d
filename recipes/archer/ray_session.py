"""Ray for one run: started with what the run needs, in a folder of its own, and gone afterwards."""

import os
import shutil
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

from recipes.archer import reaper

PREFIX = "archer-ray-"
WORKER_ENVIRONMENT = {
    "TOKENIZERS_PARALLELISM": "true",
    "NCCL_DEBUG": "WARN",
    "VLLM_LOGGING_LEVEL": "WARN",
    "CUDA_DEVICE_MAX_CONNECTIONS": "1",
    "RAY_DEDUP_LOGS": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
}


def worker_environment(config) -> dict[str, str]:
    """What every worker process finds in its environment, unless the user has set it."""
    environment = dict(WORKER_ENVIRONMENT)
    if config.trainer.device == "cpu":
        # Ray gives a worker one OpenMP thread unless told otherwise
        threads = max(1, (os.cpu_count() or 1) // config.trainer.n_gpus_per_node)
        environment |= {
            "OMP_NUM_THREADS": str(threads),
            "VLLM_USE_V1": "0",
            "VLLM_CPU_KVCACHE_SPACE": "1",  # GiB
            "VLLM_TARGET_DEVICE": "cpu",
        }
    return {name: value for name, value in environment.items() if name not in os.environ}


@contextmanager
def ray_session(config):
    """Connects to the cluster that ``RAY_ADDRESS`` names, or starts Ray on this machine.

    Yields:
        The folder of this session's logs, None on a cluster that was there before.
    """
    import ray

    environment = worker_environment(config)
    if "RAY_ADDRESS" in os.environ:
        ray.init(runtime_env={"env_vars": environment}, log_to_driver=True)
        try:
            yield None
        finally:
            ray.shutdown()
        return
    os.environ.update(environment)  # workers of a local Ray inherit it; a runtime_env would cost a second each
    remove_stale()
    folder = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-", dir="/tmp"))  # short: sockets live in it
    watcher = _start_reaper(folder)
    os.environ[reaper.MARK] = str(folder)
    try:
        ray.init(
            num_cpus=config.ray_init.num_cpus or max(os.cpu_count() or 1, config.trainer.n_gpus_per_node + 1),
            include_dashboard=False,
            log_to_driver=config.ray_init.log_to_driver,
            logging_level="ERROR",
            object_store_memory=config.ray_init.object_store_memory,
            _temp_dir=str(folder),
        )
        yield folder
    finally:
        ray.shutdown()
        del os.environ[reaper.MARK]
        watcher.communicate()  # closes its input: it kills what is left and removes the folder


def _start_reaper(folder: Path) -> subprocess.Popen:
    # in a session of its own: a signal to our process group must not take it along
    command = [sys.executable, "-S", "-E", reaper.__file__, str(folder)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)


def remove_stale() -> None:
    """Removes the session folders of processes that are gone."""
    for folder in Path("/tmp").glob(f"{PREFIX}*"):
        process = folder.name.removeprefix(PREFIX).split("-")[0]
        if process.isdigit() and not Path(f"/proc/{process}").exists():
            shutil.rmtree(folder, ignore_errors=True)
