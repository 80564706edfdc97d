"""How long a run was at work, from run.json: without the time between its attempts, while nothing of it ran."""

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any


def seconds_at_work(facts: Mapping[str, Any], until: float | None = None) -> float | None:
    """Seconds of all attempts that count.

    Args:
        facts: run.json's, which may be anyone's: ``started``, of the last attempt ``attempt_started`` and ``finished``,
            and ``earlier_s`` of those before it. Of a run before these were written, from its start to its end.
        until: seconds since the epoch, for an attempt that goes on or was killed; None: that one has no length.

    Returns:
        At least 0; None where it does not say when it began, or has not ended and no ``until`` is given.
    """
    begun = moment(facts.get("attempt_started", facts.get("started")))
    ended = moment(facts.get("finished"))
    ended = until if ended is None else ended
    if begun is None or ended is None:
        return None
    earlier = facts.get("earlier_s")
    usable = isinstance(earlier, int | float) and not isinstance(earlier, bool) and math.isfinite(earlier)
    return max(0.0, ended - begun) + (max(0.0, float(earlier or 0)) if usable else 0.0)


def moment(text: Any) -> float | None:
    """Seconds since the epoch of an ISO time, UTC where it names no zone; None of anything else."""
    try:
        found = datetime.fromisoformat(text)
    except (TypeError, ValueError):
        return None
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
