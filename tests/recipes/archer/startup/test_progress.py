"""What is waited for is said as it begins, where the user sees it."""

import io
from contextlib import redirect_stdout

from recipes.archer.startup import progress


def test_each_phase_is_a_line_with_the_seconds_so_far_wherever_output_leads_meanwhile(capsys, monkeypatch):
    clock = iter([100.0, 100.2, 106.7])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    told = progress.Progress()
    told.tell("loading libraries")
    with redirect_stdout(io.StringIO()) as notes:
        told.tell("starting Ray")
    assert capsys.readouterr().out == "starting, 0 s: loading libraries\nstarting, 7 s: starting Ray\n"
    assert notes.getvalue() == ""
