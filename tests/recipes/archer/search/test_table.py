"""How a search stands, in words and figures; and which of the best is better."""

import hashlib
import json
import subprocess
from pathlib import Path

import pytest
import yaml

from recipes.archer.checkpoints.store import CheckpointStore
from recipes.archer.search import winner
from recipes.archer.search.checks import axes_of
from recipes.archer.search.table import HEADINGS, standing, summary_headings
from recipes.archer.search.winner import chosen, evidence
from run_folders import scores_of, write_scores
from searching import LR


@pytest.fixture
def done(searches):
    searches.run(set={LR: "3e-4,2.8e-4,2e-2"}, sampler="grid", trials=None, confirm=2)
    return searches


def evaluated(
    folder: Path, right: float, n: int = 4, questions: int = 60, step: int = 6, file: str = "val.json", **how
):
    """An evaluation of a run, as `archer evaluate` leaves it."""
    counts = [n if i < right * questions else 0 for i in range(questions)]
    sampling = {"n": n, "temperature": 0.6, "top_p": 0.95, "max_tokens": 64, "seed": 0} | how
    content = folder.parent.parent / file
    digest = hashlib.sha256(content.read_bytes() if content.exists() else file.encode()).hexdigest()
    plan = {"model": "c", "data": digest, "sampling": sampling}
    scores = scores_of(counts, n, model=folder.name, data=file, step=step, plan=plan)
    write_scores(folder, f"step_{step}/{Path(file).stem}-n{n}-{len(how)}", scores)


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


def again(done, number) -> Path:
    """The folder of a trial's run with a fresh seed."""
    return done.folder().run_folder(f"trial-{number:03d}-seed-2")


def test_what_confirms_is_compared_question_by_question(done):
    said = standing(done.folder()).sentences[-1]
    assert said.startswith("not confirmed: ") and "not all of their runs were evaluated" in said
    for number, right in ((0, 0.5), (1, 0.9)):
        evaluated(again(done, number), right)
    now = standing(done.folder())
    assert now.found[0].number == 1  # what was first by luck is not with fresh seeds
    assert now.sentences[-1].startswith("trial 1 is better than trial 0: +40.0 points")
    assert now.sentences[-1].endswith("; trial 0, the best of the search, is not confirmed")
    assert chosen("s", now.study, now.found, None) == 1
    told = " ".join(evidence(done.folder(), now.plan, now.study, now.found, 1))
    assert "Confirmed with fresh seeds: trial 1 is better" in told and "Of 3 trials 2 finished" in told
    told = " ".join(evidence(done.folder(), now.plan, now.study, now.found, 0))
    assert "Not confirmed with fresh seeds: trial 1 is better" in told


def test_other_evaluations_of_a_run_do_not_decide(done):
    """Of another step, another file, drawn otherwise; also where they stand before it."""
    for number, right in ((0, 0.9), (1, 0.5)):
        wrong = 1 - right
        evaluated(again(done, number), wrong, step=2)
        evaluated(again(done, number), wrong, file="a.json")
        evaluated(again(done, number), wrong, n=2)
        evaluated(again(done, number), wrong, temperature=0.0)
        evaluated(again(done, number), wrong, temperature=0.6, top_p=0.95, max_tokens=65)
    assert all(one.scores is None for one in standing(done.folder()).found)
    for number, right in ((0, 0.9), (1, 0.5)):
        evaluated(again(done, number), right)
    now = standing(done.folder())
    assert [(one.number, one.share) for one in now.found] == [(0, 0.9), (1, 0.5)]
    assert now.sentences[-1].startswith("trial 0 is better than trial 1: +40.0 points")


def test_an_evaluation_on_another_content_of_a_file_is_none(done):
    for number in (0, 1):
        evaluated(again(done, number), 0.5)
    (done.output / "val.json").write_text("[]")
    assert all(one.scores is None for one in standing(done.folder()).found)


def test_all_held_out_files_decide(searches, monkeypatch):
    monkeypatch.setenv("VAL_FILES", f"{searches.output}/easy.json {searches.output}/hard.json")
    searches.run(set={LR: "3e-4,2.8e-4"}, sampler="grid", trials=None, confirm=2)
    for number, easy in ((0, 0.2), (1, 0.4)):
        evaluated(again(searches, number), easy, file="easy.json")
    assert all(one.scores is None for one in standing(searches.folder()).found)
    for number, hard in ((0, 1.0), (1, 0.2)):  # with the same questions in it, counted by themselves
        evaluated(again(searches, number), hard, file="hard.json")
    now = standing(searches.folder())
    assert [(one.number, one.share) for one in now.found] == [(0, 0.6), (1, pytest.approx(0.3))]
    assert "(120 questions, n=4)" in now.sentences[-1]


def test_files_of_one_content_count_once(searches, monkeypatch):
    """As `archer evaluate` takes them, whichever of the names it was told."""
    names = [f"{searches.output}/{name}.json" for name in ("one", "other", "same")]
    for name, content in zip(names, ("[1]", "[2]", "[1]"), strict=True):
        Path(name).write_text(content)
    monkeypatch.setenv("VAL_FILES", " ".join(names))
    searches.run(set={LR: "3e-4,2.8e-4"}, sampler="grid", trials=None, confirm=2)
    now, calls = standing(searches.folder()), []
    ran = subprocess.CompletedProcess([], 0, "", "")
    monkeypatch.setattr(winner.subprocess, "run", lambda command, **_: calls.append(command) or ran)
    winner.evaluate(searches.folder(), now.plan, now.confirming.complete, ["archer"], lambda _: None)
    assert [call[4:6] for call in calls] == [names[:2]] * 2 and all(call[6] == "--steps" for call in calls)
    for number, right, name in ((0, 1.0, "one"), (1, 0.5, "same")):
        for file in (name, "other"):
            evaluated(again(searches, number), right, file=f"{file}.json")
    assert [(one.number, one.share) for one in standing(searches.folder()).found] == [(0, 1.0), (1, 0.5)]


