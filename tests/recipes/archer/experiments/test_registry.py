"""Experiments: records, minimal deltas, resolved configurations, pages, and starting the next one."""

import os
import re
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
import yaml
from omegaconf import OmegaConf
from typer.testing import CliRunner

from recipes.archer.commands.cli import app
from recipes.archer.ending import UserError
from recipes.archer.experiments import files as experiment_files
from recipes.archer.experiments import new, registry
from recipes.archer.experiments.new import derived_name
from recipes.archer.experiments.pages import page
from recipes.archer.experiments.records import RecordError, parse_record, record_in, todo
from recipes.archer.settings import configuration
from recipes.archer.settings.configuration import ROOT, compose
from recipes.archer.settings.strict_fields import Fields

NAMES = registry.names()
SEARCH = ["v0", "v1", "v2", "v3", "v4", "v5"]
MACHINE = ["data.train_files=a", "data.val_files=b", "actor_rollout_ref.model.path=m"]


def test_the_experiments_there_are():
    assert [name for name in NAMES if re.fullmatch(r"v\d", name)] == SEARCH
    assert {"archer", "aspo", "tiny", "tiny_archer", "tiny_aspo", "tiny_collapse"} <= set(NAMES)
    assert NAMES[:6] == SEARCH


@pytest.mark.parametrize("name", NAMES)
def test_every_experiment_composes_and_carries_exactly_its_own_record(name):
    """Hydra merges along the chain of parents: nothing of a parent's record may be left in the child's."""
    config = registry.composed(name)
    raw = yaml.safe_load((registry.folder() / f"{name}.yaml").read_text())["record"]
    merged = OmegaConf.to_container(config.record)
    assert merged.keys() == raw.keys()
    assert record_in(config) == registry.load_record(name)


@pytest.mark.parametrize("name", NAMES)
def test_a_delta_changes_every_key_it_sets(name):
    for key, (before, after) in registry.delta(name).items():
        assert before != after, f"{name}.yaml: {key} repeats the value of its parent, {before}; remove it"


@pytest.mark.parametrize("name", NAMES)
def test_a_delta_sets_only_keys_that_exist(name):
    base = registry.composed(None)
    for key in registry.changes(name):
        section, _, last = key.rpartition(".")
        assert last in OmegaConf.select(base, section), f"{name}.yaml: {key} is no key of the configuration"


@pytest.mark.parametrize("name", NAMES)
def test_a_committed_plan_is_whole(name):
    assert todo(registry.load_record(name)) == []


@pytest.mark.parametrize("name", [name for name in NAMES if name != "v0"])
def test_runs_and_jobs_are_named_for_their_experiment(name):
    """V0's job had a date in its name."""
    record, config = registry.load_record(name), registry.composed(name)
    assert record.job == registry.launcher(name).job_prefix + name.replace("_", "-")
    expected = name if name.startswith("tiny") else f"Archer2.0-Qwen3-0.6B-Math-{name}"
    assert config.trainer.experiment_name == expected


def test_v0_keeps_the_names_it_had():
    assert registry.load_record("v0").job == "archer-qwen3-math-0226c"
    assert registry.composed("v0").trainer.experiment_name == "Archer2.0-Qwen3-0.6B-Math"


VALUES = {  # max response, buffer, entropy_coeff, kl_loss_coef
    "v0": (30720, 16, 0, 0.001),
    "v1": (4096, 256, 0.01, 0.01),
    "v2": (4096, 256, 0.005, 0.01),
    "v3": (4096, 256, 0.01, 0.05),
    "v4": (4096, 256, 0.01, 0.03),
    "v5": (4096, 256, 0.01, 0.05),
}


