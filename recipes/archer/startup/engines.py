"""The engines that a call evaluates with: one in this process, or several, each an actor of Ray's."""

import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

from recipes.archer.collector import uncollected
from recipes.archer.ending import UserError
from recipes.archer.evaluation.course import Evaluation
from recipes.archer.evaluation.questions import Question
from recipes.archer.export.targets import Target
from recipes.archer.session.ray_session import names_cluster, ray_session, worker_environment
from recipes.archer.settings.configuration import compose
from recipes.archer.startup.gpus import num_gpus

RELEASE_S = 30.0  # until Ray has noticed that what an engine held is free again


class Engines:
    """Where engines run, and how many; a context manager that ends the Ray session, where there is one.

    Args:
        device: cpu or cuda; None: cuda where this machine has a GPU.
        asked: how many; None: one on a CPU, else one for each GPU, of the cluster where ``RAY_ADDRESS`` names one.

    Raises:
        UserError: there are not as many GPUs, or cores, on this machine.
    """

    def __init__(self, device: str | None, asked: int | None):
        self._on_cluster = names_cluster()
        found = num_gpus()
        self.device = device or ("cuda" if found else "cpu")
        self._asked = asked
        if not self._on_cluster:
            self._check_machine(found)
        self.number = asked or (found if self.device == "cuda" else 1)  # of a cluster's GPUs: known when it is reached
        self._by_ray = self.number > 1 or (self._on_cluster and (self.device == "cuda" or asked is not None))
        self._stack, self._open = ExitStack(), False
        self._prepare_process()

    def __enter__(self) -> "Engines":
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def __str__(self) -> str:
        if self._by_ray and self._on_cluster:
            return f"on {self.device}, {self._asked or 'all'} engines of the cluster"
        return f"on {self.device}, {self.number} engine{'s' * (self.number != 1)}"

    @contextmanager
    def of(self, target: Target, evaluations: Sequence[Evaluation]) -> Iterator[Callable[[], Any]]:
        """A function that makes the target's engines when it is first called, and gives the same ones afterwards.

        Raises:
            UserError: they cannot be made, or the model cannot be exported (DiskFullError: no room).
        """
        length = max(_longest(e.questions) + e.plan.sampling.max_tokens for e in evaluations)
        with ExitStack() as stack:
            made: list[Any] = []

            def responder() -> Any:
                if not made:
                    if self._by_ray:
                        self._connect()
                    folder = stack.enter_context(target.weights(shared=self._by_ray and self._on_cluster))
                    try:
                        made.append(self._pool(folder, length) if self._by_ray else make(folder, self.device, length))
                    except ValueError as error:
                        raise UserError(f"{target.name}: {_refusal(error)}") from None
                    stack.callback(made[0].close)
                return made[0]

            yield responder

    def _check_machine(self, found: int) -> None:
        if self.device == "cuda" and not found:
            raise UserError("--device cuda: there is no NVIDIA GPU that this environment reaches; leave it out")
        there = found if self.device == "cuda" else os.cpu_count() or 1
        if self._asked is not None and self._asked > there:
            what = "NVIDIA GPU" if self.device == "cuda" else "core"
            raise UserError(f"--engines {self._asked}: this machine has {there} {what}{'s' * (there != 1)}; ask for "
                            f"{there} at most, or set RAY_ADDRESS to a cluster with more")  # fmt: skip

    def _prepare_process(self) -> None:
        """What an engine finds in its environment; before torch and vLLM are imported."""
        os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")  # its warnings are of what is meant
        if self.device == "cpu":
            os.environ["CUDA_VISIBLE_DEVICES"] = ""
        if not self._by_ray:  # which gives its processes their own
            os.environ.update(worker_environment(self._config()))

    def _config(self) -> Any:
        return compose([f"device={self.device}", f"trainer.n_gpus_per_node={self.number}", "trainer.nnodes=1"])

    def _connect(self) -> None:
        """The Ray session, once for all targets.

        Raises:
            UserError: the cluster has not as many GPUs, or cores, that are free.
        """
        import ray

        if not self._open:
            self._stack.enter_context(redirect_stdout(sys.stderr))  # what a cluster's workers print is no result
            try:
                self._stack.enter_context(ray_session(self._config()))
            except ConnectionError:
                address = os.environ["RAY_ADDRESS"]
                raise UserError(f"RAY_ADDRESS={address!a:.200} answers no call; start Ray there, or unset it") from None
            self._open = True
        kind = "GPU" if self.device == "cuda" else "CPU"
        there = int(ray.cluster_resources().get(kind, 0))
        self.number = self._asked or there
        if self.number > there or not there:
            raise UserError(f"--engines {self.number}: Ray's cluster has {there} {kind}s; ask for fewer")
        until = time.monotonic() + RELEASE_S
        while (free := int(ray.available_resources().get(kind, 0))) < self.number:
            if time.monotonic() > until:
                raise UserError(
                    f"{free} of the {there} {kind}s of Ray's cluster are free, {self.number} are wanted; wait, or ask "
                    "for fewer with --engines"
                )
            time.sleep(0.5)

    def _pool(self, folder: Path, length: int) -> Any:
        from recipes.archer.evaluation.engine_pool import EnginePool

        return EnginePool(make, folder, self.device, length, self.number, _cause)


def make(folder: Path, device: str, max_model_len: int) -> Any:
    """An engine in this process, whichever it is."""
    with uncollected():  # what is there it will look at again: an engine is made for each model
        from recipes.archer.evaluation.engine import Engine

    return Engine(folder, device, max_model_len)


def _refusal(error: ValueError) -> str:
    from recipes.archer.evaluation.drawing import EngineRefusedError, refusal

    return str(error) if isinstance(error, EngineRefusedError) else refusal(error)


def _cause(text: str) -> str:
    """Of an engine's death; asked of what training asks, which takes seconds to import."""
    from recipes.archer.workers.death import cause_of

    return cause_of(text, None, False)


def _longest(questions: Sequence[Question]) -> int:
    return max(len(question.prompt_ids) for question in questions)
