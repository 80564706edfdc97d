"""The model card: what the model is, what made it, how good it was held to be. Only what is known."""

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from recipes.archer.checkpoints.bounded import read_bytes
from recipes.archer.evaluation.stored import read_scores
from recipes.archer.export.choosing import Chosen
from recipes.archer.export.folder import loading_lines
from recipes.archer.printable import printable
from recipes.archer.reading.regular import UnreadableError
from recipes.archer.reading.yaml import parse_yaml

UNKNOWN = "not known to the exporter"
EVALUATIONS, SCORES = "evaluations", "scores.json"
_MOST_SCORES, _MOST_BYTES = 100, 1 << 20
_HUB_FOLDER = re.compile(r"models--([\w.-]+?)--([\w.-]+)", re.ASCII)  # of the hub's cache
_LICENCE = re.compile(r"[\w.+-]{1,40}", re.ASCII)
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)
_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~$&])")
_MOST_TEXT = 2000  # characters of a text from elsewhere


def card(chosen: Chosen, dtype: str, num_parameters: int, address: str | None = None) -> str:
    """README.md of an exported model.

    Args:
        dtype: of its parameters.
        address: its name on the hub, where it is to go there.
        num_parameters: tied ones counted once.
    """
    checkpoint = chosen.checkpoint
    facts = chosen.run.facts if chosen.run is not None else {}
    config = chosen.run.config if chosen.run is not None else {}
    row = checkpoint.state.get("row")
    base = _Base.of(config)
    name = chosen.run.name if chosen.run is not None else checkpoint.path.resolve().name
    blocks = [
        _front_matter(base),
        f"# {_plain(name)}, step {checkpoint.step}",
        "A language model after reinforcement learning with verifiable rewards on mathematics, exported from a "
        f"checkpoint of an archer run. {num_parameters:,} parameters in {_plain(dtype)}.",
        "```python\n" + "\n".join(loading_lines(address or "path/to/this/folder")) + "\n```",
        "## What it was made from",
        _facts([("base model", base.shown), ("licence of the base model", base.licence or UNKNOWN)]),
        *_experiment(config),
        "## Figures",
        *_figures(checkpoint.step, row if isinstance(row, dict) else {}, facts, config),
        *_evaluations(chosen),
        "## Provenance",
        _facts(_provenance(chosen, facts, config)),
    ]
    return "\n\n".join(filter(None, blocks)) + "\n"


class _Base:
    """The model that training started from, as far as this machine knows it."""

    def __init__(self, shown: str, hub_name: str | None, licence: str | None):
        self.shown, self.hub_name, self.licence = shown, hub_name, licence

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> "_Base":
        path = _at(config, "actor_rollout_ref.model.path")
        if not isinstance(path, str) or not path:
            return cls(UNKNOWN, None, None)
        folder = Path(os.path.expanduser(path))
        cached = next(filter(None, map(_HUB_FOLDER.fullmatch, folder.parts)), None)
        hub_name = f"{cached[1]}/{cached[2]}" if cached else None
        if hub_name is not None and not _HUB_NAME.fullmatch(hub_name):
            hub_name = None
        return cls(hub_name or folder.name, hub_name, _licence(folder))


def _licence(folder: Path) -> str | None:
    """What the base model's own card says; None where it says nothing, or is not here."""
    text = _text(folder / "README.md")
    match = re.match(r"---\n(.*?)\n---\s", text, re.DOTALL) if text is not None else None
    try:
        front = parse_yaml(match[1], "README.md") if match else None
    except UnreadableError:
        return None
    said = front.get("license") if isinstance(front, dict) else None
    return said if isinstance(said, str) and _LICENCE.fullmatch(said) else None


def _front_matter(base: _Base) -> str:
    content: dict[str, Any] = {
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["archer", "grpo", "reinforcement-learning"],
    }
    if base.licence is not None:
        content["license"] = base.licence
    if base.hub_name is not None:
        content["base_model"] = base.hub_name
    return f"---\n{yaml.safe_dump(content, sort_keys=False).strip()}\n---"


def _experiment(config: Mapping[str, Any]) -> Iterator[str]:
    record = config.get("record")
    if not isinstance(record, dict):
        return
    parent = record.get("parent")
    yield f"## Experiment {_plain(record.get('name'))}: {_plain(record.get('title'))}"
    for field in ("problem", "hypothesis"):
        if record.get(field):
            yield f"**{field.capitalize()}.** {_plain(record[field])}"
    changes = [change for change in record.get("changes") or () if isinstance(change, dict)]
    if changes:
        yield f"What differs from {_plain(parent) if parent else 'the base configuration'}:"
        rows = [(c.get("key"), _at(config, str(c.get("key"))), c.get("why")) for c in changes]
        yield _table(("setting", "value in this run", "why"), rows)