@pytest.mark.parametrize("name", SEARCH)
def test_the_search_has_the_values_it_had(name):
    config = registry.composed(name)
    actor, rollout = config.actor_rollout_ref.actor, config.actor_rollout_ref.rollout
    searched = (config.data.max_response_length, config.reward.overlong_buffer_len)
    assert (*searched, actor.entropy_coeff, actor.kl_loss_coef) == VALUES[name]
    total = 2048 + config.data.max_response_length
    assert total == (32768 if name == "v0" else 6144)
    assert {rollout.max_num_batched_tokens, rollout.max_model_len} == {total}
    # theirs was one sequence's worth; the update does not depend on it, which test_actor_invariance.py holds
    assert {actor.ppo_max_token_len_per_gpu, rollout.log_prob_max_token_len_per_gpu} == {4 * total}
    assert config.actor_rollout_ref.ref.log_prob_max_token_len_per_gpu == 4 * total
    assert (config.data.train_batch_size, rollout.n, actor.ppo_mini_batch_size, actor.ppo_epochs) == (64, 16, 16, 3)
    assert (actor.optim.lr, actor.optim.lr_warmup_steps, actor.optim.weight_decay) == (1e-6, 10, 0.1)
    assert (rollout.temperature, rollout.top_p, config.trainer.n_gpus_per_node) == (1.0, 1.0, 4)
    assert (actor.clip_ratio_low, actor.clip_ratio_high, actor.clip_ratio_c, actor.grad_clip) == (0.2, 0.2, 3.0, 1.0)
    assert (actor.policy_loss.loss_mode, actor.loss_agg_mode, actor.kl_loss_type) == (
        "vanilla",
        "token-mean",
        "low_var_kl",
    )
    assert config.algorithm.group_filter.metric == "reward"
    validation = rollout.val_kwargs
    assert (validation.n, validation.temperature, validation.top_p) == (4, 0.6, 0.95)


def test_v5_is_v3_but_for_its_names():
    texts = [registry.resolved_yaml(name).replace(name, "vN") for name in ("v3", "v5")]
    assert texts[0] == texts[1]


def test_ours_train_with_their_losses():
    for name in NAMES:
        for loss in ("archer", "aspo"):
            if name.endswith(loss):
                config = registry.composed(name)
                assert config.actor_rollout_ref.actor.policy_loss.loss_mode == loss
    assert registry.composed("aspo").algorithm.group_filter.metric == "accuracy"
    assert registry.composed("tiny_collapse").guard.action == "stop"


CONTINGENCIES = {  # as the documents name them
    "actor_rollout_ref.rollout.repetition_penalty=1.2": ("actor_rollout_ref.rollout.repetition_penalty", 1.2),
    "actor_rollout_ref.rollout.temperature=1.2": ("actor_rollout_ref.rollout.temperature", 1.2),
    "actor_rollout_ref.rollout.n=32": ("actor_rollout_ref.rollout.n", 32),
    "actor_rollout_ref.actor.entropy_coeff=0.05": ("actor_rollout_ref.actor.entropy_coeff", 0.05),
    "actor_rollout_ref.model.path=Qwen/Qwen3-0.6B": ("actor_rollout_ref.model.path", "Qwen/Qwen3-0.6B"),
}


@pytest.mark.parametrize("override", CONTINGENCIES)
def test_a_contingency_of_the_documents_is_on_record_and_one_override_away(override):
    recorded = {o for name in ("v0", "v1") for c in registry.load_record(name).contingency for o in c.overrides}
    assert override in recorded
    key, value = CONTINGENCIES[override]
    assert registry.value_at(compose(["experiment=v1", *MACHINE, override]), key) == value


@pytest.mark.parametrize("name", NAMES)
def test_every_recorded_contingency_composes_and_changes_something(name):
    for item in registry.load_record(name).contingency:
        config = compose([f"experiment={name}", *registry.launcher(name).overrides, *MACHINE, *item.overrides])
        for override in item.overrides:
            key = override.partition("=")[0]
            old = registry.value_at(registry.composed(name), key)
            # v7 keeps V1's entropy coefficient, so one override of several may repeat
            assert len(item.overrides) > 1 or registry.value_at(config, key) != old, override


def test_resolved_configurations_are_current():
    problems = experiment_files.stale(experiment_files.resolved_files())
    assert problems == [], "run: archer experiment resolve"


def test_resolved_configurations_say_nothing_of_the_machine():
    for name in NAMES:
        text = registry.resolved_path(name).read_text()
        assert str(ROOT) not in text and str(Path.home()) not in text.replace("~", "")
        config = yaml.safe_load(text)
        assert config["data"]["train_files"] == "TRAIN_FILES" and "record" not in config
        assert config["trainer"]["default_local_dir"].startswith("output/")


