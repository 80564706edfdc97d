"""No command falls over a file: whatever a run folder, a file to grade or a site's settings hold, there is a word."""

import json
import os
import random
import time

import pytest
import yaml

import hostile
from recipes.archer.reading.regular import LIMIT
from recipes.archer.runs.folder import read_run

COMMANDS = ("runs", "monitor", "report", "samples", "compare")


@pytest.fixture
def drawn():
    """For a test that is about the pictures."""


@pytest.fixture(autouse=True)
def quick(monkeypatch, request):
    """Drawing takes half a second; what it does with figures is for the tests that ask for it."""
    if "drawn" not in request.fixturenames:
        monkeypatch.setattr("recipes.archer.reports.writing.curves_png", lambda *_, **__: b"")
        monkeypatch.setattr("recipes.archer.reports.comparison.comparison_png", lambda *_: b"")
    monkeypatch.setattr("concurrent.futures.ProcessPoolExecutor.map", lambda _, function, items: map(function, items))


def every_command(monkeypatch, run, tmp_path, other=None) -> dict[str, tuple[int, str, str]]:
    """What each command that reads run folders makes of one."""
    words = {name: (name, run) for name in COMMANDS}
    words["runs"] = ("runs", run.parent)
    words["compare"] = ("compare", run, other or run, "--out", tmp_path / "c.png")
    return {name: hostile.call(monkeypatch, *these) for name, these in words.items()}


FILES = [(name, kind) for name in ("run.json", "metrics.jsonl", "samples/step_60.jsonl") for kind in hostile.JSON]
FILES += [("config.yaml", kind) for kind in hostile.YAML]


@pytest.mark.parametrize(("name", "kind"), FILES)
def test_what_a_file_may_hold(collapsing_run, tmp_path, monkeypatch, name, kind):
    (collapsing_run / name).write_bytes((hostile.YAML if name.endswith("yaml") else hostile.JSON)[kind])
    start = time.monotonic()
    for code, _, told in every_command(monkeypatch, collapsing_run, tmp_path).values():
        assert code != 2 or os.path.basename(name) in told
    assert time.monotonic() - start < 30


def replace(path, kind):
    path.unlink()
    if kind == "a folder":
        path.mkdir()
    elif kind == "a pipe":
        os.mkfifo(path)
    elif kind == "a device":
        path.symlink_to("/dev/zero")
    elif kind == "a link that leaves the folder":
        (path.parents[3] / "secret").write_text('{"step": 1, "secret": 12345}\n')
        path.symlink_to(path.parents[3] / "secret")
    elif kind == "a link to itself":
        path.symlink_to(path.name)
    else:
        with open(path, "wb") as file:
            file.truncate(5 << 30)  # sparse


@pytest.mark.parametrize("name", ["run.json", "config.yaml", "metrics.jsonl", "samples/step_60.jsonl"])
@pytest.mark.parametrize(
    "kind",
    ["a folder", "a pipe", "a device", "a link that leaves the folder", "a link to itself", "sparse gigabytes"],
)
def test_what_may_stand_where_a_file_is_expected(collapsing_run, tmp_path, monkeypatch, name, kind):
    replace(collapsing_run / name, kind)
    told = every_command(monkeypatch, collapsing_run, tmp_path)
    readers = {"samples/step_60.jsonl": ("report", "samples")}.get(name, ("report", "compare"))
    for command in readers:
        assert told[command][0] == 2 and os.path.basename(name) in told[command][2], told[command]
    assert not any("12345" in out or "secret" in err for _, out, err in told.values())


def test_a_file_inside_the_folder_may_be_reached_by_a_link(healthy_run, tmp_path, monkeypatch):
    (healthy_run / "config.yaml").rename(healthy_run / "really.yaml")
    (healthy_run / "config.yaml").symlink_to("really.yaml")
    assert read_run(healthy_run).config["trainer"]["experiment_name"] == "healthy"


def test_the_cap_is_a_setting(healthy_run, tmp_path, monkeypatch):
    with open(healthy_run / "config.yaml", "a") as file:
        file.write("# " + "x" * (3 << 20))
    code, _, told = hostile.call(monkeypatch, "monitor", healthy_run)
    assert code == 2 and LIMIT in told
    monkeypatch.setenv(LIMIT, "8")
    assert hostile.call(monkeypatch, "monitor", healthy_run)[0] != 2
    for wrong in ("0", "many", "-1", "9" * 50):
        monkeypatch.setenv(LIMIT, wrong)
        assert LIMIT in hostile.call(monkeypatch, "monitor", healthy_run)[2]


