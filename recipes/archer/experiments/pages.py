"""The pages docs/experiments/<name>.md, rendered from the experiments' records and configurations."""

from collections.abc import Iterable, Sequence
from typing import Any

from recipes.archer.experiments import registry
from recipes.archer.experiments.criteria import Condition, Criterion
from recipes.archer.experiments.records import Record, Results
from recipes.archer.settings.configuration import ROOT

FOLDER = ROOT / "docs" / "experiments"
# What a whole search holds fixed; shown on the page of its first experiment.
SETTINGS = (
    "data.train_batch_size",
    "actor_rollout_ref.rollout.n",
    "data.max_prompt_length",
    "data.max_response_length",
    "actor_rollout_ref.actor.ppo_mini_batch_size",
    "actor_rollout_ref.actor.ppo_epochs",
    "actor_rollout_ref.actor.optim.lr",
    "actor_rollout_ref.actor.optim.lr_warmup_steps",
    "actor_rollout_ref.actor.optim.weight_decay",
    "actor_rollout_ref.actor.grad_clip",
    "actor_rollout_ref.actor.policy_loss.loss_mode",
    "actor_rollout_ref.actor.loss_agg_mode",
    "actor_rollout_ref.actor.clip_ratio_low",
    "actor_rollout_ref.actor.clip_ratio_high",
    "actor_rollout_ref.actor.clip_ratio_c",
    "actor_rollout_ref.actor.entropy_coeff",
    "actor_rollout_ref.actor.kl_loss_coef",
    "actor_rollout_ref.actor.kl_loss_type",
    "actor_rollout_ref.rollout.temperature",
    "actor_rollout_ref.rollout.top_p",
    "actor_rollout_ref.rollout.val_kwargs.n",
    "actor_rollout_ref.rollout.val_kwargs.temperature",
    "actor_rollout_ref.rollout.val_kwargs.top_p",
    "reward.overlong_buffer_len",
)
# Of these a page says what they are also where its experiment leaves them alone.
KEPT = (
    "data.max_prompt_length",
    "data.max_response_length",
    "reward.overlong_buffer_len",
    "actor_rollout_ref.actor.entropy_coeff",
    "actor_rollout_ref.actor.kl_loss_coef",
    "actor_rollout_ref.rollout.stop_at_turn_end",
    "algorithm.group_filter.metric",
)
_SEARCHED = ("policy_loss.loss_mode", "entropy_coeff", "kl_loss_coef")
_HEADER = "<!-- Rendered from recipes/archer/config/experiment/{name}.yaml by `archer experiment render`. -->"


def page(name: str) -> str:
    """An experiment's page as Markdown."""
    record = registry.load_record(name)
    parent = registry.load_record(record.parent) if record.parent else None
    blocks = [
        f"# {name}: {record.title}",
        _HEADER.format(name=name),
        _facts(record),
        f"## Problem\n\n{record.problem}",
        *(_results(parent.name, parent.results, f"### Results of {parent.name}") if parent and parent.results else ()),
        f"## Hypothesis\n\n{record.hypothesis}",
        *([_settings(name)] if parent is None else ()),
        _changes(record),
        *_no_turn_end(name),
        _criteria(record.criteria),
        _contingency(record),
        *(_results(name, record.results, "## Results") if record.results else ("## Results\n\nNot recorded yet.",)),
        _search(name),
    ]
    return "\n\n".join(blocks) + "\n"


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def _facts(record: Record) -> str:
    config = registry.composed(record.name)
    gpus = "CPU" if config.trainer.device == "cpu" else f"{config.trainer.n_gpus_per_node}x H100"
    rows = [
        ("Date", record.date or "not launched yet"),
        ("Parent", f"[{record.parent}]({record.parent}.md)" if record.parent else "the base configuration"),
        ("Commit", f"`{record.commit}`" if record.commit else "not recorded"),
        ("Job", f"`{record.job}` ({gpus})" if record.job else "none"),
        ("W&B run", f"`{config.trainer.experiment_name}`"),
        ("Status", record.results.outcome if record.results else "No results recorded"),
    ]
    return _table(("Field", "Value"), rows)


def _settings(name: str) -> str:
    config = registry.composed(name)
    rows = [(f"`{key}`", _value(registry.value_at(config, key))) for key in SETTINGS]
    return f"## Settings\n\n{_table(('Parameter', 'Value'), rows)}"


