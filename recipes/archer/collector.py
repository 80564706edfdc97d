"""Python's garbage collector, put off where it takes time and finds nothing."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def uncollected() -> Iterator[None]:
    """Without the collector: it would look through all that is being made, over and over."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


@contextmanager
def loading() -> Iterator[None]:
    """Around imports, of whose time the collector takes a quarter; what is there at the end it never looks at again."""
    with uncollected():
        yield
        gc.freeze()
