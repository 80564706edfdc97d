"""Ray resources: GPUs where the job trains on GPUs, plain CPUs where it does not.

verl 0.5.0 asks Ray for a resource called ``cpu`` when told to train on it, which no cluster has, and waits
for ever.
"""

import os
import time

from verl.single_controller.ray import RayResourcePool
from verl.trainer.ppo.ray_trainer import ResourcePoolManager

POOL = "global_pool"
RELEASE_S = 30.0


class HostResourcePoolManager(ResourcePoolManager):
    """One pool for every role, of GPUs or of CPUs."""

    use_gpu = True

    @classmethod
    def for_roles(cls, roles, trainer) -> "HostResourcePoolManager":
        """All roles in one pool of ``n_gpus_per_node`` workers on each of ``nnodes`` nodes."""
        spec = {POOL: [trainer.n_gpus_per_node] * trainer.nnodes}
        manager = cls(resource_pool_spec=spec, mapping=dict.fromkeys(roles, POOL))
        manager.use_gpu = trainer.device != "cpu"
        return manager

    def create_resource_pool(self) -> None:
        """As upstream on GPUs; one CPU a worker otherwise."""
        if self.use_gpu:
            super().create_resource_pool()
            return
        for name, processes in self.resource_pool_spec.items():
            self.resource_pool_dict[name] = RayResourcePool(
                process_on_nodes=processes, use_gpu=False, max_colocate_count=1, name_prefix=name
            )

    def _check_resource_available(self) -> None:
        """As upstream; on a cluster, what an earlier session of this run held takes a moment to be free again."""
        deadline = time.monotonic() + (RELEASE_S if "RAY_ADDRESS" in os.environ else 0.0)
        while True:
            try:
                return super()._check_resource_available()
            except ValueError:
                if time.monotonic() >= deadline:
                    raise
                time.sleep(1.0)
