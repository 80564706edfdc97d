"""One update of the actor at Qwen3-0.6B's shapes, with random weights: seconds and peak memory.

Run: python -m benchmarks.bench_actor_update [--device cuda|cpu] [--responses 16] [--tokens 4096] [--loss aspo]
         [--micro-batch-tokens 4224 8448 16896] [--before]

The recipe's own actor on one device under FSDP2, with the settings of the experiment `archer` for that device: forward
and backward over so many responses, policy loss, KL to a reference, AdamW. On a GPU, which needs flash-attn, parameters
are gathered in bf16, activations are recomputed and padding is removed; on a CPU everything is fp32. The same batch is
cut into micro-batches of each budget of tokens in turn, smallest first. The first update with each, which allocates and
compiles, is left out of the time, not of the peak. Peak is of allocated memory on a GPU; on a CPU of resident memory,
with the budgets before. Nothing is downloaded. How often the host waits for the device is counted over one update more.

With --before, each budget is measured as it was, too, in the same go: the borders of packed sequences worked out in
every layer. What the exchange of gradients and the gathering of parameters take shows on several devices only.

Writes benchmarks/results/actor_update_<device>.json and a paragraph of docs/algorithms.md.
"""

import argparse
import importlib.util
import json
import statistics
import sys
import tempfile
import time
from contextlib import contextmanager
from datetime import UTC, datetime

from omegaconf import open_dict

from benchmarks.bench_chunked_head import PAGE, described, peak_bytes
from benchmarks.host_syncs import host_syncs
from benchmarks.page import marks, put_between
from recipes.archer.settings.configuration import ROOT, compose
from recipes.archer.startup.preflight import NEEDS_FLASH_ATTN

RESULTS = ROOT / "benchmarks" / "results"
BEGIN, END = marks("update", "benchmarks.bench_actor_update")
PROMPT = 128  # tokens
SHAPES = {  # the fields of Qwen3-0.6B's config.json that give its tensors their shapes, and a small one to try with
    "qwen3-0.6b": {
        "vocab_size": 151_936,
        "hidden_size": 1024,
        "intermediate_size": 3072,
        "num_hidden_layers": 28,
        "num_attention_heads": 16,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "rope_theta": 1_000_000.0,
        "max_position_embeddings": 32_768,
        "tie_word_embeddings": True,
    },
    "tiny": {
        "vocab_size": 64,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 32,
        "tie_word_embeddings": True,
    },
}


def actor_config(device: str, loss: str, responses: int, tokens: int):
    """The actor's settings for one update over all responses."""
    files = ["data.train_files=a", "data.val_files=b", "actor_rollout_ref.model.path=m"]
    settings = {
        "data.max_prompt_length": PROMPT,
        "data.max_response_length": tokens,
        "actor_rollout_ref.actor.policy_loss.loss_mode": loss,
        "actor_rollout_ref.actor.ppo_epochs": 1,
        "actor_rollout_ref.actor.ppo_mini_batch_size": responses,
        "actor_rollout_ref.actor.strategy": "fsdp2",
    }
    overrides = [f"{name}={value}" for name, value in settings.items()]
    whole = compose(["experiment=archer", f"device={device}", *files, *overrides]).actor_rollout_ref
    with open_dict(whole):  # as the worker sets them: our forward pass answers as upstream's fused kernels do
        whole.actor.use_remove_padding = whole.model.use_remove_padding
        whole.actor.use_fused_kernels = True
    return whole


