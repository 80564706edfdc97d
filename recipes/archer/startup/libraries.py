"""The libraries that take seconds to load, once for the driver and its workers."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from omegaconf import DictConfig

from recipes.archer.collector import loading
from recipes.archer.session.fork_server import can_fork, fork_server, loading_ray
from recipes.archer.session.ray_session import names_cluster, worker_environment

OF_WORKERS = ("recipes.archer.workers.worker", "recipes.archer.rollout.engine", "vllm.worker.cpu_worker")


@contextmanager
def libraries_loaded(config: DictConfig) -> Iterator[Path | None]:
    """Loads what driver and workers share; then each loads the rest of its own, both at the same time.

    Yields:
        Where this run's workers are forked (``session/fork_server.py``); None where Ray starts them, and nothing is
        loaded here.
    """
    if config.trainer.device != "cpu" or names_cluster() or not can_fork():
        yield None
        return
    os.environ.update(worker_environment(config))  # before the libraries, which look there when they are loaded
    with loading(), loading_ray():
        import verl  # noqa: F401 - torch, Ray, tensordict
    with fork_server(OF_WORKERS) as socket:
        yield socket
