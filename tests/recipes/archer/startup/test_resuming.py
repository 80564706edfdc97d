"""Which checkpoint a run goes on from: chosen and judged before Ray starts."""

import json
import shutil
from collections import namedtuple
from types import SimpleNamespace

import numpy as np
import pytest
from omegaconf import OmegaConf
from safetensors.numpy import save_file

from metrics_page import PAGE, SOURCE, documented
from recipes.archer.checkpoints.store import BestBy
from recipes.archer.ending import UserError
from recipes.archer.metrics.names import metric_names
from recipes.archer.monitoring.guard import Guard
from recipes.archer.monitoring.monitor import Monitor
from recipes.archer.prompts.stream import PromptStream
from recipes.archer.runs.courses import Course, Courses
from recipes.archer.settings.configuration import compose
from recipes.archer.startup import preflight
from recipes.archer.startup.resuming import saver_and_checkpoint, size_of_first, store_of

Usage = namedtuple("Usage", "total used free")


def _rows(number: int) -> list[dict]:
    return [{"data_source": "sums", "prompt": [{"content": str(i)}], "reward_model": {}} for i in range(number)]


class Validation(list):
    """As much of the held-out prompts as is asked for."""

    def source(self, index: int) -> str:
        return self[index]["data_source"]


@pytest.fixture(scope="module")
def tiny():
    return compose(["experiment=tiny", "device=cpu", "data.train_files=a", "data.val_files=b"])


@pytest.fixture
def start(tiny, tmp_path):
    """Starts as a run does, up to Ray: what saves, and the checkpoint to go on from."""
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text(json.dumps({"hidden_size": 64}))
    save_file({"w": np.zeros((1000, 10), np.float32)}, model / "model.safetensors")

    def start(*settings: str, prompts: int = 4, courses: Courses | None = None):
        given = [f"actor_rollout_ref.model.path={model}", f"trainer.default_local_dir={tmp_path / 'run'}", *settings]
        config = OmegaConf.merge(tiny, OmegaConf.from_dotlist(given))
        (tmp_path / "run").mkdir(exist_ok=True)
        datasets = SimpleNamespace(dataframe=_rows(prompts)), Validation(_rows(1))
        return saver_and_checkpoint(config, datasets, again=False, courses=courses)

    return start


REPORT = SimpleNamespace(
    saved=lambda *_: None, rows_are_safe=lambda: None, not_saved=lambda *_: pytest.fail("not saved"), warn=pytest.fail
)


def _state(prompts: int = 4) -> dict:
    """What the driver saves, as far as a start looks at it."""
    driver = {"stream": PromptStream(prompts, 1).state_dict(), "empty_steps": 0}
    return driver | {"guard": Guard("off", Monitor()).state_dict()}


def _save(saver, *steps: int, **state) -> None:
    for step in steps:
        saver.save({"step": step, "row": {}, **_state(), **state}, lambda path: [None], REPORT)


def test_a_new_run(start, capsys):
    saver, checkpoint = start()
    assert checkpoint is None and saver.first_size == 10_000 * 4 * 3
    assert capsys.readouterr().err == ""


def test_the_newest_is_taken(start, capsys):
    _save(start()[0], 1, 2)
    _, checkpoint = start()
    assert checkpoint.step == 2 and capsys.readouterr().err == ""


def test_a_damaged_one_is_named_and_the_one_before_taken(start, tmp_path, capsys):
    _save(start()[0], 1, 2)
    (tmp_path / "run/global_step_2/state.json").write_text("{}")
    assert start()[1].step == 1
    assert (
        f"warning: skipped checkpoint {tmp_path}/run/global_step_2: state.json has 2 bytes" in capsys.readouterr().err
    )


def test_without_a_whole_one_the_run_starts_anew_and_says_so(start, tmp_path, capsys):
    _save(start()[0], 1)
    (tmp_path / "run/global_step_1/state.json").unlink()
    assert start()[1] is None
    err = capsys.readouterr().err
    assert "state.json is missing" in err and "no checkpoint is whole: training starts from the first step" in err


