"""Metrics from run folders, bare files and W&B's offline folders, also while they are being written."""

import json
import math
import os
import random
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import pytest

from recipes.archer.ending import UserError
from recipes.archer.runs.metrics_reader import read_metrics
from recipes.archer.runs.wandb_offline import read_wandb

ROOT = Path(__file__).resolve().parents[4]
ROWS = [{"step": 1, "actor/entropy": 2.5}, {"step": 2, "actor/entropy": None}, {"step": 3, "actor/entropy": 2.4}]


def write(path, rows, end=""):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows) + end)
    return path


def test_a_run_folder_a_metrics_file_and_a_bare_file_read_alike(tmp_path):
    write(tmp_path / "metrics.jsonl", ROWS)
    (tmp_path / "config.yaml").write_text("record: {name: v3}\n")
    (tmp_path / "run.json").write_text('{"status": "running"}')
    for path in (tmp_path, tmp_path / "metrics.jsonl"):
        metrics = read_metrics(path)
        assert metrics.rows == ROWS and metrics.config == {"record": {"name": "v3"}} and not metrics.over
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    bare = read_metrics(write(elsewhere / "log.jsonl", ROWS))
    assert bare.rows == ROWS and bare.config == {} and bare.notes == ()


@pytest.mark.parametrize("cut", range(1, 40, 5))
def test_a_last_line_torn_anywhere_is_left_out_silently(tmp_path, cut):
    line = json.dumps({"step": 4, "actor/entropy": 2.25, "val": 1})
    metrics = read_metrics(write(tmp_path / "metrics.jsonl", ROWS, end=line[:cut]))
    assert metrics.rows == ROWS and metrics.notes == ()


def test_a_last_line_that_only_lacks_its_newline_counts(tmp_path):
    assert read_metrics(write(tmp_path / "m.jsonl", ROWS[:2], end=json.dumps(ROWS[2]))).rows == ROWS


def test_a_line_torn_at_a_kill_is_left_out_and_said(tmp_path):
    path = write(tmp_path / "m.jsonl", ROWS[:1], end='{"step": 2, "act\n' + json.dumps(ROWS[2]) + "\n")
    metrics = read_metrics(path)
    assert [row["step"] for row in metrics.rows] == [1, 3] and metrics.notes == ("left out torn line 2",)


def test_a_torn_character_and_a_tail_of_zeros_are_left_out(tmp_path):
    path = tmp_path / "m.jsonl"
    path.write_bytes(json.dumps(ROWS[0]).encode() + b'\n{"step": 2, "text": "\xe0\xb8')
    assert [row["step"] for row in read_metrics(path).rows] == [1]
    path.write_bytes(json.dumps(ROWS[0]).encode() + b"\n" + b"\0" * 512)
    assert [row["step"] for row in read_metrics(path).rows] == [1]


def test_an_empty_file_has_no_rows(tmp_path):
    assert read_metrics(write(tmp_path / "metrics.jsonl", [])).rows == []


def test_null_and_values_that_are_not_finite_survive(tmp_path):
    path = tmp_path / "m.jsonl"
    path.write_text('{"step": 1, "a": null, "b": NaN, "c": Infinity, "d": -Infinity}\n')
    (row,) = read_metrics(path).rows
    assert row["a"] is None and math.isnan(row["b"]) and (row["c"], row["d"]) == (math.inf, -math.inf)


def test_values_that_are_not_finite_may_be_written_as_text(tmp_path):
    path = tmp_path / "m.jsonl"
    path.write_text('{"step": 1, "a": "NaN", "b": "Infinity", "c": "-Infinity", "d": "text"}\n')
    (row,) = read_metrics(path).rows
    assert math.isnan(row["a"]) and (row["b"], row["c"], row["d"]) == (math.inf, -math.inf, "text")


@pytest.mark.parametrize("text", ["nan", "NaN", "inf", "-inf", "Infinity", "-infinity"])
def test_every_way_to_write_that_a_value_is_not_finite_is_known(tmp_path, text):
    path = write(tmp_path / "m.jsonl", [{"step": 1, "a": text}])
    (row,) = read_metrics(path).rows
    assert isinstance(row["a"], float) and not math.isfinite(row["a"])


