"""How long a run was at work, by a run.json of whatever age and origin."""

from pathlib import Path

import pytest

from recipes.archer.reports.provenance import provenance
from recipes.archer.runs.folder import Run
from recipes.archer.runs.times import moment, seconds_at_work

BEGUN, ENDED = "2026-01-01T00:00:00+00:00", "2026-01-01T01:00:00+00:00"


@pytest.mark.parametrize(
    ("facts", "until", "seconds"),
    [
        ({"started": BEGUN, "finished": ENDED}, None, 3600),  # before attempts were timed
        ({"started": "2025-12-01T00:00:00+00:00", "attempt_started": BEGUN, "finished": ENDED}, None, 3600),
        ({"attempt_started": BEGUN, "finished": ENDED, "earlier_s": 1800.5}, None, 5400.5),
        ({"attempt_started": BEGUN, "finished": None, "earlier_s": 60}, moment(BEGUN) + 5, 65),
        ({"attempt_started": BEGUN, "finished": None}, None, None),
        ({"attempt_started": ENDED, "finished": BEGUN}, None, 0),  # a clock that was set back
        ({}, 5.0, None),
        ({"started": 7, "finished": ENDED}, None, None),
        ({"started": BEGUN, "finished": ENDED, "earlier_s": "x"}, None, 3600),
        ({"started": BEGUN, "finished": ENDED, "earlier_s": True}, None, 3600),
        ({"started": BEGUN, "finished": ENDED, "earlier_s": float("inf")}, None, 3600),
        ({"started": BEGUN, "finished": ENDED, "earlier_s": -9}, None, 3600),
        ({"started": "2026-01-01T00:00:00", "finished": "2026-01-01T02:00:00+01:00"}, None, 3600),
    ],
)
def test_seconds_at_work(facts, until, seconds):
    assert seconds_at_work(facts, until) == seconds


def test_what_a_page_says_a_run_took_leaves_the_night_out():
    facts = {"started": "2025-12-31T12:00:00+00:00", "attempt_started": BEGUN, "finished": ENDED, "earlier_s": 1800}
    assert ("took", "90 min") in provenance(Run(Path("r"), facts, {}, []), 0.0)