def test_what_belongs_to_something_else_is_refused(start, tmp_path):
    _save(start()[0], 1)
    with pytest.raises(UserError, match=r"checkpoint \S+/global_step_1 stands at a place in 4 prompts"):
        start(prompts=5)
    (tmp_path / "model/config.json").write_text(json.dumps({"hidden_size": 128}))
    with pytest.raises(UserError, match=r"holds a model with hidden_size=64, the one .* has hidden_size=128"):
        start()


def test_starting_anew_on_purpose_does_not_overwrite(start, tmp_path):
    assert start("trainer.resume_mode=disable")[1] is None
    _save(start()[0], 1)
    with pytest.raises(UserError, match=f"resume_mode=disable, but {tmp_path}/run holds checkpoints of an earlier run"):
        start("trainer.resume_mode=disable")


def test_going_back_on_purpose(start, tmp_path):
    _save(start()[0], 20, 40, 60)
    back = ("trainer.resume_mode=resume_path", f"trainer.resume_from_path={tmp_path}/run/global_step_20")
    saver, checkpoint = start(*back)
    assert checkpoint.step == 20
    _save(saver, 30)
    # killed and started again with the same command: not back once more
    saver, checkpoint = start(*back)
    assert checkpoint.step == 30
    assert start()[1].step == 30
    _save(start()[0], 50)  # by a run that did not go back
    assert start(*back)[1].step == 20


@pytest.mark.parametrize("slash", ["", "/"])
def test_what_was_gone_back_to_may_be_gone_by_now(start, tiny, tmp_path, slash):
    """Three saves later it makes room for others; started again, the run goes on from the newest of its own."""
    back = ("trainer.resume_mode=resume_path", f"trainer.resume_from_path={tmp_path}/run/global_step_20{slash}")
    settings = OmegaConf.from_dotlist([*back, f"trainer.default_local_dir={tmp_path}/run"])
    _save(start()[0], 20, 40, 60)
    _save(start(*back)[0], 30, 40, 50)
    assert not (tmp_path / "run/global_step_20").exists()
    preflight._check_resume_from(OmegaConf.merge(tiny, settings).trainer)
    assert start(*back)[1].step == 50


def test_a_path_that_never_was(start, tiny, tmp_path):
    """Known before the run folder is taken; where that has checkpoints of another origin, before Ray starts."""
    back = ("trainer.resume_mode=resume_path", f"trainer.resume_from_path={tmp_path}/run/global_step_21")
    problem = f"trainer.resume_from_path={tmp_path}/run/global_step_21 is no folder; name a checkpoint"
    settings = OmegaConf.from_dotlist([*back, f"trainer.default_local_dir={tmp_path}/run"])
    with pytest.raises(UserError, match=problem):
        preflight._check_resume_from(OmegaConf.merge(tiny, settings).trainer)
    _save(start()[0], 20)
    with pytest.raises(UserError, match=problem):
        start(*back)


def test_a_path_that_is_no_whole_checkpoint(start, tmp_path):
    with pytest.raises(UserError, match=rf"trainer.resume_from_path={tmp_path}: manifest.json is missing"):
        start("trainer.resume_mode=resume_path", f"trainer.resume_from_path={tmp_path}")


RESETS = ("guard.action=rollback", "guard.rollback.reset_optimizer=true")


def _course(number: int, back_to: int, path: str | None = None) -> Course:
    return Course(number, 40, back_to, "c", "bad", "s", "w", (), "now", path)


def test_the_optimizer_begins_afresh_at_each_turn_and_only_there(start):
    """A run that is killed after its first save on the new course goes on with the moments that it has by then."""
    _save(start()[0], 20)
    assert not start(*RESETS)[1].fresh_optimizer, "it has not gone back"
    once = Courses((_course(1, 20),))
    assert not start("guard.action=rollback", courses=once)[1].fresh_optimizer
    saver, checkpoint = start(*RESETS, courses=once)
    assert checkpoint.fresh_optimizer and start(*RESETS, courses=once)[1].fresh_optimizer
    _save(saver, 30)
    assert (saver.identity["course"], start(*RESETS, courses=once)[1].fresh_optimizer) == (1, False)
    assert start(*RESETS, courses=Courses((_course(1, 20), _course(2, 30))))[1].fresh_optimizer