def test_a_byte_order_mark_and_carriage_returns_are_no_hindrance(tmp_path):
    path = tmp_path / "m.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + "".join(json.dumps(row) + "\r\n" for row in ROWS).encode())
    assert read_metrics(path).rows == ROWS


def test_a_whole_number_beyond_all_floats_is_infinite(tmp_path):
    path = tmp_path / "m.jsonl"
    path.write_text(f'{{"step": 1, "a": {"9" * 400}, "b": -{"9" * 400}, "c": 1e999}}\n')
    (row,) = read_metrics(path).rows
    assert (row["a"], row["b"], row["c"]) == (math.inf, -math.inf, math.inf)


def test_a_run_that_ends_while_it_is_read_is_not_over_before_its_last_row_is_seen(tmp_path, monkeypatch):
    from recipes.archer.runs import metrics_reader

    write(tmp_path / "metrics.jsonl", ROWS[:2])
    read_rows = metrics_reader._json_rows

    def read_and_finish(path, inside):
        seen = read_rows(path, inside)
        write(path, ROWS)
        (tmp_path / "run.json").write_text('{"status": "finished"}')
        return seen

    monkeypatch.setattr(metrics_reader, "_json_rows", read_and_finish)
    assert not read_metrics(tmp_path).over
    again = read_metrics(tmp_path)
    assert again.over and again.rows == ROWS


def test_steps_that_were_done_again_count_once(tmp_path):
    rows = [{"step": s, "try": 1} for s in (1, 2, 3, 4)] + [{"step": s, "try": 2} for s in (3, 4, 5)]
    seen = read_metrics(write(tmp_path / "m.jsonl", rows)).rows
    assert [(row["step"], row["try"]) for row in seen] == [(1, 1), (2, 1), (3, 2), (4, 2), (5, 2)]


def test_other_names_for_the_step_and_the_old_name_of_the_connectives(tmp_path):
    rows = [{"training/global_step": 1, "logical_connectives": 0.5}, {"_step": 2}, {"step": 3.0}]
    seen = read_metrics(write(tmp_path / "m.jsonl", rows)).rows
    assert [row["step"] for row in seen] == [1, 2, 3] and seen[0]["logical_connectives/mean"] == 0.5


@pytest.mark.parametrize(
    "content, words",
    [
        ("hello\n", "line 1 is not JSON"),
        ('{"step": 1}\nhello\n{"step": 2}\n', "line 2 is not JSON"),
        ('{"step": 1}\n"x"\n', "line 2 is not an object"),
        ("{torn\n{torn\n", "no readable row"),
        ('{"loss": 1}\n', "row 1 has no whole-number"),
        ('{"step": 1.5}\n', "row 1 has no whole-number"),
        ('{"step": true}\n', "row 1 has no whole-number"),
    ],
)
def test_what_is_no_metrics_file_is_refused(tmp_path, content, words):
    path = tmp_path / "m.jsonl"
    path.write_text(content)
    with pytest.raises(UserError, match=words) as error:
        read_metrics(path)
    assert "m.jsonl" in str(error.value) and "\n" not in str(error.value)


def test_folders_without_metrics_and_paths_that_are_not_there_are_refused(tmp_path):
    with pytest.raises(UserError, match="neither metrics.jsonl nor a .wandb file"):
        read_metrics(tmp_path)
    with pytest.raises(UserError, match="does not exist"):
        read_metrics(tmp_path / "none")


def test_a_damaged_configuration_is_named(tmp_path):
    write(tmp_path / "metrics.jsonl", ROWS)
    (tmp_path / "config.yaml").write_text("a: [1\n")
    with pytest.raises(UserError, match="config.yaml is damaged"):
        read_metrics(tmp_path)


def test_a_damaged_run_json_is_no_hindrance(tmp_path):
    write(tmp_path / "metrics.jsonl", ROWS)
    (tmp_path / "run.json").write_text('{"status": "fini')
    assert read_metrics(tmp_path).rows == ROWS


