"""tools/vendor_verl.py upgrade, on a doctored release."""

import pytest

from tools.vendoring.names import Package, Source, named_in_text, used_names


def _upgrade(checkout, wheel, version="0.6.0") -> int:
    return checkout.run("upgrade", version, "--wheel", str(wheel))


@pytest.fixture
def vendored(checkout, tmp_path):
    """A checkout in which the pinned wheel is cached, as after a sync with network."""
    cache = tmp_path / "cache/wheels"
    cache.mkdir(parents=True)
    (cache / checkout.wheel.name).write_bytes(checkout.wheel.read_bytes())
    checkout.sync()
    return checkout


def test_the_same_files_under_a_new_number_need_nothing_done(vendored, release, build_wheel, tmp_path, capsys):
    vendored.write("recipes/loss.py", "from verl.core import lost\nmanifest = 'vendor/verl.toml'\n")
    assert _upgrade(vendored, build_wheel(tmp_path, release, "0.6.0")) == 0
    out = capsys.readouterr().out
    assert out.count(": nothing to look at") == 6
    assert 'version = "0.6.0"' in out


def test_every_kind_of_change_is_reported_and_nothing_is_written(vendored, release, build_wheel, tmp_path, capsys):
    vendored.write("recipes/loss.py", "import verl.core as core\n\nfrom verl import kept\ncore.lost()\n")
    vendored.write("recipes/archer/config/archer.yaml", "defaults: [_self_]\nactor: {clip: 0.1, own: 1, lr: 2}\n")
    vendored.write("scripts/train/run.sh", "#!/bin/sh\npython -m verl.extra\n")
    release |= {
        "verl/utils/device.py": "name = 'xpu'\n",
        "verl/ours.py": "theirs = 1\n",
        "verl/core.py": "def kept(): ...\n",
        "verl/trainer/config/_generated_ppo_trainer.yaml": "actor: {lr: 1}\ntrainer: {logger: []}\n",
    }
    for path in ("verl/extra.py", "verl/stale/b.py", "dist-info/LICENSE"):
        del release[path]
    requires = ("numpy", "ray>=2.41", "torchdata")
    before = vendored.state()
    assert _upgrade(vendored, build_wheel(tmp_path, release, "0.6.0", requires)) == 1
    assert vendored.state() == before
    findings = [line.strip() for line in capsys.readouterr().out.splitlines() if line.startswith("  ")]
    assert [line for line in findings if " = " not in line] == [
        "verl/utils/device.py: changed upstream; carry the change over to ours (it can go when never)",
        "verl/ours.py: upstream now ships this file; drop ours or make it a 'replace'",
        "dist-info/LICENSE: [extract] takes it, the new wheel does not have it",
        "verl/stale/: [[drop]] expects 2 files, the new wheel has 1",
        "recipes/loss.py:4: verl.core.lost is gone",
        "scripts/train/run.sh:2: verl.extra is gone",
        "recipes/archer/config/archer.yaml: actor.clip is gone",
        "numpy<2.0.0  ->  numpy",
        "nothing  ->  torchdata",
        'vllm<=0.8.5; extra == "vllm"  ->  nothing',
    ]


def test_a_replaced_file_that_is_gone_upstream_is_reported(vendored, release, build_wheel, tmp_path, capsys):
    del release["verl/utils/device.py"]
    assert _upgrade(vendored, build_wheel(tmp_path, release, "0.6.0")) == 1
    assert "verl/utils/device.py: gone upstream" in capsys.readouterr().out


def test_the_wheel_of_another_version_is_refused(vendored, release, build_wheel, tmp_path, capsys):
    assert _upgrade(vendored, build_wheel(tmp_path, release, "0.6.0"), "0.7.0") == 2
    assert "is 0.6.0; give the wheel of 0.7.0" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("path", "text", "key"),
    [
        ("archer.yaml", "actor: {clip: 1}", "actor.clip"),
        ("experiment/v1.yaml", "# @package _global_\nactor: {clip: 1}", "actor.clip"),
        ("actor/small.yaml", "clip: 1", "actor.clip"),
        ("experiment/v2.yaml", "# @package actor\nclip: 1", "actor.clip"),
        ("experiment/v3.yaml", "actor: {clip: 1}", None),  # Hydra makes this experiment.actor.clip
    ],
)
def test_a_key_is_found_where_hydra_puts_it(vendored, release, build_wheel, tmp_path, capsys, path, text, key):
    vendored.write(f"recipes/archer/config/{path}", text)
    release["verl/trainer/config/_generated_ppo_trainer.yaml"] = "actor: {lr: 1}"
    assert _upgrade(vendored, build_wheel(tmp_path, release, "0.6.0")) == (1 if key else 0)
    expected = f"recipes/archer/config/{path}: {key} is gone"
    assert (expected in capsys.readouterr().out) == (key is not None)


PACKAGE = Package(
    [
        Source("verl/__init__.py", "from .core import *\n"),
        Source("verl/core.py", "try:\n    import fast\nexcept ImportError:\n    fast = None\n__all__ = []\n"),
        Source("verl/lazy.py", "def __getattr__(name): ...\n"),
        Source("verl/deep/leaf.py", "class Leaf:\n    inner = 1\n"),
    ]
)


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("verl", True),
        ("verl.core", True),
        ("verl.core.fast", True),
        ("verl.fast", True),  # through the star import
        ("verl.slow", False),
        ("verl.lazy.anything", True),
        ("verl.deep", True),  # a folder without __init__.py
        ("verl.deep.leaf.Leaf.inner", True),
        ("verl.deep.leaf.inner", False),  # bound in a class, not in the module
        ("verl.deep.other", False),
    ],
)
def test_a_package_knows_what_its_modules_bind(name, known):
    assert PACKAGE.resolves(name) is known


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("import verl.core", "verl.core"),
        ("import verl.core\nverl.core.f()", "verl.core.f"),
        ("import verl.core as c\nc.f()", "verl.core.f"),
        ("from verl import core as c\nx = c.f", "verl.core.f"),
        ("from verl.core import f", "verl.core.f"),
        ("from verl.core import *", "verl.core"),
        ("from . import sibling", "verl.utils.sibling"),
        ("from ..core import f", "verl.core.f"),
        ("patch('verl.core.f')", "verl.core.f"),
    ],
)
def test_every_way_to_use_a_name_is_seen(text, name):
    used = used_names(Source("verl/utils/ours.py", text), "verl")
    assert (len(text.splitlines()), name) in used


def test_names_of_other_packages_are_not_upstreams():
    text = "import overlay.verl.core\nfrom verlet import core\ncore.f()\n"
    assert used_names(Source("recipes/x.py", text), "verl") == set()


def test_names_in_yaml_and_shell_are_seen():
    assert named_in_text("a: 1\n_target_: verl.core.Thing\n", "verl") == {(2, "verl.core.Thing")}