@pytest.mark.parametrize("seed", range(24))
def test_parts_of_other_types(collapsing_run, tmp_path, monkeypatch, seed):
    """Seeded: in each file of a run one part is of another type, several times over."""
    facts, config = json.loads((collapsing_run / "run.json").read_text()), read_run(collapsing_run).config
    config["guard"] = {"action": "warn", "detectors": {"entropy_collapse": {"sustained": 3, "floor": 0.1}}}
    rows = [json.loads(line) for line in (collapsing_run / "metrics.jsonl").read_text().splitlines()]
    samples = [json.loads(line) for line in (collapsing_run / "samples/step_60.jsonl").read_text().splitlines()]
    for i in range(seed * 3, seed * 3 + 3):
        facts, config = hostile.spoilt(facts, i), hostile.spoilt(config, i)
        rows = [hostile.spoilt(row, 100 * i + j) for j, row in enumerate(rows)] if i % 3 == 1 else rows
        samples = [hostile.spoilt(row, 100 * i + j) for j, row in enumerate(samples)]
    for j in random.Random(seed).sample(range(1, 50), 20):
        rows[j] = hostile.spoilt({key: value for key, value in rows[j].items() if key != "step"}, seed + j) | {
            "step": rows[j].get("step") if isinstance(rows[j].get("step"), int) else j + 1
        }
    (collapsing_run / "run.json").write_text(json.dumps(facts))
    (collapsing_run / "config.yaml").write_text(yaml.safe_dump(config))
    (collapsing_run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (collapsing_run / "samples/step_60.jsonl").write_text("".join(json.dumps(row) + "\n" for row in samples))
    every_command(monkeypatch, collapsing_run, tmp_path)


@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf"), 10**400, "3", True, [], {}])
@pytest.mark.parametrize("name", ["sustained", "floor"])
def test_thresholds_that_are_none(healthy_run, monkeypatch, name, value):
    guard = {"detectors": {"entropy_collapse": {name: value}}}
    (healthy_run / "config.yaml").write_text(yaml.safe_dump({"guard": guard}))
    code, _, told = hostile.call(monkeypatch, "monitor", healthy_run)
    assert (code, name in told) == ((0, False) if (name, value) == ("floor", 0) and value is not True else (2, True))


@pytest.mark.parametrize("guard", [[], "x", {"detectors": []}, {"detectors": "x"}, {"detectors": {"no_signal": [1]}}])
def test_a_guard_of_another_type(healthy_run, monkeypatch, guard):
    (healthy_run / "config.yaml").write_text(yaml.safe_dump({"guard": guard}))
    code, _, told = hostile.call(monkeypatch, "monitor", healthy_run)
    assert code == 2 and "guard" in told if guard not in ([], {"detectors": []}) else "guard" in told or code == 0


@pytest.mark.parametrize("worst", [1e308, 10**400, float("inf")])
def test_figures_at_the_end_of_the_scale_are_drawn(healthy_run, two_step_run, tmp_path, monkeypatch, drawn, worst):
    rows = [{"step": 1, "actor/entropy": worst, "batch/valid": worst}, {"step": 2**53, "actor/entropy": -worst}]
    (two_step_run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert hostile.call(monkeypatch, "report", two_step_run)[0] == 0
    assert hostile.call(monkeypatch, "compare", two_step_run, healthy_run, "--out", tmp_path / "c")[0] == 0
    assert (tmp_path / "c").read_bytes()[:4] == b"\x89PNG" and not (tmp_path / "c.png").exists()


@pytest.mark.parametrize("kind", hostile.JSON)
def test_what_is_to_be_graded(tmp_path, monkeypatch, kind):
    source = tmp_path / "in.jsonl"
    source.write_bytes(hostile.JSON[kind])
    code, _, told = hostile.call(monkeypatch, "grade", source, tmp_path / "out.jsonl")
    assert (code, "in.jsonl" in told) == ((0, False) if kind == "nothing" else (2, True))


@pytest.mark.parametrize("output", ["a folder", "a link", "a folder that is no folder"])
def test_an_output_that_cannot_be_written_is_found_before_anything_is_graded(tmp_path, monkeypatch, output):
    monkeypatch.setattr("recipes.archer.commands.grade.GradingPool", lambda *_, **__: pytest.fail("graded"))
    source, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text('{"response": "1", "ground_truth": 1}\n')
    if output == "a folder":
        target.mkdir()
    elif output == "a link":
        target.symlink_to(source)
    else:
        target = source / "out.jsonl"
    code, _, told = hostile.call(monkeypatch, "grade", source, target)
    assert code == 2 and "out.jsonl" in told


@pytest.mark.parametrize("content", [b"", b"a = [" * 50_000, b"\xff", b"a = 2026-13-45", b"a = 9" + b"9" * 5000])
def test_settings_of_a_site(tmp_path, monkeypatch, content):
    settings = tmp_path / "cluster.toml"
    settings.write_bytes(content)
    assert hostile.call(monkeypatch, "job", "status", "x", "--cluster", settings)[0] == 2
