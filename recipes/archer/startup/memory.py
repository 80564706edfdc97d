"""Whether a model can be trained in this machine's memory at all, where it is trained on a CPU."""

import os
from pathlib import Path

from omegaconf import DictConfig

from recipes.archer.checkpoints.disk_space import first_size, readable
from recipes.archer.ending import UserError
from recipes.archer.losses.constants import uses_reference
from recipes.archer.session.ray_session import KV_CACHE_GIB, names_cluster
from recipes.archer.settings.relations import num_workers

# of a container; the machine's own is what is left where there is none
LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def check_memory(config: DictConfig, model: Path) -> None:
    """Refuses a model whose tensors alone are more than the memory; says nothing of a GPU, or of a cluster of Ray's.

    Raises:
        UserError: shows the sum.
    """
    if config.trainer.device != "cpu" or names_cluster():
        return
    parts, there = parts_of(config, first_size(model, bytes_each=1, copies=1)), memory()
    if (needed := sum(parts.values())) <= there:
        return
    total = " + ".join(f"{what} {readable(size)}" for what, size in parts.items())
    raise UserError(
        f"{model} cannot be trained in this machine's {readable(there)} of memory: {total} = {readable(needed)}; "
        "use a smaller model, or a machine with a GPU"
    )


def parts_of(config: DictConfig, parameters: int) -> dict[str, int]:
    """Bytes of what is in memory all the time, over all workers; activations and programs come on top.

    Args:
        parameters: of the model.
    """
    actor = config.actor_rollout_ref.actor
    each = 4 if "32" in str(actor.fsdp_config.get("model_dtype") or "fp32") else 2
    weights, workers = parameters * each, num_workers(config)
    drawn = 4 if config.actor_rollout_ref.rollout.dtype == "float32" else 2
    parts = {"weights": weights, "gradients": weights, "Adam's two moments": 2 * weights}
    if uses_reference(actor):
        parts["reference"] = weights
    times = f" of {workers} workers" if workers > 1 else ""
    return parts | {
        f"engine{times}": workers * parameters * drawn,
        f"its cache{times}": workers * KV_CACHE_GIB * 2**30,
    }


def memory() -> int:
    """Bytes that this process and its children may have: the machine's, or its container's."""
    sizes = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for file in map(Path, LIMITS):
        if file.is_file() and (limit := file.read_text().strip()).isdigit():  # "max": none
            sizes.append(int(limit))
    return min(sizes)
