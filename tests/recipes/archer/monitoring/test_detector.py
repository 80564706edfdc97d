"""Detectors: each finds its own failure, and none cries wolf on a run that is well."""

import json
import math

import pytest

from monitor_streams import first_bad, found, stream, tiny_stream
from recipes.archer.monitoring.detector import NotFinite, Progress, number
from recipes.archer.monitoring.monitor import DETECTORS, Monitor
from recipes.archer.monitoring.outcome import GuessingShortcut, ValidGroupsDying
from recipes.archer.monitoring.policy import EntropyOscillation, count_turns


def monitored(rows):
    monitor = Monitor()
    for row in rows:
        monitor.observe(row)
    return monitor


def with_change(start, **shapes):
    """A healthy run in which metrics change from a step on."""
    rows = stream(200)
    for row, changed in zip(rows, stream(200, **shapes), strict=True):
        if row["step"] >= start:
            row.update({name.replace("__", "/"): changed[name.replace("__", "/")] for name in shapes})
    return rows


@pytest.mark.parametrize("seed", range(10))
def test_nothing_is_said_of_a_healthy_run(seed):
    monitor = Monitor()
    for row in stream(300, seed=seed):
        monitor.observe(row)
        assert monitor.overall() == "healthy", [str(v) for v in monitor.verdicts if v.status in ("watch", "bad")]


@pytest.mark.parametrize("seed", range(10))
def test_the_embedded_job_is_healthy_although_its_entropy_vanishes_and_its_groups_are_all_solved(seed):
    monitor = Monitor()
    for row in tiny_stream(seed=seed):
        monitor.observe(row)
        assert monitor.overall() == "healthy", [str(v) for v in monitor.verdicts if v.status in ("watch", "bad")]
    assert row["actor/entropy"] < 0.2 and row["batch/valid"] <= 4  # the stream shows what it is meant to


CASES = {
    "entropy_collapse": {
        "actor__entropy": lambda step, noise: 0.05,
        "critic__score__mean": lambda step, noise: 0.0,
    },
    "entropy_explosion": {"actor__entropy": lambda step, noise: 10.0},
    "entropy_oscillation": {"actor__entropy": lambda step, noise: 4.85 + 2.75 * math.sin(step * 2 * math.pi / 7)},
    "guessing_shortcut": {
        "response_length__pos__mean": lambda step, noise: 8.0,
        "logical_connectives__mean": lambda step, noise: 0.01,
        "logical_connectives__pos__mean": lambda step, noise: 0.0,
    },
    "repetition": {
        "repetition__ratio__mean": lambda step, noise: 0.7,
        "critic__score__mean": lambda step, noise: 0.02,
    },
    "valid_groups_dying": {
        "batch__valid": lambda step, noise: 1,
        "batch__solve_none": lambda step, noise: 63,
        "batch__solve_all": lambda step, noise: 0,
    },
    "score_lost": {"critic__score__mean": lambda step, noise: 0.03},
    "kl_runaway": {"actor__kl_loss": lambda step, noise: 9.0},
    "gradient_norm": {"actor__grad_norm": lambda step, noise: 80.0},
    "step_time": {"timing_s__step": lambda step, noise: 1500.0},
}


FROM_THE_START = {"no_signal", "never_ending"}  # cannot begin in the middle of a run; each has a test of its own
WHERE_NOTHING_IS_LEARNED = {"control_saturated"}  # so has this


def test_every_detector_has_a_case():
    assert {cls.name for cls in DETECTORS} == CASES.keys() | FROM_THE_START | WHERE_NOTHING_IS_LEARNED


@pytest.mark.parametrize("name", CASES)
def test_each_failure_is_found_soon_and_by_its_name(name):
    monitor = Monitor()
    rows = with_change(120, **CASES[name])
    step = first_bad(monitor, rows)
    # at most a window's half plus what it has to last; the oscillation needs half of its 16 rows
    assert step is not None and 120 <= step <= 137, step
    assert name in found(monitor, "bad")
    verdict = next(v for v in monitor.verdicts if v.criterion == name)
    assert 120 <= verdict.since <= step and verdict.value is not None and verdict.detail


def test_responses_that_never_end_are_found_at_once_and_only_from_the_first_step_on():
    def rows(first, share):
        shapes = {"response__ended__mean": lambda step, noise: share if step >= first else 0.9}
        return stream(60, **shapes)

    monitor = Monitor()
    assert first_bad(monitor, rows(1, 0.02)) == 3 and found(monitor, "bad") == {"never_ending"}
    assert found(monitored(rows(1, 0.2)), "watch") == {"never_ending"}
    assert found(monitored(rows(2, 0.0)), "bad") == set()  # a policy that unlearns it is another matter


