"""One tracker's thread: order, trying again, a bounded queue, and what is said at the end."""

import threading
import time

import pytest

from recipes.archer.runs import tracker_feed as module
from recipes.archer.runs.tracker_feed import TrackerFeed


class Service:
    """A tracking service that can be told to fail or to hang; it remembers what reached it."""

    def __init__(self):
        self.opened, self.got, self.finished = [], [], []
        self.down = False
        self.answers = threading.Event()
        self.answers.set()

    def open(self, first_step: int) -> "Service":
        self._work()
        self.opened.append(first_step)
        return self

    def log(self, row: dict, step: int) -> None:
        self._work()
        self.got.append((step, row["x"]))

    def finish(self, exit_code: int) -> None:
        self._work()
        self.finished.append(exit_code)

    def _work(self) -> None:
        self.answers.wait(30)
        if self.down:
            raise ConnectionError("no route to host")


@pytest.fixture
def service(monkeypatch):
    monkeypatch.setattr(module, "CLOSING_PAUSE_S", 0.05)
    return Service()


def _feed(service: Service, first_step: int = 1) -> TrackerFeed:
    return TrackerFeed("service", service.open, first_step)


def _put(feed: TrackerFeed, *steps: int) -> None:
    for step in steps:
        feed.put(step, {"x": step / 10})


def _end(feed: TrackerFeed, seconds: float = 20.0, exit_code: int = 0) -> str | None:
    feed.close(exit_code)
    return feed.verdict(time.monotonic() + seconds)


def _wait_for(condition) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_rows_arrive_in_order_and_the_tracker_is_finished(service):
    feed = _feed(service, first_step=4)
    _put(feed, 4, 5, 6)
    assert _end(feed, exit_code=143) is None
    assert service.got == [(4, 0.4), (5, 0.5), (6, 0.6)]
    assert (service.opened, service.finished) == ([4], [143])


def test_a_slow_service_costs_nothing_and_catches_up(service):
    service.answers.clear()
    feed = _feed(service)
    start = time.monotonic()
    _put(feed, *range(1, 101))
    assert time.monotonic() - start < 0.5
    assert service.got == []
    service.answers.set()
    assert _end(feed) is None
    assert [step for step, _ in service.got] == list(range(1, 101))


def test_a_wait_for_delivery_ends_when_all_is_delivered_or_the_time_is_up(service):
    service.answers.clear()
    feed = _feed(service)
    _put(feed, 1, 2)
    start = time.monotonic()
    feed.wait_until_delivered(0.1)
    assert 0.1 <= time.monotonic() - start < 5 and service.got == []
    service.answers.set()
    feed.wait_until_delivered(20)
    assert [step for step, _ in service.got] == [1, 2]
    assert _end(feed) is None


def test_a_service_that_was_down_gets_every_row_once(service, caplog):
    feed = _feed(service)
    _put(feed, 1, 2)
    _wait_for(lambda: len(service.got) == 2)
    service.down = True
    _put(feed, 3, 4)
    _wait_for(lambda: "no route to host" in caplog.text)
    service.down = False
    assert _end(feed) is None
    assert [step for step, _ in service.got] == [1, 2, 3, 4]
    assert service.opened == [1, 3]  # anew, from the row that did not get through
    assert [record.message for record in caplog.records] == [
        "tracker service failed; its steps wait and are tried again: no route to host",
        "tracker service works again, from step 3 on",
    ]


def test_one_warning_for_a_series_of_failures(service, caplog):
    service.down = True
    feed = _feed(service)
    _put(feed, 1, 2, 3)
    assert _end(feed, 1.0) == "tracker service misses 3 steps, the last of them 1 to 3: no route to host"
    assert len(caplog.records) == 1


def test_a_service_that_hangs_is_left_alone(service):
    service.answers.clear()
    feed = _feed(service)
    _put(feed, 1)
    start = time.monotonic()
    assert _end(feed, 0.3) == "tracker service misses 1 step, the last of them 1 to 1"
    assert time.monotonic() - start < 5.0
    service.answers.set()


def test_a_service_that_hangs_at_its_end_has_every_step(service):
    feed = _feed(service)
    _put(feed, 1)
    _wait_for(lambda: service.got)
    service.answers.clear()
    assert _end(feed, 0.3) == "tracker service has every step, but could not be closed in time"
    service.answers.set()


def test_nothing_to_deliver_to_a_service_that_is_down(service):
    service.down = True
    feed = _feed(service)
    assert "could not be closed in time: no route to host" in _end(feed)


def test_the_queue_is_bounded_and_the_oldest_rows_go(service, monkeypatch):
    monkeypatch.setattr(module, "MAX_WAITING", 3)
    service.down = True
    feed = _feed(service)
    _put(feed, *range(1, 6))
    service.down = False
    assert _end(feed) == "tracker service misses 2 steps"
    assert [step for step, _ in service.got] == [3, 4, 5]


def test_a_row_that_was_dropped_on_its_way_and_arrived_is_not_missing(service, monkeypatch):
    monkeypatch.setattr(module, "MAX_WAITING", 2)
    feed = _feed(service)
    _wait_for(lambda: service.opened)
    service.answers.clear()
    _put(feed, 1)
    time.sleep(0.1)  # it is on its way
    _put(feed, 2, 3)
    service.answers.set()
    assert _end(feed) is None
    assert [step for step, _ in service.got] == [1, 2, 3]
