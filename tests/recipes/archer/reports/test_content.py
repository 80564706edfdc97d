"""`archer runs`, `compare` and `report` on run folders of every kind."""

import base64
import json
import os
import re
import shutil
import time
from html.parser import HTMLParser

import pytest
from typer.testing import CliRunner

from recipes.archer.commands.cli import app
from recipes.archer.ending import UserError
from recipes.archer.reports import comparison
from recipes.archer.reports.content import gather
from recipes.archer.reports.curves import Band
from recipes.archer.reports.provenance import status
from recipes.archer.reports.verdict import judge
from recipes.archer.runs import folder
from recipes.archer.runs.folder import Run, read_run
from run_folders import HOSTILE, scores_of, write_scores

VOID = {"meta", "img", "br"}


def call(*words: object) -> str:
    """Output of a command that succeeds."""
    result = CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


class Page(HTMLParser):
    """What a browser would find: elements that nest, texts, addresses."""

    def __init__(self, text: str):
        super().__init__()
        self.tags, self.texts, self.addresses, self._open = [], [], [], []
        self.feed(text)
        assert not self._open, f"never closed: {self._open}"

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.addresses += [value for name, value in attrs if name in ("src", "href")]
        assert not [name for name, _ in attrs if name.startswith("on")]
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)


@pytest.fixture(scope="module")
def drawn():
    """A picture made once is as good as many for what these tests are about."""
    return b"\x89PNG\r\n\x1a\n"


@pytest.fixture
def quick_curves(monkeypatch, drawn):
    monkeypatch.setattr("recipes.archer.reports.writing.curves_png", lambda rows, **_: drawn)


def test_runs_lists_every_run_with_its_figures(healthy_run, collapsing_run, two_step_run, empty_run):
    lines = call("runs", healthy_run.parents[1]).splitlines()
    by_name = {line.split()[1]: line for line in lines if line.startswith("│")}
    assert set(by_name) == {"healthy", "collapsing", "two", "empty"}
    assert "finished" in by_name["healthy"] and "60" in by_name["healthy"] and "(step 60)" in by_name["healthy"]
    assert "stopped" in by_name["collapsing"] and "(step 36)" in by_name["collapsing"]
    assert "running" in by_name["two"] and "failed" in by_name["empty"]
    assert " hot " in by_name["collapsing"] and " bad " in by_name["collapsing"]


def test_a_damaged_run_does_not_hide_the_others(healthy_run, two_step_run):
    (two_step_run / "run.json").write_text("{")
    result = CliRunner().invoke(app, ["runs", str(healthy_run.parent)])
    assert result.exit_code == 0 and "healthy" in result.stdout
    assert str(two_step_run / "run.json") in result.stderr


def test_no_run_is_an_error_that_names_the_folder(tmp_path):
    with pytest.raises(UserError, match="holds no run"):
        call("runs", tmp_path)


def test_a_run_that_has_long_been_silent_says_so(two_step_run):
    run = read_run(two_step_run)
    assert status(run, time.time()) == "running"
    assert status(run, time.time() + 3 * 3600 + 60) == "running (silent for 3.0 h)"


def test_compare_shows_what_differs_and_only_that(healthy_run, collapsing_run, tmp_path):
    output = call("compare", healthy_run, collapsing_run, "--out", tmp_path / "c.png")
    assert "entropy_coeff" in output and "kl_loss_coef" in output and "0.001" in output
    assert "experiment_name" not in output and "rollout" not in output.replace("actor_rollout_ref", "")
    assert "0.757 → 0.757" in output and "0.702 → 0.000" in output and " bad " in output
    assert (tmp_path / "c.png").read_bytes()[:4] == b"\x89PNG"


def test_compare_copes_with_runs_without_steps_and_with_equal_names(empty_run, healthy_run, tmp_path):
    twin = tmp_path / "output/q/empty"
    shutil.copytree(empty_run, twin)
    runs = [read_run(empty_run), read_run(twin)]
    assert comparison.labels(runs) == ["p/empty", "q/empty"]
    assert "no setting differs" in call("compare", empty_run, twin, "--out", tmp_path / "c.png")


