"""Pushing to the hub: what is sent, what is said where it refuses, and that no token is ever said."""

import pytest
import requests
from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError, HFValidationError

from recipes.archer.ending import UserError
from recipes.archer.export.hub import check_name, push
from tests.scripts.data.fake_hub import FakeHub

TOKEN = "hf_secretsecretsecret"


@pytest.fixture(autouse=True)
def token(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", TOKEN)


def _answer(status: int) -> HfHubHTTPError:
    response = requests.Response()
    response.status_code = status
    response.headers["authorization"] = TOKEN
    return HfHubHTTPError(f"{status}: Bearer {TOKEN}", response=response)


@pytest.fixture
def hub(monkeypatch):
    with FakeHub({}).running() as hub:
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", hub.url)
        yield hub


def test_a_folder_goes_into_a_private_repository(hub, tmp_path, capfd):
    (tmp_path / "README.md").write_text("---\nlicense: mit\n---\n# A model\n")
    (tmp_path / "model.safetensors").write_bytes(bytes(1000))
    assert push(tmp_path, "owner/tiny") == f"{hub.url}/owner/tiny"
    assert hub.files == {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert [made["private"] for made in hub.made] == [True] and hub.tokens == {f"Bearer {TOKEN}"}
    assert TOKEN not in "".join(capfd.readouterr())


@pytest.mark.parametrize(("status", "said"), [(401, "set HF_TOKEN"), (503, "the hub answered 503")])
def test_a_hub_that_refuses(hub, tmp_path, status, said, capfd):
    hub.status = status
    with pytest.raises(UserError, match=said) as caught:
        push(tmp_path, "owner/tiny")
    assert TOKEN not in "".join(capfd.readouterr()) + str(caught.value)


@pytest.mark.parametrize("where", ["create_repo", "upload_folder"])
@pytest.mark.parametrize(
    ("error", "said"),
    [
        (_answer(401), "set HF_TOKEN"),
        (_answer(403), "set HF_TOKEN"),
        (_answer(503), "the hub answered 503"),
        (requests.ConnectionError(f"Bearer {TOKEN}\nmore"), "cannot reach .*ConnectionError"),
        (OSError(f"{TOKEN}"), "cannot reach"),
        (HFValidationError(f"{TOKEN}"), "takes no such name"),
    ],
)
def test_a_refusal_is_one_line_without_the_token(monkeypatch, tmp_path, where, error, said):
    def refuse(*_, **__):
        raise error

    for name in ("create_repo", "upload_folder"):
        monkeypatch.setattr(HfApi, name, refuse if name == where else lambda *_, **__: None)
    with pytest.raises(UserError, match=f"is written, but could not be pushed: .*{said}") as caught:
        push(tmp_path, "owner/name")
    assert TOKEN not in str(caught.value) and "\n" not in str(caught.value)
    assert f"huggingface-cli upload --private owner/name {tmp_path}" in str(caught.value)


@pytest.mark.parametrize("name", ["name", "a/b/c", "owner/", "-x/y", "owner/na me", "o/\x1b", "../x/y", ""])
def test_what_is_no_name_is_refused_before_anything(name):
    with pytest.raises(UserError, match="write it as OWNER/NAME"):
        check_name(name)
    check_name("owner/na.me-1_b")
