"""A small Qwen3, a batch of rows, and the actor's update of it on one worker or several.

With padding removed, too, which is what runs on a GPU (:mod:`packing`), and under FSDP of either version
(:mod:`wrapping`).
"""

from contextlib import nullcontext
from dataclasses import dataclass, field
from datetime import timedelta

import torch
import torch.distributed as dist
from omegaconf import OmegaConf

from packing import like_a_gpu
from wrapping import BF16, plain_module, whole_gradients, whole_parameters, wrap

VOCAB, PROMPT = 48, 6
RESPONSE_LENGTHS = (10, 1, 0, 7, 3, 10, 5, 2, 9, 4, 6)  # one empty, one of one token; odd: two workers need filler
TEMPERATURE = 0.9
# as the worker sets it: our forward pass answers as upstream's fused kernels do
REMOVED = {"use_remove_padding": True, "use_fused_kernels": True}
UPDATE_ROWS = 16  # an optimizer step that takes everything, with room for filler


@dataclass(frozen=True)
class Case:
    """One update: what to train on, with which settings, cut how."""

    name: str
    settings: dict = field(default_factory=dict)  # of the actor
    cut: str = "all"
    tied: bool = False
    wide: bool = False  # more padding on both sides than the rows need
    without: tuple[str, ...] = ()  # columns left out
    zero_advantages: bool = False
    mini_batch_rows: int = UPDATE_ROWS
    filler: int = 0  # rows that count for nothing, besides those that fill up for the workers
    learning_rate: float = 0.0


CUTS = {
    "one row": {"use_dynamic_bsz": False, "ppo_micro_batch_size_per_gpu": 1},
    "four rows": {"use_dynamic_bsz": False, "ppo_micro_batch_size_per_gpu": 4},
    "all": {"use_dynamic_bsz": False, "ppo_micro_batch_size_per_gpu": 64},
    # so few that two workers come to three micro-batches and to four
    "by tokens": {"use_dynamic_bsz": True, "ppo_max_token_len_per_gpu": 26},
}


def small_qwen3(tied: bool):
    """Two layers in fp32; weights large enough for entropies and log-probabilities to differ widely."""
    from transformers import Qwen3Config, Qwen3ForCausalLM

    config = Qwen3Config(
        vocab_size=VOCAB,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=32,  # the smallest that the rollout engine serves
        tie_word_embeddings=tied,
        attn_implementation="sdpa",
        sliding_window=None,
    )
    torch.manual_seed(3)
    model = Qwen3ForCausalLM(config).float()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(torch.rand_like(parameter) + 0.5) if "norm" in name else parameter.mul_(8.0)
    return model


def make_batch(model, response_lengths=RESPONSE_LENGTHS, wide: bool = False) -> dict[str, torch.Tensor]:
    """Left-padded prompts, right-padded responses, and an old, a reference and an engine's policy near the model."""
    random = torch.Generator().manual_seed(5)
    rows, longest = len(response_lengths), max(response_lengths)
    prompt_lengths = torch.randint(1, PROMPT + 1, (rows, 1), generator=random)
    lengths = torch.tensor(response_lengths)[:, None]
    response_mask = (torch.arange(longest) < lengths).long()
    attention_mask = torch.cat([(torch.arange(PROMPT) >= PROMPT - prompt_lengths).long(), response_mask], dim=1)
    input_ids = torch.randint(1, VOCAB, attention_mask.shape, generator=random) * attention_mask
    batch = {
        "input_ids": input_ids,
        "attention_mask": attention_mask,
        "position_ids": (attention_mask.cumsum(-1) - 1).clamp(min=0),
        "responses": input_ids[:, PROMPT:],
        "response_mask": response_mask,
        "advantages": torch.randn(rows, 1, generator=random).expand(-1, longest) * response_mask,
        "row": torch.arange(rows),
    }
    with torch.no_grad():
        log_prob, entropy = plain_log_probs(model, batch)
    for key, spread in (("old_log_probs", 0.5), ("ref_log_prob", 0.4), ("rollout_log_probs", 0.3)):
        batch[key] = log_prob + spread * torch.randn(log_prob.shape, generator=random)
    batch["rollout_entropy"] = entropy * (1 + 0.2 * torch.rand(entropy.shape, generator=random))
    return _widened(batch) if wide else batch


def plain_log_probs(model, batch, temperature: float = TEMPERATURE) -> tuple[torch.Tensor, torch.Tensor]:
    """By the definition, from all logits: log-probability and entropy at the response positions."""
    keys = ("input_ids", "attention_mask", "position_ids")
    logits = model(**{key: batch[key] for key in keys}, use_cache=False).logits / temperature
    log_p = torch.log_softmax(logits[:, batch["input_ids"].shape[1] - batch["responses"].shape[1] - 1 : -1], dim=-1)
    log_prob = log_p.gather(-1, batch["responses"][..., None])[..., 0]
    return log_prob, -(log_p.exp() * log_p).sum(-1)


def _widened(batch: dict[str, torch.Tensor], left: int = 3, right: int = 5) -> dict[str, torch.Tensor]:
    """The same rows with more padding; what the padding of per-token columns holds must not matter."""
    pads = {"input_ids": (left, right), "attention_mask": (left, right), "position_ids": (left, right)}
    junk = {"old_log_probs": 7.0, "ref_log_prob": -9.0, "rollout_log_probs": -30.0, "rollout_entropy": 99.0}
    return {
        key: torch.nn.functional.pad(value, pads.get(key, (0, right)), value=junk.get(key, 0))
        if value.dim() == 2
        else value
        for key, value in batch.items()
    }


