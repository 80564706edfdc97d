"""Which checkpoint a target and a step mean, and what is said where there is none."""

import json
import shutil

import pytest

from exporting import save_run
from recipes.archer.ending import UserError
from recipes.archer.export.choosing import choose

SCORES = {2: 0.25, 4: 0.75, 6: 0.5, 8: None}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return save_run(tmp_path_factory.mktemp("choosing") / "run", SCORES)


@pytest.fixture
def own(run, tmp_path):
    """A copy to damage."""
    return shutil.copytree(run, tmp_path / "run")


def _set(run, text: str) -> None:
    (run / "config.yaml").write_text(text)


@pytest.mark.parametrize(("step", "expected"), [(None, 4), ("best", 4), ("last", 8), ("2", 2), ("6", 6)])
def test_of_a_run(run, step, expected):
    chosen = choose(run, step)
    assert chosen.checkpoint.step == expected and chosen.run.name == "a run"


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ("trainer: {keep_best: {metric: null, mode: max}}", 8),  # none is kept: the last
        ("trainer: {keep_best: null}", 8),
        ("trainer: 3", 8),
        ("trainer: {keep_best: {metric: val/accuracy, mode: min}}", 2),
        ("trainer: {keep_best: {metric: never/measured, mode: max}}", 8),
    ],
)
def test_the_best_is_the_one_that_the_run_keeps(own, settings, expected):
    _set(own, settings)
    assert choose(own).checkpoint.step == expected


def test_a_run_that_kept_none_can_be_asked_for_its_best(own):
    _set(own, "trainer: {keep_best: {metric: null}}")
    assert choose(own, "best").checkpoint.step == 4
    (own / "config.yaml").unlink()
    assert choose(own, "best").checkpoint.step == 4


def test_a_checkpoint_by_itself(run, tmp_path):
    assert choose(run / "global_step_6").run.name == "a run"
    alone = shutil.copytree(run / "global_step_6", tmp_path / "copied")
    assert choose(alone).checkpoint.step == 6 and choose(alone).run is None
    with pytest.raises(UserError, match="is one checkpoint: leave out --step"):
        choose(run / "global_step_6", "last")


def test_a_damaged_one_is_passed_over_by_last_and_named_by_number(own):
    shard = own / "global_step_8" / "__0_0.distcp"
    shard.write_bytes(shard.read_bytes()[:-1] + b"x")
    assert choose(own, "last").checkpoint.step == 6
    with pytest.raises(UserError, match="global_step_8: __0_0.distcp does not have the hash"):
        choose(own, "8")


@pytest.mark.parametrize(
    ("step", "problem"),
    [
        ("3", "holds no checkpoint of step 3: trainer.keep_last"),
        ("-1", "use best, last, or the number of a step"),
        ("02", "use best, last"),
        ("newest\x1b", r"--step 'newest\\x1b': use best"),
        ("9" * 99, "use best, last"),
    ],
)
def test_a_step_that_there_is_none_of(run, step, problem):
    with pytest.raises(UserError, match=problem):
        choose(run, step)


def test_nothing_to_choose_from_is_one_line(own, tmp_path):
    with pytest.raises(UserError, match="is no folder: name a run"):
        choose(tmp_path / "nowhere")
    for folder in own.glob("global_step_*"):
        (folder / "manifest.json").unlink()
    with pytest.raises(UserError, match=r"holds no whole checkpoint \(skipped .*manifest.json is missing"):
        choose(own)
    with pytest.raises(UserError, match="no whole checkpoint with val/accuracy"):
        choose(own, "best")
    with pytest.raises(UserError, match="manifest.json is missing"):
        choose(own / "global_step_2")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="holds no whole checkpoint: trainer.save_freq"):
        choose(tmp_path / "empty")


def test_one_of_the_format_before_is_read_without_its_pickles(own):
    """Whose parameters are no pickles, so nobody has to trust it."""
    folder = own / "global_step_4"
    manifest = json.loads((folder / "manifest.json").read_text())
    for name in ("host_0.json", "host_0.safetensors"):
        (folder / name).unlink()
        del manifest["files"][name]
    (folder / "manifest.json").write_text(json.dumps(manifest | {"format": 1}))
    assert choose(own, "4").checkpoint.is_old and choose(own, "best").checkpoint.step == 4


def test_a_checkpoint_that_is_a_link_is_not_followed(own, tmp_path):
    shutil.move(own / "global_step_2", tmp_path / "elsewhere")
    (own / "global_step_2").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UserError, match="is a link"):
        choose(own, "2")
