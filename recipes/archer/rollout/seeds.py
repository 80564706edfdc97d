"""The seed of each response. Apart from the engine, so that the driver need not load vLLM."""

from collections import Counter

import numpy as np


def response_seeds(run_seed: int, step: int, prompt_ids: list[int], n: int, seen: Counter | None = None) -> np.ndarray:
    """Seeds of a step's responses: a function of run, step, prompt and sample, and of nothing else.

    So a response does not depend on the batch it was drawn in, on the number of workers, or on whether the
    run was interrupted before.

    Args:
        run_seed: the run's ``seed``.
        step: training step; validation uses negative numbers.
        prompt_ids: (prompts,) position of each prompt in its data set.
        n: responses a prompt.
        seen: how often each prompt was drawn in this step before, in earlier rounds; brought up to date here.

    Returns:
        (prompts * n,) integers in [0, 2**31), the n responses of a prompt side by side.
    """
    words, seen = [], Counter() if seen is None else seen
    for prompt in prompt_ids:
        # a prompt may come twice in a step, where one epoch ends and the next begins; it then gets other responses
        key = [run_seed, step % 2**32, prompt % 2**32] + [seen[prompt]] * bool(seen[prompt])
        words.append(np.random.SeedSequence(key).generate_state(n))
        seen[prompt] += 1
    return (np.concatenate(words) & 0x7FFFFFFF).astype(np.int64)
