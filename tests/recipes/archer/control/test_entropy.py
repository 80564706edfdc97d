"""The entropy control in the loop: its band, when it acts, what it does to a batch, and its state."""

import json
import math

import pytest
import torch
from omegaconf import OmegaConf

from objective_cases import make_batch, value_of
from recipes.archer.control.entropy import EntropyControl
from recipes.archer.losses.constants import LossConfig
from recipes.archer.settings.configuration import CONFIG_DIR
from trainer_cases import RIGHT, WRONG, make_trainer, step_of
from verl import DataProto

DEFAULTS = OmegaConf.load(CONFIG_DIR / "archer.yaml").control.entropy
NATS = {"unit": "nats", "band": [0.3, 0.5], "warmup_steps": 0}
START = [1.0, 3.0, 2.0, 5.0, 0.5]  # their median is 2


def control(**settings) -> EntropyControl:
    return EntropyControl(OmegaConf.merge(DEFAULTS, settings))


def fed(found: EntropyControl, entropies: list[float | None], first: int = 1) -> list[dict]:
    return [found.measured(step, entropy) for step, entropy in enumerate(entropies, first)]


def column(rows: list[dict], name: str) -> list:
    return [row.get(f"control/entropy/{name}") for row in rows]


# -- band ------------------------------------------------------------------------------------------------------


def test_a_relative_band_is_known_with_the_fifth_step_and_stays():
    rows = fed(control(actuator="advantage"), [*START, 0.9, 40.0])
    assert rows[:4] == [{}] * 4
    assert column(rows[4:], "low") == [1.0] * 3 and column(rows[4:], "high") == [3.0] * 3
    assert column(rows[4:], "error") == pytest.approx([0.25, 0.05, -18.5])


def test_a_step_without_an_entropy_is_none_of_the_first_five():
    rows = fed(control(actuator="advantage"), [None, *START[:2], math.nan, *START[2:]])
    assert rows[:6] == [{}] * 6 and column(rows[6:], "low") == [1.0]


def test_the_start_is_remembered_where_nothing_acts():
    off = control()
    assert fed(off, START) == [{}] * 5
    later = control(actuator="advantage")
    later.load_state_dict(off.state_dict())
    assert fed(later, [1.0], first=80)[0]["control/entropy/high"] == 3.0


def test_a_band_may_move_in_a_straight_line():
    rows = fed(control(actuator="bonus", **NATS, final_band=[0.1, 0.2], anneal_steps=4), [0.4] * 6)
    assert column(rows, "low") == pytest.approx([0.25, 0.2, 0.15, 0.1, 0.1, 0.1])
    assert column(rows, "high") == pytest.approx([0.425, 0.35, 0.275, 0.2, 0.2, 0.2])


# -- when it acts ----------------------------------------------------------------------------------------------


def test_a_row_has_what_was_in_force_and_the_next_step_gets_what_follows_from_it():
    """Errors 0.25, 0.5: α 0.1 (slew), 0.2; the row's own update had the one before."""
    found = control(actuator="advantage", **NATS)
    rows = fed(found, [0.2, 0.1, 0.4])
    assert column(rows, "alpha") == pytest.approx([0.0, 0.1, 0.2])
    assert found.state.alpha == pytest.approx(0.1)
    assert column(rows, "coefficient") == [None] * 3


def test_nothing_acts_before_the_warm_up_is_over():
    rows = fed(control(actuator="bonus", **NATS | {"warmup_steps": 3}), [0.1] * 6)
    assert column(rows, "coefficient") == pytest.approx([0, 0, 0, 1e-4, 2e-4, 3e-4])
    assert column(rows, "error") == pytest.approx([0.5] * 6)


