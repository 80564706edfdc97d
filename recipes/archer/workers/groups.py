"""verl's trainer as far as it is used here: worker groups and resource pools; neither its loop nor its loaders."""

import ray

from recipes.archer.losses.constants import uses_reference
from recipes.archer.workers.calls import WorkerCalls
from recipes.archer.workers.shared_folder import machines_of
from recipes.archer.workers.worker import ArcherWorker
from verl.trainer.ppo.ray_trainer import RayPPOTrainer, Role


class WorkerGroups(RayPPOTrainer):
    """The workers of a run, and the calls to them.

    Args:
        config, others: as verl's trainer.
        total_steps: of the whole run; the learning-rate schedule goes by it.
        stop: ``StopSignals``.
    """

    def __init__(self, config, *, total_steps: int, stop, **verl_arguments):
        self._total_steps, self.stop = total_steps, stop
        super().__init__(config, **verl_arguments)
        actor = config.actor_rollout_ref.actor
        # in a step's only update the policy is still the one that generated: the ratio is 1, token classes of the
        # rollout are the current ones, and what the update computes of its rows needs no pass of its own
        one_update = actor.ppo_epochs == 1 and config.data.train_batch_size == actor.ppo_mini_batch_size
        self.needs_old_log_probs = not one_update

    def _create_dataloader(self, train_dataset, val_dataset, collate_fn, train_sampler):
        """In the place of verl's loaders, whose position cannot be restored: the totals that it sets with them."""
        self.total_training_steps = self._total_steps
        self.config.actor_rollout_ref.actor.optim.total_training_steps = self._total_steps

    def init_workers(self) -> None:
        super().init_workers()
        reference = self.ref_policy_wg if self.use_reference_policy and not self.ref_in_actor else None
        machines = machines_of(self.actor_rollout_wg, self.config.trainer)
        self.actor_rollout_wg.deadlines.machines = machines
        self.calls = WorkerCalls(self.config, self.actor_rollout_wg, reference, self.stop, machines)


def roles_of(actor) -> dict[Role, type]:
    """The worker class of each role that a run with these ``actor`` settings has."""
    worker = ray.remote(ArcherWorker)
    return {Role.ActorRollout: worker} | ({Role.RefPolicy: worker} if uses_reference(actor) else {})
