"""Messages between the pool, a keeper and its checker: four bytes of length, then JSON."""

import json
import os
import select
from collections.abc import Callable
from typing import IO, Any

_LENGTH_BYTES = 4
# A reply is a verdict; more than this is not one of ours.
MAX_REPLY_BYTES = 1 << 24


class Disconnected(Exception):
    """The other end is gone."""


class DeadlinePassed(Exception):
    """No whole message came in time."""


def _jsonable(value: object) -> object:
    """NumPy arrays and scalars as the lists and numbers they hold, for `json.dumps(default=…)`."""
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"a {type(value).__name__} cannot be sent to a grading process: {value!r}")


def encode(message: dict[str, Any]) -> bytes:
    """A message's body. ASCII, so that any string survives, lone surrogates too.

    Raises:
        TypeError: for a value that JSON has no form for.
    """
    return json.dumps(message, default=_jsonable).encode("ascii")


def write(stream: IO[bytes], body: bytes) -> None:
    """Sends one message. Raises `Disconnected` when nobody reads any more."""
    try:
        stream.write(len(body).to_bytes(_LENGTH_BYTES, "big") + body)
        stream.flush()
    except (OSError, ValueError) as error:  # ValueError: closed on our side by another thread
        raise Disconnected from error


def read(stream: IO[bytes]) -> bytes:
    """The body of the next message. Raises `Disconnected` at the end of the stream."""
    try:
        head = stream.read(_LENGTH_BYTES)
        body = stream.read(int.from_bytes(head, "big")) if len(head) == _LENGTH_BYTES else b""
    except (OSError, ValueError) as error:
        raise Disconnected from error
    if not body:
        raise Disconnected
    return body


def read_in_time(descriptor: int, time_left: Callable[[], float], watched: int) -> bytes:
    """The body of the next message on a raw descriptor, if it is whole in time.

    Args:
        descriptor: where the message comes from.
        time_left: seconds that the message still has; asked again once they are over.
        watched: another descriptor, silent unless whoever asked for the message is gone.

    Raises:
        DeadlinePassed: no whole message came in time.
        Disconnected: the sender closed, or sent what cannot be one of our messages.
        BrokenPipeError: `watched` became readable.
    """
    received = bytearray()
    while True:
        if len(received) >= _LENGTH_BYTES:
            size = int.from_bytes(received[:_LENGTH_BYTES], "big")
            if size > MAX_REPLY_BYTES:
                raise Disconnected
            if len(received) >= _LENGTH_BYTES + size:
                return bytes(received[_LENGTH_BYTES : _LENGTH_BYTES + size])
        seconds = max(time_left(), 0.0)
        ready, _, _ = select.select([descriptor, watched], [], [], seconds)
        if descriptor in ready:
            chunk = os.read(descriptor, 1 << 16)
            if not chunk:
                raise Disconnected
            received += chunk
        elif watched in ready:
            raise BrokenPipeError
        elif seconds == 0.0:
            raise DeadlinePassed
