"""Searches without training."""

import pytest

from searching import Searches, compose_once


@pytest.fixture
def searches(tmp_path, monkeypatch) -> Searches:
    compose_once(monkeypatch)
    monkeypatch.delenv("DEVICE", raising=False)  # `make test` sets it
    return Searches(tmp_path / "output", monkeypatch)
