"""What a search is to do: from options, from a file, as it is kept, and what may be changed later."""

import pytest

from recipes.archer.ending import UserError
from recipes.archer.search.plan import CHANGEABLE, Plan, going_on, plan_of, plan_text, read_plan

GIVEN = {"base": "tiny", "set": {"a.lr": "1e-4..1e-3:log", "a.kl": "0,0.001"}, "trials": 6, "steps": 15}
FULL = {
    **GIVEN, "metric": "reward/accuracy/mean", "mode": "min", "every": 5, "sampler": "random", "pruner": "hyperband",
    "parallel": 2, "executor": "runai", "confirm": 2, "seeds": 3, "seed": 7, "hours": 1.5, "fork_from": "P/run",
    "cluster": "/c.toml", "hypothesis": "it’s better: yes", "overrides": ["x.y=1", "z=null"],
}  # fmt: skip


def test_the_full_plan_has_every_field():
    assert set(FULL) == set(Plan.__dataclass_fields__) - {"name", "axes"} | {"set"}


@pytest.mark.parametrize("given", [GIVEN, FULL])
def test_what_is_kept_is_read_as_the_same(given, tmp_path):
    plan = plan_of("s", given)
    (tmp_path / "search.yaml").write_text(plan_text(plan), encoding="utf-8")
    assert plan_of("s", read_plan(tmp_path / "search.yaml")) == plan


def test_a_file_may_write_values_as_lists(tmp_path):
    path = tmp_path / "s.yaml"
    path.write_text("base: tiny\nset:\n  a.lr: 1e-4..1e-3:log\n  a.kl: [0, 0.001]\ntrials: 6\nsteps: 15\nevery: null\n")
    assert plan_of("s", read_plan(path)) == plan_of("s", {**GIVEN})


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"base": None}, "--base is missing"),
        ({"set": {}}, "--set is missing"),
        ({"steps": None}, "--steps is missing"),
        ({"trials": None}, "--trials is missing"),
        ({"trials": -1}, "trials=-1: use a whole number"),
        ({"trials": "many"}, "trials='many': use a number"),
        ({"trials": True}, "use a number"),
        ({"steps": 1.5}, "steps=1.5: use a whole number"),
        ({"hours": 0}, "above 0"),
        ({"hours": float("nan")}, "use a number"),
        ({"sampler": "best"}, "use tpe, random, grid"),
        ({"mode": "most"}, "use max, min"),
        ({"parallel": 0}, "parallel=0"),
        ({"samplers": "tpe"}, "samplers is nothing that a search knows"),
        ({"set": "a=1"}, "write a mapping"),
        ({"set": {"a.b": [[1], [2]]}}, "a.b has a value that is no plain one"),
        ({"overrides": ["x"]}, "write key=value"),
        ({"hypothesis": "${x}"}, "reference"),
    ],
)
def test_what_cannot_be_meant_is_said_in_one_line(changed, said):
    with pytest.raises(UserError) as caught:
        plan_of("s", {**GIVEN, **changed})
    assert said in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["", "../x", "a/b", ".hidden", "-x", "a b", "a" * 41])
def test_a_name_is_a_folders_and_a_jobs(name):
    with pytest.raises(UserError, match="cannot name a search"):
        plan_of(name, GIVEN)


@pytest.mark.parametrize("field", sorted(set(FULL) - {"set"}))
def test_of_a_search_under_way_only_its_size_can_be_changed(field):
    kept = plan_of("s", {**GIVEN, "parallel": 1})
    given = {field: FULL[field] if FULL[field] != GIVEN.get(field) else "5" if field != "base" else "v5"}
    if field in CHANGEABLE:
        assert getattr(going_on(kept, given), field) == getattr(plan_of("s", {**GIVEN, **given}), field)
    else:
        with pytest.raises(UserError, match="is under way with another --"):
            going_on(kept, given)
    assert going_on(kept, {}) == kept
