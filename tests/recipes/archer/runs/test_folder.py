"""Reading a run folder: what is there, what is not, what is damaged, and finding runs."""

import math
import os

import pytest

from recipes.archer.ending import UserError
from recipes.archer.runs.folder import find_runs, locate, read_run, read_samples, sample_steps


def test_reads_what_the_writer_wrote(healthy_run):
    run = read_run(healthy_run)
    assert (run.name, run.facts["status"], run.facts["exit_code"]) == ("healthy", "finished", 0)
    assert [row["step"] for row in run.rows] == list(range(1, 61))
    assert run.config["actor_rollout_ref"]["actor"]["kl_loss_coef"] == 0.05
    assert sample_steps(run) == [1, 20, 40, 60]
    assert [row["outcome"] for row in read_samples(run, 20)][:2] == ["correct", "wrong"]


def test_validation_before_training_is_step_zero(healthy_run, two_step_run):
    assert read_run(healthy_run).rows_from_start[0] == {"step": 0, "val/accuracy": 0.04}
    assert [row["step"] for row in read_run(two_step_run).rows_from_start] == [1, 2]


def test_null_nan_and_infinity_are_read(collapsing_run):
    rows = read_run(collapsing_run).rows
    assert rows[2]["response_length/pos/mean"] is None
    assert math.isinf(rows[-2]["actor/kl_loss"]) and math.isnan(rows[-2]["actor/grad_norm"])


def test_a_run_without_a_step_and_one_without_metrics_are_runs(empty_run):
    assert read_run(empty_run).rows == []
    (empty_run / "metrics.jsonl").unlink()
    assert read_run(empty_run).facts["status"] == "failed"


def test_a_lone_metrics_file_is_a_run(two_step_run, tmp_path):
    copied = tmp_path / "copied"
    copied.mkdir()
    (two_step_run / "metrics.jsonl").rename(copied / "metrics.jsonl")
    run = read_run(copied / "metrics.jsonl")
    assert (run.name, run.facts, run.config, len(run.rows)) == ("copied", {}, {}, 2)


@pytest.mark.parametrize("torn", ['{"step": 3, "actor/ent', '{"step": 3, "x": "\xc3'])
def test_a_torn_last_line_is_left_out(two_step_run, torn):
    with open(two_step_run / "metrics.jsonl", "ab") as file:
        file.write(torn.encode("latin-1"))
    assert len(read_run(two_step_run).rows) == 2


def test_a_last_line_without_its_line_end_counts_once_it_is_whole(two_step_run):
    with open(two_step_run / "metrics.jsonl", "a", encoding="utf-8") as file:
        file.write('{"step": 3}')
    assert read_run(two_step_run).rows[-1] == {"step": 3}


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("metrics.jsonl", '{"loss": 1}\n', "row 1"),
        ("metrics.jsonl", "[1]\n", "line 1 is not"),
        ("run.json", '{"name"', "damaged"),
        ("run.json", "[]", "not a JSON object"),
        ("config.yaml", "a: [1\n", "damaged"),
        ("samples/step_20.jsonl", '{"step": 20}\n{"ste\n{"step": 20}\n', "line 2 is damaged"),
        ("samples/step_20.jsonl", '{"step": 20}\n[1]', "line 2 is damaged"),
    ],
)
def test_a_damaged_file_is_one_line_that_names_it(healthy_run, name, content, expected):
    (healthy_run / name).write_text(content, encoding="utf-8")
    with pytest.raises(UserError) as caught:
        read_samples(read_run(healthy_run), 20)
    message = str(caught.value)
    assert str(healthy_run / name) in message and expected in message and "\n" not in message


def test_a_file_that_may_not_be_read_is_named(two_step_run, monkeypatch):
    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)  # root, too, may run the tests
    with pytest.raises(UserError, match=r"run\.json: cannot be read \(Permission denied\)"):
        read_run(two_step_run)


def test_a_line_torn_in_the_middle_is_left_out_and_said_so(two_step_run):
    (two_step_run / "metrics.jsonl").write_text('{"step": 1}\n{"st\n{"step": 3}\n', encoding="utf-8")
    run = read_run(two_step_run)
    assert [row["step"] for row in run.rows] == [1, 3] and "2" in run.notes[0]


@pytest.mark.parametrize("cut", range(1, 60, 7))
def test_responses_whose_last_line_is_torn_are_read_up_to_it(healthy_run, cut):
    path = healthy_run / "samples/step_20.jsonl"
    whole = path.read_bytes()
    last = whole.splitlines()[-1]
    path.write_bytes(whole + last[:cut])
    assert len(read_samples(read_run(healthy_run), 20)) == len(whole.splitlines())


def test_what_is_no_run_is_named(tmp_path):
    with pytest.raises(UserError, match="is no run"):
        read_run(tmp_path)


def test_samples_of_another_step_name_those_that_there_are(healthy_run):
    with pytest.raises(UserError, match="1, 20, 40, 60"):
        read_samples(read_run(healthy_run), 2)


def test_runs_are_found_at_every_depth_the_newest_last(healthy_run, two_step_run):
    os.utime(two_step_run / "metrics.jsonl", (1, 1))
    os.utime(two_step_run / "run.json", (1, 1))
    expected = [two_step_run, healthy_run]
    assert find_runs(healthy_run.parents[1]) == expected
    assert find_runs(healthy_run.parent) == expected
    assert find_runs(healthy_run) == [healthy_run]
    with pytest.raises(UserError, match="not a folder"):
        find_runs(healthy_run / "nowhere")


def test_a_run_is_located_by_path_or_by_its_name_if_that_is_unique(healthy_run):
    output = healthy_run.parents[1]
    assert locate(str(healthy_run), output) == healthy_run
    assert locate("healthy", output) == locate("p/healthy", output) == healthy_run
    twin = output / "q/healthy"
    twin.mkdir(parents=True)
    (twin / "metrics.jsonl").touch()
    with pytest.raises(UserError, match="names 2 runs"):
        locate("healthy", output)
    with pytest.raises(UserError, match="neither a path nor a run"):
        locate("unknown", output)