def build_actor(shape: str, device: str, config):
    """The recipe's actor over a model with random weights; joins no other process."""
    import torch
    from torch.distributed.device_mesh import init_device_mesh
    from transformers import Qwen3Config, Qwen3ForCausalLM

    from recipes.archer.workers.actor import ArcherActor
    from recipes.archer.workers.model_forward import bind_token_forward
    from verl.utils.fsdp_utils import MixedPrecisionPolicy, apply_fsdp2

    torch.manual_seed(1)
    attention = "flash_attention_2" if config.actor.use_remove_padding else "sdpa"
    with torch.device(device):
        model = Qwen3ForCausalLM(Qwen3Config(**SHAPES[shape], attn_implementation=attention)).float()
    if config.model.enable_gradient_checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    precision = MixedPrecisionPolicy(param_dtype=dtype, reduce_dtype=torch.float32, cast_forward_inputs=True)
    wrapping = {"mesh": init_device_mesh(device, (1,)), "mp_policy": precision, "reshard_after_forward": True}
    apply_fsdp2(model, wrapping, config.actor.fsdp_config)
    bind_token_forward(model)
    optim = config.actor.optim
    optimizer = torch.optim.AdamW(model.parameters(), lr=optim.lr, weight_decay=optim.weight_decay)
    return ArcherActor(config.actor, model, optimizer)


