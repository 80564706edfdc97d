"""What a checkpoint belongs to, written into it, and whether it may be continued by this run.

Refused is what would be misread: another model, other training prompts.  What only makes the continuation
differ from the run that was interrupted is said in one line and accepted.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from recipes.archer.checkpoints.reading import STATE, Checkpoint
from recipes.archer.ending import UserError
from recipes.archer.runs.log import versions

ARCHITECTURE = (
    "model_type",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "vocab_size",
    "tie_word_embeddings",
)
PARTS = {"model": dict, "weights": str, "data": dict, "seeds": dict, "versions": dict, "world_size": int}
MOST_TEXT = 4096  # characters of a value: one of them is a path
_BLOCK = 1 << 20


def identity(config: DictConfig, rows: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Of a run, as JSON.

    Args:
        config: the whole configuration, resolved.
        rows: the training prompts that are used, in the order of the file.
    """
    model, trainer = config.actor_rollout_ref.model, config.trainer
    path = Path(os.path.expanduser(model.path))
    facts = json.loads((path / "config.json").read_text(encoding="utf-8")) | dict(model.get("override_config") or {})
    return {
        "versions": {name: version for name, version in versions().items() if name in ("archer", "verl")},
        "world_size": trainer.n_gpus_per_node * trainer.nnodes,
        "model": {name: facts.get(name) for name in ARCHITECTURE} | {"lora_rank": model.get("lora_rank", 0)},
        "weights": _sampled_hash(path),
        "data": _data(rows),
        "resume_from_path": trainer.resume_from_path if trainer.resume_mode == "resume_path" else None,
        "seeds": {"seed": config.seed, "data.seed": config.data.seed, "data.shuffle": config.data.shuffle},
    }


def check_identity(checkpoint: Checkpoint, run: dict[str, Any], with_reference: bool) -> list[str]:
    """What to tell the user of a checkpoint that this run continues.

    Args:
        run: :func:`identity` of this run.
        with_reference: whether the loss has a KL term to the model that training started from.

    Raises:
        UserError: it belongs to another model or to other data, and the message says what differs; or it does not
            say what it belongs to.
    """
    path, written = checkpoint.path, _written(checkpoint)
    other = "or set trainer.experiment_name to another name for a new run"
    if differing := _differing(written, run, "model"):
        raise UserError(
            f"checkpoint {path} holds a model with {_list(differing, 0)}, the one at actor_rollout_ref.model.path "
            f"has {_list(differing, 1)}; use the model it was trained from, {other}"
        )
    weights = written["weights"] != run["weights"]
    if weights and with_reference:
        raise UserError(
            f"checkpoint {path} was trained from other weights than those at actor_rollout_ref.model.path, which the "
            f"KL term would measure from now on; use the model it was trained from, {other}"
        )
    data = dict(_differing(written, run, "data"))
    if "prompts" in data or "questions" in data:
        raise UserError(
            f"checkpoint {path} stands at a place in {_prompts(written['data'])}, data.train_files has "
            f"{_prompts(run['data'])} of at most data.max_prompt_length tokens; use the same file, {other}"
        )
    notes = []
    if weights:
        notes.append("it was trained from other weights than those at actor_rollout_ref.model.path")
    if "rows" in data:
        notes.append("data.train_files has the same questions, but ground truths or other columns have changed")
    if differing := _differing(written, run, "seeds"):
        notes.append(f"it was written with {_list(differing, 0)}, this run has {_list(differing, 1)}")
    if differing := _differing(written, run, "versions"):
        notes.append(f"it was written by {_list(differing, 0)}, this is {_list(differing, 1)}")
    if written["world_size"] != run["world_size"]:
        notes.append(
            f"it was written with world size {written['world_size']}, this run has {run['world_size']}: "
            "sums are taken in another order, so it goes on alike but not bit for bit"
        )
    return [f"checkpoint {path}: {note}" for note in notes]


def _written(checkpoint: Checkpoint) -> dict[str, Any]:
    """The identity in a checkpoint, which may be anyone's.

    Raises:
        UserError: there is none, it lacks a part, or a part of it is of another kind.
    """
    written = checkpoint.state.get("identity")
    if not isinstance(written, dict):
        written = {}
    whole = all(isinstance(written.get(name), kind) for name, kind in PARTS.items())
    parts = [part if isinstance(part, dict) else {"": part} for part in written.values()]
    said = chain(written, *(chain(*part.items()) for part in parts))  # names and values of all parts
    if not whole or not all(map(_is_plain, said)):
        raise UserError(
            f"checkpoint {checkpoint.path} does not say what it belongs to (identity in {STATE}), so it is not "
            "continued; set trainer.experiment_name to another name for a new run"
        )
    return written


def _is_plain(value: Any) -> bool:
    """Whether a value can be compared and printed; one of the stranger's own making may hold anything."""
    if isinstance(value, str):
        return len(value) <= MOST_TEXT and value.isprintable()
    if isinstance(value, list):  # as some architectures give a number for each layer
        return all(not isinstance(item, list) and _is_plain(item) for item in value)
    return value is None or isinstance(value, bool | int | float)


def _differing(written: dict[str, Any], run: dict[str, Any], part: str) -> list[tuple[str, tuple[Any, ...]]]:
    """(name, values) of what both sides know and see differently."""
    ours, theirs = run[part], written.get(part, {})
    return [
        (name, (theirs[name], value))
        for name, value in ours.items()
        if theirs.get(name) is not None and value is not None and theirs[name] != value
    ]


def _list(differing: list[tuple[str, tuple[Any, ...]]], side: int) -> str:
    return ", ".join(f"{name}={values[side]}" for name, values in differing)


def _data(rows: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    number, questions, whole = 0, hashlib.sha256(), hashlib.sha256()
    for row in rows:
        number += 1
        questions.update(_line(row["prompt"]))
        whole.update(_line(row))
    return {"prompts": number, "questions": questions.hexdigest(), "rows": whole.hexdigest()}


def _line(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, default=str).encode() + b"\n"


def _prompts(data: dict[str, Any]) -> str:
    return f"{data.get('prompts')} prompts ({str(data.get('questions'))[:8]})"


def _sampled_hash(model: Path) -> str:
    """Of the beginnings, ends and sizes of the weights: training changes all of a model, so these suffice."""
    digest = hashlib.sha256()
    for file in sorted([*model.glob("*.safetensors"), *model.glob("*.bin")]):
        if not file.is_file():  # a pipe would be waited for
            continue
        size = file.stat().st_size
        digest.update(f"{file.name} {size}\n".encode())
        with open(file, "rb") as stream:
            digest.update(stream.read(_BLOCK))
            stream.seek(max(0, size - _BLOCK))
            digest.update(stream.read())
    return digest.hexdigest()