RUN = """
import sys, wandb
settings = wandb.Settings(silent=True, console="off", disable_git=True, x_disable_stats=True)
run = wandb.init(project="p", name="n", mode="offline", dir=sys.argv[1], config={"record": {"name": "v3"}},
                 settings=settings)
for step in range(int(sys.argv[2]), int(sys.argv[3]) + 1):
    run.log({"actor/entropy": 3.0 + step / 100, "text": "x" * 500, "actor/grad_norm": float("nan")}, step=step)
run.finish()
"""


def offline_run(folder, first: int, last: int):
    kept = {k: v for k, v in os.environ.items() if not k.startswith("WANDB")}
    program = [sys.executable, "-c", RUN, str(folder), str(first), str(last)]
    subprocess.run(program, check=True, capture_output=True, timeout=120, env=kept)
    return folder


@pytest.fixture(scope="module")
def offline(tmp_path_factory):
    """A folder with a real offline run of 300 steps, 500 bytes of text in each: its records cross blocks."""
    return offline_run(tmp_path_factory.mktemp("offline"), 1, 300)


def wandb_file(folder):
    (path,) = folder.glob("wandb/offline-run-*/*.wandb")
    return path


def test_an_offline_run_of_wandb_is_read_whole(offline):
    path = wandb_file(offline)
    assert path.stat().st_size > 4 * 32768
    for place in (offline, offline / "wandb", path.parent, path):
        metrics = read_metrics(place)
        assert [row["step"] for row in metrics.rows] == list(range(1, 301))
        assert metrics.rows[99]["actor/entropy"] == 4.0 and math.isnan(metrics.rows[99]["actor/grad_norm"])
        assert metrics.config["record"] == {"name": "v3"}


def test_an_offline_run_is_read_up_to_where_it_is_written(offline, tmp_path):
    data, path = wandb_file(offline).read_bytes(), tmp_path / "run-x.wandb"
    last = 0
    for size in range(2000, len(data), 9973):  # a prime: the cuts fall anywhere in records and blocks
        path.write_bytes(data[:size])
        rows = read_wandb(path).rows
        assert len(rows) >= last and all(row["_step"] == i + 1 for i, row in enumerate(rows))
        last = len(rows)
    assert last > 250


def history(step, size):
    """A record of W&B's with a row of about so many bytes."""
    from wandb.proto.wandb_internal_pb2 import Record

    record = Record()
    for key, value in (("_step", str(step)), ("pad", json.dumps("x" * size))):
        item = record.history.item.add()
        item.key, item.value_json = key, value
    return record.SerializeToString()


def fragment(kind, data):
    return struct.pack("<IHB", zlib.crc32(bytes([kind]) + data), len(data), kind) + data


@pytest.mark.parametrize("left", range(9))
def test_a_block_s_end_that_no_fragment_fits_into_is_skipped(tmp_path, left):
    """With 7 bytes or more left, a fragment begins there; with 1 to 6 they are padding."""
    room = 32768 - 7 - 7 - left
    first = history(1, 32000)
    first = history(1, 32000 + room - len(first))
    assert len(first) == room
    second = history(2, 10)
    data = struct.pack("<4sHB", b":W&B", 0xBEE1, 0) + fragment(1, first)
    if left < 7:
        data += b"\0" * left + fragment(1, second)
    else:
        head = left - 7
        data += fragment(2, second[:head]) + fragment(4, second[head:])
    path = tmp_path / "run-x.wandb"
    path.write_bytes(data)
    assert [row["_step"] for row in read_wandb(path).rows] == [1, 2]


def test_a_damaged_offline_run_is_refused(offline, tmp_path):
    data = bytearray(wandb_file(offline).read_bytes())
    data[50_000] ^= 0xFF
    path = tmp_path / "run-x.wandb"
    path.write_bytes(data)
    with pytest.raises(UserError, match="is damaged at byte"):
        read_wandb(path)
    path.write_bytes(b"no such thing")
    with pytest.raises(UserError, match="is not a W&B run file"):
        read_wandb(path)


