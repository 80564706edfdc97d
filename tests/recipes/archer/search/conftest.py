"""Searches without training."""

import pytest

from searching import Searches, compose_once


@pytest.fixture
def searches(tmp_path, monkeypatch) -> Searches:
    compose_once(monkeypatch)
    return Searches(tmp_path / "output", monkeypatch)
