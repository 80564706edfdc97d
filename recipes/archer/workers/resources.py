"""Ray resources: GPUs where the job trains on GPUs, plain CPUs where it does not; and the wait for what is not there.

verl 0.5.0 asks Ray for a resource called ``cpu`` when told to train on it, which no cluster has, and waits
for ever.
"""

import time
from collections.abc import Callable

import ray
from ray.util.placement_group import placement_group

from recipes.archer.printable import complain
from recipes.archer.workers.deadlines import WorkerHungError
from verl.single_controller.ray import RayResourcePool
from verl.trainer.ppo.ray_trainer import ResourcePoolManager

POOL = "global_pool"
QUIET_S = 10.0  # what an earlier session of this run held takes a moment to be free again
POLL_S = 1.0
A_LITTLE = 0.001  # of what Ray has each machine have under its own address


class HostResourcePoolManager(ResourcePoolManager):
    """One pool for every role, of GPUs or of CPUs."""

    use_gpu = True
    deadline: Callable[[], tuple[float, str]]

    @classmethod
    def for_roles(cls, roles, trainer, deadline: Callable[[], tuple[float, str]]) -> "HostResourcePoolManager":
        """All roles in one pool of ``n_gpus_per_node`` workers on each of ``nnodes`` nodes.

        Args:
            deadline: how many seconds machines are waited for, and what says so.
        """
        spec = {POOL: [trainer.n_gpus_per_node] * trainer.nnodes}
        manager = cls(resource_pool_spec=spec, mapping=dict.fromkeys(roles, POOL))
        manager.use_gpu, manager.deadline = trainer.device != "cpu", deadline
        return manager

    def create_resource_pool(self) -> None:
        """As upstream on GPUs; one CPU a worker otherwise.

        Raises:
            WorkerHungError: as :func:`wait_for_machines`.
        """
        for name, processes in self.resource_pool_spec.items():
            kind = RayResourcePool if self.use_gpu or len(processes) == 1 else _OnMachinesApart
            self.resource_pool_dict[name] = kind(
                process_on_nodes=processes, use_gpu=self.use_gpu, max_colocate_count=1, name_prefix=name
            )
            wait_for_machines("GPU" if self.use_gpu else "CPU", processes, self.deadline)


class _OnMachinesApart(RayResourcePool):
    """verl's of CPUs, but with a machine for each group of workers: Ray would put two small ones onto one."""

    def get_placement_groups(self, strategy="STRICT_PACK", name=None, device_name="cuda"):
        if self.pgs is None:
            machines = free_machines("CPU", self.store[0])
            bundles = [{"CPU": 1, machine: A_LITTLE} for machine in machines[: len(self.store)]]
            self.pgs = [placement_group([bundle] * self.store[0], strategy=strategy) for bundle in bundles]
            ray.get([group.ready() for group in self.pgs])
        return self.pgs


def free_machines(resource: str, number: int) -> list[str]:
    """The machines of the cluster that have ``number`` of a resource to give, by Ray's names for them."""
    found = ray._private.state.available_resources_per_node().values()
    names = [_name(held) for held in found if held.get(resource, 0) >= number]
    return sorted(filter(None, names))


def wait_for_machines(resource: str, processes: list[int], deadline: Callable[[], tuple[float, str]]) -> None:
    """Returns once there is a machine with so many of a resource for each entry of ``processes``.

    One that went down may come back, with or without somebody's help; what is waited for is said once.

    Raises:
        WorkerHungError: there are too few within the deadline.
    """
    (seconds, setting), start, said = deadline(), time.monotonic(), False
    while (found := len(free_machines(resource, processes[0]))) < len(processes):
        missing = f"{found} of {len(processes)} machines with {processes[0]} free {resource}{'s' * (processes[0] > 1)}"
        waited = time.monotonic() - start
        if waited > seconds:
            raise WorkerHungError(f"hung in set-up: {missing} within {setting}")
        if waited > QUIET_S and not said:
            complain(f"waiting for machines: there are {missing} in the Ray cluster")
            said = True
        time.sleep(POLL_S)


def _name(held: dict[str, float]) -> str | None:
    """The resource that Ray has a machine, and no other, have: ``node:`` and its address."""
    return next((name for name in held if name.startswith("node:") and not name.startswith("node:__")), None)