def make_batch(vocabulary: int, responses: int, tokens: int):
    """Random tokens in responses of a quarter of the cap up to the cap; old and reference policy near the truth."""
    import torch

    from verl import DataProto

    random = torch.Generator().manual_seed(2)
    lengths = torch.randint(max(1, tokens // 4), tokens + 1, (responses, 1), generator=random)
    mask = (torch.arange(tokens) < lengths).long()
    attention = torch.cat([torch.ones(responses, PROMPT, dtype=torch.long), mask], dim=1)
    ids = torch.randint(1, vocabulary, attention.shape, generator=random) * attention
    uniform = -torch.log(torch.tensor(float(vocabulary)))  # what a model with random weights gives every token

    def near() -> torch.Tensor:
        return uniform + 0.1 * torch.randn(mask.shape, generator=random)

    tensors = {
        "input_ids": ids,
        "attention_mask": attention,
        "position_ids": (attention.cumsum(-1) - 1).clamp(min=0),
        "responses": ids[:, PROMPT:],
        "response_mask": mask,
        "advantages": torch.randn(responses, 1, generator=random).expand(-1, tokens).contiguous(),
        "row": torch.arange(responses),
        "old_log_probs": near(),
        "ref_log_prob": near(),
        "rollout_log_probs": near(),
    }
    return DataProto.from_dict(tensors, meta_info={"temperature": 1.0})


@contextmanager
def alone(device: str):
    """A process group of this process only."""
    import torch.distributed as dist

    with tempfile.TemporaryDirectory() as folder:
        backend = "nccl" if device == "cuda" else "gloo"
        dist.init_process_group(backend, init_method=f"file://{folder}/meeting", rank=0, world_size=1)
        try:
            yield
        finally:  # left there, NCCL's would keep the process from ending
            dist.destroy_process_group()


def attention(config) -> str:
    """Whose kernels the model's attention runs with."""
    if not config.actor.use_remove_padding:
        return "sdpa"
    import flash_attn

    return f"flash-attn {flash_attn.__version__}"


@contextmanager
def as_before():
    """The borders of packed sequences are left for transformers to find, in every layer."""
    from unittest.mock import patch

    from recipes.archer.workers import model_forward

    with patch.object(model_forward, "packed_borders", lambda position_ids: {}):
        yield


def measure(
    shape: str,
    device: str,
    loss: str,
    responses: int,
    tokens: int,
    repeats: int,
    budgets: list[int],
    before: bool = False,
) -> dict:
    """Seconds and peak memory of updates over the same batch, with each budget of tokens a micro-batch."""
    config = actor_config(device, loss, responses, tokens)
    with alone(device):
        actor = build_actor(shape, device, config)
        batch = make_batch(SHAPES[shape]["vocab_size"], responses, tokens).to(device)
        earlier = {}
        if before:
            with as_before():
                earlier["before"] = [with_budget(actor, batch, device, budget, repeats) for budget in sorted(budgets)]
        return earlier | {
            "shape": shape,
            "loss": loss,
            "responses": responses,
            "tokens_computed": int(batch.batch["attention_mask"].sum()),
            "response_tokens": int(batch.batch["response_mask"].sum()),
            "padding_removed": bool(config.actor.use_remove_padding),
            "activations_recomputed": bool(config.model.enable_gradient_checkpointing),
            "attention": attention(config),
            "budgets": [with_budget(actor, batch, device, budget, repeats) for budget in sorted(budgets)],
        }


def with_budget(actor, batch, device: str, budget: int, repeats: int) -> dict:
    """Updates in micro-batches of so many tokens, after one that is not counted."""
    import torch

    actor.config.ppo_max_token_len_per_gpu = budget
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    seconds = []
    for _ in range(1 + repeats):
        start = time.perf_counter()
        metrics = actor.update_policy(batch)  # reads the metrics off the device, and so waits for it
        seconds.append(time.perf_counter() - start)
    if metrics["actor/num_updates"] != 1:
        raise SystemExit("the update was skipped: its gradient is not finite")
    median = statistics.median(seconds[1:])
    with host_syncs(device) as waits:
        actor.update_policy(batch)
    return {
        "tokens_a_micro_batch": budget,
        "host_syncs": waits[0],
        "update_s": [round(value, 3) for value in seconds[1:]],
        "median_s": round(median, 3),
        "tokens_a_second": round(int(batch.batch["attention_mask"].sum()) / median),
        "peak_gb": round(peak_bytes(device) / 1e9, 2),
    }


def sentence(result: dict) -> str:
    """What the page says of one device: a line a budget."""
    tokens = f"{result['responses']} responses, {result['tokens_computed']:,} tokens with their prompts"
    switches = {"activations recomputed": "activations_recomputed", "padding removed": "padding_removed"}
    how = [result["dtype"], *(words for words, name in switches.items() if result[name]), result["attention"]]
    lines = [
        f"- {each['tokens_a_micro_batch']:,} tokens a micro-batch: {each['median_s']} s an update, "
        f"{each['tokens_a_second']:,} tokens a second, peak {each['peak_gb']} GB"
        for each in result["budgets"]
    ]
    return "\n".join([f"On {result['device']} ({', '.join(how)}): `{result['loss']}`, {tokens}:\n", *lines])


def paragraph() -> str:
    """What was measured so far."""
    files = [RESULTS / f"actor_update_{device}.json" for device in ("cuda", "cpu")]
    return "\n\n".join(sentence(json.loads(file.read_text(encoding="utf-8"))) for file in files if file.is_file())


def main() -> None:
    """Measures and writes the result."""
    import torch

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--shape", choices=SHAPES, default="qwen3-0.6b", help="of another no result is kept")
    parser.add_argument("--responses", type=int, default=16)
    parser.add_argument("--tokens", type=int, default=4096, help="cap of a response")
    parser.add_argument("--loss", default="aspo")
    budgets = "default: one, two and four times a prompt and the cap"
    parser.add_argument("--micro-batch-tokens", type=int, nargs="+", help=budgets)
    parser.add_argument("--before", action="store_true", help="also without what makes it faster")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--no-result", action="store_true", help="print only: a trial")
    args = parser.parse_args()
    if (args.device == "cuda") != torch.cuda.is_available():
        sys.exit("--device cuda: no GPU here" if args.device == "cuda" else "--device cpu: set CUDA_VISIBLE_DEVICES=")
    if args.device == "cuda" and importlib.util.find_spec("flash_attn") is None:  # verl's actor imports it there
        sys.exit(f"--device cuda: {NEEDS_FLASH_ATTN}")
    head = {"date": datetime.now(UTC).isoformat(timespec="seconds"), **described(args.device)}
    budgets = args.micro_batch_tokens or [times * (PROMPT + args.tokens) for times in (1, 2, 4)]
    result = head | measure(
        args.shape, args.device, args.loss, args.responses, args.tokens, args.repeats, budgets, args.before
    )
    print(json.dumps(result, indent=1))
    if not args.no_result and args.shape == "qwen3-0.6b":
        (RESULTS / f"actor_update_{args.device}.json").write_text(json.dumps(result, indent=1) + "\n")
        put_between(PAGE, BEGIN, END, paragraph())


if __name__ == "__main__":
    main()
