"""What is asked of FSDP1 in the precision of a GPU run, by one rank of several: bf16 parameters over fp32 ones."""

from types import SimpleNamespace

import torch
import torch.distributed as dist
from omegaconf import OmegaConf
from torch.distributed.device_mesh import init_device_mesh

from actor_cases import RESPONSE_LENGTHS, TEMPERATURE, Case, Worker, join, make_batch, plain_log_probs, small_qwen3
from wrapping import BF16, STRATEGY, plain_module, whole_parameters, wrap


def run(rank: int, workers: int, meeting_point: str, settings: dict, out: str) -> None:
    """In a process of its own; the results go to ``<out>.<rank>``."""
    join(rank, workers, meeting_point)
    results = {"delayed": gradients(settings), "loads": [loads(tied) for tied in (False, True)]}
    results["log_probs"] = log_probs()
    results["whole"] = stays_whole()
    torch.save(results, f"{out}.{rank}")
    dist.destroy_process_group()


def gradients(settings: dict) -> dict[tuple[str, bool], torch.Tensor]:
    """By cut and by whether the exchange is delayed, of an update in bf16."""
    found = {}
    for delay in (False, True):
        worker = Worker(settings | {"bf16": True, "delay_gradient_sync": delay})
        for cut in ("one row", "all"):
            case = Case("bf16", {"use_kl_loss": False}, cut=cut, tied=True)
            found[cut, delay] = worker.update(case)[0][0]
    return found


def log_probs() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(in bf16 through the bound forward, by the definition in fp32, mask)"""
    from recipes.archer.workers.model_forward import bind_token_forward

    model = small_qwen3(tied=True)
    batch = make_batch(model, RESPONSE_LENGTHS)
    rows, columns = batch["response_mask"].nonzero(as_tuple=True)
    with torch.no_grad():
        expected = plain_log_probs(model, batch)[0][rows, columns]
        module = wrap(model, STRATEGY, precision=BF16)
        bind_token_forward(module)
        width = batch["input_ids"].shape[1] - batch["responses"].shape[1]
        inputs = {key: batch[key] for key in ("input_ids", "attention_mask", "position_ids")}
        output = module(**inputs, positions=(rows, columns + width), temperature=TEMPERATURE)
    return output.log_probs, output.entropy, expected


def stays_whole() -> list[int]:
    """Layers whose parameters are whole after a pass without a backward pass, and after they are given back."""
    from recipes.archer.workers.fsdp import reshard

    module = wrap(small_qwen3(tied=False), STRATEGY)
    layers = plain_module(module).model.layers

    def number() -> int:
        return sum(layer._handle.flat_param._full_param_padded.untyped_storage().size() > 0 for layer in layers)

    with torch.no_grad():
        module(input_ids=torch.ones(1, 4, dtype=torch.long))
    if dist.get_world_size() == 1:  # FSDP1 shards nothing there
        return [len(layers), 0]
    found = [number()]
    reshard(module)
    return [*found, number()]


def loads(tied: bool) -> dict[str, torch.Tensor]:
    """What verl's weight sync gives the engine before a generation, after an update."""
    from verl.workers.sharding_manager import fsdp_vllm

    module = wrap(small_qwen3(tied), STRATEGY)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(1.0)  # as an optimizer would
    given: dict[str, torch.Tensor] = {}
    engine_model = SimpleNamespace(load_weights=lambda pairs: given.update((n, t.clone()) for n, t in pairs))
    runner = SimpleNamespace(model=engine_model)
    worker = SimpleNamespace(worker=SimpleNamespace(model_runner=runner))
    engine = SimpleNamespace(llm_engine=SimpleNamespace(model_executor=SimpleNamespace(driver_worker=worker)))
    rollout = OmegaConf.create({"free_cache_engine": False})
    mesh = init_device_mesh("cpu", (dist.get_world_size(), 1), mesh_dim_names=("dp", "infer_tp"))
    manager = fsdp_vllm.FSDPVLLMShardingManager(
        module,
        engine,
        None,
        rollout,
        full_params=dist.get_world_size() == 1,
        device_mesh=mesh,
        load_format="dummy_dtensor",
    )
    with manager:
        pass
    expected = whole_parameters(module)
    assert all(torch.equal(given[name], value) for name, value in expected.items())
    return {name: value for name, value in given.items()}
