"""Nothing that a command prints steers the terminal or reads as something else, wherever a stranger put it."""

import ast
import copy
import json
import re
from pathlib import Path

import pytest
import yaml

import hostile
from recipes.archer.experiments import registry
from recipes.archer.printable import one_line, printable
from recipes.archer.reading.yaml import parse_yaml
from recipes.archer.runs.folder import read_run

LONE = hostile.ESCAPES["lone surrogate"]
ARCHER = Path(__file__).resolve().parents[4] / "recipes" / "archer"


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr("recipes.archer.reports.writing.curves_png", lambda *_, **__: b"")
    monkeypatch.setattr("recipes.archer.reports.comparison.comparison_png", lambda *_: b"")
    monkeypatch.setattr("concurrent.futures.ProcessPoolExecutor.map", lambda _, function, items: map(function, items))


def marked(tree, mark: str):
    """The value with the mark in every key and every text; what has to keep its name or its kind is left."""
    if isinstance(tree, dict):
        return {key + ("" if key in KEPT else mark): marked(value, mark) for key, value in tree.items()}
    if isinstance(tree, list):
        return [marked(part, mark) for part in tree]
    return tree + mark if isinstance(tree, str) else tree


KEPT = re.findall(
    r"\w+",
    """
    record name title parent date commit job problem hypothesis changes criteria contingency results key why
    metric good bad between at above below sustained from when metrics what overrides trend window change
    status experiment git versions step prompt response ground_truth answer outcome score reward length
    truncated trainer device experiment_name reason note project verdict overall command host started
    """,
)


@pytest.fixture
def mark():
    """An escape of every class."""
    return " ".join(hostile.ESCAPES.values())


@pytest.fixture
def marked_run(collapsing_run, mark):
    """A run with the escape in every text that it holds, and verdicts that are bad and say what to try."""
    config = copy.deepcopy(read_run(collapsing_run).config)
    del config["record"]["criteria"][-1]  # a trend is one of three words
    config = marked(config, mark.replace(LONE, ""))  # YAML cannot carry lone surrogates
    (collapsing_run / "config.yaml").write_text(yaml.safe_dump(config))
    facts = marked(json.loads((collapsing_run / "run.json").read_text()), mark)
    (collapsing_run / "run.json").write_text(json.dumps(facts))
    metrics = collapsing_run / "metrics.jsonl"
    rows = [json.loads(line) for line in metrics.read_text().splitlines()]
    rows = [row | {key + mark: value for key, value in row.items() if key != "step"} for row in rows]
    rows[40][f"x{mark}"] = float("nan")
    metrics.write_text("".join(json.dumps(row) + "\n" for row in rows))
    samples = collapsing_run / "samples/step_60.jsonl"
    told = [marked(json.loads(line), mark) for line in samples.read_text().splitlines()]
    samples.write_text("".join(json.dumps(row) + "\n" for row in told))
    return collapsing_run


def test_every_command_that_reads_a_run(marked_run, healthy_run, tmp_path, monkeypatch, mark):
    out = tmp_path / "c.png"
    calls = {
        ("runs", marked_run.parent): "collapsing",
        ("monitor", marked_run): "restore the bonus",
        ("monitor", marked_run, "--json"): "restore the bonus",
        ("compare", marked_run, healthy_run, "--out", out): "entropy_coeff",
        ("samples", marked_run): "expected",
        ("report", marked_run): "report.html",
    }
    for words, expected in calls.items():
        code, told, complaint = hostile.call(monkeypatch, *words)
        assert code in (0, 10, 20), complaint
        assert expected in told  # it was shown, so the escape beside it was, too
        assert not hostile.steers(told + complaint), words
    for file in (marked_run / "report").glob("report.*"):
        assert not hostile.steers(file.read_text(encoding="utf-8")), file


def files_that_complain(run: Path, mark: str) -> dict[str, tuple[Path, str, tuple]]:
    """Files whose error quotes what they hold, as it is: which, its content, and the command that reads it."""
    config, site, name = run / "config.yaml", run / "x.toml", f"x{mark.replace(LONE, '')}"
    quoted = json.dumps(name)  # a form of a text that YAML and TOML know, too
    return {
        "a key of a guard": (config, f"guard: {{detectors: {{{quoted}: {{}}}}}}", ("monitor", run)),
        "a threshold": (config, f"guard: {{detectors: {{no_signal: {{{quoted}: 1}}}}}}", ("report", run)),
        "a field of a record": (config, f"record: {{{quoted}: 1}}", ("monitor", run)),
        "a key twice": (config, f"{quoted}: 1\n{quoted}: 2", ("compare", run, run)),
        "a tag": (config, "a: !<tag:%1B[2J> x", ("monitor", run)),
        "a setting of a site": (site, f"{quoted} = 1", ("job", "status", "x", "--cluster", site)),
    }


