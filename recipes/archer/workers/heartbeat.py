"""A sign of life of each worker, by which the one that hangs is told from those that wait for it.

In a collective all ranks wait for the one that does not come. A process that is stopped, or whose machine is out of
reach, gives no sign any more; one that is stuck outside a collective has begun fewer of them than its peers.
The signs go through Ray's own store of keys, which every node reaches; nothing has to be shared for them.
"""

import json
import threading
import time

import ray
import torch.distributed as dist
from ray.exceptions import RayError
from ray.experimental import internal_kv

EVERY_S = 2.0
LATE_S = 10.0  # a sign that is older is none


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
    return None if found is None else json.loads(found)