def test_compare_of_one_run_and_into_nowhere_is_refused(healthy_run, two_step_run, tmp_path):
    with pytest.raises(UserError, match="two runs or more"):
        call("compare", healthy_run)
    with pytest.raises(UserError, match="--out"):
        call("compare", healthy_run, two_step_run, "--out", tmp_path / "no/c.png")


def test_differences_tell_an_absent_setting_from_null_and_name_the_code(tmp_path):
    runs = [
        Run(tmp_path, {"git": {"commit": "a"}, "seed": 1, "host": "x"}, {"a": {"b": None, "c": [1]}}, []),
        Run(tmp_path, {"git": {"commit": "b"}, "seed": 1, "host": "y"}, {"a": {"c": [1]}, "record": {"x": 1}}, []),
    ]
    assert comparison.config_differences(runs) == [("a.b", ["null", comparison.ABSENT])]
    assert comparison.fact_differences(runs) == [("git.commit", ["a", "b"])]


def test_report_writes_a_page_that_needs_nothing_else(collapsing_run, tmp_path):
    output = call("report", collapsing_run, "--out", tmp_path / "r")
    names = ["curves.png", "report.html", "report.md"]
    assert output.splitlines() == [str(tmp_path / "r" / name) for name in names]
    text = (tmp_path / "r/report.html").read_text(encoding="utf-8")
    page = Page(text)
    picture = base64.b64encode((tmp_path / "r/curves.png").read_bytes()).decode()
    assert page.addresses == [f"data:image/png;base64,{picture}"]
    assert not set(page.tags) & {"script", "link", "iframe", "object", "base"}
    assert "default-src 'none'" in text and "url(" not in text and "@import" not in text
    titles = [t for t in page.texts if t.startswith("Step ")]
    assert "Step 1: first" in titles and "Step 60: last" in titles
    assert "Step 30: nearest kept to the best (step 36)" in titles


def test_a_hostile_response_stays_text(collapsing_run, quick_curves):
    call("report", collapsing_run)
    page = Page((collapsing_run / "report/report.html").read_text(encoding="utf-8"))
    shown = next(text for text in page.texts if "document.title" in text)
    assert "<script>document.title='owned'</script> </pre>" in shown and "คำตอบ: 7" in shown
    assert not re.search("[\x1b\u202e\ud800]", shown)
    markdown = (collapsing_run / "report/report.md").read_text(encoding="utf-8")
    outside = re.sub(r"(?ms)^(`{3,})text$.*?^\1$", "", markdown)
    assert "<script>" in markdown and "<script>" not in outside and "\x1b" not in markdown


@pytest.mark.parametrize("name", ["two_step_run", "empty_run"])
def test_a_report_of_little_is_a_report(name, request, quick_curves):
    folder = request.getfixturevalue(name)
    call("report", folder)
    page = "".join(Page((folder / "report/report.html").read_text(encoding="utf-8")).texts)
    assert "None were kept." in page and (folder / "report/report.md").stat().st_size > 100
    assert ("No step has been recorded." in page) == (name == "empty_run")
    if name == "empty_run":
        assert "RuntimeError: no worker" in page


def test_a_report_says_what_ran(healthy_run):
    content = gather(read_run(healthy_run))
    known = dict(content.provenance)
    assert known["status"] == "finished" and known["seed"] == "1" and "python" in known["versions"]
    assert dict(content.settings)["KL coefficient"] == "0.05"
    assert content.figures[0] == ("accuracy, held out", "0.040", "0.757", "0.757")


def test_a_report_of_a_thousand_steps_takes_less_than_ten_seconds(long_run):
    """The promise to a user on a slow connection. Of processor time, since the machine may be busy; it takes 4."""
    begin = time.process_time()
    call("report", long_run)
    assert time.process_time() - begin < 10


def test_a_verdict_says_what_since_when_and_what_to_try_once(collapsing_run):
    judgement = judge(read_run(collapsing_run))
    assert judgement.state == "bad" and judgement.reason.startswith("since step 47: actor/entropy")
    states = [finding.state for finding in judgement.findings]
    assert states == sorted(states, key=["bad", "watch", "good", "too early", "no data"].index)
    advice = "If entropy collapses: restore the bonus (actor_rollout_ref.actor.entropy_coeff=0.01)."
    worst = judgement.findings[0]
    assert (worst.since, worst.contingency, "0.05" in worst.seen) == (47, advice, True)
    assert [f.contingency for f in judgement.findings].count(advice) == 1
    assert judgement.findings[1].contingency == "as above"


