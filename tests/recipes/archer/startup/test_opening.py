"""The configuration of the course that a run is on."""

import pytest

from configurations import configuration
from recipes.archer.ending import UserError
from recipes.archer.runs.courses import Course, Courses
from recipes.archer.startup.opening import on_course

LR = "actor_rollout_ref.actor.optim.lr"


def _courses(*overrides: tuple[str, ...]) -> Courses:
    turns = [Course(i, 9, 4, "c", "bad", "s", "w", given, "now") for i, given in enumerate(overrides, start=1)]
    return Courses(tuple(turns))


@pytest.fixture
def written(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    return configuration("guard.action=rollback", f"actor_rollout_ref.model.path={tmp_path}")


def test_every_course_so_far_is_in_force_the_last_word_counts(written):
    config, resolved = on_course(written, _courses((f"{LR}=1e-5", "data.max_response_length=50"), (f"{LR}=2e-5",)))
    assert resolved.actor_rollout_ref.actor.optim.lr == 2e-5 and written.actor_rollout_ref.actor.optim.lr == 2e-4
    assert resolved.actor_rollout_ref.rollout.response_length == 50, "what follows from a setting follows the course's"
    assert config.actor_rollout_ref.actor.optim.lr == 2e-5 and config.actor_rollout_ref.seed == resolved.seed
    assert on_course(written, Courses())[1].actor_rollout_ref.actor.optim.lr == 2e-4


def test_a_run_that_went_back_may_be_resumed_with_another_action(written):
    written.guard.action = "warn"
    resolved = on_course(written, _courses((f"{LR}=1e-5",), ("guard.rollback.reset_optimizer=true",)))[1]
    assert resolved.actor_rollout_ref.actor.optim.lr == 1e-5 and resolved.guard.rollback.reset_optimizer


@pytest.mark.parametrize(
    ("override", "problem"),
    [
        ("custom_reward_function.path=/tmp/evil.py", "stays as it is within a run"),
        ("actor_rollout_ref.model.trust_remote_code=true", "stays as it is within a run"),
        ("actor_rollout_ref.actor.nothing=1", "there is no such setting"),
        (f"{LR}=fast", "use a finite number"),
        (f"{LR}=hf_{'a1' * 20}", "Hugging Face"),
    ],
)
def test_a_course_that_a_stranger_wrote_may_do_no_more_than_one_of_ours(written, override, problem):
    with pytest.raises(UserError, match=f"courses.json: .*{problem}"):
        on_course(written, _courses((override,)))
