"""What is wrong with a search is said in one line, before a folder is made or anything runs."""

import pytest

from recipes.archer.search.plan import Plan
from searching import KL, LR

BAD = {
    "a base that is none": ({"base": "nope"}, "unknown experiment 'nope'"),
    "a key that is none": ({"set": {"actor.lr": "1,2"}}, "actor.lr: there is no such setting"),
    "an empty range": ({"set": {LR: "1e-3..1e-4"}}, "is an empty range"),
    "a value that a setting refuses": ({"set": {LR: "1e-4,-1"}}, f"{LR}=-1: use a finite number"),
    "an end of a range that a setting refuses": ({"set": {LR: "-1..1"}}, f"{LR}=-1.0: use a finite number"),
    "a value that is no Hydra": ({"set": {LR: "1e-4,[1"}}, "[1 is no Hydra override"),
    "a value that does not go with the others": (
        {"set": {"data.train_batch_size": "16,17"}},
        "data.train_batch_size=17",
    ),
    "a value twice, written otherwise": ({"set": {LR: "1e-4,0.0001"}}, "is there twice"),
    "a metric that is none": ({"metric": "val/acc"}, "--metric val/acc: no row has it"),
    "a data source that no file has": ({"metric": "val/accuracy/aime"}, "--metric val/accuracy/aime: no row has it"),
    "more trials than settings": ({"set": {LR: "1e-4,2e-4"}}, "there are only 2 settings"),
    "more at a time than in all": ({"parallel": 5}, "--parallel 5 is more than the 4 trials"),
    "one trial": ({"trials": 1}, "one run compares nothing"),
    "more to confirm than there are": ({"confirm": 5}, "--confirm 5 is more than the 4 trials"),
    "validations beyond the end": ({"every": 7}, "--every 7 is more than the 6 steps"),
    "a grid of a range": ({"sampler": "grid", "trials": None}, "a grid takes values"),
    "a grid of another size": ({"set": {LR: "1e-4,2e-4"}, "sampler": "grid"}, "the grid has 2 points"),
    "what the search decides": ({"set": {"seed": "1,2"}}, "seed cannot be set: it is decided by --confirm"),
    "what is the same for all trials": (
        {"base": "v5_mended", "set": {"trainer.nnodes": "1,2"}},
        "trainer.nnodes cannot be searched: all trials have as many machines",
    ),
    "what the groups of GPUs decide": (
        {"base": "v5_mended", "overrides": ["trainer.n_gpus_per_node=2"], "parallel": 2},
        "trainer.n_gpus_per_node cannot be set: it is decided by --parallel",
    ),
    "what the machine decides": ({"set": {"data.train_files": "a,b"}}, "from the machine's facts"),
    "the search's own as an override": ({"overrides": ["guard.action=off"]}, "guard.action cannot be set"),
    "an override of what is searched": ({"overrides": [f"{LR}=1"]}, "is searched and given as an override"),
    "an override that is none": ({"overrides": ["trainer.nope=1"]}, "trainer.nope: there is no such setting"),
    "a checkpoint that is none": ({"fork_from": "nowhere"}, "--fork-from: nowhere is neither a path nor a run"),
}


@pytest.mark.parametrize(("options", "said"), BAD.values(), ids=BAD)
def test_it_is_refused(searches, monkeypatch, options, said):
    (searches.output / "val.json").write_text(
        '[{"data_source": "sums", "prompt": [{"role": "user", "content": "1+1?"}],'
        ' "reward_model": {"ground_truth": "2"}}]'
    )
    monkeypatch.chdir(searches.output)
    assert said in searches.refused(**options)


@pytest.mark.parametrize("metric", ["val/accuracy", "val/accuracy/sums", "actor/entropy"])
def test_a_metric_that_rows_have_is_taken(searches, monkeypatch, metric):
    (searches.output / "val.json").write_text(
        '[{"data_source": "sums", "prompt": [{"role": "user", "content": "1+1?"}],'
        ' "reward_model": {"ground_truth": "2"}}]'
    )
    monkeypatch.chdir(searches.output)
    searches.make(metric=metric).folder.give_back()


def test_a_folder_of_something_else_is_left_alone(searches):
    (searches.output / "s").mkdir()
    (searches.output / "s" / "thesis.txt").write_text("mine")
    assert "holds no search" in searches.refused()
    assert {path.name for path in (searches.output / "s").iterdir()} == {"thesis.txt"}


def test_gpus_that_cannot_be_shared_out_are_refused(searches, monkeypatch):
    monkeypatch.setattr("recipes.archer.search.starting.num_gpus", lambda: 3)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    options = {"base": "v5_mended", "set": {LR: "1e-7..1e-5:log"}, "parallel": 2}
    assert "3 GPUs cannot be cut into 2 groups" in searches.refused(**options)


def test_the_base_s_own_values_are_known_where_the_space_holds_them(searches):
    search = searches.make(set={LR: "1e-4..1e-3:log", KL: "0,0.001"})
    assert search.base == {LR: 2e-4, KL: "0.001"}
    search.folder.give_back()
    assert searches.make("t", set={LR: "3e-4..1e-3:log"}).base is None


def test_the_command_s_words_are_the_plan_s():
    from recipes.archer.cluster.settings import BACKENDS
    from recipes.archer.commands.search import Pruner, Sampler, Where
    from recipes.archer.commands.submit import Backend
    from recipes.archer.search.plan import EXECUTORS, PRUNERS, SAMPLERS

    assert (tuple(Sampler), tuple(Pruner), tuple(Where)) == (SAMPLERS, PRUNERS, EXECUTORS)
    assert tuple(Backend) == BACKENDS


def test_every_field_of_a_plan_is_an_option():
    from typer.main import get_command

    from recipes.archer.commands.search import search_app

    names = {name for parameter in get_command(search_app).commands["start"].params for name in [parameter.name]}
    assert set(Plan.__dataclass_fields__) - {"axes"} | {"settings", "file"} == names
