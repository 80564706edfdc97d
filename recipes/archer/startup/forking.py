"""Whether a new run begins at another one's checkpoint, and may; all of it before Ray starts."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recipes.archer.checkpoints.reading import Checkpoint
from recipes.archer.ending import UserError
from recipes.archer.export.choosing import choose
from recipes.archer.losses.constants import uses_reference
from recipes.archer.printable import complain
from recipes.archer.runs.folder import locate


@dataclass(frozen=True)
class Fork:
    """Where a new run begins.

    Attributes:
        checkpoint: of the other run.
        run: that run's name.
        with_optimizer: whether its moments are taken, too.
    """

    checkpoint: Checkpoint
    run: str
    with_optimizer: bool

    @property
    def lineage(self) -> dict[str, Any]:
        """What run.json says of it."""
        facts = {"run": self.run, "step": self.checkpoint.step, "optimizer": self.with_optimizer}
        return {"forked_from": {**facts, "checkpoint": str(self.checkpoint.path.absolute())}}

    def __str__(self) -> str:
        what = "parameters and moments" if self.with_optimizer else "parameters"
        return f"beginning with the {what} of step {self.checkpoint.step} of {self.run}, {self.checkpoint.path}"


def fork_of(config, this_run: dict[str, Any]) -> Fork | None:
    """Where ``trainer.fork_from`` lets a new run begin; None: at the model's own weights. What to warn of is said.

    Args:
        config: the whole configuration.
        this_run: its identity.

    Raises:
        UserError: there is no such checkpoint, it is this run's own, or it holds another model.
    """
    trainer = config.trainer
    if trainer.fork_from is None:
        return None
    target = locate(str(trainer.fork_from), Path(trainer.output_dir))
    own = Path(trainer.default_local_dir).resolve()
    if target.resolve().is_relative_to(own):
        raise UserError(
            f"trainer.fork_from={trainer.fork_from} is this run's own folder; trainer.resume_mode=resume_path goes "
            "back to an earlier checkpoint, another trainer.experiment_name begins another run at it"
        )
    chosen = choose(target)
    path, written = chosen.checkpoint.path, chosen.checkpoint.state.get("identity") or {}
    there, here = written.get("model") or {}, this_run["model"]
    known = [name for name, value in here.items() if value is not None and there.get(name) is not None]
    if differing := [name for name in known if there[name] != here[name]]:
        values = ", ".join(f"{name}={there[name]} instead of {here[name]}" for name in differing)
        raise UserError(
            f"trainer.fork_from: checkpoint {path} holds another model than actor_rollout_ref.model.path: {values}"
        )
    if written.get("weights") not in (None, this_run["weights"]) and uses_reference(config.actor_rollout_ref.actor):
        complain(
            f"warning: checkpoint {path} was trained from other weights than those at actor_rollout_ref.model.path, "
            "from which the KL term measures"
        )
    name = chosen.run.name if chosen.run is not None else path.absolute().parent.name
    return Fork(chosen.checkpoint, name, trainer.fork_optimizer)