def _figures(step: int, row: dict[str, Any], facts: dict[str, Any], config: Mapping[str, Any]) -> Iterator[str]:
    planned = _at(config, "trainer.total_training_steps")
    of = f" of {planned}" if isinstance(planned, int) else ""
    yield f"Step {step}{of}. Held out: prompts that training never sees, sampled as the run validates."
    before = facts.get("val_before")
    before = before if isinstance(before, dict) else {}
    held_out = sorted(key for key in {*row, *before} if isinstance(key, str) and key.startswith("val/"))
    shown = [*held_out, "reward/accuracy/mean", "response_length/mean", "actor/entropy", "actor/kl_loss"]
    rows = [(key, _number(before.get(key)), _number(row.get(key))) for key in shown]
    if rows := [line for line in rows if line[1] or line[2]]:
        yield _table(("figure", "before training", f"at step {step}"), rows)


def _evaluations(chosen: Chosen) -> Iterator[str]:
    """Scores in the run's ``evaluations/`` that are of this step, or do not say of which."""
    if chosen.run is None:
        return
    root, rows = chosen.run.folder / EVALUATIONS, []
    for path in _score_files(root):
        try:
            scores = read_scores(path)
        except UnreadableError:
            continue
        if scores.get("step") in (None, chosen.checkpoint.step):
            low, high = scores["avg_ci95"]
            figures = f"{scores['avg']:.4g} [{low:.4g}, {high:.4g}]", f"{scores['maj']:.4g}"
            rows.append((path.parent.relative_to(root), scores["num_questions"], scores["n"], *figures))
    if rows:
        yield "## Evaluations"
        yield _table(("evaluation", "questions", "n", "avg@n [95% interval]", "maj@n"), rows)


def _score_files(root: Path) -> list[Path]:
    """No link is followed."""
    found: list[Path] = []
    if root.is_symlink():
        return found
    for folder, _, files in os.walk(root):
        if SCORES in files and len(found) < _MOST_SCORES:
            found.append(Path(folder) / SCORES)
    return sorted(found)


def _provenance(chosen: Chosen, facts: dict[str, Any], config: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Without paths, host and command: the card may become public."""
    versions = facts.get("versions") or (chosen.checkpoint.state.get("identity") or {}).get("versions")
    known = versions if isinstance(versions, dict) else {}
    said = facts.get("git")
    git = said if isinstance(said, dict) else {}
    changed = ", with changes that were not committed" if git.get("dirty") else ""
    files = _at(config, "data.train_files")
    names = [Path(str(file)).name for file in ([files] if isinstance(files, str) else files or ())]
    return [
        ("experiment", facts.get("experiment")),
        ("forked from", chosen.run.forked_from if chosen.run is not None else None),
        ("loss", _at(config, "actor_rollout_ref.actor.policy_loss.loss_mode")),
        (
            "training prompts",
            ", ".join(names),
        ),
        ("seed", facts.get("seed")),
        ("workers", facts.get("world_size")),
        ("device", facts.get("device_name")),
        ("started", facts.get("started")),
        ("commit", f"{git['commit']}{changed}" if git.get("commit") else None),
        ("versions", ", ".join(f"{name} {version}" for name, version in known.items() if version)),
    ]


def _facts(lines: Iterable[tuple[str, Any]]) -> str:
    return "\n".join(f"- {name}: {_plain(value)}" for name, value in lines if value not in (None, "", {}))


def _table(headings: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    lines = [headings, ["---"] * len(headings), *([_plain(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, int | float) and not isinstance(value, bool) else ""


def _plain(value: Any) -> str:
    """Text of any origin in which nothing is Markdown, HTML or for a terminal, on one line."""
    if value is None:
        return ""
    text = " ".join(printable(value).split())[:_MOST_TEXT]
    return _SPECIAL.sub(r"\\\1", text)


def _at(config: Mapping[str, Any], path: str) -> Any:
    found: Any = config
    for key in path.split("."):
        found = found.get(key) if isinstance(found, Mapping) else None
    return found


def _text(path: Path) -> str | None:
    """A regular file's text; None where there is none, or far too much."""
    try:
        return read_bytes(path, _MOST_BYTES).decode("utf-8", errors="replace")
    except (OSError, ValueError):
        return None
