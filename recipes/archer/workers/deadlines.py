"""How long each call to the workers may take, and who has hung when one takes longer.

In a collective all ranks wait for the one that does not come, so every worker gives a sign of life. A process that is
stopped, or whose machine is out of reach, gives none any more; one that is stuck outside a collective has begun fewer
of them than its peers. The signs go through Ray's own store of keys, which every node reaches.
"""

import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta

import ray
import torch.distributed as dist
from ray.exceptions import RayError, RayTaskError
from ray.experimental import internal_kv

from recipes.archer.ending import UserError
from recipes.archer.reading.json import parse_json
from verl.single_controller.ray.base import func_generator

POLL_S = 0.5  # between two looks at whether a stop was asked for
FIRST_S = 3600.0  # of a stage that nobody has seen to its end yet, where its setting is null
LEAST_S = 1800.0  # and of one that has been seen: a batch may be many times as large as those before it
TIMES = 10  # the longest so far, where that is more
# of torch's process groups: whoever waits for a hung peer must outlast the deadline, or the wrong one would fail first
GROUP_TIMEOUT = timedelta(days=30)

EVERY_S = 2.0
LATE_S = 10.0  # a sign that is older is none

ROLLOUT, VALIDATION = "rollout", "validation"
STAGES = {  # of what is registered with the worker, by the method's name
    "init_model": "set_up",
    "generate_sequences": ROLLOUT,
    "compute_log_prob": "scoring",
    "compute_ref_log_prob": "scoring",
    "update_actor": "update",
    "save_state": "save",
    "leave_mark": "set_up",
    "load_state": "load",
    "fork_state": "load",
    "refresh_reference": "update",
}


class WorkerHungError(RuntimeError):
    """A worker did not answer within the deadline of its stage; the run can go on from its last checkpoint."""


class Deadlines:
    """The deadline of each stage, and the waiting for the workers' answers.

    One for all Ray sessions of a run: what a stage has been taking is known after a restart.

    Args:
        config: the whole configuration; ``rollout.deadline_s`` and ``trainer.deadlines_s``, in seconds. Where one is
            null, it is ``TIMES`` the longest call of that stage so far, and at least ``LEAST_S``.
    """

    def __init__(self, config):
        self._settings = {f"trainer.deadlines_s.{name}": value for name, value in config.trainer.deadlines_s.items()}
        self._settings["actor_rollout_ref.rollout.deadline_s"] = config.actor_rollout_ref.rollout.deadline_s
        self._longest: dict[str, float] = {}
        self._rollout_is, self._while_waiting = ROLLOUT, None
        self.machines: list[str] = []  # of each worker, where there are several

    def of(self, stage: str) -> tuple[float, str]:
        """Seconds that a call of a stage may take, and the setting that says so, in words."""
        name = "actor_rollout_ref.rollout.deadline_s" if stage == ROLLOUT else f"trainer.deadlines_s.{stage}"
        value = self._settings[name]
        if value is not None:
            return float(value), f"{name}={value}"
        longest = self._longest.get(stage)
        seconds = FIRST_S if longest is None else max(LEAST_S, TIMES * longest)
        return seconds, f"{seconds:.0f} s ({name}=null)"

    @contextmanager
    def rollout(self, validate: bool, while_waiting: Callable[[], None]) -> Iterator[None]:
        """Around the call of a rollout.

        Args:
            validate: whether it is one of held-out prompts.
            while_waiting: called about twice a second.
        """
        self._rollout_is, self._while_waiting = VALIDATION if validate else ROLLOUT, while_waiting
        try:
            yield
        finally:
            self._rollout_is, self._while_waiting = ROLLOUT, None

    def answers(self, method: str, futures: list) -> list:
        """The workers' answers, by rank; the first error of any of them is raised at once.

        Raises:
            UserError: a worker raised it; as it was there, without the traceback that Ray puts into its place.
            WorkerHungError: they did not all come in time; names rank, stage and setting.
        """
        stage = stage_of(method)
        if stage == ROLLOUT:
            stage = self._rollout_is
        seconds, setting = self.of(stage)
        start = time.monotonic()
        while (left := start + seconds - time.monotonic()) > 0:
            if self._while_waiting is not None:
                self._while_waiting()
            try:
                found = _got(futures, min(left, POLL_S))
            except ray.exceptions.GetTimeoutError:
                continue
            self._longest[stage] = max(self._longest.get(stage, 0.0), time.monotonic() - start)
            return found
        if not (waiting := ray.wait(futures, num_returns=len(futures), timeout=0)[1]):
            return _got(futures)
        raise hung(stage, [futures.index(future) for future in waiting], setting, self.machines)

    def bounded(self, group, method, dispatch_fn, collect_fn, execute_fn, blocking):
        """In the place of verl's ``func_generator``: every bound method waits here for its answers."""

        def collect(group, futures):
            return collect_fn(group, self.answers(method, futures))

        return func_generator(group, method, dispatch_fn, collect, execute_fn, blocking=False)