def test_a_run_that_was_resumed_by_hand_and_then_went_back_by_itself_does_not_return(start, tmp_path):
    path = f"{tmp_path}/run/global_step_20"
    back = ("trainer.resume_mode=resume_path", f"trainer.resume_from_path={path}")
    _save(start()[0], 10, 20)
    shutil.rmtree(path)  # gone back behind it
    assert start(*back, courses=Courses((_course(1, 10, path),)))[1].step == 10
    with pytest.raises(UserError, match="is no folder"):  # another command's word
        start(*back, courses=Courses((_course(1, 10),)))


def test_what_may_have_to_be_gone_back_to_is_kept_where_the_run_may_go_back(start):
    assert start("guard.action=rollback")[0].store.keep_sound and not start()[0].store.keep_sound


PLACE = _state()["stream"]
BEST = {"step": 1, "value": 0.5, "bound": 0.4}
PEAK = {"metric": "val/accuracy", "sign": 1, "best": BEST, "since": 3, "last": 0.4}
MONITOR = _state()["guard"]["monitor"]
SPOILT = {
    "no place in the prompts": {"stream": None},
    "a place without a position": {"stream": {"size": 4}},
    "a place in other prompts": {"stream": PLACE | {"size": 5}},
    "a position of text": {"stream": PLACE | {"position": "1"}},
    "a position beyond the prompts": {"stream": PLACE | {"position": 4}},
    "an epoch below zero": {"stream": PLACE | {"epoch": -1}},
    "prompts given back that are none": {"stream": PLACE | {"returned": [4]}},
    "prompts given back in a text": {"stream": PLACE | {"returned": "12"}},
    "prompts given back that are true": {"stream": PLACE | {"returned": [True]}},
    "no guard": {"guard": None},
    "a guard without a monitor": {"guard": {"told": {}}},
    "a monitor that is a list": {"guard": {"monitor": [], "told": {}}},
    "a monitor of other kinds": {"guard": {"monitor": {name: 3 for name in MONITOR}, "told": {}}},
    "what was told is a number": {"guard": {"monitor": MONITOR, "told": {"a": 3}}},
    "a reason that is a list": {"guard": {"monitor": MONITOR, "told": {}, "reason": ["a"]}},
    "empty steps in a text": {"empty_steps": "3"},
    "skipped updates below zero": {"skipped_updates": -3},
    "a step since that is a text": {"skipping_since": "3"},
    "a peak that is a list": {"peak": [PEAK]},
    "a peak without a count": {"peak": PEAK | {"since": None}},
    "a peak that counts below zero": {"peak": PEAK | {"since": -1}},
    "a best value that is a number": {"peak": PEAK | {"best": 0.5}},
    "a best value of text": {"peak": PEAK | {"best": BEST | {"value": "0.5"}}},
    "a best value without a bound": {"peak": PEAK | {"best": {"step": 1, "value": 0.5}}},
    "a best value with an empty bound": {"peak": PEAK | {"best": BEST | {"bound": None}}},
    "a best value and no last one": {"peak": PEAK | {"last": None}},
    "an entropy control with a start of text": {
        "entropy_control": {"start": ["1"], "coefficient": 0, "integral": 0, "alpha": 0}
    },
    "an entropy control without a start": {"entropy_control": {"coefficient": 0.0, "integral": 0.0, "alpha": 0.0}},
}


def test_what_a_run_saves_is_taken_up(start):
    """The parts below are refused for what is spoilt in them."""
    control = {"start": [1.5], "coefficient": 0.0, "integral": 0.0, "alpha": 0.0}
    _save(start()[0], 1, peak=PEAK, entropy_control=control, skipping_since=1)
    assert start()[1].step == 1


@pytest.mark.parametrize("kind", SPOILT)
def test_a_state_that_the_driver_cannot_take_up_is_refused_before_ray(start, tmp_path, kind):
    _save(start()[0], 1, **SPOILT[kind])
    with pytest.raises(UserError) as caught:
        start()
    message = str(caught.value)
    assert message.startswith(f"checkpoint {tmp_path}/run/global_step_1: state.json does not hold what a run saves (")
    assert "\n" not in message