@pytest.mark.parametrize(("score", "status"), [(0.0, "bad"), (0.6, "watch")])
def test_a_control_that_has_lost_its_hold_is_found_after_twenty_steps_of_it(score, status):
    rows = stream(90, critic__score__mean=lambda step, noise: score)
    for row in rows:
        row["control/entropy/saturated"] = None if row["step"] < 5 else int(row["step"] > 30 or row["step"] == 12)
    assert found(monitored(rows[:49]), status) == set()
    assert found(monitored(rows[:50]), status) == {"control_saturated"}
    monitor = Monitor(config={"guard": {"detectors": {"control_saturated": {"sustained": 5}}}})
    for row in rows[:35]:
        monitor.observe(row)
    assert found(monitor, status) == {"control_saturated"}


def test_a_run_that_learns_to_end_is_only_watched():
    def share(step, noise):
        return 0.01 if step <= 2 else 0.6

    assert first_bad(Monitor(), stream(60, response__ended__mean=share)) is None


def test_no_signal_is_found_where_nothing_was_ever_solved():
    dead = {"batch__valid": 0, "batch__solve_none": 64, "batch__solve_all": 0, "critic__score__mean": 0.0}
    rows = stream(120, **{name: lambda step, noise, value=value: value for name, value in dead.items()})
    assert found(monitored(rows[:29]), "watch") == set() and found(monitored(rows[:30]), "watch") == {"no_signal"}
    monitor = Monitor()
    assert first_bad(monitor, rows) == 100 and found(monitor, "bad") == {"no_signal"}


@pytest.mark.parametrize("name", CASES)
def test_a_single_row_of_it_is_no_alarm(name):
    rows, broken = stream(200), with_change(1, **CASES[name])
    rows[119] = broken[119]
    assert first_bad(Monitor(), rows) is None


def test_low_entropy_alone_is_no_failure():
    rows = with_change(120, actor__entropy=lambda step, noise: 0.1)
    assert first_bad(Monitor(), rows) is None


def test_low_entropy_is_a_failure_once_the_score_is_lost_again():
    """0.25 is more than the start's 0.1, but less than 70% of the best."""
    shapes = {"actor__entropy": lambda s, n: 0.1, "critic__score__mean": lambda s, n: 0.25}
    monitor = Monitor()
    assert first_bad(monitor, with_change(120, **shapes)) is not None
    assert "entropy_collapse" in found(monitor, "bad")