def _changes(record: Record) -> str:
    why = {change.key: change.why for change in record.changes}
    rows = [
        (f"`{key}`", _value(old), f"**{_value(new)}**", why[key])
        for key, (old, new) in registry.delta(record.name).items()
    ]
    heads = ("Parameter", record.parent or "base", record.name, "Rationale")
    text = f"## Changes\n\n{_table(heads, rows)}"
    derived = registry.derived(record.name)
    if derived:
        items = (f"- `{key}` = {_value(new)} (was {_value(old)})" for key, (old, new) in derived.items())
        text += "\n\nDerived values:\n\n" + "\n".join(items)
    if record.parent:
        config, changed = registry.composed(record.name), registry.changes(record.name)
        kept = (f"`{key}` = {_value(registry.value_at(config, key))}" for key in KEPT if key not in changed)
        text += f"\n\nAll else is as in {record.parent}, among it {', '.join(kept)}."
    return text


def _no_turn_end(name: str) -> list[str]:
    """What to keep in mind where the engine does not stop at the end of a turn."""
    if registry.composed(name).actor_rollout_ref.rollout.stop_at_turn_end:
        return []
    return [
        "## The end of a turn\n\nThe engine of this run stops only where the model's files say. Where those do not "
        "name the token with which the chat template closes a turn, as those of Qwen3-0.6B-Base do not, responses "
        "run on after the answer, through invented turns, to the cap: the last box of these is graded, and all of it "
        "is trained on. [What that does to a run](tiny_no_turn_end.md) is shown on the embedded model; "
        "[docs/algorithms.md](../algorithms.md#the-end-of-a-turn) says how a response ends otherwise."
    ]


def _criteria(criteria: Iterable[Criterion]) -> str:
    rows = [(f"`{c.metric}`", _sentence(c.good, " and "), _sentence(c.bad, " or "), c.note) for c in criteria]
    return f"## Monitoring criteria\n\n{_table(('Metric', 'Good', 'Bad', 'Note'), rows)}"


def _contingency(record: Record) -> str:
    """One item for each thing that can go wrong, with everything to try."""
    tries: dict[str, list[str]] = {}
    for item in record.contingency:
        overrides = " ".join(f"`{override}`" for override in item.overrides)
        tries.setdefault(item.when, []).append(f"{item.what}, {overrides}")
    lines = (f"- If {when}: {'; or '.join(what)}" for when, what in tries.items())
    return "## Contingency\n\n" + ("\n".join(lines) or "None yet.")


def _results(name: str, results: Results, heading: str) -> list[str]:
    ran = f"{results.steps} steps" if results.steps else ""
    if results.hours:
        ran += f", {f'about {60 * results.hours:.0f} min' if results.hours < 1 else f'about {results.hours} hours'}"
    blocks = [f"{heading}{f' ({ran})' if ran else ''}", f"{results.outcome}."]
    if results.rows:
        blocks.append(_figures(name, results))
    if results.findings:
        blocks.append("\n".join(f"- {finding}" for finding in results.findings))
    return blocks


def _figures(name: str, results: Results) -> str:
    """Metrics down, steps across, with the digits in which they were recorded."""
    rows = registry.figures_as_written(name)
    metrics = dict.fromkeys(key for row in rows for key in row if key != "step")
    trends = dict(results.trends)
    heads = ("Metric", *(f"Step {row['step']}" for row in rows), "Trend")
    return _table(heads, [(f"`{m}`", *(row.get(m, "") for row in rows), trends.get(m, "")) for m in metrics])


def _search(name: str) -> str:
    """One line for each experiment of the lineage, with what the search turned on."""
    chain = registry.lineage(name)
    actors = {version: registry.composed(version).actor_rollout_ref.actor for version in chain}
    values = {key: {v: _value(registry.value_at(actors[v], key)) for v in chain} for key in _SEARCHED}
    shown = [key for key in _SEARCHED if key != _SEARCHED[0] or len(set(values[key].values())) > 1]
    rows = []
    for version in chain:
        results = registry.load_record(version).results
        ends = (
            (results.score_peak, results.entropy_100, results.valid_peak, results.outcome)
            if results
            else ("TBD", "TBD", "TBD", "No results recorded")
        )
        rows.append((version, *(values[key][version] for key in shown), *(end or "–" for end in ends)))
    heads = (*(key.split(".")[-1] for key in shown), "Score at peak", "Entropy near step 100", "Valid at peak")
    return f"## Search so far\n\n{_table(('Version', *heads, 'Outcome'), rows)}"


def _sentence(conditions: Iterable[Condition], joint: str) -> str:
    return joint.join(map(str, conditions)) or "–"


def _value(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    return f"{value:g}".replace("e-0", "e-") if isinstance(value, float) else str(value)
