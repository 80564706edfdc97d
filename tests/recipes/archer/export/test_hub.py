"""Pushing to the hub: what is sent, what is said where it refuses, and that no token is ever said."""

import pytest
import requests
from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError, HFValidationError

from recipes.archer.ending import UserError
from recipes.archer.export.hub import check_name, push

TOKEN = "hf_secretsecretsecret"


@pytest.fixture(autouse=True)
def token(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", TOKEN)


def _answer(status: int) -> HfHubHTTPError:
    response = requests.Response()
    response.status_code = status
    response.headers["authorization"] = TOKEN
    return HfHubHTTPError(f"{status}: Bearer {TOKEN}", response=response)


def test_a_folder_goes_into_a_private_repository(monkeypatch, tmp_path):
    calls = []
    monkeypatch.setattr(HfApi, "create_repo", lambda _, *a, **k: calls.append((a, k)))
    monkeypatch.setattr(HfApi, "upload_folder", lambda _, **k: calls.append(k))
    assert push(tmp_path, "owner/name").endswith("/owner/name")
    assert calls[0] == (("owner/name",), {"private": True, "exist_ok": True})
    assert calls[1]["repo_id"] == "owner/name" and calls[1]["folder_path"] == tmp_path


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