@pytest.mark.parametrize(
    "scores, learned",
    [([0.1, 0.3], True), ([0.4, 0.4], True), ([0.1, 0.12], False), ([-0.163, 0.062], False), ([0.2, 0.6, 0.3], False)],
)
def test_what_counts_as_learned(scores, learned):
    progress = Progress()
    assert not progress.learned
    for step in range(20 * len(scores)):
        progress.update({"step": step + 1, "critic/score/mean": scores[step // 20]})
    assert progress.learned is learned


def test_accuracy_is_preferred_to_the_shaped_score():
    progress = Progress()
    progress.update({"step": 1, "reward/accuracy/mean": 0.5, "critic/score/mean": -0.2})
    assert (progress.metric, progress.current) == ("reward/accuracy/mean", 0.5)


def test_entropy_is_compared_with_the_run_s_own_start():
    rows = stream(100, actor__entropy=lambda s, n: 0.3 if s < 30 else 1.6, critic__score__mean=lambda s, n: 0.02)
    monitor = monitored(rows)
    assert "entropy_explosion" in found(monitor, "bad")  # 1.6 nats would be little for another model


def test_a_slow_rise_without_learning_is_watched_from_twice_the_start():
    rows = stream(100, actor__entropy=lambda s, n: 2.0 + 0.025 * s, critic__score__mean=lambda s, n: 0.02)
    assert found(monitored(rows), "watch") == {"entropy_explosion"}


@pytest.mark.parametrize("period", [2, 5, 9, 14])
def test_an_oscillation_is_found_at_any_pace(period):
    rows = stream(60, actor__entropy=lambda s, n: 5 + 2.5 * math.cos(s * 2 * math.pi / period))
    assert first_bad(Monitor(), rows) is not None


def test_a_small_policy_may_oscillate_too():
    rows = tiny_stream(60)
    for row in rows:
        row |= {"actor/entropy": 0.3 + 0.25 * math.sin(row["step"] * 2 * math.pi / 6), "reward/accuracy/mean": 0.25}
    monitor = Monitor()
    assert first_bad(monitor, rows) is not None and "entropy_oscillation" in found(monitor, "bad")


def test_a_slow_wave_and_noise_are_no_oscillation():
    wave = stream(300, actor__entropy=lambda s, n: 5 + 2 * math.sin(s * 2 * math.pi / 80))
    noise = stream(300, actor__entropy=lambda s, n: 4 + 0.8 * float(n.normal()))
    assert first_bad(Monitor(), wave) is None and first_bad(Monitor(), noise) is None


def test_short_answers_that_are_nearly_all_right_are_no_guessing():
    rows = stream(200)
    for row in rows:
        shrunk = max(12.0, 65 - 0.4 * row["step"])
        row |= {"critic/score/mean": min(0.95, 0.2 + 0.01 * row["step"]), "response_length/pos/mean": shrunk}
        row |= dict.fromkeys(GuessingShortcut.WORDS, max(0.0, 2.0 - 0.02 * row["step"]))
    assert first_bad(Monitor(), rows) is None


def test_spikes_are_no_oscillation():
    rows = stream(300, actor__entropy=lambda s, n: 9.0 if s % 8 == 0 else 4.2 + 0.1 * float(n.normal()))
    assert first_bad(Monitor(), rows) is None


@pytest.mark.parametrize("values", [list(range(16)), [8 - 0.5 * i for i in range(16)], [3.0] * 16])
def test_a_steady_course_has_no_turns(values):
    assert count_turns(values, 0.1) == 0


def test_turns_are_counted():
    assert count_turns([0, 1, 0, 1, 0], 0.5) == 3
    assert count_turns([0, 1, 0.9, 1.1, 0], 0.5) == 1


def test_v4_s_oscillation_step_by_step():
    values = [3.3, 2.1, 4.8, 7.6, 3.0, 6.9, 2.4, 5.2, 7.5, 2.6, 6.8, 3.1, 7.6, 7.2]
    monitor = Monitor()
    step = first_bad(monitor, [{"step": i, "actor/entropy": v} for i, v in enumerate(values, 1)])
    assert step is not None and step <= 12 and found(monitor, "bad") == {EntropyOscillation.name}


def test_short_answers_from_the_start_are_no_guessing():
    detector, progress = GuessingShortcut(), Progress()
    for step in range(1, 60):
        row = {
            "step": step,
            "reward/accuracy/mean": 0.2 + 0.01 * step,
            "response_length/pos/mean": max(4.0, 40 - step),
            "logical_connectives/mean": 0.001 if step > 10 else 1.0,
        }
        progress.update(row)
        detector.observe(row, progress)
        assert detector.verdict.status == "good"


def test_groups_that_are_all_solved_are_not_dying():
    detector = ValidGroupsDying()
    for step in range(1, 80):
        row = {"step": step, "batch/valid": max(0, 60 - step), "batch/solve_none": 2, "batch/solve_all": min(60, step)}
        detector.observe(row, Progress())
        assert detector.verdict.status == "good"


def test_a_policy_that_dies_in_its_first_steps_is_found():
    """The start of such a run is no measure: a real one went 0.23, 0.01, 0, 0.02, 0 … in accuracy."""
    solved = [14, 1, 0, 3, 0, 0, 0, 0, 0, 0]
    counts = [{"batch/valid": v, "batch/solve_none": 16 - v, "batch/solve_all": 0} for v in solved]
    rows = [{"step": step, **count} for step, count in enumerate(counts, 1)]
    assert first_bad(Monitor(), rows) == 9


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_value_that_is_not_finite_is_bad_at_once_and_for_good(value):
    monitor = Monitor()
    rows = stream(20)
    rows[9]["actor/grad_norm"] = value
    assert first_bad(monitor, rows) == 10
    for row in rows[10:]:
        monitor.observe(row)
    verdict = next(v for v in monitor.verdicts if v.criterion == NotFinite.name)
    assert (verdict.status, verdict.metric, verdict.since) == ("bad", "actor/grad_norm", 10)
    assert found(monitor, "bad") == {"not_finite"}  # the value itself reaches no other detector


def test_null_is_no_value():
    row = {"a": None, "b": math.nan, "c": True, "d": 3, "e": "3"}
    assert [number(row, key) for key in "abcdef"] == [None, None, None, 3.0, None, None]


def test_a_metric_that_is_null_at_times_changes_nothing():
    rows = stream(200)
    for row in rows:
        if row["step"] % 3:
            row.update({key: None for key in row if key not in ("step", "batch/valid")})
    monitor = monitored(rows)
    assert monitor.overall() == "healthy"


def test_rows_without_any_metric_are_no_data():
    monitor = monitored([{"step": step} for step in range(1, 30)])
    assert found(monitor, "no data") == {"not_finite", *(cls.name for cls in DETECTORS)}


@pytest.mark.parametrize("cls", DETECTORS, ids=lambda cls: cls.name)
def test_the_state_goes_through_json(cls):
    rows = with_change(60, **CASES.get(cls.name, {}))[:110]
    straight, progress, expected = cls(), Progress(), []
    for row in rows:
        progress.update(row)
        straight.observe(row, progress)
        expected.append(straight.verdict)
    first, second, progress, resumed = cls(), cls(), Progress(), []
    for row in rows:
        progress.update(row)
        if row["step"] == 62:
            second.load_state_dict(json.loads(json.dumps(first.state_dict())))
            restored = Progress()
            restored.load_state_dict(json.loads(json.dumps(progress.state_dict())))
            progress = restored
        detector = first if row["step"] < 62 else second
        detector.observe(row, progress)
        resumed.append(detector.verdict)
    assert resumed == expected
