"""`archer samples`, which responses a report shows, and how a model's text is made safe to show."""

import os
import pty
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from recipes.archer.commands.cli import app
from recipes.archer.ending import UserError
from recipes.archer.printable import printable
from recipes.archer.reports.markdown import fenced, plain
from recipes.archer.reports.samples import choose, step_samples
from recipes.archer.reports.text import shortened
from recipes.archer.runs.folder import read_run


def call(*words: object) -> str:
    """Output of a command that succeeds."""
    result = CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_samples_print_plainly_with_their_grades(collapsing_run):
    output = call("samples", collapsing_run, "--step", 30)
    assert output.startswith("step 30: 10 of 10 responses; other steps: 1, 60")
    assert "1/10 correct answer 7 · expected 7 · score 1 · reward 0.75 · 20 tokens" in output
    assert "29 tokens, cut at the cap" in output and "<b>Think.</b>" in output
    assert "\x1b" not in output and "\u202e" not in output


def test_samples_of_the_last_step_by_outcome(collapsing_run):
    output = call("samples", collapsing_run, "--outcome", "wrong")
    assert output.startswith("step 60: 2 of 10 responses graded wrong; other steps: 1, 30")
    assert "1/2 wrong" in output and "correct" not in output


def test_samples_that_are_not_there_are_named(collapsing_run, two_step_run):
    with pytest.raises(UserError, match="steps 1, 30, 60"):
        call("samples", collapsing_run, "--step", 2)
    with pytest.raises(UserError, match="no responses"):
        call("samples", two_step_run)
    assert CliRunner().invoke(app, ["samples", str(collapsing_run), "--outcome", "good"]).exit_code == 2


def test_samples_are_coloured_and_paged_on_a_terminal(collapsing_run):
    """Through a pseudo-terminal, as a user would see it; the pager is `cat` so that it comes to an end."""
    ours, theirs = pty.openpty()
    archer = "from recipes.archer.commands.cli import main; main()"
    command = [sys.executable, "-c", archer, "samples", str(collapsing_run)]
    environment = {**os.environ, "PAGER": "cat", "TERM": "xterm-256color", "MANPAGER": "cat"}
    with subprocess.Popen(command, stdout=theirs, stdin=theirs, stderr=theirs, env=environment) as process:
        os.close(theirs)
        output = b""
        try:
            while part := os.read(ours, 65536):
                output += part
        except OSError:  # Linux's way of saying that the other end was closed
            pass
        assert process.wait(timeout=60) == 0
    os.close(ours)
    assert b"\x1b[32mcorrect" in output and b"\x1b[31mwrong" in output
    assert b"\x1b[2J" not in output  # the response's own escape sequence


def test_the_responses_chosen_are_half_correct_and_varied():
    rows = [{"outcome": o, "prompt": p, "i": i} for i, (o, p) in enumerate(
        [("correct", "a"), ("correct", "a"), ("correct", "b"), ("wrong", "a"), ("wrong", "a"), ("timeout", "a")]
    )]  # fmt: skip
    assert [row["i"] for row in choose(rows)] == [0, 2, 3, 5]
    assert [row["i"] for row in choose(rows[:3])] == [0, 2, 1]
    assert [row["i"] for row in choose(rows[3:])] == [3, 5, 4]
    assert choose([]) == []


def test_one_step_kept_is_first_best_and_last(healthy_run):
    for step in (1, 20, 40):
        (healthy_run / f"samples/step_{step}.jsonl").unlink()
    (only,) = step_samples(read_run(healthy_run))
    assert only.title == "Step 60: first and best and last"


def test_texts_are_made_showable():
    assert printable("a\r\nb\tc\x00\x1b\x9b\u202e\ud83d\u2066é") == "a\nb\tc" + "\ufffd" * 6 + "é"
    assert shortened("abcdef", 2, 2) == "ab\n[… 2 characters left out …]\nef"
    assert shortened("abcd", 2, 2) == "abcd"
    assert plain("a|b\n# <i> `c`") == "a\\|b \\# \\<i\\> \\`c\\`"
    assert fenced("x ```` y").startswith("`````text\n")
