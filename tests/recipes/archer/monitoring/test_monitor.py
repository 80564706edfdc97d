"""The monitor on the recorded runs and on streams, and `archer monitor` as a user calls it."""

import io
import json
import math
import os
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from monitor_streams import first_bad, found, stream, tiny_stream
from recipes.archer.commands import monitor as commands_monitor
from recipes.archer.commands.cli import app
from recipes.archer.ending import UserError
from recipes.archer.experiments.registry import load_record
from recipes.archer.monitoring import monitor as monitor_module
from recipes.archer.monitoring import policy
from recipes.archer.monitoring.criterion_state import CriterionState
from recipes.archer.monitoring.monitor import DETECTORS, Monitor, judge
from recipes.archer.monitoring.verdicts import Verdict
from run_folders import healthy_rows

ROOT = Path(__file__).resolve().parents[4]

# The figures of the runs' own documents.
V1 = [
    {"step": 20, "actor/entropy": 5.93, "critic/score/mean": 0.047, "batch/valid": 4, "batch/solve_none": 60},
    {"step": 61, "actor/entropy": 7.35, "critic/score/mean": 0.217, "batch/valid": 23, "batch/solve_none": 41},
    {"step": 102, "actor/entropy": 7.17, "critic/score/mean": 0.233, "batch/valid": 16, "batch/solve_none": 46},
    {"step": 148, "actor/entropy": 8.01, "critic/score/mean": 0.433, "batch/valid": 14, "batch/solve_none": 50},
]
V1_TEXT = {20: (0.154, 192, 0), 61: (0.040, 14, 0), 102: (0.022, 16, 2), 148: (0.015, 22, 0)}
V4 = [
    {"step": 1, "actor/entropy": 3.31, "critic/score/mean": -0.163, "batch/valid": 62, "batch/solve_none": 2},
    {"step": 9, "actor/entropy": 5.16, "critic/score/mean": -0.022, "batch/valid": 22, "batch/solve_none": 42},
    {"step": 14, "actor/entropy": 7.63, "critic/score/mean": -0.062, "batch/valid": 1, "batch/solve_none": 63},
    {"step": 17, "actor/entropy": 7.23, "critic/score/mean": 0.062, "batch/valid": 1, "batch/solve_none": 63},
]


def v1_rows():
    names = ("logical_connectives/mean", "response_length/pos/mean", "batch/solve_all")
    return [row | dict(zip(names, V1_TEXT[row["step"]], strict=True)) for row in V1]


def v2_rows():
    names = ("actor/entropy", "critic/score/mean", "logical_connectives/mean")
    names += ("response_length/pos/mean", "batch/valid")
    values = {
        6: (3.90, -0.11, 7.88, 1128, 52),
        25: (3.45, -0.02, 1.30, 171, 10),
        50: (5.34, 0.09, 0.35, 93.5, 21),
        78: (0.18, 0.13, 0.001, 6.3, 15),
    }
    return [{"step": step, **dict(zip(names, row, strict=True))} for step, row in values.items()]


def test_v1_is_bad_by_v2_s_criteria():
    monitor = judge(v1_rows(), load_record("v2"))
    assert monitor.overall() == "bad"
    assert {"actor/entropy", "logical_connectives/mean", "guessing_shortcut"} <= found(monitor, "bad")
    rising = next(v for v in monitor.verdicts if v.metric == "actor/entropy" and v.status == "bad")
    assert rising.since == 61 and rising.value == 8.01 and rising.contingency


def test_v2_collapses_at_step_78_and_not_before():
    monitor = Monitor(load_record("v2"))
    assert first_bad(monitor, v2_rows()) == 78
    bad = [v for v in monitor.verdicts if v.status == "bad"]
    assert {v.metric for v in bad} == {"actor/entropy", "logical_connectives/mean", "response_length/pos/mean"}
    assert {v.since for v in bad} == {78}


def test_v2_s_guessing_is_found_without_any_criteria():
    monitor = Monitor()
    assert first_bad(monitor, v2_rows()) == 78 and found(monitor, "bad") == {"guessing_shortcut"}


@pytest.mark.parametrize("by", ["v3", "v4", "v5", None])
def test_v4_is_dead_by_step_14(by):
    assert first_bad(Monitor(load_record(by) if by else None), V4) == 14


