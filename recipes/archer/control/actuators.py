"""What is done about an entropy outside its band: two rules, pure functions of a state and a measure.

Sources and reasons are in docs/control.md.
"""

from dataclasses import dataclass

NEGLIGIBLE = 1e-3  # of α: below, inside the band, it is exactly 0, so that the loss is the plain one again


@dataclass(frozen=True)
class Measure:
    """A step's entropy and the band that it should be in, all in nats; ``low`` < ``high``."""

    entropy: float
    low: float
    high: float

    @property
    def error(self) -> float:
        """Distance to the band over the band's middle: positive below the band, negative above, 0 inside."""
        bound = min(max(self.entropy, self.low), self.high)
        return (bound - self.entropy) / ((self.low + self.high) / 2)


@dataclass(frozen=True)
class BonusRule:
    """Constants of :func:`bonus`: the step of the entropy coefficient, and its maximum."""

    delta: float
    max: float

    def is_spent(self, coefficient: float, error: float) -> bool:
        """Whether the coefficient stands at the limit that the error pushes it to."""
        return (error > 0 and coefficient >= self.max) or (error < 0 and coefficient <= 0)


def bonus(coefficient: float, measure: Measure, rule: BonusRule) -> float:
    """The next entropy coefficient, in [0, ``rule.max``]: up by ``rule.delta`` below the band, 0 at once above it.

    The coefficient is the rule's whole state: an integrator with a dead band (arXiv 2509.03493), on the scale of
    arXiv 2505.22312.
    """
    if measure.error > 0:
        return min(coefficient + rule.delta, rule.max)
    return 0.0 if measure.error < 0 else min(coefficient, rule.max)


@dataclass(frozen=True)
class AdvantageRule:
    """Constants of :func:`advantage`.

    Attributes:
        proportional, integral: gains K_p and K_i.
        decay: what the integral keeps in a step inside the band, in [0, 1).
        max: bound of |α|, in (0, 1].
        slew: most that α moves in a step.
    """

    proportional: float
    integral: float
    decay: float
    max: float
    slew: float

    def is_spent(self, alpha: float, error: float) -> bool:
        """Whether α stands at the limit that the error pushes it to."""
        return abs(alpha) >= self.max and alpha * error > 0


@dataclass(frozen=True)
class AdvantageState:
    """The integral term, K_i times the sum of errors, and α as it is in force."""

    integral: float = 0.0
    alpha: float = 0.0


def advantage(state: AdvantageState, measure: Measure, rule: AdvantageRule) -> AdvantageState:
    """The next state by a PI rule; its ``alpha``, in [−``rule.max``, ``rule.max``], is the output.

    Below the band α grows: right answers count less and wrong ones more, which flattens the policy.  The integral
    stands still while what the rule asks for is beyond the limit and the error has its sign (conditional integration),
    so that nothing winds up; inside the band it decays.
    """
    error, integral = measure.error, state.integral
    asked = rule.proportional * error + integral
    if error == 0:
        integral *= rule.decay
        if abs(integral) < NEGLIGIBLE:
            integral = 0.0
    elif abs(asked) < rule.max or asked * error < 0:
        integral += rule.integral * error
    wanted = _clip(rule.proportional * error + integral, rule.max)
    way = wanted - state.alpha
    # not a sum where it arrives: rounding would leave it just before its limit, and just beside 0
    return AdvantageState(integral, wanted if abs(way) <= rule.slew else state.alpha + _clip(way, rule.slew))


def _clip(value: float, bound: float) -> float:
    return min(max(value, -bound), bound)
