"""How a search stands, in words and figures; and which of the best is better."""

import json
from pathlib import Path

import pytest

from recipes.archer.search.table import HEADINGS, standing, summary_headings
from recipes.archer.search.winner import chosen, evidence
from searching import LR


@pytest.fixture
def done(searches):
    searches.run(set={LR: "3e-4,2.8e-4,2e-2"}, sampler="grid", trials=None, confirm=2)
    return searches


def evaluated(folder: Path, right: float, n: int = 4, questions: int = 60) -> None:
    """An evaluation of a run, as `archer evaluate` leaves it."""
    counts = [{"question": f"q{i}", "num_correct": n if i < right * questions else 0} for i in range(questions)]
    scores = {
        "model": folder.name, "data": "val.json", "step": 6, "n": n, "num_questions": questions, "avg": right,
        "avg_ci95": [right - 0.1, right + 0.1], "maj": right, "truncated": 0.0, "pass_at": {}, "questions": counts,
    }  # fmt: skip
    place = folder / "evaluations" / "step_6" / "val-n4"
    place.mkdir(parents=True)
    (place / "scores.json").write_text(json.dumps(scores))


def test_a_line_for_each_trial(done):
    now = standing(done.folder())
    assert len(now.lines) == 3 and all(len(line.cells) == len(HEADINGS) for line in now.lines)
    good, _, bad = now.lines
    assert good.cells[:5] == ("0", "lr=3e-4", "6", "1.001", "1.001 [0.901, 1.101]")
    assert good.cells[-1] == "finished" and len(good.summary) == len(summary_headings(now.plan))
    assert good.summary[2:5] == ("1.001 [0.901, 1.101] (step 6)", "0.50", "9")
    assert bad.cells[-1] == "pruned: guard: bad since step 1: entropy_explosion"
    spent, best, *_ = now.sentences
    assert spent.startswith("budget: 3 of 3 trials, 14 of 18 steps, 0.30 h")
    assert best.startswith("best so far: trial 0, val/accuracy 1.001")
    assert now.over


def test_what_confirms_is_compared_question_by_question(done):
    assert "not all of their runs were evaluated" in standing(done.folder()).sentences[-1]
    for number, right in ((0, 0.5), (1, 0.9)):
        evaluated(done.folder().run_folder(f"trial-{number:03d}-seed-2"), right)
    now = standing(done.folder())
    assert now.found[0].number == 1  # what was first by luck is not with fresh seeds
    assert now.sentences[-1].startswith("trial 1 is better than trial 0: +40.0 points")
    assert chosen("s", now.study, now.found, None) == 1
    told = " ".join(evidence(done.folder(), now.plan, now.study, now.found, 1))
    assert "Confirmed with fresh seeds: trial 1 is better" in told and "Of 3 trials 2 finished" in told


def test_what_cannot_be_told_apart_is_said(done):
    for number, right in ((0, 0.5), (1, 0.52)):
        evaluated(done.folder().run_folder(f"trial-{number:03d}-seed-2"), right)
    assert "not told apart from trial" in standing(done.folder()).sentences[-1]


def test_a_damaged_run_is_a_line_of_its_own(done):
    (done.folder().run_folder("trial-001") / "metrics.jsonl").write_text("nonsense\n")
    now = standing(done.folder())
    assert now.lines[1].peak is None and "not a run's metrics" in now.lines[1].reason


def test_the_page_has_everything_and_needs_nothing(done):
    from recipes.archer.search.page import write_page

    page = write_page(done.folder()).read_text(encoding="utf-8")
    assert page.count('src="data:image/png;base64,') >= 2 and "http://" not in page and "https://" not in page
    for heading in ("version", "changed", "score at peak", "entropy near step 6", "valid at peak", "outcome"):
        assert f"<th>{heading}</th>" in page
    for text in ("lr=3e-4", "guard: bad since step 1", "Confirmed with fresh seeds", "budget: 3 of 3 trials", LR):
        assert text in page
    assert "<script" not in page


def test_nothing_in_a_page_is_anyone_else_s_html(done, monkeypatch):
    folder = done.folder()
    run = folder.run_folder("trial-002") / "run.json"
    hostile = "<script>alert(1)</script>\x1b[2J"
    run.write_text(
        json.dumps(json.loads(run.read_text()) | {"reason": hostile, "verdict": {"step": 2, "overall": hostile}})
    )
    journal = folder.journal.read_text().replace("entropy_explosion", "<img src=x onerror=alert(1)>")
    folder.journal.write_text(journal)
    from recipes.archer.search.page import write_page

    page = write_page(folder).read_text(encoding="utf-8")
    assert "<script" not in page and "<img src=x" not in page and "\x1b" not in page and "&lt;img src=x" in page
