"""The engine of an evaluation: vLLM in this process, a seed a response, each handed on as soon as it ends."""

import copy
import gc
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from vllm import SamplingParams

from recipes.archer.evaluation.drawing import Drawn, Request
from recipes.archer.evaluation.plan import Sampling
from recipes.archer.rollout.engine import SeededLLM

_GPU_MEMORY = 0.85  # share of the GPU's memory for weights and cache
# full precision where training has it, and what training's engine does on each
SETTINGS: dict[str, dict[str, Any]] = {
    "cpu": {"dtype": "float32", "enforce_eager": True},
    "cuda": {
        "dtype": "bfloat16",
        "gpu_memory_utilization": _GPU_MEMORY,
        "enable_chunked_prefill": True,
        "enable_prefix_caching": True,
    },
}


class Engine:
    """One engine for one model; :meth:`close` gives its memory back.

    Args:
        folder: of the model.
        device: cpu or cuda.
        max_model_len: tokens of the longest prompt and response together.
    """

    def __init__(self, folder: Path, device: str, max_model_len: int):
        made: Any = SeededLLM  # over vLLM's, which has no types
        self.llm = made(
            model=str(folder), max_model_len=max_model_len, disable_log_stats=True, seed=0, **SETTINGS[device]
        )

    def respond(
        self, requests: Iterable[Request], sampling: Sampling, stop_token_ids: Iterable[int]
    ) -> Iterator[list[Drawn]]:
        """The responses, a list for each of the engine's steps in which some ended."""
        self.add(requests, sampling, stop_token_ids)
        while self.busy:
            if ended := self.step():
                yield ended

    def add(self, requests: Iterable[Request], sampling: Sampling, stop_token_ids: Iterable[int]) -> None:
        """Has the next steps draw these, beside what they draw already."""
        parameters = SamplingParams(
            temperature=sampling.temperature,
            top_p=sampling.top_p if sampling.temperature > 0 else 1.0,
            max_tokens=sampling.max_tokens,
            stop_token_ids=list(stop_token_ids),
            detokenize=False,
        )
        for request in requests:
            seeded = copy.copy(parameters)
            seeded.seed = request.seed
            seeded.__dict__.pop("sampling_type", None)  # cached: random, greedy, or random with a seed
            prompt = {"prompt_token_ids": list(request.prompt_ids)}
            self.llm.llm_engine.add_request(str(request.number), prompt, seeded)

    @property
    def busy(self) -> bool:
        """Whether a response is not at its end."""
        return bool(self.llm.llm_engine.has_unfinished_requests())

    def step(self) -> list[Drawn]:
        """One token of each response that is being drawn; those that ended with it."""
        return [_drawn(output) for output in self.llm.llm_engine.step() if output.finished]

    def close(self) -> None:
        """Gives the engine's memory back, so that another can be built."""
        from vllm.distributed import cleanup_dist_env_and_memory

        self.llm = None
        cleanup_dist_env_and_memory()
        gc.collect()


def _drawn(output: Any) -> Drawn:
    response = output.outputs[0]
    return Drawn(int(output.request_id), tuple(response.token_ids), response.finish_reason == "stop")
