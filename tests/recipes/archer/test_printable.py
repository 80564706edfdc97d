"""What loggers say is as printable as what is printed."""

import logging

import pytest

import hostile
from recipes.archer.printable import UNSHOWABLE, guard_logs


@pytest.fixture
def guarded():
    before = logging.getLogRecordFactory()
    guard_logs()
    guard_logs()  # once is enough
    yield
    logging.setLogRecordFactory(before)


@pytest.mark.parametrize("kind", hostile.ESCAPES)
def test_a_message_its_arguments_and_its_traceback_are_printable(guarded, caplog, kind):
    escape = hostile.ESCAPES[kind]
    logger = logging.getLogger("a library")
    logger.warning(f"raw {escape}")
    logger.warning("in an argument: %s", escape)
    try:
        raise ValueError(escape)
    except ValueError:
        logger.exception("broke")
    assert "in an argument" in caplog.text and "ValueError" in caplog.text
    assert not UNSHOWABLE.search(caplog.text)


def test_a_message_that_does_not_fit_its_arguments_is_loggings_own_matter(guarded):
    record = logging.getLogger("x").makeRecord("x", logging.WARNING, "f", 1, "%d", ("no number",), None)
    assert record.msg == "%d"
