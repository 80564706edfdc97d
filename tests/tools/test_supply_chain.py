"""Whatever is fetched is what was looked at once: by hash or by digest, and nothing that came is run as root."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LISTS = sorted((*ROOT.glob("requirements/*.lock"), *ROOT.glob("requirements/*.txt")))
DOCKERFILE = (ROOT / "docker" / "Dockerfile").read_text()


@pytest.mark.parametrize("file", LISTS, ids=lambda file: file.name)
def test_every_requirement_is_pinned_and_hashed(file):
    text = re.sub(r"\\\n\s*", "", re.sub(r"^\s*#.*\n", "", file.read_text(), flags=re.MULTILINE))
    requirements = [line for line in text.splitlines() if line.strip()]
    assert requirements
    pinned = re.compile(r"[\w.\[\],-]+==[\w.+!]+( ; [^#]+?)? *(--hash=sha256:[0-9a-f]{64} *)+")
    assert [line[:80] for line in requirements if not pinned.fullmatch(line)] == []


def test_set_up_checks_the_hashes_of_each_list_that_it_installs():
    script = (ROOT / "tools" / "setup.sh").read_text().replace("\\\n", " ")
    fetching = [line for line in script.splitlines() if re.search(r"pip (install|sync)", line)]
    ours = [line for line in fetching if re.search(r"-e \.|vllm-\*\.whl", line)]  # this checkout; what was built here
    assert len(ours) == 2 and len(fetching) == 7
    assert [line for line in fetching if line not in ours and "--require-hashes" not in line] == []
    assert {name for name in re.findall(r"requirements/[\w-]+\.(?:txt|lock)", script)} == {
        "requirements/uv.txt", "requirements/cpu-build.lock", "requirements/cpu-vllm.txt",
        "requirements/gpu-flash-attn.txt",
    }  # fmt: skip


def test_the_image_is_made_from_a_digest_and_does_not_run_as_root():
    bases = re.findall(r"^ARG BASE=(\S+)\nFROM \$\{BASE\}$", DOCKERFILE, re.MULTILINE)
    assert len(bases) == len(re.findall(r"^FROM ", DOCKERFILE, re.MULTILINE)) == 1
    assert re.fullmatch(r"[\w./-]+:[\w.-]+@sha256:[0-9a-f]{64}", bases[0])
    assert re.findall(r"^USER (\w+)$", DOCKERFILE, re.MULTILINE)[-1] not in ("root", "0")
