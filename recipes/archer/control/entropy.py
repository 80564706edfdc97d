"""Holds the policy's entropy in a band: measured after each step, acted on in the next one's update.

The measure is ``actor/entropy``: one figure for everything generated, of all workers.  With one update a step it comes
out of that very update, so the rule acts one step later, in every run alike.
"""

import math
from collections.abc import Mapping
from statistics import median
from typing import Any

from recipes.archer.control.actuators import AdvantageRule, AdvantageState, BonusRule, Measure, advantage, bonus
from recipes.archer.metrics.row import CONTROL_KEYS
from recipes.archer.settings.running import START_STEPS
from verl import DataProto


class EntropyControl:
    """Measures, decides, and weights a batch; what it remembers is a part of the run's state.

    Args:
        settings: ``control.entropy``.
    """

    def __init__(self, settings: Mapping[str, Any]):
        self.settings, self.actuator = settings, settings["actuator"]
        self.bonus, self.advantage = BonusRule(**settings["bonus"]), AdvantageRule(**settings["advantage"])
        self.start: list[float] = []  # entropies of the run's first steps, also where nothing acts
        self.coefficient, self.state = 0.0, AdvantageState()

    def act(self, batch: DataProto) -> None:
        """Before an update: the batch's advantages as they count, and the entropy coefficient that its loss has.

        With α = 0, and without an actuator, the batch stays as it is.
        """
        if self.actuator == "bonus":
            batch.meta_info["entropy_coeff"] = self.coefficient
        elif self.actuator == "advantage" and self.state.alpha:
            values = batch.batch["advantages"]
            batch.batch["advantages"] = values * (1 - self.state.alpha * values.sign())

    def measured(self, step: int, entropy: float | None) -> dict[str, float | None]:
        """After an update: takes the step's entropy, decides on the next one's; returns the metrics of this one.

        An entropy that is not there or not finite changes nothing.
        """
        known = entropy is not None and math.isfinite(entropy)
        if known and len(self.start) < START_STEPS:
            self.start.append(float(entropy))
        if self.actuator is None or (band := self._band(step)) is None:
            return {}
        alpha, coefficient = {"bonus": (None, self.coefficient)}.get(self.actuator, (self.state.alpha, None))
        found = dict(zip(CONTROL_KEYS, (*band, None, alpha, coefficient, None), strict=True))
        if not known:
            return found
        measure = Measure(float(entropy), *band)
        found |= {"control/entropy/error": measure.error, "control/entropy/saturated": self._is_spent(measure.error)}
        if step >= self.settings["warmup_steps"]:
            self._decide(measure)
        return found

    def _decide(self, measure: Measure) -> None:
        if self.actuator == "bonus":
            self.coefficient = bonus(self.coefficient, measure, self.bonus)
        else:
            self.state = advantage(self.state, measure, self.advantage)

    def _is_spent(self, error: float) -> int:
        if self.actuator == "bonus":
            return int(self.bonus.is_spent(self.coefficient, error))
        return int(self.advantage.is_spent(self.state.alpha, error))

    def _band(self, step: int) -> tuple[float, float] | None:
        """Of a step, in nats; None where the run's start is not known yet."""
        (low, high), final = self.settings["band"], self.settings["final_band"]
        if final is not None:
            share = min(1.0, step / self.settings["anneal_steps"])
            low, high = low + share * (final[0] - low), high + share * (final[1] - high)
        if self.settings["unit"] == "nats":
            return low, high
        scale = median(self.start) if len(self.start) == START_STEPS else 0.0
        return (low * scale, high * scale) if scale > 0 else None

    def state_dict(self) -> dict[str, Any]:
        state = {"start": list(self.start), "coefficient": self.coefficient}
        return state | {"integral": self.state.integral, "alpha": self.state.alpha}

    def load_state_dict(self, state: Mapping[str, Any] | None) -> None:
        """Goes on where ``state`` was taken, within the limits that are set now; None: an earlier version has none.

        Raises:
            ValueError, AttributeError: it holds something else than such a state.
        """
        if state is None:
            return
        start, *numbers = (state.get(name) for name in ("start", "coefficient", "integral", "alpha"))
        if not isinstance(start, list) or not all(map(_is_number, (*start, *numbers))):
            raise ValueError("entropy_control is no start and three numbers")
        coefficient, integral, alpha = numbers
        self.start = list(start[:START_STEPS])
        if self.actuator == "bonus":
            self.coefficient = min(max(coefficient, 0.0), self.bonus.max)
        elif self.actuator == "advantage":
            most = self.advantage.max
            self.state = AdvantageState(*(min(max(value, -most), most) for value in (integral, alpha)))


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
