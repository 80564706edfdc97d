"""Proposals follow from the seed, the number and the trials before; the journal is a stranger's until it is read."""

import math
import os

import pytest

from recipes.archer.ending import UserError
from recipes.archer.search.plan import plan_of
from recipes.archer.search.space import Choices, Span
from recipes.archer.search.study import SEARCH, Study, startup

AXES = [Span("lr", 1e-5, 1e-3, True, False), Choices("loss", ("a", "b", "c"))]
GIVEN = {"base": "tiny", "set": {"lr": "1e-5..1e-3:log", "loss": "a,b,c"}, "trials": 30, "steps": 10}


def proposals(path, number, **given):
    """The first proposals, each in a process of its own as far as the study can tell."""
    plan, found = plan_of("s", {**GIVEN, **given}), []
    for index in range(number):
        study = Study(path, plan, AXES)
        found.append(study.propose(None))
        study.add(found[-1])
        Study(path, plan, AXES).end(index, "complete", -abs(found[-1]["lr"] - 3e-4))
    return found


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_a_restart_proposes_the_same(tmp_path, sampler):
    first = proposals(tmp_path / "a", 15, sampler=sampler)
    assert first == proposals(tmp_path / "b", 15, sampler=sampler)
    assert first != proposals(tmp_path / "c", 15, sampler=sampler, seed=1)
    assert all(1e-5 <= params["lr"] <= 1e-3 for params in first)
    assert len({params["lr"] for params in first}) == 15


def test_later_proposals_go_by_what_was_found(tmp_path):
    found = [params["lr"] for params in proposals(tmp_path / "a", 25)]
    late = found[startup(30) + 5 :]
    assert sum(1e-4 < lr < 6e-4 for lr in late) > len(late) / 2


def test_six_trials_find_more_than_a_grid_of_six_points_wherever_the_best_is(tmp_path):
    """On average over where it is; a grid that happens to have a point there cannot be beaten."""
    given = {**GIVEN, "set": {"lr": "1e-4..1e-3:log", "kl": "0..0.005"}, "trials": 6}
    axes = [Span("lr", 1e-4, 1e-3, True, False), Span("kl", 0, 0.005, False, False)]
    found, on_grid = [], []
    for case, best in enumerate((3e-4, 5e-4, 8e-4)):

        def value(lr, kl, best=best):
            return 1 / (1 + abs(math.log(lr / best))) - kl

        on_grid += [max(value(lr, kl) for lr in (1e-4, 3.2e-4, 1e-3) for kl in (0, 0.005))]
        for seed in range(3):
            study = Study(tmp_path / f"{case}-{seed}", plan_of("s", {**given, "seed": seed}), axes)
            for index in range(6):
                params = study.propose({"lr": 2e-4, "kl": 0.001})
                study.add(params)
                study.end(index, "complete", value(**params))
            found.append(study.complete[0].value)
    assert sum(found) / len(found) > 1.05 * sum(on_grid) / len(on_grid)


def test_a_small_space_is_gone_through_without_a_repetition(tmp_path):
    plan = plan_of("s", {**GIVEN, "set": {"x": "a,b", "y": "a,b"}, "trials": 4})
    study = Study(tmp_path / "j", plan, [Choices("x", ("a", "b")), Choices("y", ("a", "b"))])
    points = []
    while (params := study.propose(None)) is not None:
        points.append(tuple(params.values()))
        study.add(params)
        study.end(len(points) - 1, "complete", 0.5)
    assert sorted(points) == [("a", "a"), ("a", "b"), ("b", "a"), ("b", "b")]


def test_half_a_line_and_optuna_s_lock_do_not_stand_in_the_way(tmp_path):
    path, plan = tmp_path / "j", plan_of("s", GIVEN)
    Study(path, plan, AXES).add({"lr": 1e-4, "loss": "a"})
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"op_code": 4, "wor')
    os.symlink(path, tmp_path / "j.lock")
    study = Study(path, plan, AXES)
    assert path.read_bytes() == whole
    study.note(0, outcome="x")
    assert Study(path, plan, AXES, write=False).trials[0].user_attrs == {"outcome": "x"}


def test_reading_writes_nothing(tmp_path):
    plan = plan_of("s", GIVEN)
    assert Study(tmp_path / "j", plan, AXES, write=False).trials == []
    assert not list(tmp_path.iterdir())
    Study(tmp_path / "j", plan, AXES)
    before = (tmp_path / "j").read_bytes()
    assert Study(tmp_path / "j", plan, AXES, "confirm", write=False).trials == []
    assert (tmp_path / "j").read_bytes() == before


@pytest.mark.parametrize("pruner", ["median", "hyperband"])
def test_what_a_pruner_has_said_is_said_again_after_a_kill(tmp_path, pruner):
    """Hyperband takes notes of its own at each question, so that the second answer would be another."""
    path, plan = tmp_path / "j", plan_of("s", {**GIVEN, "pruner": pruner})
    study, said = Study(path, plan, AXES), []
    for number in range(6):
        study.add({"lr": 1e-4, "loss": "a"})
        for step in (3, 6, 9):
            said.append(study.report(number, step, 1 / (1 + number) + step))
            study = Study(path, plan, AXES)
            assert study.report(number, step, 1 / (1 + number) + step) is said[-1]
        study.end(number, "complete", 1.0)
    assert any(said) and not all(said)


@pytest.mark.parametrize(
    "content", [b"not json\n\n", b'{"op_code": 99}\n{"op_code": 99}\n', b"[]\n{}\n", b"\xff\n\xff\n"]
)
def test_a_damaged_journal_is_said_in_one_line(tmp_path, content):
    (tmp_path / "j").write_bytes(content)
    with pytest.raises(UserError, match="j is damaged") as caught:
        Study(tmp_path / "j", plan_of("s", GIVEN), AXES, SEARCH, write=False)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["pipe", "link"])
def test_a_journal_that_is_no_file_of_the_folder_is_not_read(tmp_path, kind):
    folder = tmp_path / "s"
    folder.mkdir()
    if kind == "pipe":
        os.mkfifo(folder / "j")
    else:
        (tmp_path / "elsewhere").write_text("")
        os.symlink(tmp_path / "elsewhere", folder / "j")
    with pytest.raises(UserError):
        Study(folder / "j", plan_of("s", GIVEN), AXES, write=False)


def test_importances_need_trials_that_differ(tmp_path):
    plan = plan_of("s", GIVEN)
    study = Study(tmp_path / "j", plan, AXES)
    assert study.importances() == {}
    for index in range(9):
        study.add({"lr": 1e-5 * 1.6**index, "loss": "abc"[index % 3]})
        study.end(index, "complete", index / 10)
    found = study.importances()
    assert set(found) == {"lr", "loss"} and found["lr"] > found["loss"]


def test_what_was_pruned_says_what_matters_too_and_the_same_every_time(tmp_path):
    """The good ones differ in nothing that lr would explain; that it matters is seen at those that were pruned."""
    study = Study(tmp_path / "j", plan_of("s", GIVEN), AXES)
    for number in range(12):
        bad = number % 2
        study.add({"lr": 9e-4 + number * 1e-6 if bad else 2e-4 + number * 1e-6, "loss": "abc"[number % 3]})
        study.report(number, 3, 0.1 if bad else 0.8 + 0.01 * (number % 3))
        if bad:
            study.end(number, "pruned")
        else:
            study.end(number, "complete", 0.8 + 0.01 * (number % 3))
    found = study.importances()
    assert found["lr"] > 0.9 and study.importances() == found
