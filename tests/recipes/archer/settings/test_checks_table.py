"""The table of settings against the configuration: it knows every leaf, and what it says of each is so."""

import ast
import importlib.util
import math
import re
from functools import cache
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from recipes.archer.ending import UserError
from recipes.archer.experiments import registry
from recipes.archer.grading.answers import ANSWER_FORMATS as GRADED_FORMATS
from recipes.archer.grading.grader import MIN_MEMORY_MB
from recipes.archer.losses.constants import LossConfig, setting_name
from recipes.archer.settings.checks import TABLE, check_settings, leaves, rule_of
from recipes.archer.settings.configuration import CONFIG_DIR, ROOT
from recipes.archer.settings.rules import Kept, Read
from recipes.archer.settings.running import ANSWER_FORMATS, LEAST_GRADING_MB
from tests.support.configurations import GONE, change, configuration

WHERE = (("tiny", "cpu"), ("v5", "cuda"))
READ = {name: rule for name, rule in TABLE.items() if isinstance(rule, Read)}
LOSS = {setting_name(field) for field in LossConfig.__dataclass_fields__}
# something is wrong with nearly each of them for nearly every setting
ODD = ("no such word", "", -7, 0.5, 2.5, math.nan, math.inf, [], [None], {"no": "such"}, None, True, 10**15)
# and nothing with one of these
PLAIN = ("a text", 3, 0.25, True, False, "left", "min", {"a": 1}, [["a=1"]], 7)
# their conditions hold in both: test_checks.py has them
HELD = (
    "actor_rollout_ref.ref.refresh.every",
    "trainer.keep_best.mode",
    "algorithm.group_filter.max_gen_batches",
    "actor_rollout_ref.actor.fsdp_config.mixed_precision.buffer_dtype",
    "actor_rollout_ref.ref.fsdp_config.mixed_precision.buffer_dtype",
)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("experiment", registry.names())
def test_every_experiment_on_every_device(experiment, device):
    config = configuration(experiment=experiment, device=device)
    assert [name for name in leaves(config) if rule_of(name) is None] == [], "a line of the table is missing"
    check_settings(config)


def test_no_line_of_the_table_is_stale():
    composed = {
        name for experiment, device in WHERE for name in leaves(configuration(experiment=experiment, device=device))
    }
    sections = {name.rsplit(".", depth)[0] for name in composed for depth in range(1, name.count(".") + 1)}
    for name, rule in TABLE.items():
        if isinstance(rule, Kept):
            assert name in composed | sections, name
        elif name != "trainer.keep_best":  # null stands for the section
            assert (name in composed) != rule.optional or rule.cpu is not None, name


def _refused(config, name: str, value, written) -> bool:
    """Whether the value is refused; the setting is put back as it was written."""
    change(config, name, value)
    try:
        check_settings(config)
    except UserError as error:
        assert str(error).isprintable()
        return True
    finally:
        change(config, name, written)
    return False


@pytest.mark.parametrize(("experiment", "device"), WHERE)
def test_every_setting_changed_in_turn(experiment, device):
    """One that nothing reads cannot be changed; of one that is read, what cannot be meant is refused."""
    config = configuration(experiment=experiment, device=device)
    for name, written in leaves(config).items():
        rule = rule_of(name)
        other = "another" if written != "another" else 7
        if isinstance(rule, Kept) or (device == "cpu" and rule.cpu is not None):
            value = not written if isinstance(written, bool) else other
            assert _refused(config, name, value, written), f"{name} has no effect, and can be changed"
        elif not (name in LOSS or rule.section):
            assert rule.fits(_resolved(config, name)), name
            bad = [odd for odd in ODD if not rule.fits(odd)]
            assert bad, f"{name} takes anything"
            assert _refused(config, name, bad[0], written), f"{name}={bad[0]!r} is not refused"
    check_settings(config)  # all is as it was


def test_no_setting_can_be_taken_away():
    config = configuration()
    for name, written in list(leaves(config).items())[::20]:  # they all go the same way
        assert _refused(config, name, GONE, written), name


def _resolved(config, name: str):
    value = OmegaConf.select(config, name)
    return OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value


def test_what_counts_only_with_another_setting_is_refused_without_it():
    """On one of the two at least its condition does not hold, and nothing else is wrong with it."""
    told = set()
    for experiment, device in WHERE:
        config = configuration(experiment=experiment, device=device)
        for name, rule in READ.items():
            if rule.only_if is None or rule.only_if.holds(config) or (device == "cpu" and rule.cpu is not None):
                continue
            now = _resolved(config, name) if name in leaves(config) else GONE
            value = next(value for value in PLAIN if rule.fits(value) and value != now)
            change(config, name, value)
            with pytest.raises(UserError, match=re.escape(rule.only_if.how)):
                check_settings(config)
            told.add(name)
            change(config, name, now)
    conditional = {name for name, rule in READ.items() if rule.only_if is not None}
    assert conditional - told == set(HELD), "nothing shows that these are refused"


def test_what_the_table_has_twice_is_the_same():
    """Rooms of one floor do not know each other."""
    assert ANSWER_FORMATS == GRADED_FORMATS and LEAST_GRADING_MB == MIN_MEMORY_MB


@cache
def _words_of(by: str) -> frozenset[str]:
    """Attributes, keywords, fields and texts of a file; of a dotted text its last part."""
    root = ROOT if by.startswith("verl/") else ROOT / "recipes" / "archer"
    if by.startswith("vllm/"):
        root = Path(importlib.util.find_spec("vllm").origin).parents[1]
    words = set()
    for node in ast.walk(ast.parse((root / f"{by}.py").read_text(encoding="utf-8"))):
        if isinstance(node, ast.Attribute):
            words.add(node.attr)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            words.add(node.value.rpartition(".")[2])
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            words.add(node.target.id)
    return frozenset(words)


@pytest.mark.parametrize("by", sorted({rule.by for rule in READ.values()}))
def test_the_reader_reads_it(by):
    names = [name for name, rule in READ.items() if rule.by == by]
    if by == "config/archer":
        text = (CONFIG_DIR / "archer.yaml").read_text(encoding="utf-8")
        assert [name for name in names if f"${{{name}}}" not in text] == []
        return
    assert [name for name in names if name.rpartition(".")[2] not in _words_of(by)] == []
