"""Ray resources: GPUs where the job trains on GPUs, plain CPUs where it does not; and the wait for what is not there.

verl 0.5.0 asks Ray for a resource called ``cpu`` when told to train on it, which no cluster has, and waits
for ever.
"""

import time
from collections.abc import Callable

import ray
from ray.util.placement_group import PlacementGroup, placement_group

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
        """As upstream on GPUs; one CPU a worker otherwise. Nothing is asked of Ray yet."""
        for name, processes in self.resource_pool_spec.items():
            self.resource_pool_dict[name] = _PatientPool(
                self.deadline,
                process_on_nodes=processes,
                use_gpu=self.use_gpu,
                max_colocate_count=1,
                name_prefix=name,
            )


class _PatientPool(RayResourcePool):
    """verl's, but every wait has a deadline, and each group of workers a machine: Ray would put two small ones on one.

    Args:
        deadline: as ``HostResourcePoolManager.for_roles`` has it.
        others: as verl's.
    """

    def __init__(self, deadline: Callable[[], tuple[float, str]], **others):
        super().__init__(**others)
        self._deadline = deadline

    def get_placement_groups(self, strategy="STRICT_PACK", name=None, device_name="cuda"):
        """One group a machine.

        Raises:
            WorkerHungError: there are too few machines, or Ray does not give them, within the deadline.
        """
        if self.pgs is None:
            machines = wait_for_machines("GPU" if self.use_gpu else "CPU", self.store, self._deadline)
            worker = {"CPU": 1} | ({"GPU": 1} if self.use_gpu else {})
            groups = [
                placement_group([worker | {machine: A_LITTLE}] * number, strategy=strategy)
                for machine, number in zip(machines, self.store, strict=True)
            ]
            seconds, setting = self._deadline()
            if not _given(groups, seconds):
                raise WorkerHungError(f"hung in set-up: Ray has not given the run its machines within {setting}")
            self.pgs = groups
        return self.pgs


def _given(groups: list[PlacementGroup], seconds: float) -> bool:
    """Whether Ray gives all of the groups in time. Asked over and over, so that a signal is heard meanwhile.

    Ray's other way, ``ready``, is a task, for which it first starts a process.
    """
    end = time.monotonic() + seconds
    for group in groups:
        while not group.wait(POLL_S):
            if time.monotonic() > end:
                return False
    return True


def free_machines(resource: str, number: int) -> list[str]:
    """The machines of the cluster that have ``number`` of a resource to give, by Ray's names for them."""
    found = ray._private.state.available_resources_per_node().values()
    names = [_name(held) for held in found if held.get(resource, 0) >= number]
    return sorted(filter(None, names))


def wait_for_machines(resource: str, processes: list[int], deadline: Callable[[], tuple[float, str]]) -> list[str]:
    """Waits until there is a machine with so many of a resource for each entry of ``processes``.

    One that went down may come back, with or without somebody's help; what is waited for is said once.

    Returns:
        As many machines, as :func:`free_machines` names them.

    Raises:
        WorkerHungError: there are too few within the deadline.
    """
    (seconds, setting), start, said = deadline(), time.monotonic(), False
    kind = resource + "s" * (processes[0] > 1)
    while len(found := free_machines(resource, processes[0])) < len(processes):
        there_are = f"{len(found)} of {len(processes)} machines with {processes[0]} free {kind}"
        waited = time.monotonic() - start
        if waited > seconds:
            raise WorkerHungError(f"hung in set-up: {there_are} within {setting}")
        if waited > QUIET_S and not said:
            complain(f"waiting for machines: there are {there_are} in the Ray cluster")
            said = True
        time.sleep(POLL_S)
    return found[: len(processes)]


def _name(held: dict[str, float]) -> str | None:
    """The resource that Ray has a machine, and no other, have: ``node:`` and its address."""
    return next((name for name in held if name.startswith("node:") and not name.startswith("node:__")), None)
