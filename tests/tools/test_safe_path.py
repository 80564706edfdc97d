"""No Python of ours takes the current folder for a source of modules: ``-P`` wherever a module or a text is run.

Launchers and whole runs show it too: they start in a folder of traps (tests/support/traps.py).
"""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = ("Makefile", ".ci/run", "docker/Dockerfile", "scripts/**/*", "tools/**/*", "recipes/**/*.py")
# python, or what stands for one, and then what would put the current folder first
MODULE_OR_TEXT = re.compile(r"(python|sys\.executable|_python_with_pip\(\))\S*(?P<options>.*?)[ \"'](-m|-c)[ \"',]")


def unsafe(line: str) -> bool:
    found = MODULE_OR_TEXT.search(line)
    return bool(found) and not re.search(r"(^|[ \"'])-(P|I)[ \"',]", found["options"] + " ")


def test_the_search_finds_what_it_looks_for():
    assert all(
        map(unsafe, ['exec "$python" -m x', "$(python) -m pytest", '[sys.executable, "-m", "x"]', 'python3.11 -c "x"'])
    )
    assert not any(map(unsafe, ['exec "$python" -P -m x', '[sys.executable, "-u", "-P", "-m", "x"]', "python x.py"]))


def test_every_module_is_run_with_a_safe_path():
    files = sorted({path for pattern in PROGRAMS for path in ROOT.glob(pattern) if path.is_file()})
    texts = {path: path.read_text() for path in files if path.suffix in ("", ".py", ".sh")}
    assert len(texts) > 50
    lines = [(path, line.strip()) for path, text in texts.items() for line in text.splitlines()]
    assert [f"{path.relative_to(ROOT)}: {line}" for path, line in lines if unsafe(line)] == []