@pytest.mark.parametrize("actuator", ["bonus", "advantage"])
@pytest.mark.parametrize("entropy", [None, math.nan, math.inf, -math.inf])
def test_an_entropy_that_is_none_holds(actuator, entropy):
    found = control(actuator=actuator, **NATS)
    fed(found, [0.1] * 3)
    before = found.state_dict()
    row = found.measured(4, entropy)
    assert found.state_dict() | {"start": before["start"]} == before
    assert (
        row["control/entropy/error"] is row["control/entropy/saturated"] is None and row["control/entropy/low"] == 0.3
    )


def test_saturated_is_at_the_limit_and_still_outside():
    rows = fed(control(actuator="advantage", **NATS), [0.1] * 8 + [0.4] * 2)
    assert column(rows, "saturated") == [0] * 5 + [1] * 3 + [0, 0]
    rows = fed(control(actuator="bonus", **NATS), [0.6, 0.1, 0.6, 0.6])
    assert column(rows, "saturated") == [1, 0, 0, 1]  # above the band a bonus can do no more than be none


# -- what it does to a batch -----------------------------------------------------------------------------------


def batch_of(advantages: torch.Tensor) -> DataProto:
    return DataProto.from_dict({"advantages": advantages})


def test_better_ones_count_less_and_worse_ones_more():
    found = control(actuator="advantage", **NATS)
    fed(found, [0.1] * 6)  # α 0.5
    batch = batch_of(torch.tensor([[2.0, 0.0], [-2.0, -1.0]]))
    found.act(batch)
    assert batch.batch["advantages"].tolist() == [[1.0, 0.0], [-3.0, -1.5]]
    assert "entropy_coeff" not in batch.meta_info
    fed(found, [9.0] * 12)  # α -0.5
    batch = batch_of(torch.tensor([[2.0, 0.0], [-2.0, -1.0]]))
    found.act(batch)
    assert batch.batch["advantages"].tolist() == [[3.0, 0.0], [-1.0, -0.5]]


@pytest.mark.parametrize("settings", [{}, {"actuator": "advantage", **NATS}, {"actuator": "bonus", **NATS}])
def test_inside_the_band_the_loss_is_the_plain_one_to_the_bit(settings):
    found = control(**settings)
    fed(found, [0.4, 0.3, 0.5])
    batch, log_prob, entropy = make_batch(padding=0.0)
    given = DataProto.from_dict({name: value.clone() for name, value in batch.items()})
    found.act(given)
    coefficient = given.meta_info.get("entropy_coeff", 0.0)
    values = [
        value_of(tensors, log_prob, entropy, LossConfig(entropy_coeff=coefficient))[0]
        for tensors in (batch, given.batch)
    ]
    gradients = [torch.autograd.grad(value, (log_prob, entropy), allow_unused=True) for value in values]
    assert values[0].item() == values[1].item() and torch.equal(gradients[0][0], gradients[1][0])
    assert gradients[0][1] is gradients[1][1] is None


# -- state -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("actuator", ["bonus", "advantage"])
@pytest.mark.parametrize("unit", ["start", "nats"])
@pytest.mark.parametrize("cut", range(0, 14, 3))
def test_resumed_anywhere_it_is_as_if_it_had_never_stopped(actuator, unit, cut):
    entropies = [0.4, 0.5, 0.3, 0.4, 0.4, 0.1, 0.05, None, 0.15, 0.2, 1.9, 0.4, 0.5, 0.1]
    settings = {"actuator": actuator, "unit": unit, "band": [0.3, 0.5] if unit == "nats" else [0.5, 1.5]}
    straight, before, after = (control(**settings) for _ in range(3))
    rows = fed(straight, entropies)
    first = fed(before, entropies[:cut])
    after.load_state_dict(json.loads(json.dumps(before.state_dict())))
    assert first + fed(after, entropies[cut:], first=cut + 1) == rows
    assert after.state_dict() == straight.state_dict()


def test_limits_that_were_lowered_count_at_once_and_another_actuator_begins_afresh():
    strong = control(actuator="advantage", **NATS)
    fed(strong, [0.1] * 9)
    weaker = control(actuator="advantage", **NATS, advantage={"max": 0.2})
    weaker.load_state_dict(strong.state_dict())
    assert weaker.state.alpha == 0.2
    other = control(actuator="bonus", **NATS)
    other.load_state_dict(strong.state_dict())
    assert other.state_dict()["alpha"] == other.coefficient == 0.0


