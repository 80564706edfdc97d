"""A model's path: a folder, or a name on the hub under which it was fetched."""

from pathlib import Path

import pytest

from recipes.archer.ending import UserError
from recipes.archer.settings import model_folder as module
from recipes.archer.settings.model_folder import DOWNLOAD, model_folder, remedy

HUB = "Qwen/Qwen3-0.6B"


@pytest.fixture(autouse=True)
def empty(tmp_path, monkeypatch):
    """A checkout and a hub cache with nothing in them."""
    monkeypatch.setattr(module, "ROOT", tmp_path / "checkout")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.chdir(tmp_path)


def test_a_folder_is_itself(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "m").mkdir()
    assert model_folder(str(tmp_path / "m")) == model_folder("~/m") == tmp_path / "m"
    assert model_folder("m") == Path("m")


def test_a_name_on_the_hub_is_where_the_download_script_puts_it(tmp_path):
    fetched = tmp_path / "checkout" / "models" / "Qwen3-0.6B"
    fetched.mkdir(parents=True)
    assert model_folder(HUB) == fetched


def test_or_in_the_hubs_cache(tmp_path):
    repository = tmp_path / "hub" / "models--Qwen--Qwen3-0.6B"
    snapshot = repository / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("abc")
    assert model_folder(HUB) == snapshot


def test_a_name_that_was_not_fetched_says_how_to(tmp_path):
    with pytest.raises(UserError) as error:
        model_folder(HUB)
    assert f"{DOWNLOAD} {HUB} --out {tmp_path}/checkout/models/Qwen3-0.6B" in str(error.value)
    assert (Path(__file__).resolve().parents[4] / DOWNLOAD).is_file()


@pytest.mark.parametrize("path", ["/none/m", "models/a/b", "m", "./a/b", "~/a", "models/a", "Qwen/a--b", "Qwen/a..b"])
def test_any_other_path_is_a_folder_that_is_not_there(path):
    with pytest.raises(UserError, match="does not exist; fetch it with"):
        model_folder(path)


@pytest.mark.parametrize("parent", [".", "checkout"])
def test_so_is_a_path_whose_first_folder_is_there(tmp_path, parent):
    (tmp_path / parent / "disk").mkdir(parents=True)
    with pytest.raises(UserError, match=r"^model folder disk/m does not exist; fetch it with"):
        model_folder("disk/m")


def test_a_folder_called_as_an_owner_hides_no_model_of_theirs(tmp_path):
    (tmp_path / "Qwen").mkdir()
    test_or_in_the_hubs_cache(tmp_path)


def test_the_remedy_fetches_the_model_that_is_missing(tmp_path):
    assert "fetch it with scripts/train/setup_qwen3_0.6b.sh, or set" in remedy(tmp_path / "Qwen3-0.6B-Base")
    other = tmp_path / "DeepSeek-R1-Distill-Qwen-1.5B"
    assert f"fetch it with {DOWNLOAD} OWNER/NAME --out {other}, or set" in remedy(other)
