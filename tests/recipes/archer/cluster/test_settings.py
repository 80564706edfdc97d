"""Site settings: what a file may say, and what it is told when it says something else."""

import re
from pathlib import Path

import pytest

from recipes.archer.cluster.settings import Claim, SecretKey, load_settings
from recipes.archer.ending import UserError

DOCUMENT = Path(__file__).resolve().parents[4] / "docs/cluster.md"


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "cluster.toml"
    path.write_text(text)
    return path


def test_the_documents_example_loads(tmp_path):
    (example,) = re.findall(r"```toml\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    settings = load_settings(write(tmp_path, example))
    assert settings.project and settings.image and settings.workdir
    assert isinstance(settings.pvc[0], Claim) and isinstance(settings.secrets["WANDB_API_KEY"], SecretKey)


def test_the_default_file_is_under_the_home_directory_and_may_be_absent(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert load_settings().image is None
    (tmp_path / ".config/archer").mkdir(parents=True)
    (tmp_path / ".config/archer/cluster.toml").write_text('image = "i"\n')
    assert load_settings().image == "i"


def test_a_named_file_must_exist(tmp_path):
    with pytest.raises(UserError, match="no such settings file"):
        load_settings(tmp_path / "absent.toml")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('imgae = "x"', "unknown setting imgae"),
        ("image = 3", "image: expected a string, found 3"),
        ('retries = "3"', "retries: expected a whole number"),
        ("retries = true", "retries: expected a whole number"),
        ("retries = -1", "expected 0 or more"),
        ('large_shm = "yes"', "large_shm: expected true or false"),
        ('cli = "v3"', "expected v1 or v2"),
        ('node_pools = "h100"', "node_pools: expected a list"),
        ('pvc = [{ claim = "x" }]', "pvc: expected the keys claim, path"),
        ('secrets = { WANDB_API_KEY = "abc" }', "secrets.WANDB_API_KEY: expected a table"),
        ("env = { N = 1 }", "env.N: expected a string"),
        ('[kubernetes]\nqueue = "x"', "unknown setting kubernetes.queue"),
        ('namespace = "x"', "unknown setting namespace"),
        ("image = ", "not readable as TOML"),
    ],
)
def test_a_bad_file_is_one_line_that_names_file_and_field(tmp_path, text, said):
    path = write(tmp_path, text)
    with pytest.raises(UserError) as error:
        load_settings(path)
    assert said in str(error.value) and str(path) in str(error.value) and "\n" not in str(error.value)