def test_pages_are_current_and_there_is_one_for_each_record():
    assert experiment_files.stale(experiment_files.page_files()) == [], "run: archer experiment render"
    pages = {path.stem for path in (ROOT / "docs" / "experiments").glob("*.md")}
    assert pages == {*NAMES, "README"}


# Every figure of the documents that the runs left.
FIGURES = {
    "v0": "4841276 archer-qwen3-math-0226c archer-qwen3-smoke-0226b 61.6 4.72 3.04 150M 187.5M 32768 30720 2.9 0.07 71 "
    "8% 80% 64 16 1e-6 0.001 temperature=1.2 n=32 Qwen/Qwen3-0.6B-Base",
    "v1": "8855e24 archer-qwen3-math-v1 Archer2.0-Qwen3-0.6B-Math-v1 30720 2048 4096 0.01 256 6144 32768 2.9 0.07 1.0 "
    "0.5 120 300 5.0 10 entropy_coeff=0.05 repetition_penalty=1.2 Qwen/Qwen3-0.6B 5x 10x",
    "v2": "bf62cc6 archer-qwen3-math-v2 4096 0.01 150 4.3 5.93 7.35 7.17 8.01 0.047 0.217 0.233 0.433 23 60 41 46 50 "
    "0.154 0.040 0.022 0.015 192 14 22 8.4 0.005 3.0–6.0 0.05 0.02 0.2 0.1 คำตอบ",
    "v3": "fb7d945 archer-qwen3-math-v3 78 2.4 3.90 3.45 5.34 0.18 -0.11 -0.02 0.09 0.13 7.88 1.30 0.35 0.001 1128 171 "
    "93.5 6.3 52 21 15 0.005 0.01 0.05 0.075 1.5 3.0–6.0 7 0.02 3.0 5.0 8.0",
    "v5": "35e19f7 archer-qwen3-math-v5 17 40 3.31 5.16 7.63 7.23 -0.163 -0.022 -0.062 0.062 62 22 63 42 0.001 0.054 "
    "0.039 0.224 1539 482 380 15.6 2.08 4.978 0.43 8.4 0.13 0.18 52→15 0.072 8.5 27 0.28-0.44 114 300 0.15 0.1 0.08",
}


@pytest.mark.parametrize("name", FIGURES)
def test_a_page_reproduces_the_figures_of_its_document(name):
    text = page(name)
    alone = r"(?<!\d)(?<!\d\.){}(?!\d)"  # 7 is not found in 17 or 0.7
    assert [f for f in FIGURES[name].split() if not re.search(alone.format(re.escape(f)), text)] == []


def test_a_page_has_the_parts_of_the_documents_in_their_order():
    heads = re.findall(r"^##+ (.*)", page("v2"), re.M)
    assert heads == [
        "Problem",
        "Results of v1 (150 steps, about 4.3 hours)",
        "Hypothesis",
        "Changes",
        "The end of a turn",
        "Monitoring criteria",
        "Contingency",
        "Results (78 steps, about 2.4 hours)",
        "Search so far",
    ]


def test_the_lineage_goes_back_to_the_first():
    assert registry.lineage("aspo") == [*SEARCH, "v5_mended", "archer", "aspo"]


def record_of(name="v3"):
    return yaml.safe_load((registry.folder() / f"{name}.yaml").read_text())["record"]