def test_criteria_become_bands_and_trends_do_not(collapsing_run):
    bands = judge(read_run(collapsing_run)).bands
    assert bands[:3] == [
        Band("actor/entropy", True, 3.0, 6.0, 50, 50),
        Band("actor/entropy", False, 7.0, None, 1, None),
        Band("actor/entropy", False, None, 1.0, 1, None),
    ]
    assert Band("batch/valid", True, 20.0, None, 10, None) in bands
    assert not [band for band in bands if band.metric == "critic/score/mean"]


def test_a_run_without_a_record_is_judged_by_the_detectors(healthy_run, empty_run):
    judgement = judge(read_run(healthy_run))
    assert judgement.state == "healthy" and "carries no record" in judgement.reason and not judgement.bands
    assert judge(read_run(empty_run)).reason == "no step has been recorded"


def test_a_record_that_cannot_be_read_costs_the_verdict_and_nothing_else(collapsing_run, quick_curves):
    (collapsing_run / "config.yaml").write_text("record: {name: hot, sorcery: 1}\n", encoding="utf-8")
    call("report", collapsing_run)
    page = "".join(Page((collapsing_run / "report/report.html").read_text(encoding="utf-8")).texts)
    assert "no verdict" in page and "sorcery is not known" in page and "Step 1: first" in page
    assert "no verdict" in call("runs", collapsing_run)


def test_the_page_shows_verdicts_and_plan_as_text(collapsing_run, quick_curves):
    call("report", collapsing_run)
    page = Page((collapsing_run / "report/report.html").read_text(encoding="utf-8"))
    assert "Accuracy rises & entropy stays <b>above</b> 1." in page.texts
    assert "actor/kl_loss is inf at step 59" in page.texts and page.texts.count("bad") > 5
    markdown = (collapsing_run / "report/report.md").read_text(encoding="utf-8")
    assert "| bad | not\\_finite | actor/kl\\_loss is inf at step 59 | 59 | as above |" in markdown
    assert "- hypothesis: Accuracy rises \\& entropy stays \\<b\\>above\\</b\\> 1." in markdown


def test_responses_of_other_making_are_shown_as_far_as_they_go(healthy_run, quick_curves):
    path = healthy_run / "samples/step_60.jsonl"
    path.write_text(json.dumps({"response": None, "outcome": 3, "length": "long"}) + "\n{}\n", encoding="utf-8")
    call("report", healthy_run)
    assert "not graded" in call("samples", healthy_run)


@pytest.mark.parametrize("name", ["report", "report/report.md", "report/report.html", "report/curves.png"])
@pytest.mark.parametrize("target", ["a file", "a folder", "nowhere"])
def test_a_report_is_not_written_through_a_link(healthy_run, tmp_path, quick_curves, name, target):
    """A stranger's folder could otherwise have any file of the reader's replaced, by content of its choosing."""
    place = tmp_path / "theirs"
    if target == "a folder":
        place.mkdir()
    elif target == "a file":
        place.write_text("kept")
    (healthy_run / name).parent.mkdir(exist_ok=True)
    (healthy_run / name).symlink_to(place)
    with pytest.raises(UserError, match=f"{name} is a link"):
        call("report", healthy_run)
    assert not place.exists() or (os.listdir(place) == [] if place.is_dir() else place.read_text() == "kept")


def test_a_report_goes_where_the_user_says_also_through_a_link_of_theirs(healthy_run, tmp_path, quick_curves):
    (tmp_path / "really").mkdir()
    (tmp_path / "reports").symlink_to("really")
    call("report", healthy_run, "--out", tmp_path / "reports")
    assert sorted(os.listdir(tmp_path / "really")) == ["curves.png", "report.html", "report.md"]


