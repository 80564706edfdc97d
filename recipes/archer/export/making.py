"""From a run, or one of its checkpoints, to a model folder with its card: by hand, and at a run's end."""

from functools import partial
from pathlib import Path
from typing import Any

from recipes.archer.ending import EMPTY, FINISHED, GUARD, NOT_FINITE, Ending, UserError
from recipes.archer.export.card import card
from recipes.archer.export.choosing import Chosen, choose
from recipes.archer.export.folder import Exported, export_model, loading_lines

MODEL = "model"  # the folder beside the checkpoints
_OVER = (FINISHED, GUARD, EMPTY, NOT_FINITE)  # after any other end the same command goes on


def export_target(
    target: Path,
    out: Path | None = None,
    *,
    step: str | None = None,
    dtype: str | None = None,
    overwrite: bool = False,
    verify: bool = False,
    address: str | None = None,
) -> tuple[Chosen, Exported]:
    """Exports the checkpoint that a target means; arguments as :func:`choose` and :func:`export_model`.

    Args:
        out: None: the folder ``model`` beside the checkpoints.
        address: the model's name on the hub, where it is to go there.

    Raises:
        UserError: as these.
    """
    chosen = choose(target, step)
    folder = out if out is not None else chosen.checkpoint.path.parent / MODEL
    written = partial(card, chosen, address=address)
    return chosen, export_model(
        chosen.checkpoint.path, folder, dtype=dtype, overwrite=overwrite, verify=verify, card=written
    )


def leave_model(trainer: Any, ending: Ending) -> tuple[list[str], str | None]:
    """Exports a run's model when the run is over; what goes wrong with it does not change how the run ended.

    Args:
        trainer: the configuration's section.

    Returns:
        Lines to print last; what to warn of, None: nothing.
    """
    if trainer.export is None or ending.exit_code not in _OVER:
        return [], None
    run = Path(trainer.default_local_dir)
    try:
        # None: the best where one is kept
        step = None if trainer.export == "best" else str(trainer.export)
        chosen, exported = export_target(run, step=step, overwrite=True)
    except UserError as error:
        return [], f"no model was exported: {error}"
    except Exception as error:
        return [], f"no model was exported ({type(error).__name__}: {error}); archer export {run} tries again"
    head = f"model of step {chosen.checkpoint.step} in {exported.folder}; in Python:"
    return [head, *(f"    {line}" for line in loading_lines(exported.folder))], None