@pytest.mark.parametrize("by", ["v3", "v5", None])
@pytest.mark.parametrize("connectives", [0.28, 0.44])
def test_v3_is_not_dead(by, connectives):
    rows = [
        {"step": 100, "actor/entropy": 8.5, "batch/valid": 27, "logical_connectives/mean": connectives},
        {"step": 114, "critic/score/mean": 0.072, "batch/valid": 27, "logical_connectives/mean": connectives},
    ]
    assert judge(rows, load_record(by) if by else None).overall() != "bad"


def test_v0_collapses_by_v1_s_criteria():
    rows = load_record("v0").results.rows
    assert "actor/entropy" in found(judge(rows, load_record("v1")), "bad")


@pytest.mark.parametrize("name", ["v0", "v1", "v2", "v3", "v4", "v5"])
def test_the_recorded_tables_are_the_documents_figures(name):
    tables = {"v1": v1_rows(), "v2": v2_rows(), "v4": V4}
    for row, documented in zip(load_record(name).results.rows, tables.get(name, []), strict=False):
        assert documented.items() <= row.items()


def healthy_for_v3(**shapes):
    return stream(300, actor__entropy=lambda s, n: 4.5 + 0.1 * float(n.normal()), **shapes)


def slow(step, noise):
    return 0.02 + 0.0006 * step + 0.02 * float(noise.normal())


@pytest.mark.parametrize("by", ["v0", "v1", "v2", "v3"])
def test_a_healthy_stream_is_healthy_by_the_criteria_of_every_launch(by):
    # v2 wants a score of 0.2 at step 100, which the stream reaches
    monitor = judge(healthy_for_v3(), load_record(by))
    assert monitor.overall() == "healthy", [str(v) for v in monitor.verdicts if v.status in ("watch", "bad")]


def test_a_slow_stream_is_not_bad():
    assert first_bad(Monitor(load_record("v1")), healthy_for_v3(critic__score__mean=slow)) is None


def test_a_spiky_stream_is_not_bad():
    def spiky(step, noise):
        return 0.3 if noise.random() < 0.05 else 12.0 if noise.random() < 0.05 else 4.5 + 0.1 * float(noise.normal())

    rows = stream(300, actor__entropy=spiky)
    assert sum(r["actor/entropy"] < 1 or r["actor/entropy"] > 7 for r in rows) > 15
    assert first_bad(Monitor(load_record("v3")), rows) is None


def test_a_plateau_is_bad_by_v5_at_its_step_200():
    rows = healthy_for_v3(critic__score__mean=lambda s, n: 0.03 + 0.005 * float(n.normal()))
    monitor = Monitor(load_record("v5"))
    assert first_bad(monitor, rows) == 200
    verdict = next(v for v in monitor.verdicts if v.status == "bad")
    assert verdict.metric == "critic/score/mean" and "kl_loss_coef=0.001" in str(verdict)


def test_an_oscillating_stream_is_bad_within_its_first_20_steps():
    rows = stream(40, actor__entropy=lambda s, n: 4.85 + 2.75 * math.sin(s * 2 * math.pi / 6))
    step = first_bad(Monitor(load_record("v3")), rows)
    assert step is not None and step <= 20


def test_early_steps_are_too_early_for_what_is_said_of_later_ones():
    monitor = judge(stream(60, actor__entropy=lambda s, n: 6.0), load_record("v5"))
    assert found(monitor, "too early") == {"critic/score/mean"} and monitor.overall() == "healthy"


def test_no_rows_are_too_early():
    assert judge([], load_record("v3")).overall() == "too early"


def test_rows_without_any_figure_are_too_early():
    nulls = [{"step": s, "training/global_step": s, "actor/entropy": None, "note": "x"} for s in range(1, 50)]
    assert judge(nulls, load_record("v3")).overall() == "too early"
    assert judge([*nulls, {"step": 50, "actor/entropy": 4.0}], load_record("v3")).overall() == "healthy"


def test_the_tiny_run_is_healthy_by_its_own_criteria():
    assert judge(tiny_stream(), load_record("tiny")).overall() == "healthy"