def test_what_an_earlier_version_saved_needs_a_word(start, tmp_path):
    _save(start()[0], 1)
    manifest = tmp_path / "run/global_step_1/manifest.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"format": 1}))
    with pytest.raises(UserError, match=r"an earlier format, .* with trainer.trust_old_checkpoints=true"):
        start()
    back = ("trainer.resume_mode=resume_path", f"trainer.resume_from_path={manifest.parent}")
    with pytest.raises(UserError, match="is of an earlier format"):
        start(*back)
    for settings in ((), back):
        saver, checkpoint = start("trainer.trust_old_checkpoints=true", *settings)
        assert (checkpoint.step, checkpoint.is_old) == (1, True)
    _save(saver, 2)
    assert start()[1].step == 2, "what it has saved since needs no word"


def test_a_checkpoint_that_does_not_say_what_it_belongs_to(start):
    saver = start()[0]
    saver.identity = None
    _save(saver, 1)
    with pytest.raises(UserError, match="does not say what it belongs to"):
        start()
    with pytest.raises(UserError, match="resume_mode=disable, but"):
        start("trainer.resume_mode=disable")


def test_too_little_room_is_known_from_the_start(start, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: Usage(0, 0, 100_000))
    assert start()[1] is None
    expected = f"warning: there is no room for a checkpoint: it needs 128.9 KiB, {tmp_path}/run has 97.7 KiB free\n"
    assert capsys.readouterr().err == expected


def test_the_size_of_the_first_follows_what_is_trained(start, tiny, tmp_path):
    path = f"actor_rollout_ref.model.path={tmp_path}/model"
    size = lambda *settings: size_of_first(OmegaConf.merge(tiny, OmegaConf.from_dotlist([path, *settings])))  # noqa: E731
    assert size() == 120_000
    assert size("actor_rollout_ref.actor.fsdp_config.model_dtype=bf16") == 60_000
    assert size("actor_rollout_ref.ref.refresh.every=5") == 160_000  # the reference, too
    assert (
        size("actor_rollout_ref.ref.refresh.every=5", "actor_rollout_ref.ref.fsdp_config.model_dtype=bf16") == 140_000
    )


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ([], BestBy("val/accuracy", "max")),
        (["trainer.keep_best=null"], None),
        (["trainer.keep_best.metric=null"], None),
        (["trainer.keep_best.metric=reward/accuracy/mean"], BestBy("reward/accuracy/mean", "max")),
        (["trainer.keep_best={metric: actor/entropy, mode: min}"], BestBy("actor/entropy", "min")),
    ],
)
def test_the_best_by_a_metric(settings, expected):
    needed = ["experiment=tiny", "data.train_files=a", "data.val_files=b", "actor_rollout_ref.model.path=m"]
    assert store_of(compose([*needed, *settings])).best_by == expected


@pytest.mark.parametrize(
    ("setting", "problem"),
    [
        (
            "keep_best.metric=accuracy",
            "keep_best.metric=accuracy is no metric of this run; take one of docs/metrics.md",
        ),
        ("keep_best.metric=val/acc", "such as val/accuracy, val/accuracy/high, val/accuracy/low"),
        ("keep_best.metric=val/accuracy/algebra", "is no metric of this run"),
        (
            "stop_after_best={patience: 3, metric: val/acc, mode: max}",
            "trainer.stop_after_best.metric=val/acc is no metric of this run",
        ),
        ("keep_best.mode=most", "trainer.keep_best.mode=most is not known; use max or min"),
        ("keep_best=val/accuracy", "trainer.keep_best=val/accuracy: write trainer.keep_best.metric=val/accuracy"),
    ],
)
def test_a_best_that_cannot_be(start, setting, problem):
    with pytest.raises(UserError) as caught:
        start(f"trainer.{setting}")
    assert problem in str(caught.value)


@pytest.mark.parametrize("metric", ["val/accuracy", "val/accuracy/sums", "reward/accuracy/mean", "actor/kl_loss"])
def test_metrics_that_can_be_the_best(start, metric):
    start(f"trainer.keep_best.metric={metric}")


def test_the_names_are_those_of_the_page():
    """Which another test compares with what a run emits."""
    assert metric_names([SOURCE]) == set(documented(PAGE.read_text(encoding="utf-8")))
