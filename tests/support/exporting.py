"""Checkpoints of small models as runs save them, made in this process: by one worker, and as two would."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import torch
import torch.distributed as dist
import yaml
from tokenizers import Regex, Tokenizer, pre_tokenizers
from tokenizers.models import WordLevel
from torch.distributed.checkpoint import DefaultSavePlanner, FileSystemWriter
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Shard
from torch.testing._internal.distributed.fake_pg import FakeStore
from transformers import GenerationConfig, PreTrainedTokenizerFast

from actor_cases import VOCAB, small_qwen3
from recipes.archer.checkpoints.host import HostState
from recipes.archer.checkpoints.manifest import write_manifest

TEMPLATE = "{% for m in messages %}{{ m['role'] + ':' + m['content'] + '|' }}{% endfor %}"
STOPS = [1, 3]


def tokenizer() -> PreTrainedTokenizerFast:
    """Of single characters, with a chat template."""
    letters = ["<unk>", "<end>", *"abcdefghijklmnopqrstuvwxyz0123456789?.+=:| "]
    made = Tokenizer(WordLevel({letter: i for i, letter in enumerate(letters[:VOCAB])}, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    return PreTrainedTokenizerFast(tokenizer_object=made, eos_token="<end>", chat_template=TEMPLATE)


def model(tied: bool = True, dtype: torch.dtype = torch.float32):
    """A small Qwen3 with numbers of its own."""
    return small_qwen3(tied).to(dtype)


def save_checkpoint(folder: Path, state: dict, *, config=None, step: int = 2, row: dict | None = None, workers=1):
    """A whole checkpoint of a model's state, with its first moments, as ``workers`` save it.

    Args:
        state: name to tensor, as ``state_dict`` of the model.
        config: of the model, for ``model_config/``; None: none.
    """
    folder.mkdir(parents=True)
    moments = {f"exp_avg.{name}": tensor.float() / 8 for name, tensor in state.items()}
    _save_shards(folder, {"model": state, "optimizer": moments}, workers)
    if config is not None:
        config.save_pretrained(folder / "model_config")
        GenerationConfig(eos_token_id=STOPS).to_json_file(folder / "model_config" / "generation_config.json")
        tokenizer().save_pretrained(folder / "model_config")
    HostState.of_this_process(SimpleNamespace(state_dict=dict)).write(folder, 0)
    row = {"step": step, "val/accuracy": 0.5, **(row or {})}
    (folder / "state.json").write_text(json.dumps({"step": step, "row": row}), encoding="utf-8")
    write_manifest(folder)
    return folder


def save_run(folder: Path, accuracies: dict[int, float | None], **facts) -> Path:
    """A run folder with a checkpoint of a few numbers for each step.

    Args:
        accuracies: step to held-out accuracy there.
        facts: of run.json.
    """
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps({"name": "a run", **facts}), encoding="utf-8")
    config = {"trainer": {"keep_best": {"metric": "val/accuracy", "mode": "max"}, "total_training_steps": 9}}
    (folder / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    (folder / "metrics.jsonl").write_text('{"step": 1}\n', encoding="utf-8")
    for step, accuracy in accuracies.items():
        state = {"weight": torch.full((2,), float(step))}
        save_checkpoint(folder / f"global_step_{step}", state, step=step, row={"val/accuracy": accuracy})
    return folder


def _save_shards(folder: Path, state: dict, workers: int) -> None:
    """What ``dcp.save`` does on each rank and on the coordinator, one after the other."""
    planners = [DefaultSavePlanner() for _ in range(workers)]
    writers = [FileSystemWriter(folder) for _ in range(workers)]
    plans = []
    for rank, (planner, writer) in enumerate(zip(planners, writers, strict=True)):
        with _alone_as(rank, workers):
            planner.set_up_planner(_sharded(state, rank, workers), writer.storage_meta(), is_coordinator=rank == 0)
            writer.set_up_storage_writer(rank == 0)
            plans.append(writer.prepare_local_plan(planner.create_local_plan()))
    plans, metadata = planners[0].create_global_plan(plans)
    plans, results = writers[0].prepare_global_plan(plans), []
    for rank, (plan, planner, writer) in enumerate(zip(plans, planners, writers, strict=True)):
        with _alone_as(rank, workers):
            results.append(writer.write_data(planner.finish_plan(plan), planner).wait())
    writers[0].finish(metadata, results)


def _sharded(state: dict, rank: int, workers: int) -> dict:
    """A rank's part of each tensor, by rows, as FSDP cuts them."""
    if workers == 1:
        return {part: {name: tensor.detach() for name, tensor in tensors.items()} for part, tensors in state.items()}
    mesh = init_device_mesh("cpu", (workers,))

    def own(tensor: torch.Tensor) -> DTensor:
        parts = list(tensor.detach().chunk(workers))
        parts += [tensor.new_empty(0, *tensor.shape[1:])] * (workers - len(parts))
        return DTensor.from_local(
            parts[rank].contiguous(), mesh, [Shard(0)], run_check=False, shape=tensor.shape, stride=tensor.stride()
        )

    return {part: {name: own(tensor) for name, tensor in tensors.items()} for part, tensors in state.items()}


@contextmanager
def _alone_as(rank: int, workers: int) -> Iterator[None]:
    """One rank of a group in which nobody else is: nothing may be sent."""
    if workers == 1:
        yield
        return
    dist.init_process_group("fake", store=FakeStore(), rank=rank, world_size=workers)
    try:
        yield
    finally:
        dist.destroy_process_group()