def test_every_verdict_is_plain_json_and_the_worst_comes_first():
    rows = v1_rows()
    rows[-1]["actor/grad_norm"] = math.nan
    summary = judge(rows, load_record("v2")).summary()
    assert json.loads(json.dumps(summary, allow_nan=False)) == summary
    statuses = [v["status"] for v in summary["verdicts"]]
    assert statuses[0] == "bad" and summary["overall"] == "bad" and summary["exit_code"] == 20
    assert statuses == sorted(statuses, key=["bad", "watch", "good", "too early", "no data"].index)
    contingency = next(v for v in summary["verdicts"] if v["metric"] == "actor/entropy")["contingency"]
    assert contingency[0]["overrides"] == [
        "actor_rollout_ref.actor.entropy_coeff=0.01",
        "actor_rollout_ref.actor.kl_loss_coef=0.05",
    ]


def test_advice_is_for_the_metric_in_trouble_or_all_there_is():
    record = load_record("v1")
    named = [c["overrides"][0].split(".", 2)[2] for c in record.contingency_for("actor/entropy")]
    assert named == ["entropy_coeff=0.05", "repetition_penalty=1.2"]
    assert len(record.contingency_for("timing_s/step")) == len(record.contingency)
    assert load_record("v4").contingency_for("actor/entropy")[0]["overrides"][0].endswith("kl_loss_coef=0.05")


def test_a_monitor_goes_on_where_another_stopped():
    rows, record = stream(200, critic__score__mean=slow), load_record("v1")
    straight, first, second = Monitor(record), Monitor(record), Monitor(record)

    def verdicts_of(monitor, rows):
        return [(monitor.observe(row), monitor.verdicts)[1] for row in rows]

    expected, seen = verdicts_of(straight, rows), verdicts_of(first, rows[:120])
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    assert second.verdicts == seen[-1]
    assert seen + verdicts_of(second, rows[120:]) == expected


def test_the_state_does_not_grow_with_the_run():
    def size(num_steps):
        return len(json.dumps(judge(stream(num_steps), load_record("v1")).state_dict()))

    assert size(1200) < 1.1 * size(400)


def test_a_state_of_another_record_starts_what_is_new_afresh():
    rows = stream(51, actor__entropy=lambda s, n: 6.0)
    monitor = Monitor(load_record("v5"))
    monitor.load_state_dict(judge(rows[:50], load_record("v3")).state_dict())
    monitor.observe(rows[50])
    assert monitor.step == 51 and monitor.overall() == "healthy"


def test_rows_out_of_order_are_refused():
    monitor = judge(stream(5))
    for row in ({"step": 5}, {"actor/entropy": 1.0}):
        with pytest.raises(ValueError, match="after step 5"):
            monitor.observe(row)


def test_thresholds_come_from_the_configuration():
    config = {"guard": {"action": "warn", "detectors": {"entropy_explosion": {"ceiling": 4.0, "sustained": 2}}}}
    assert first_bad(Monitor(None, config), stream(50)) is not None
    for wrong, words in (
        ({"entropy": {}}, "guard.detectors.entropy is no detector"),
        ({"score_lost": {"best": 1}}, "guard.detectors.score_lost.best is no threshold"),
        ({"score_lost": {"lost": "half"}}, "must be a number"),
    ):
        with pytest.raises(UserError, match=words):
            Monitor(None, {"guard": {"detectors": wrong}})


def test_detectors_have_names_of_their_own():
    assert len({cls.name for cls in DETECTORS}) == len(DETECTORS)


def test_the_documentation_lists_every_detector_with_its_thresholds():
    text = (ROOT / "docs" / "monitoring.md").read_text()
    rows = dict(re.findall(r"^\| `(\w+)` \|(.*)$", text.partition("## Detectors")[2], re.M))
    assert set(rows) == {"not_finite", *(cls.name for cls in DETECTORS)}
    for cls in DETECTORS:
        assert f"`{cls.metric}`" in rows[cls.name] and rows[cls.name].rstrip(" |").endswith(f" {cls().sustained}")