def test_a_comparison_is_written_to_what_is_named_and_through_no_link(healthy_run, two_step_run, tmp_path):
    call("compare", healthy_run, two_step_run, "--out", tmp_path / "x")
    assert (tmp_path / "x").read_bytes()[:4] == b"\x89PNG" and not (tmp_path / "x.png").exists()
    (tmp_path / "link").symlink_to(tmp_path / "theirs")
    with pytest.raises(UserError, match="link is a link"):
        call("compare", healthy_run, two_step_run, "--out", tmp_path / "link")
    assert not (tmp_path / "theirs").exists()


@pytest.mark.parametrize("problem", [PermissionError(13, "Permission denied"), KeyError("x"), MemoryError()])
def test_a_run_that_cannot_be_shown_has_a_line_and_the_others_theirs(healthy_run, two_step_run, monkeypatch, problem):
    read = folder.read_run

    def fail(path):
        if path == two_step_run:
            raise problem
        return read(path)

    monkeypatch.setattr(folder, "read_run", fail)
    monkeypatch.setattr("concurrent.futures.ProcessPoolExecutor.map", lambda _, function, items: map(function, items))
    result = CliRunner().invoke(app, ["runs", str(healthy_run.parent)])
    assert result.exit_code == 0 and "healthy" in result.stdout
    assert str(two_step_run) in result.stderr and result.stderr.count("\n") == 1


def test_a_folder_that_may_not_be_looked_into_has_a_line(healthy_run, two_step_run, monkeypatch):
    """Root may look into any; what the system says to others is put in its place."""
    may, opens = os.access, os.open

    def refuse(path, *words, **more):
        if str(path).startswith(str(two_step_run)):
            raise PermissionError(13, "Permission denied")
        return opens(path, *words, **more)

    monkeypatch.setattr(os, "access", lambda path, mode: path != two_step_run and may(path, mode))
    monkeypatch.setattr(os, "open", refuse)
    monkeypatch.setattr("concurrent.futures.ProcessPoolExecutor.map", lambda _, function, items: map(function, items))
    result = CliRunner().invoke(app, ["runs", str(healthy_run.parent)])
    assert result.exit_code == 0 and "healthy" in result.stdout
    assert str(two_step_run) in result.stderr and "Permission denied" in result.stderr


def test_evaluations_are_in_the_report_and_nothing_in_them_is_markup(healthy_run):
    path = write_scores(healthy_run, "step_60/aime-n4", scores_of([2, 1, 3] * 10, model=HOSTILE, step=60))
    call("report", healthy_run)
    page, markdown = ((healthy_run / "report" / name).read_text() for name in ("report.html", "report.md"))
    Page(page)
    for text in (page, markdown):
        section = text.partition("Evaluations")[2].partition("95% intervals over questions")[0]
        assert "0.500 [0.423, 0.577]" in section.replace("\\", "")
        assert "<script>" not in section.replace("\\<", "") and "\x1b" not in section
    assert "0.500 aime.json (step 60)" in call("runs", healthy_run)
    assert "aime.json, avg@4" in call("compare", healthy_run, healthy_run, "--out", path.parent / "compare.png")


@pytest.mark.parametrize("usable", [True, False])
def test_scores_that_cannot_be_are_left_out_and_named(healthy_run, usable):
    write_scores(healthy_run, "step_1/deep", '{"plan":' * 10**5)
    write_scores(healthy_run, "step_2/many", scores_of([1, 4]) | {"questions": [{"question": HOSTILE}]})
    if usable:
        write_scores(healthy_run, "step_3/good", scores_of([1, 2]))
    call("report", healthy_run)
    page, markdown = ((healthy_run / "report" / name).read_text() for name in ("report.html", "report.md"))
    Page(page)
    for text in (page, markdown.replace("\\", "")):
        assert "left out: evaluations/step_1/deep/scores.json: nested too deep" in text
        assert "left out: evaluations/step_2/many/scores.json: no scores of an evaluation: questions[0].data" in text
        assert ("aime.json, 2 × 4" in text) == usable
    out = healthy_run / "compare.png"
    result = CliRunner().invoke(app, ["compare", str(healthy_run), str(healthy_run), "--out", str(out)])
    assert result.exit_code == 0 and out.exists()
    assert result.stderr.count("left out: evaluations/step_1/deep/scores.json") == 2
    assert call("runs", healthy_run)
