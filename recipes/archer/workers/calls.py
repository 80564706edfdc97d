"""What the trainer asks of its workers: batches in, tensors of the batch or metrics out."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from recipes.archer.rollout.interruption import stop_file
from recipes.archer.workers.shared_folder import missing_after_save
from verl import DataProto
from verl.protocol import pad_dataproto_to_divisor, unpad_dataproto

PROMPT_KEYS = ("input_ids", "attention_mask", "position_ids")
SCORED_KEYS = ("responses", *PROMPT_KEYS)


class WorkerCalls:
    """Calls to the actor's and the reference policy's worker groups; ``WorkerHungError`` of each that hangs.

    Args:
        config: the whole configuration.
        actor: worker group of actor and engine.
        reference: worker group of the reference policy; None where there is none, or where it is the actor
            without its adapter.
        stop: ``StopSignals``.
        machines: of each worker; empty where there is one.
    """

    def __init__(self, config, actor, reference, stop, machines: Sequence[str] = ()):
        self.actor, self.reference, self.stop = actor, reference or actor, stop
        self.machines = machines
        self.rollout, self.refresh = config.actor_rollout_ref.rollout, config.actor_rollout_ref.ref.refresh
        self.cap, self.val_cap = config.data.max_response_length, config.data.max_val_response_length
        sequence_parallel = config.actor_rollout_ref.actor.ulysses_sequence_parallel_size
        self.dp_size = actor.world_size // sequence_parallel

    def generate(self, batch: DataProto, seeds: np.ndarray, validate: bool) -> DataProto:
        """Responses to left-padded prompts, (rows, rollout.response_length) and the engine's log-probabilities.

        Where a stop is asked for meanwhile, the engines leave the rest: what comes back is then to be dropped.
        """
        prompts = batch.pop(batch_keys=list(PROMPT_KEYS), non_tensor_batch_keys=["raw_prompt_ids"])
        prompts.non_tensor_batch["seed"] = seeds
        do_sample = self.rollout.val_kwargs.do_sample if validate else self.rollout.do_sample
        cap = self.val_cap if validate and self.val_cap is not None else self.cap
        prompts.meta_info = {"do_sample": do_sample, "validate": validate, "max_tokens": cap}
        file = stop_file()
        if self.rollout.tensor_model_parallel_size == 1:  # parallel engines must stop in step
            prompts.meta_info["stop_file"] = str(file)
        padded, filler = pad_dataproto_to_divisor(prompts, self.actor.world_size)
        try:
            with self.actor.deadlines.rollout(validate, lambda: self.stop.requested and file.touch()):
                response = unpad_dataproto(self.actor.generate_sequences(padded), pad_size=filler)
        finally:
            file.unlink(missing_ok=True)
        response.meta_info.clear()
        return response

    def add_reference(self, batch: DataProto) -> None:
        """Adds ref_log_prob, (rows, response_length)."""
        output = self._score(self.reference.compute_ref_log_prob, batch)
        batch.batch["ref_log_prob"] = output.batch["ref_log_prob"]

    def add_old_log_probs(self, batch: DataProto) -> None:
        """Adds old_log_probs and rollout_entropy, (rows, response_length), under the policy as it is now."""
        output = self._score(self.actor.compute_log_prob, batch)
        batch.batch["old_log_probs"] = output.batch["old_log_probs"]
        batch.batch["rollout_entropy"] = output.batch["entropys"]

    def update(self, batch: DataProto) -> dict[str, float | None]:
        """All optimizer updates of a step; metrics are of the whole step, the same on every worker."""
        batch.meta_info["temperature"] = self.rollout.temperature
        batch.meta_info["global_token_num"] = batch.batch["attention_mask"].sum(-1).tolist()
        return dict(self.actor.update_actor(batch).meta_info["metrics"])

    def refresh_reference(self, step: int) -> None:
        """After a step's update: every so many steps the reference policy is brought up to the policy."""
        if self.refresh.every is not None and step % self.refresh.every == 0:
            self.actor.refresh_reference(self.refresh.mix, self.refresh.reset_optimizer)

    def save(self, folder: str) -> list[str | None]:
        """Lets the workers write their state into a folder; answers what each was refused, or what did not arrive."""
        path = Path(folder).absolute()  # a worker's current folder is its own
        refused = self.actor.save_state(str(path))
        return refused if any(refused) else [missing_after_save(path, len(refused), self.machines)]

    def _score(self, method, batch: DataProto) -> DataProto:
        padded, filler = pad_dataproto_to_divisor(batch.select(batch_keys=list(SCORED_KEYS)), self.dp_size)
        return unpad_dataproto(method(padded), pad_size=filler)