def write(path: Path, rows: list[dict]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def call(*words):
    return CliRunner().invoke(app, ["monitor", *map(str, words)])


@pytest.mark.parametrize(
    "rows, by, code",
    [(v1_rows(), "v2", 20), (v2_rows(), "v2", 20), (V4, "v3", 20), (tiny_stream(), "tiny", 0), (V1[:1], "v2", 0)],
)
def test_the_exit_code_says_how_the_run_is(tmp_path, rows, by, code):
    path = write(tmp_path / "metrics.jsonl", rows)
    assert call(path, "--experiment", by).exit_code == code
    result = call(path, "--experiment", by, "--json")
    assert result.exit_code == code and json.loads(result.stdout)["exit_code"] == code


def test_watch_is_exit_code_10(tmp_path):
    path = write(tmp_path / "m.jsonl", [{"step": 100, "actor/entropy": 8.5}])
    assert call(path, "--experiment", "v3").exit_code == 10


def test_the_table_names_what_is_wrong_and_what_to_try(tmp_path):
    result = call(write(tmp_path / "metrics.jsonl", v1_rows()), "--experiment", "v2")
    text = " ".join(result.stdout.split())
    assert "entropy leaves its range" in text and "actor_rollout_ref.actor.kl_loss_coef=0.05" in text


def test_the_run_s_own_record_is_the_default(tmp_path):
    from recipes.archer.experiments.registry import composed

    write(tmp_path / "metrics.jsonl", v2_rows())
    assert json.loads(call(tmp_path, "--json").stdout)["experiment"] is None
    from omegaconf import OmegaConf

    (tmp_path / "config.yaml").write_text(OmegaConf.to_yaml(composed("v2"), resolve=True))
    result = call(tmp_path, "--json")
    assert result.exit_code == 20 and json.loads(result.stdout)["experiment"] == "v2"


@pytest.mark.parametrize(
    "content, words",
    [
        ("nonsense\n", "line 1 is not JSON"),
        ("[1]\n", "line 1 is not an object"),
        ('{"a": 1}\n', 'no whole-number "step"'),
    ],
)
def test_what_cannot_be_read_is_exit_code_2(tmp_path, content, words):
    path = tmp_path / "metrics.jsonl"
    path.write_text(content)
    result = call(path)
    assert isinstance(result.exception, UserError) and words in str(result.exception)


def test_wrong_calls_are_exit_code_2_and_one_line(tmp_path):
    """Through the installed entry point: that is where a UserError becomes a line and a code."""
    for words in (["monitor", str(tmp_path / "none")], ["monitor", str(tmp_path), "--experiment", "v99"], ["monitor"]):
        program = f"import sys; from recipes.archer.commands.cli import main; sys.argv = ['archer', *{words!r}]; main()"
        ran = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
        assert ran.returncode == 2 and "Traceback" not in ran.stderr, ran.stderr


def test_follow_takes_in_what_is_written_and_ends_with_the_run(tmp_path):
    rows = tiny_stream()
    path = write(tmp_path / "metrics.jsonl", rows[:30])

    def train():
        time.sleep(0.4)
        with open(path, "a") as file:
            file.write(json.dumps(rows[30])[:40])
            file.flush()
            time.sleep(0.4)
            file.write(json.dumps(rows[30])[40:] + "\n")
        time.sleep(0.4)
        write(path, rows[:20])  # resumed from an earlier step
        time.sleep(0.4)
        (tmp_path / "run.json").write_text('{"status": "finished"}')

    writer = threading.Thread(target=train)
    writer.start()
    result = call(path, "--experiment", "tiny", "--json", "--follow", "--interval", "0.1")
    writer.join()
    assert result.exit_code == 0, result.output
    assert [json.loads(line)["step"] for line in result.stdout.splitlines()] == [30, 31, 20]


@pytest.mark.parametrize("more", [-4, 0, 3])
def test_rows_that_were_replaced_are_judged_afresh(tmp_path, more):
    """A run that was resumed between two looks has other rows of the same steps, be they as many, fewer or more."""
    path = write(tmp_path / "metrics.jsonl", [*healthy_rows(20), {"step": 21, "actor/entropy": float("nan")}])
    live = commands_monitor._Live(str(tmp_path), "v2")
    assert live.monitor.overall() == "bad" and not live.look()  # a NaN is no change
    write(path, healthy_rows(21 + more))
    assert live.look()
    afresh = commands_monitor._Live(str(tmp_path), "v2")
    assert live.summary() == afresh.summary() and live.monitor.overall() != "bad" and live.monitor.step == 21 + more
    assert not live.look()


def test_settings_that_a_run_was_resumed_with_are_judged_by(tmp_path):
    write(tmp_path / "metrics.jsonl", healthy_rows(30))
    live = commands_monitor._Live(str(tmp_path), None)
    assert not live.look()
    (tmp_path / "config.yaml").write_text("guard: {detectors: {entropy_explosion: {sustained: 7}}}")
    assert live.look() and live.monitor.detectors["entropy_explosion"].sustained == 7
    assert not live.look()


def test_follow_with_a_table(tmp_path):
    write(tmp_path / "metrics.jsonl", v1_rows())
    (tmp_path / "run.json").write_text('{"status": "failed"}')
    assert call(tmp_path, "--experiment", "v2", "--follow").exit_code == 20


def test_a_live_table_begins_with_the_word_and_a_printed_one_ends_with_it(tmp_path):
    """A screen that is too small for the table shows its beginning."""
    live = commands_monitor._Live(str(write(tmp_path / "metrics.jsonl", v1_rows())), "v2")

    def shown(view) -> list[str]:
        screen = Console(width=300, file=io.StringIO())
        screen.print(view)
        return screen.file.getvalue().splitlines()

    assert shown(live.view(live=True))[0].startswith("bad at step 148")
    assert shown(live.view())[-1].startswith("bad at step 148")


def test_a_pipe_gets_a_wide_table(tmp_path):
    result = call(write(tmp_path / "metrics.jsonl", v2_rows()), "--experiment", "v2")
    assert max(map(len, result.stdout.splitlines())) > 100


def test_a_run_is_named_as_in_the_other_commands(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "output/p/mine"
    folder.mkdir(parents=True)
    write(folder / "metrics.jsonl", v2_rows())
    assert call("mine", "--experiment", "v2").exit_code == 20
    assert "neither a path nor a run" in str(call("yours").exception)


def test_help_is_fast():
    """Nothing heavy may be imported before a command runs."""
    program = (
        "import sys; from recipes.archer.commands.cli import app; app(['--help'], standalone_mode=False); "
        "heavy = {'scipy', 'torch', 'numpy', 'hydra', 'wandb', 'matplotlib', 'ray', 'sympy', 'yaml', 'verl'}; "
        "print(); print('loaded', *(heavy & set(sys.modules)))"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": "."}
    )
    assert ran.returncode == 0 and ran.stdout.splitlines()[-1] == "loaded", ran.stdout + ran.stderr


def test_of_more_rows_than_a_run_has_both_ends_and_every_nan_are_judged(monkeypatch):
    monkeypatch.setattr(monitor_module, "MOST_ROWS", 100)
    monkeypatch.setattr(monitor_module, "ENDS", 10)
    rows = [{"step": step, "actor/entropy": 2.5} for step in range(1, 1001)]
    rows[500]["actor/entropy"] = float("nan")
    kept = [row["step"] for row in monitor_module.rows_to_judge(rows)]
    assert kept[:10] == list(range(1, 11)) and kept[-10:] == list(range(991, 1001)) and 501 in kept
    assert len(kept) < 130 and monitor_module.rows_to_judge(rows[:100]) == rows[:100]
    judged = monitor_module.judge(rows)
    assert judged.overall() == "bad" and judged.step == 1000 and judged.passed_over == 1000 - len(kept)


def test_a_run_is_sound_until_what_turns_bad_begins():
    """Each verdict begins after every step that was sound: what a run goes back to has nothing of it."""
    for record in (None, load_record("tiny")):
        monitor, sound = Monitor(record), []
        for row in tiny_stream(60):
            late = row["step"] > 40
            monitor.observe(row | ({"reward/accuracy/mean": 0.0, "repetition/ratio/mean": 0.9} if late else {}))
            sound += [row["step"]] if monitor.sound else []
        assert sound[-1] == 40 and len(sound) > 20
        bad = [verdict for verdict in monitor.verdicts if verdict.status == "bad"]
        assert bad and all(verdict.since > 40 for verdict in bad)


def test_which_way_a_metric_went_decides_what_is_tried():
    record = load_record("archer")
    for goes, tried in (("down", 1), ("up", 2)):
        verdict = Verdict("entropy_explosion", "actor/entropy", "bad", goes=goes)
        assert len(Monitor(record)._with_contingency(verdict).contingency) == tried
    assert (policy.EntropyExplosion().verdict.goes, policy.EntropyCollapse().verdict.goes) == ("up", "down")
    state = CriterionState(record.criteria[1])  # entropy above 7
    for step in range(1, 40):
        state.observe(step, 8.0)
    assert (state.verdict.status, state.verdict.goes) == ("bad", "up")
