"""What the trainer asks of its workers: batches in, tensors of the batch or metrics out."""

import numpy as np
import ray

from verl import DataProto
from verl.protocol import pad_dataproto_to_divisor, unpad_dataproto

PROMPT_KEYS = ("input_ids", "attention_mask", "position_ids")
SCORED_KEYS = ("responses", *PROMPT_KEYS)


class RolloutHungError(RuntimeError):
    """The engine did not answer within its deadline."""


class WorkerCalls:
    """Calls to the actor's and the reference policy's worker groups.

    Args:
        config: the whole configuration.
        actor: worker group of actor and engine.
        reference: worker group of the reference policy; None where there is none, or where it is the actor
            without its adapter.
    """

    def __init__(self, config, actor, reference):
        self.actor, self.reference = actor, reference or actor
        self.rollout = config.actor_rollout_ref.rollout
        sequence_parallel = config.actor_rollout_ref.actor.ulysses_sequence_parallel_size
        self.dp_size = actor.world_size // sequence_parallel

    def generate(self, batch: DataProto, seeds: np.ndarray, validate: bool) -> DataProto:
        """Responses to left-padded prompts, (rows, max_response_length) and the engine's log-probabilities.

        Raises:
            RolloutHungError: no answer within ``rollout.deadline_s``.
        """
        prompts = batch.pop(batch_keys=list(PROMPT_KEYS), non_tensor_batch_keys=["raw_prompt_ids"])
        prompts.non_tensor_batch["seed"] = seeds
        do_sample = self.rollout.val_kwargs.do_sample if validate else self.rollout.do_sample
        prompts.meta_info = {"do_sample": do_sample, "validate": validate}
        padded, filler = pad_dataproto_to_divisor(prompts, self.actor.world_size)
        future = self.actor.generate_sequences(padded)
        done, _ = ray.wait(future.futures, num_returns=len(future.futures), timeout=self.rollout.deadline_s)
        if len(done) < len(future.futures):
            raise RolloutHungError(
                f"{len(future.futures) - len(done)} of {len(future.futures)} engines did not answer within "
                f"actor_rollout_ref.rollout.deadline_s={self.rollout.deadline_s}"
            )
        response = unpad_dataproto(future.get(), pad_size=filler)
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

    def _score(self, method, batch: DataProto) -> DataProto:
        padded, filler = pad_dataproto_to_divisor(batch.select(batch_keys=list(SCORED_KEYS)), self.dp_size)
        return unpad_dataproto(method(padded), pad_size=filler)