def test_the_parts_that_several_attempts_at_a_run_wrote_are_read_as_one(offline, tmp_path):
    """A job that was preempted goes on in another offline folder, with the same run's id."""
    made = tmp_path / "made"
    made.mkdir()
    attempts = {
        ("x", 1): wandb_file(offline).read_bytes()[:100_000],  # killed after step 60 or so
        ("y", 2): wandb_file(offline).read_bytes(),  # another run
        ("x", 3): wandb_file(offline_run(made, 50, 60)).read_bytes(),  # went on after the checkpoint of step 49
    }
    for (name, time), data in attempts.items():
        path = tmp_path / f"run/wandb/offline-run-20260227_10000{time}-{name}/run-{name}.wandb"
        path.parent.mkdir(parents=True)
        path.write_bytes(data)
        os.utime(path, (time, time))
    for place in (tmp_path / "run", tmp_path / "run/wandb"):
        assert [row["step"] for row in read_metrics(place).rows] == list(range(1, 61))
    assert [row["step"] for row in read_metrics(path).rows] == list(range(50, 61))  # a file is that file


COURSES = """
import sys
from pathlib import Path
from recipes.archer.runs.trackers import Trackers
for course, first in ((0, 1), (1, 3)):
    config = {"guard": {"action": "rollback"}}
    trackers = Trackers(["wandb"], Path(sys.argv[1]), config, "p", "n", first, course)
    for step in range(first, first + 4):
        trackers.log({"actor/entropy": 0.5 + course}, step)
    trackers.finish(0, 60.0)
"""


def test_courses_are_runs_of_their_own_in_wandb_and_are_read_as_one(tmp_path):
    """With one id, what a run does after it went back would be refused: W&B takes no step twice."""
    variables = {k: v for k, v in os.environ.items() if not k.startswith("WANDB")}
    variables |= {"WANDB_MODE": "offline", "WANDB_RUN_ID": "mine-1a2b", "WANDB_RESUME": "allow"}
    variables["PYTHONPATH"] = str(ROOT)
    program = [sys.executable, "-c", COURSES, str(tmp_path)]
    subprocess.run(program, check=True, capture_output=True, timeout=120, env=variables)
    files = {path.name for path in tmp_path.glob("wandb/offline-run-*/*.wandb")}
    assert files == {"run-mine-1a2b.wandb", "run-mine-1a2b-course-1.wandb"}
    rows = [(row["step"], row["actor/entropy"]) for row in read_metrics(tmp_path).rows]
    assert rows == [(1, 0.5), (2, 0.5), (3, 1.5), (4, 1.5), (5, 1.5), (6, 1.5)]


@pytest.mark.parametrize("seed", range(40))
def test_records_of_other_making_in_an_offline_run_are_refused(tmp_path, seed):
    """Seeded: whole fragments with the right checksum, whose record is torn, altered, or holds what is no JSON."""
    dice = random.Random(seed)
    data = bytearray(history(1, 60))
    if seed % 2:
        data[dice.randrange(len(data))] = dice.randrange(256)
    else:
        del data[dice.randrange(len(data)) :]
    path = tmp_path / "run-x.wandb"
    path.write_bytes(struct.pack("<4sHB", b":W&B", 0xBEE1, 0) + fragment(1, bytes(data)))
    try:
        read_metrics(path)
    except UserError as error:
        assert str(path) in str(error)


@pytest.mark.parametrize("step", [10**400, 2**60, -(2**60), 1e300, float("inf"), float("nan")])
def test_a_step_beyond_what_can_be_counted_is_none(tmp_path, step):
    with pytest.raises(UserError, match="row 1 has no whole-number"):
        read_metrics(write(tmp_path / "m.jsonl", [{"step": step}]))


def test_many_torn_lines_are_counted_and_only_some_named(tmp_path):
    metrics = read_metrics(write(tmp_path / "m.jsonl", ROWS, end='{"torn\n' * 1000))
    assert metrics.rows == ROWS and len(metrics.notes[0]) < 200 and "and 980 more" in metrics.notes[0]


def test_lines_that_make_sense_only_together_are_torn_each(tmp_path):
    path = tmp_path / "m.jsonl"
    path.write_text('{"step": 1}\n{"step": 2, "a": [{}\n{}]}\n{"step": 3}\n')
    metrics = read_metrics(path)
    assert [row["step"] for row in metrics.rows] == [1, 3] and "2, 3" in metrics.notes[0]
