"""What a run may change when it goes back."""

import pytest
import yaml

from configurations import configuration
from recipes.archer.ending import Cause, UserError
from recipes.archer.experiments.courses import changes_for, check_courses, foreign, next_change
from recipes.archer.experiments.records import record_in

LR, KL = "actor_rollout_ref.actor.optim.lr", "actor_rollout_ref.actor.kl_loss_coef"
REFRESH = "actor_rollout_ref.ref.refresh.every=20"
CONTROL = ["actor_rollout_ref.actor.entropy_coeff=0", "control.entropy.actuator=bonus"]


def _rollback(*settings, experiment="tiny", **where):
    return configuration("guard.action=rollback", *settings, experiment=experiment, **where)


def _in_order(config, metric, goes=None):
    """The overrides of one change after the other, each on top of those before."""
    cause, used, found = Cause("c", metric, 3, goes), set(), []
    while (chosen := next_change(config, cause, used)) is not None:
        change, config = chosen
        used.add(change.source)
        found.append(list(change.overrides))
    return found


def test_the_records_contingencies_come_in_their_order():
    config = _rollback(experiment="v1", device="cuda")
    assert _in_order(config, "actor/entropy", "down") == [
        ["actor_rollout_ref.actor.entropy_coeff=0.05"],
        ["actor_rollout_ref.rollout.repetition_penalty=1.2"],
    ]


def test_one_that_is_for_a_fall_is_not_for_a_rise():
    config = _rollback(experiment="archer", device="cuda")
    assert _in_order(config, "actor/entropy", "down") == [["actor_rollout_ref.actor.clip_high_entropy=[0.5,0.5]"]]
    assert _in_order(config, "actor/entropy", "up")[0] == [f"{LR}=5e-07"]


def test_without_one_the_configurations_courses_are_taken_each_on_top_of_the_last():
    config = _rollback("record=null")
    assert _in_order(config, "actor/entropy") == [
        [f"{LR}=0.0001"],
        [f"{KL}=0.002"],
        ["guard.rollback.reset_optimizer=true"],
        [REFRESH],
        CONTROL,
    ]


def test_what_makes_no_difference_is_passed_over():
    config = _rollback("record=null", f"{KL}=0.0", "guard.rollback.reset_optimizer=true")
    assert _in_order(config, "actor/entropy") == [[f"{LR}=0.0001"], CONTROL], "nothing pulls to a reference"
    config = _rollback("record=null", "actor_rollout_ref.actor.use_kl_loss=false")
    found = _in_order(config, "actor/entropy")
    assert [f"{KL}=0.002"] not in found and [REFRESH] not in found, "there is no KL term"
    check_courses(config)


def test_a_contingency_that_is_another_run_is_none_and_that_is_said():
    config = _rollback(experiment="v5", device="cuda")
    assert _in_order(config, "critic/score/mean") == [[f"{KL}=0.001"]]
    (said,) = foreign(record_in(config))
    assert "record.contingency[1]" in said and "actor_rollout_ref.model.path" in said
    assert changes_for(config, "actor/entropy")[0].source == "guard.rollback.courses[0]"


@pytest.mark.parametrize("experiment", ["tiny", "tiny_collapse", "tiny_archer", "tiny_no_turn_end"])
def test_every_tiny_experiment_can_go_back(experiment):
    check_courses(_rollback(experiment=experiment))


@pytest.mark.parametrize(
    ("courses", "problem"),
    [
        (
            [["actor_rollout_ref.actor.lr=1"]],
            r"guard.rollback.courses\[0\]: actor_rollout_ref.actor.lr: there is no such",
        ),
        (
            [[f"{LR}=1e-5"], [f"{LR}=fast"]],
            r"guard.rollback.courses\[1\]: actor_rollout_ref.actor.optim.lr=fast: use a",
        ),
        ([["actor_rollout_ref.model.path=other"]], r"courses\[0\]: actor_rollout_ref.model.path stays as it is"),
        ([["data.train_batch_size=7"]], r"courses\[0\]: .* is not a multiple of"),
    ],
)
def test_a_course_that_does_not_compose_is_refused_by_name(courses, problem):
    config = _rollback(f"guard.rollback.courses={yaml.safe_dump(courses, default_flow_style=True)}")
    with pytest.raises(UserError, match=problem):
        check_courses(config)
