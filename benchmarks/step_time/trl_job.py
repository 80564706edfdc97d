"""The embedded job in TRL's GRPOTrainer; run in an environment of its own, prints one JSON line a step."""

import argparse
import json
import re
import time
from pathlib import Path

import torch
from datasets import Dataset
from transformers import AutoTokenizer, TrainerCallback
from trl import GRPOConfig, GRPOTrainer

BOX = re.compile(r"\\boxed\{([^{}]*)\}")


def reward(completions, ground_truth, **_):
    """1 for the last box equal to the ground truth, else 0."""
    answers = [BOX.findall(c[-1]["content"]) for c in completions]
    return [float(bool(a) and a[-1].strip() == t) for a, t in zip(answers, ground_truth, strict=True)]


class Clock(TrainerCallback):
    """Prints the seconds of every step."""

    def on_step_begin(self, args, state, control, **_):
        self.start = time.perf_counter()

    def on_step_end(self, args, state, control, **_):
        print("STEP", json.dumps({"step": state.global_step, "s": time.perf_counter() - self.start}), flush=True)

    def on_log(self, args, state, control, logs=None, **_):
        keys = ("reward", "completions/mean_length")
        print("LOG", json.dumps({k: logs[k] for k in keys if k in logs}), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("model", "data"):
        parser.add_argument(f"--{name}", required=True)
    for name in ("steps", "prompts", "n", "cap", "seed", "threads"):
        parser.add_argument(f"--{name}", type=int, required=True)
    parser.add_argument("--lr", type=float, required=True)
    parser.add_argument("--beta", type=float, required=True)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    rows = json.loads(Path(arguments.data).read_text())
    data = Dataset.from_list(
        [{"prompt": row["prompt"], "ground_truth": row["reward_model"]["ground_truth"]} for row in rows]
    )
    config = GRPOConfig(
        output_dir="/tmp/trl-job",
        per_device_train_batch_size=arguments.prompts * arguments.n,
        num_generations=arguments.n,
        max_completion_length=arguments.cap,
        max_steps=arguments.steps,
        learning_rate=arguments.lr,
        lr_scheduler_type="constant",
        beta=arguments.beta,
        temperature=1.0,
        num_iterations=1,
        gradient_accumulation_steps=1,
        gradient_checkpointing=False,
        bf16=False,
        use_cpu=True,
        seed=arguments.seed,
        logging_steps=1,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
    )
    # TRL stops at the tokenizer's end alone, which in a base model's files is not the turn's
    settings = {"padding_side": "left", "eos_token": "<|im_end|>"}
    tokenizer = AutoTokenizer.from_pretrained(arguments.model, trust_remote_code=False, **settings)
    trainer = GRPOTrainer(
        model=arguments.model,
        reward_funcs=reward,
        args=config,
        train_dataset=data,
        processing_class=tokenizer,
        callbacks=[Clock()],
    )
    trainer.train()


if __name__ == "__main__":
    main()