def test_a_state_of_an_earlier_version_is_a_beginning():
    found = control(actuator="bonus", **NATS)
    found.load_state_dict(None)
    assert found.state_dict() == control().state_dict()


@pytest.mark.parametrize(
    "change", [{"start": 3}, {"start": ["1"]}, {"alpha": "0.1"}, {"integral": None}, {"coefficient": math.nan}]
)
def test_a_state_that_is_none_is_refused(change):
    with pytest.raises(ValueError, match="entropy_control is no start and three numbers"):
        control(actuator="advantage").load_state_dict(control().state_dict() | change)


# -- in the loop -----------------------------------------------------------------------------------------------

CONTROLLED = {
    "control__entropy__actuator": "advantage",
    "control__entropy__unit": "nats",
    "control__entropy__band": "[0.1,0.2]",  # the made-up world's entropies are about 1.5
    "control__entropy__warmup_steps": 2,
}


def half(prompt: int, sample: int) -> tuple[str, int]:
    return (RIGHT if sample % 2 else WRONG), 4


def test_a_step_is_trained_with_what_the_steps_before_it_asked_for():
    trainer, plain = make_trainer(half, **CONTROLLED), make_trainer(half)
    rows = [(step_of(trainer), step_of(plain)) for _ in range(4)]
    assert column([row for row, _ in rows], "alpha") == pytest.approx([0.0, 0.0, -0.1, -0.2])
    for (row, off), given, expected in zip(rows, trainer.calls.updates, plain.calls.updates, strict=True):
        alpha = row["control/entropy/alpha"]
        weights = 1 - alpha * expected.batch["advantages"].sign()
        assert torch.equal(given.batch["advantages"], expected.batch["advantages"] * weights)
        assert row["critic/advantages/mean"] == pytest.approx(-alpha * off["critic/advantages/max"], abs=1e-6)
        assert row.keys() == off.keys() and set(column([off], "alpha")) == {None}
        low, high = row["control/entropy/low"], row["control/entropy/high"]
        assert row["control/entropy/error"] == pytest.approx((high - row["actor/entropy"]) / ((low + high) / 2))


def test_the_coefficient_goes_with_the_batch():
    bonus = CONTROLLED | {"control__entropy__actuator": "bonus", "control__entropy__band": "[5,6]"}
    trainer, plain = make_trainer(half, **bonus), make_trainer(half)
    for _ in range(4):
        step_of(trainer), step_of(plain)
    assert [batch.meta_info["entropy_coeff"] for batch in trainer.calls.updates] == pytest.approx([0, 0, 1e-4, 2e-4])
    assert all("entropy_coeff" not in batch.meta_info for batch in plain.calls.updates)


@pytest.mark.parametrize("settings", [{}, {"control__entropy__actuator": "bonus", "control__entropy__band": "[5,6]"}])
def test_a_run_goes_on_from_its_state_to_the_bit(settings):
    def rows_of(trainer, steps: int) -> list[dict]:
        rows = [step_of(trainer) for _ in range(steps)]
        return [
            {name: value for name, value in row.items() if name[:8] in ("control/", "actor/en", "critic/a")}
            for row in rows
        ]

    straight, before, after = (make_trainer(half, **CONTROLLED | settings) for _ in range(3))
    expected = rows_of(straight, 7)
    first = rows_of(before, 4)
    state = before.state_dict()
    state["entropy_control"] = json.loads(json.dumps(state["entropy_control"]))
    after.load_state_dict(state)
    after.calls.number = before.calls.number  # the made-up world's place
    assert first + rows_of(after, 3) == expected
    assert len(set(map(str, column(expected, "alpha") + column(expected, "coefficient")))) > 4, "nothing moved"
