"""A new run that begins with what another one learned: its parameters, and where wanted its optimizer's moments."""

from pathlib import Path

from torch.distributed.checkpoint.state_dict import (
    get_model_state_dict,
    get_state_dict,
    set_model_state_dict,
    set_state_dict,
)

from recipes.archer.checkpoints.shards import WorkerState, aliases, read_into


def fork_shards(path: str, state: WorkerState, with_optimizer: bool) -> None:
    """Reads parameters, and moments if wanted, from the finished folder ``path``; every rank calls it.

    Learning rate, weight decay and whatever else a group of parameters has stay this run's own, as do its schedule and
    its random state.

    Raises:
        UserError: the folder holds anything else than this model's state as tensors and plain values.
        RuntimeError: it cannot be read for another reason.
    """
    if not with_optimizer:  # whose state would come to be if it were only asked for
        model = get_model_state_dict(state.model)
        read_into({"model": model}, Path(path), aliases(state.model))
        set_model_state_dict(state.model, model)
        return
    own = [{key: value for key, value in group.items() if key != "params"} for group in state.optimizer.param_groups]
    model, optimizer = get_state_dict(state.model, state.optimizer)
    read_into({"model": model, "optimizer": optimizer}, Path(path), aliases(state.model))
    set_state_dict(state.model, state.optimizer, model_state_dict=model, optim_state_dict=optimizer)
    for group, settings in zip(state.optimizer.param_groups, own, strict=True):
        group.update(settings)