@pytest.mark.parametrize(
    "path, value, words",
    [
        (("hypothesis",), None, "record.hypothesis is missing"),
        (("hypothesis",), 3, "record.hypothesis must be text"),
        (("date",), ..., "record.date is missing; write null"),
        (("comment",), "x", "record.comment is not known"),
        (("changes", 0, "why"), "", r"record.changes\[0\].why must be text"),
        (("criteria", 1, "bad", 0, "below"), "low", r"record.criteria\[1\].bad\[0\].below must be a finite number"),
        (("contingency", 0, "overrides"), ["kl"], "has the override 'kl'"),
        (("results", "rows", 0, "step"), "1", r"record.results.rows\[0\].step must be a whole number"),
        (("results", "rows", 1, "step"), 2, r"rows of the steps \[100, 2\]"),
        (("results", "outcome"), None, "record.results.outcome is missing"),
        (("results", "hours"), ..., "record.results.hours is missing; write null"),
        (("commit",), 8.855e27, "record.commit must be text"),
    ],
)
def test_a_wrong_record_is_refused_with_file_and_field(path, value, words):
    record = place = record_of()
    for key in path[:-1]:
        place = place[key]
    if value is ...:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    with pytest.raises(RecordError, match=words) as error:
        parse_record(record, "v3.yaml: record")
    assert "v3.yaml" in str(error.value) and "\n" not in str(error.value)