def rows_of_worker(batch: dict[str, torch.Tensor], case: Case, workers: int, rank: int):
    """This worker's block, as the trainer deals it; the case's filler is made as the trainer makes its own."""
    from recipes.archer.workers.deal import dealt
    from verl import DataProto

    rows = len(batch["row"])
    place = torch.arange(rows + case.filler)
    filled = {key: value[torch.where(place < rows, place, 0)] for key, value in batch.items()}
    filled["response_mask"] = filled["response_mask"] * (place < rows)[:, None]
    return dealt(DataProto.from_dict(filled), case.mini_batch_rows, workers).chunk(workers)[rank]


class Recorder(torch.optim.SGD):
    """Keeps every whole gradient it steps with."""

    def __init__(self, module, learning_rate: float):
        super().__init__(module.parameters(), lr=learning_rate)
        self.module = module
        self.gradients: list[torch.Tensor] = []

    def step(self, closure=None):
        self.gradients.append(torch.cat([gradient.flatten() for gradient in whole_gradients(self.module).values()]))
        super().step(closure)


class Worker:
    """One rank: its sharded models, tied and untied, and the actor over either."""

    def __init__(self, settings: dict):
        from recipes.archer.workers.model_forward import bind_token_forward

        self.settings = OmegaConf.create(settings)
        self.batches, self.modules, self.initial = {}, {}, {}
        for tied in (False, True):
            model = small_qwen3(tied)
            for wide in (False, True):
                self.batches[tied, wide] = make_batch(model, wide=wide)
            if self.settings.get("recomputed"):
                model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
            keep_whole = not self.settings.fsdp_config.reshard_after_forward
            module = wrap(model, self.settings.strategy, keep_whole, BF16 if self.settings.get("bf16") else None)
            bind_token_forward(module)
            self.modules[tied] = module
            self.initial[tied] = [p.detach().clone() for p in module.parameters()]

    def config(self, case: Case):
        config = OmegaConf.merge(self.settings, case.settings, CUTS[case.cut])
        config.ppo_mini_batch_size = case.mini_batch_rows // dist.get_world_size()
        return config

    def actor(self, case: Case):
        from recipes.archer.workers.actor import ArcherActor
        from recipes.archer.workers.fsdp import reshard

        module = self.modules[case.tied]
        reshard(module)  # a forward pass without a backward pass leaves the parameters gathered
        with torch.no_grad():
            for parameter, first in zip(module.parameters(), self.initial[case.tied], strict=True):
                parameter.copy_(first)
        return ArcherActor(self.config(case), module, Recorder(module, case.learning_rate))

    def update(self, case: Case, batch: dict[str, torch.Tensor] | None = None) -> tuple[list[torch.Tensor], dict]:
        """The gradients of the case's optimizer updates, and the actor's metrics."""
        batch = dict(batch or self.batches[case.tied, case.wide])
        if case.zero_advantages:
            batch["advantages"] = torch.zeros_like(batch["advantages"])
        for key in case.without:
            del batch[key]
        own = rows_of_worker(batch, case, dist.get_world_size(), dist.get_rank())
        own.meta_info["temperature"] = TEMPERATURE
        actor = self.actor(case)
        removed = case.settings.get("use_remove_padding")
        with like_a_gpu(map(plain_module, self.modules.values())) if removed else nullcontext():
            metrics = actor.update_policy(own)
        return actor.actor_optimizer.gradients, metrics


def join(rank: int, workers: int, meeting_point: str) -> None:
    """Makes this process one of the group's workers; one that waits for another in vain fails after two minutes."""
    torch.set_num_threads(1)
    patience = timedelta(seconds=120)
    meeting = f"file://{meeting_point}"
    dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=workers, timeout=patience)


def run_worker(rank: int, workers: int, meeting_point: str, settings: dict, cases: list[Case], out: str) -> None:
    """In a process of its own: all cases, one after the other; the results go to ``<out>.<rank>``."""
    join(rank, workers, meeting_point)
    worker = Worker(settings)
    torch.save([worker.update(case) for case in cases], f"{out}.{rank}")
    save_checkpoint(worker, f"{out}.checkpoint")
    dist.destroy_process_group()


def worker_state(worker: Worker, case: Case):
    """The case's actor with Adam and a schedule, and what a checkpoint of them holds."""
    from recipes.archer.checkpoints.shards import WorkerState

    actor = worker.actor(case)
    actor.actor_optimizer = torch.optim.AdamW(actor.actor_module.parameters(), lr=0.01)
    schedule = torch.optim.lr_scheduler.LambdaLR(actor.actor_optimizer, lambda step: 0.1**step)
    return actor, WorkerState(actor.actor_module, actor.actor_optimizer, schedule, dist.get_rank())


def whole_state(state) -> list[torch.Tensor]:
    """Parameters and Adam's first moments, not sharded."""
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_optimizer_state_dict

    options = StateDictOptions(full_state_dict=True)
    parameters = whole_parameters(state.model)
    moments = get_optimizer_state_dict(state.model, state.optimizer, options=options)["state"]
    return [*parameters.values(), *(moments[name]["exp_avg"] for name in parameters)]


def save_checkpoint(worker: Worker, path: str) -> None:
    """A step, a pass without gradient as between steps, then a checkpoint; beside it what it must hold."""
    from recipes.archer.checkpoints.shards import save_shards

    case = Case("checkpoint", learning_rate=0.01)
    actor, state = worker_state(worker, case)
    own = rows_of_worker(worker.batches[False, False], case, dist.get_world_size(), dist.get_rank())
    own.meta_info |= {"temperature": TEMPERATURE, "max_token_len": 400, "use_dynamic_bsz": True}
    actor.update_policy(own)
    state.scheduler.step()
    actor.compute_log_prob(own)
    save_shards(path, state)
    tensors = whole_state(state)
    if dist.get_rank() == 0:
        torch.save((tensors, state.scheduler.state_dict()), f"{path}.expected")