def _got(futures: list, timeout: float | None = None) -> list:
    try:
        return ray.get(futures, timeout=timeout)
    except RayTaskError as error:
        if isinstance(error.cause, UserError):
            raise error.cause from None
        raise


def stage_of(method: str) -> str:
    """The stage that a worker's method belongs to; in a group of several roles its name begins with the role's.

    Raises:
        LookupError: it has none, so nobody would notice that it hangs.
    """
    found = next((stage for name, stage in STAGES.items() if method == name or method.endswith(f"_{name}")), None)
    if found is None:
        raise LookupError(f"{method} belongs to no stage of workers/deadlines.py")
    return found


def hung(stage: str, waiting: list[int], setting: str, machines: Sequence[str] = ()) -> WorkerHungError:
    """Which of the workers that have not answered keeps the others waiting, as far as it can be known."""
    ranks = waiting if len(waiting) == 1 else silent_or_behind(waiting) or waiting
    which = f"worker rank{'s' * (len(ranks) > 1)} {', '.join(f'{rank}{on_machine(rank, machines)}' for rank in ranks)}"
    return WorkerHungError(f"hung in {stage.replace('_', '-')}: no answer from {which} within {setting}")


def on_machine(rank: int, machines: Sequence[str]) -> str:
    """Where a worker is, to be said after its rank; nothing where there is one machine."""
    return f" on {machines[rank]}" if rank < len(machines) else ""


def beat(rank: int) -> None:
    """From now on this process gives signs of life, for as long as it lives."""
    threading.Thread(target=_beat, args=[_key(rank)], name="archer-heartbeat", daemon=True).start()


def silent_or_behind(ranks: list[int]) -> list[int]:
    """Those of ``ranks`` that keep the others waiting; empty where that cannot be told.

    Looks twice, so that clocks of machines need not agree: who gives no new sign in between is silent.
    """
    try:
        before = {rank: _sign(rank) for rank in ranks}
        time.sleep(LATE_S)
        after = {rank: _sign(rank) for rank in ranks}
    except RayError:  # Ray itself is out of reach
        return []
    if silent := [rank for rank in ranks if after[rank] == before[rank]]:
        return silent
    begun = {rank: after[rank][1] for rank in ranks}
    fewest = min(begun.values())
    return [] if fewest == max(begun.values()) else [rank for rank in ranks if begun[rank] == fewest]


def _beat(key: str) -> None:
    number = 0
    while True:
        number += 1
        sign = [number, _num_collectives()]
        try:
            internal_kv._internal_kv_put(key, json.dumps(sign).encode(), overwrite=True)
        except RayError:  # Ray is going down
            return
        time.sleep(EVERY_S)


def _num_collectives() -> int:
    """Collectives of all ranks together that this process has begun."""
    try:
        return dist.group.WORLD._get_sequence_number_for_group() if dist.is_initialized() else 0
    except RuntimeError:  # torch counts those of some backends only
        return 0


def _key(rank: int) -> str:
    return f"archer-worker-{ray.get_runtime_context().get_job_id()}-{rank}"


def _sign(rank: int) -> list[int] | None:
    """(signs so far, collectives so far) of a rank; None where it gave none yet."""
    found = internal_kv._internal_kv_get(_key(rank))
    return None if found is None else parse_json(found, _key(rank))