@pytest.mark.parametrize("kind", files_that_complain(Path(), ""))
def test_every_error_line(collapsing_run, monkeypatch, mark, kind):
    path, content, words = files_that_complain(collapsing_run, mark)[kind]
    path.write_text(content.replace("\x7f", "\\u007f"), encoding="utf-8")
    code, told, complaint = hostile.call(monkeypatch, *words)
    if words[0] == "report":  # it shows the rest all the same
        told += (collapsing_run / "report/report.md").read_text()
    assert "\ufffd" in told + complaint and not hostile.steers(told + complaint)


def test_the_names_of_folders(collapsing_run, healthy_run, monkeypatch, mark, tmp_path):
    """Also those of damaged runs, of runs that are not there, and of what is to be written."""
    name = "run" + mark.replace("\0", "").replace(LONE, "\udcff").replace("/", "")
    damaged = collapsing_run.parent / name
    damaged.mkdir()
    (damaged / "run.json").write_text("{")
    for words in (
        ("runs", collapsing_run.parent),
        ("monitor", damaged),
        ("report", damaged),
        ("samples", damaged),
        ("compare", damaged, healthy_run),
        ("compare", healthy_run, healthy_run, "--out", damaged / "no/c.png"),
        ("monitor", f"nowhere{mark}"),
        ("report", healthy_run, "--out", damaged / "out"),
        ("grade", damaged / "in.jsonl", "x"),
        ("experiment", "show", f"x{mark}"),
        ("submit", f"x{mark}"),
    ):
        _, told, complaint = hostile.call(monkeypatch, *words)
        assert told + complaint and not hostile.steers(told + complaint), words


def test_the_experiments(tmp_path, monkeypatch, mark):
    for path in registry.folder().glob("*.yaml"):
        if path.stem in ("v0", "v1"):
            (tmp_path / path.name).write_text(path.read_text().replace("title: ", "title: Marked "))
    text = (tmp_path / "v1.yaml").read_text()
    data = parse_yaml(text, "v1")
    data["record"]["results"]["outcome"] += mark.replace(LONE, "")
    (tmp_path / "v1.yaml").write_text(f"# @package _global_\n{json.dumps(data)}")
    (tmp_path / "v2.yaml").write_text(yaml.safe_dump({f"broken{mark}": 1, "record": {f"x{mark}": 1}}))
    monkeypatch.setattr(registry, "folder", lambda: tmp_path)
    registry.forget()
    try:
        _, told, complaint = hostile.call(monkeypatch, "experiment", "list")
    finally:
        registry.forget()
    assert "v0" in told and "v1" in told and "v2.yaml" in complaint, complaint
    assert not hostile.steers(told + complaint)


@pytest.mark.parametrize("kind", hostile.ESCAPES)
def test_every_class_of_escape_is_made_printable(kind):
    text = hostile.ESCAPES[kind]
    assert hostile.steers(text)
    assert not hostile.steers(printable(f"a{text}b")) and not hostile.steers(one_line(f"a\n{text}\tb"))


def test_what_can_be_shown_is_left_as_it_is():
    assert printable("é – 漢字 Ω\n\tकखग 😀") == "é – 漢字 Ω\n\tकखग 😀"
    assert "\n" not in one_line("a\n\nb") and len(one_line("x" * 10**6)) < 5000
    assert printable(10**5000) == "a number too long to show"


PRINTERS = ("printable.py", "reports/terminal.py")  # what everything else prints through


@pytest.mark.parametrize(
    "file", [p for p in ARCHER.rglob("*.py") if str(p.relative_to(ARCHER)) not in PRINTERS], ids=lambda p: p.stem
)
def test_everything_that_prints_goes_through_one_place(file):
    """`print` of a printable text, `echo` and a console of one's own would each be another way out."""
    wrong = []
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            safe = name == "print" and node.args and ast.unparse(node.args[0]).startswith("printable(")
            if not safe and name in ("print", "typer.echo", "Console", "rich.print", "traceback.print_exc"):
                wrong.append(f"line {node.lineno}: {name}")
    assert wrong == []