def test_a_mapping_is_asked_for():
    with pytest.raises(RecordError, match="must be a mapping"):
        Fields(3, "x", ("a",))


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A copy of the configuration, to write into."""
    shutil.copytree(configuration.CONFIG_DIR, tmp_path / "config")
    monkeypatch.setattr(configuration, "CONFIG_DIR", tmp_path / "config")
    whole = registry.composed, registry._load  # their caches take seconds to fill again
    monkeypatch.setattr(registry, "composed", cache(whole[0].__wrapped__))
    monkeypatch.setattr(registry, "_load", cache(whole[1].__wrapped__))
    return tmp_path / "config" / "experiment"


def edit(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    registry.forget()


@pytest.mark.parametrize(
    "old, new, words",
    [
        ("  name: v4", "  name: v3", "record.name is 'v3'"),
        ("  parent: v3", "  parent: v2", "record.parent is v2, but defaults name v3"),
        ("    - key: trainer.experiment_name\n      why: Its own W&B run.\n", "", "does not say why trainer.exp"),
        ("    - key: trainer.experiment_name", "    - key: trainer.nnodes", "does not say why trainer.exp"),
        ("  changes:\n", "  changes:\n    - {key: a.b, why: c}\n", "explains a.b, which the file does not change"),
        ("record:", "recorded:", "has no record"),
        ("defaults: [v3, _self_]", "defaults: [v3, _self_", "is not a configuration"),
    ],
)
def test_a_file_whose_record_does_not_fit_is_refused(checkout, old, new, words):
    edit(checkout / "v4.yaml", old, new)
    with pytest.raises(RecordError, match=words) as error:
        registry.load_record("v4")
    assert "v4.yaml" in str(error.value) and "\n" not in str(error.value)


def test_a_file_that_holds_a_list_is_refused(checkout):
    (checkout / "v4.yaml").write_text("- defaults\n- record\n")
    registry.forget()
    with pytest.raises(RecordError, match=r"v4\.yaml is not a configuration: not a mapping"):
        registry.load_record("v4")


def test_a_repeated_value_is_noticed(checkout):
    edit(checkout / "v4.yaml", "{kl_loss_coef: 0.03}", "{kl_loss_coef: 0.05}")
    before, after = registry.delta("v4")["actor_rollout_ref.actor.kl_loss_coef"]
    assert before == after  # what test_a_delta_changes_every_key_it_sets asserts against


def test_stale_missing_and_stray_files_are_told_apart(tmp_path):
    files = {tmp_path / "a.md": "a", tmp_path / "b.md": "b"}
    (tmp_path / "a.md").write_text("old")
    (tmp_path / "c.md").write_text("c")
    assert [p.split()[0] for p in experiment_files.stale(files)] == ["differs", "missing", "stray"]
    experiment_files.write(files)
    assert experiment_files.stale(files) == [] and not (tmp_path / "c.md").exists()


def archer(*words):
    return CliRunner().invoke(app, ["experiment", *words])


ENTROPY = "actor_rollout_ref.actor.entropy_coeff=0.02"


def test_the_next_experiment_is_started(checkout):
    result = archer("new", "v6", "--from", "v5", "--set", ENTROPY, "--hypothesis", "More bonus: less collapse.")
    assert result.exit_code == 0, result.output
    text = (checkout / "v6.yaml").read_text()
    assert text.startswith("# @package _global_\n") and "TODO" in text
    record, config = registry.load_record("v6"), registry.composed("v6")
    assert config.actor_rollout_ref.actor.entropy_coeff == 0.02
    assert config.actor_rollout_ref.actor.kl_loss_coef == 0.05
    assert config.trainer.experiment_name == "Archer2.0-Qwen3-0.6B-Math-v6"
    assert (record.name, record.parent, record.job) == ("v6", "v5", "archer-qwen3-math-v6")
    assert record.hypothesis == "More bonus: less collapse." and record.results is None
    assert record.criteria == registry.load_record("v5").criteria
    assert todo(record) == ["title", "problem", "changes: actor_rollout_ref.actor.entropy_coeff"]
    assert all(before != after for before, after in registry.delta("v6").values())
    assert "v6" in registry.names() and "TODO" in page("v6")
    again = archer("new", "v6", "--from", "v5", "--set", ENTROPY)
    assert isinstance(again.exception, UserError) and "exists already" in str(again.exception)
    assert (checkout / "v6.yaml").read_text() == text


INSTRUCT = "actor_rollout_ref.model.path=Qwen/Qwen3-0.6B"


def test_the_launcher_runs_what_the_new_experiment_says(checkout, tmp_path):
    """From the plan to the run: also its model and its GPUs, which the launcher has defaults for."""
    settings = [word for setting in (ENTROPY, INSTRUCT, "trainer.n_gpus_per_node=8") for word in ("--set", setting)]
    result = archer("new", "v6", "--from", "v5", *settings)
    assert result.exit_code == 0, result.exception
    assert registry.delta("v6")["actor_rollout_ref.model.path"] == ("Qwen/Qwen3-0.6B-Base", "Qwen/Qwen3-0.6B")
    launcher = ROOT / "scripts/train/run_archer2.0_qwen3_0.6b_math.sh"
    search = f"hydra.searchpath=[file://{ROOT}/verl/trainer/config,file://{tmp_path}/config]"
    clean = {k: v for k, v in os.environ.items() if k not in ("MODEL_PATH", "N_GPUS") and not k.startswith("WANDB_")}

    def resolved(**variables: str) -> dict:
        environment = clean | {"EXPERIMENT": "v6", "DRY_RUN": "1", "VENV": sys.prefix} | variables
        done = subprocess.run(["bash", launcher, search], env=environment, capture_output=True, text=True, cwd="/")
        assert done.returncode == 0, done.stderr
        return yaml.safe_load(done.stdout)

    config = resolved()
    actor = config["actor_rollout_ref"]
    assert (actor["actor"]["entropy_coeff"], actor["actor"]["kl_loss_coef"]) == (0.02, 0.05)
    assert (actor["model"]["path"], config["trainer"]["n_gpus_per_node"]) == ("Qwen/Qwen3-0.6B", 8)
    assert config["trainer"]["experiment_name"] == "Archer2.0-Qwen3-0.6B-Math-v6" and config["record"]["name"] == "v6"
    config = resolved(MODEL_PATH="/models/a b", N_GPUS="2")  # the machine's word is the last
    assert config["actor_rollout_ref"]["model"]["path"] == "/models/a b" and config["trainer"]["n_gpus_per_node"] == 2


def test_a_child_of_v0_and_one_of_tiny_get_names_of_their_own(checkout):
    archer("new", "v8", "--from", "v0", "--set", ENTROPY)
    archer("new", "tiny_slow", "--from", "tiny", "--set", "actor_rollout_ref.actor.optim.lr=1e-5")
    assert registry.composed("v8").trainer.experiment_name == "Archer2.0-Qwen3-0.6B-Math-v8"
    assert registry.composed("tiny_slow").trainer.experiment_name == "tiny_slow"
    assert registry.load_record("tiny_slow").job == "archer-qwen3-tiny-slow"
    assert derived_name("Run-v5", "v5", "v6") == "Run-v6" and derived_name("Run", "v0", "v1") == "Run-v1"


@pytest.mark.parametrize(
    "words, message",
    [
        (["v6", "--from", "v99", "--set", ENTROPY], "unknown experiment 'v99'"),
        (["v6", "--from", "v5", "--set", "actor_rollout_ref.actor.entropy_coeff=0.01"], "repeats the value of v5"),
        (["v6", "--from", "v5", "--set", "actor_rollout_ref.actor.entropy=0.01"], "actor_rollout_ref.actor.entropy"),
        (["v6", "--from", "v5", "--set", "entropy"], "write key=value"),
        (["v6", "--from", "v5", "--set", "actor_rollout_ref.actor.ratio_cap=0.5"], "ratio_cap is 0.5: a cap on the"),
        (["v6", "--from", "v5", "--set", "data.train_files=a.json"], "decides data.train_files"),
        (["tiny_x", "--from", "tiny", "--set", INSTRUCT], "decides actor_rollout_ref.model.path"),
        (["v6", "--from", "v5", "--set", "trainer.experiment_name=x"], "the run is named for the experiment"),
        (["../v6", "--from", "v5", "--set", ENTROPY], "cannot name an experiment"),
        (["v5", "--from", "v4", "--set", ENTROPY], "exists already"),
    ],
)
def test_a_wrong_start_writes_nothing(checkout, words, message):
    before = sorted(checkout.parent.rglob("*"))
    result = archer("new", *words)
    assert isinstance(result.exception, UserError) and message in str(result.exception), result.output
    assert "\n" not in str(result.exception) and sorted(checkout.parent.rglob("*")) == before


def test_list_and_show():
    listed = archer("list").stdout
    assert all(name in listed for name in NAMES)
    assert archer("show", "v3").stdout.strip() == page("v3").strip()


def test_check_fails_where_a_file_is_not_current(checkout):
    for path in checkout.glob("*.yaml"):
        if path.stem not in ("v0", "v1"):
            path.unlink()
    edit(checkout / "v1.yaml", "kl_loss_coef: 0.01", "kl_loss_coef: 0.04")
    result = archer("resolve", "--check")
    assert result.exit_code == 1 and "run: archer experiment resolve" in result.stderr
    problems = {line.split()[0]: Path(line.split()[1]).stem for line in result.stderr.splitlines()[:-1]}
    assert problems["differs"] == "v1" and "stray" in problems and "v0" not in problems.values()


def test_an_experiment_that_could_not_be_read_is_not_written(checkout, monkeypatch):
    """A broken file would stand in the way of `experiment list` for everyone."""
    monkeypatch.setattr(new, "_changed", lambda *_: {"actor_rollout_ref.actor.entropy_coeff": 0.02})
    monkeypatch.setattr(registry, "forget", lambda: None)  # v5 is composed once
    path = checkout / "v6.yaml"
    for wrong in ("", "  ", "1e5", "${nothing}", "${oc.env:NOT_THERE_AT_ALL}", "${", "a ${seed} b", "x\0y${", "\ud800"):
        with pytest.raises(UserError) as error:
            new.write_new("v6", "v5", [], wrong)
        assert "\n" not in str(error.value) and not path.exists(), wrong
    for strange in ("*a", "- [", "a\nb", "x: {", "2026-13-45", "%"):
        new.write_new("v6", "v5", [], strange)
        assert registry.content_of(path.read_text(), "")["record"]["hypothesis"] == strange
        path.unlink()


@pytest.mark.parametrize(
    "content", ["", "[]", "{", "record: 5", "record: {name: v9}", "a: &a [*a]", "[" * 100_000, "\xff", None]
)
def test_a_broken_experiment_does_not_hide_the_others(checkout, content):
    for path in checkout.glob("*.yaml"):
        if path.stem not in ("v0", "v1"):
            path.unlink()
    if content is None:
        (checkout / "v9.yaml").symlink_to(checkout / "nowhere")
    else:
        (checkout / "v9.yaml").write_text(content, encoding="latin-1")
    registry.forget()
    result = archer("list")
    assert result.exit_code == 0 and "v0" in result.stdout and "v1" in result.stdout
    assert result.stderr.startswith("archer: ") and "v9" in result.stderr and result.stderr.count("\n") == 1
