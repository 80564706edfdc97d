"""A program that knows vLLM and nothing of verl or of this project: it serves the checkpoint named on its input.

Input: one JSON object (folder, prompts, max_tokens).  Last line of output: one JSON object (class, answers).
"""

import json
import sys

from vllm import LLM, SamplingParams

job = json.loads(sys.stdin.readline())
llm = LLM(
    job["folder"],
    skip_tokenizer_init=True,
    dtype="float32",
    enforce_eager=True,
    max_model_len=128,
    num_gpu_blocks_override=64,
)
model = type(llm.llm_engine.model_executor.driver_worker.worker.model_runner.model)
parameters = SamplingParams(temperature=0, max_tokens=job["max_tokens"], logprobs=0, detokenize=False, ignore_eos=True)
prompts = [{"prompt_token_ids": prompt} for prompt in job["prompts"]]
answers = []
for output in llm.generate(prompts, sampling_params=parameters, use_tqdm=False):
    tokens, log_probs = list(output.outputs[0].token_ids), output.outputs[0].logprobs
    answers.append((tokens, [step[token].logprob for step, token in zip(log_probs, tokens, strict=True)]))
print()
print(json.dumps({"class": f"{model.__module__}.{model.__name__}", "answers": answers}))