@pytest.mark.parametrize("files", [5, True, {"a": 1}, [5], [[]], "", [""], "a\0.json", "\ud800.json", None])
def test_whatever_a_run_names_as_its_held_out_files_is_evaluated_or_left(done, monkeypatch, files):
    """A run's folder may be anyone's."""
    for number in (0, 1):
        path = again(done, number) / "config.yaml"
        config = yaml.safe_load(path.read_text())
        config["data"]["val_files"] = files
        path.write_text(yaml.safe_dump(config), encoding="ascii")
    now, calls = standing(done.folder()), []
    assert all(one.scores is None for one in now.found)
    ran = subprocess.CompletedProcess([], 0, "", "")
    monkeypatch.setattr(winner.subprocess, "run", lambda command, **_: calls.append(command) or ran)
    winner.evaluate(done.folder(), now.plan, now.confirming.complete, ["archer"], lambda _: None)
    assert not calls


def test_the_peaks_are_evaluated_where_that_was_not_done(done, monkeypatch):
    now, calls = standing(done.folder()), []
    evaluated(again(done, 0), 0.5)
    evaluated(again(done, 1), 0.5, step=2)
    ran = subprocess.CompletedProcess([], 0, "", "")
    monkeypatch.setattr(winner.subprocess, "run", lambda command, **_: calls.append(command) or ran)
    winner.evaluate(done.folder(), now.plan, now.confirming.complete, ["archer"], lambda _: None)
    (call,) = calls
    assert call == ["archer", "evaluate", str(again(done, 1)), "--data", f"{done.output}/val.json", "--steps", "6"]


def test_what_is_evaluated_is_the_checkpoint_that_is_kept(done, monkeypatch):
    """A metric that every step has may have its peak where nothing was saved."""
    for number in (0, 1):
        store = CheckpointStore(again(done, number))
        for step, value in ((2, 0.5), (4, 0.6), (6, 0.1)):
            store.commit(store.begin(step), step, {"step": step, "row": {"val/accuracy": value}})
    for number, right in ((0, 0.5), (1, 0.9)):
        evaluated(again(done, number), 1 - right)  # of step 6, as the last one
    now, calls = standing(done.folder()), []
    assert all(one.scores is None for one in now.found)
    ran = subprocess.CompletedProcess([], 0, "", "")
    monkeypatch.setattr(winner.subprocess, "run", lambda command, **_: calls.append(command[-1]) or ran)
    winner.evaluate(done.folder(), now.plan, now.confirming.complete, ["archer"], lambda _: None)
    assert calls == ["4", "4"]
    for number, right in ((0, 0.5), (1, 0.9)):
        evaluated(again(done, number), right, step=4)
    assert [one.share for one in standing(done.folder()).found] == [0.9, 0.5]


def test_what_cannot_be_told_apart_is_said(done):
    for number, right in ((0, 0.5), (1, 0.52)):
        evaluated(again(done, number), right)
    now = standing(done.folder())
    assert now.sentences[-1].startswith("not confirmed: ") and "not told apart from trial" in now.sentences[-1]
    told = " ".join(evidence(done.folder(), now.plan, now.study, now.found, 1))
    assert "Not confirmed with fresh seeds: trial 1 is not told apart" in told


def test_where_only_some_were_evaluated_the_metric_says_the_order(done):
    values = [one.values for one in standing(done.folder()).found]
    assert values == sorted(values, reverse=True)
    first, second = (one.number for one in standing(done.folder()).found)
    evaluated(again(done, second), 0.1)
    assert [one.number for one in standing(done.folder()).found] == [first, second]


def test_one_alone_is_compared_with_nothing(searches):
    searches.run(confirm=1)
    assert standing(searches.folder()).sentences[-1] == "not confirmed: there is no second trial to compare with"


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


@pytest.mark.parametrize("there", ["nothing", "a folder", "its facts", "an empty file of rows", "half a row", "a row"])
def test_a_trial_that_begins_while_the_page_is_written(done, monkeypatch, there):
    from recipes.archer.search import page
    from recipes.archer.search.study import Study

    def begins(folder):
        plan = folder.plan()
        trial = Study(folder.journal, plan, axes_of(plan)).add({LR: "3e-4"})
        run = folder.run_folder(f"trial-{trial.number:03d}")
        if there != "nothing":
            run.mkdir(exist_ok=True)
        if there == "its facts":
            (run / "run.json").write_text('{"status": "running", "started": "2026-01-01T00:00:00+00:00"}')
        if "row" in there:
            text = {"half a row": '{"step": 1, "val', "a row": '{"step": 1}\n'}.get(there, "")
            (run / "metrics.jsonl").write_text(text)

    def stand(folder):
        now = standing(folder)
        begins(folder)  # once the lines are read
        return now

    monkeypatch.setattr(page, "standing", stand)
    assert "<td>trial-002</td>" in page.write_page(done.folder()).read_text()
    assert "<td>trial-003</td>" in page.write_page(done.folder()).read_text()
    assert len(standing(done.folder()).lines) == 5


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
