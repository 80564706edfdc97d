"""The collector that is put off."""

import gc

import pytest

from recipes.archer.collector import loading, uncollected


@pytest.fixture(autouse=True)
def collector():
    yield
    gc.enable()


@pytest.mark.parametrize("put_off", [uncollected, loading])
def test_it_is_as_before_afterwards_also_after_an_error(put_off):
    with pytest.raises(ZeroDivisionError), put_off():
        assert not gc.isenabled()
        with put_off():
            pass
        assert not gc.isenabled(), "the inner one has not put it off"
        _ = 1 / 0
    assert gc.isenabled()


def test_what_was_loaded_is_not_looked_at_again():
    before = gc.get_freeze_count()
    with loading():
        loaded = [[] for _ in range(1000)]
    assert gc.get_freeze_count() > before + len(loaded)
    assert not any(one is loaded for one in gc.get_objects())
