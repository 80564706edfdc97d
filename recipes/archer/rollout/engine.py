"""Rollout engine: vLLM through verl, with one random seed a response and no prefix cache on CPU.

Both are arguments that verl 0.5.0 does not pass on: ``vLLMRollout.__init__`` hard-codes
``enable_prefix_caching=True`` (vLLM 0.7.3 on CPU then imports a library that is not there), and
``generate_sequences`` hands one ``SamplingParams`` to the whole batch, whose random numbers depend on what
else is in it.  They are set here by subclassing the two classes that verl looks up by name, in
:func:`install`; it can go when verl passes both.
"""

import copy
from typing import Any

from vllm import envs

import verl.workers.rollout.vllm_rollout as vllm_rollout_package
from recipes.archer.collector import uncollected
from recipes.archer.ending import UserError
from recipes.archer.rollout.batch_sampler import take_over
from recipes.archer.rollout.interruption import run_until_stopped
from recipes.archer.rollout.responses import with_engine_mask
from recipes.archer.rollout.scheduler import SCHEDULER
from recipes.archer.rollout.shared_prompts import WORKER
from verl import DataProto
from verl.third_party.vllm import LLM
from verl.utils.device import get_device_name
from verl.workers.rollout.vllm_rollout import vllm_rollout_spmd

CPU: dict[str, Any] = {
    "enable_prefix_caching": False,
    "scheduler_cls": SCHEDULER,
    "compilation_config": {"custom_ops": ["-silu_and_mul"]},  # vLLM's takes four times as long as torch's
}


class SeededLLM(LLM):
    """An engine whose next ``generate`` gives every request a seed of its own."""

    def __init__(self, *args, **kwargs):
        if envs.VLLM_USE_V1:
            raise UserError("VLLM_USE_V1=1: responses with a seed of their own need vLLM's V0 engine; set it to 0")
        if get_device_name() == "cpu":
            kwargs |= CPU
            if kwargs.get("tensor_parallel_size", 1) == 1:
                kwargs["worker_cls"] = WORKER
        self.request_seeds: list[int] | None = None
        self.stop_file: str | None = None
        self.lengths: list[int] = []  # of the last call's responses, tokens
        self.ended: list[bool] = []  # whether a stop token was the last of them
        super().__init__(*args, **kwargs)
        self._sample_in_batches()

    def _sample_in_batches(self) -> None:
        take_over(self.llm_engine.model_executor.driver_worker.worker.model_runner.model)

    def generate(self, prompts, sampling_params, **kwargs):
        """As ``LLM.generate``; with ``request_seeds`` set, one copy of the parameters a request."""
        seeds, self.request_seeds = self.request_seeds, None
        self.reset_prefix_cache()  # keys and values under the weights before; sleep mode does it, where it is on
        if seeds is not None:
            sampling_params = [_with_seed(sampling_params, seed) for seed in seeds]
        outputs = super().generate(prompts=prompts, sampling_params=sampling_params, **kwargs)
        responses = [response for output in outputs for response in output.outputs]
        self.lengths = [len(response.token_ids) for response in responses]
        self.ended = [response.finish_reason == "stop" for response in responses]
        return outputs

    def _run_engine(self, *, use_tqdm: bool):
        with uncollected():  # a generation's tokens are some objects each, and no cycle
            if self.stop_file is None:
                return super()._run_engine(use_tqdm=use_tqdm)
            return run_until_stopped(self.llm_engine, self.stop_file)


def _with_seed(sampling_params, seed: int):
    seeded = copy.copy(sampling_params)  # shallow: a deep copy of 1,024 parameter sets takes longer than a decode
    seeded.seed = int(seed)
    seeded.__dict__.pop("sampling_type", None)  # cached: random, greedy, or random with a seed
    return seeded


class SeededRollout(vllm_rollout_spmd.vLLMRollout):
    """verl's rollout; a ``seed`` column in the batch (one integer a row) seeds that row's response.

    What is a response's is the engine's word: see ``with_engine_mask``. ``max_tokens`` in the batch's ``meta_info`` is
    the cap, where it is less than the engine's.
    """

    def generate_sequences(self, prompts: DataProto, **kwargs) -> DataProto:
        engine = self.inference_engine
        engine.request_seeds = prompts.non_tensor_batch.pop("seed", None)
        engine.stop_file = prompts.meta_info.get("stop_file")
        cap = prompts.meta_info.get("max_tokens", self.sampling_params.max_tokens)
        with self.update_sampling_params(max_tokens=cap):  # upstream's own, around it, sets others
            output = super().generate_sequences(prompts, **kwargs)
        return with_engine_mask(output, engine.lengths, engine.ended)


def install() -> None:
    """Makes verl build the classes above; calling it again changes nothing."""
    vllm_rollout_spmd.LLM = SeededLLM
    vllm_rollout_package.vLLMRollout = SeededRollout
