"""Ends a rollout that nobody waits for any more, so that a stop can save at once.

A worker does one call after the other; without this, a save would wait for the last token of the longest response.
The word is passed through a file, because the call that would carry it could not be answered.
"""

import os
import secrets
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

LOOK_S = 0.5  # between two looks at the file
_OWN = secrets.token_hex(8)  # what an earlier process of the same number has left is not ours


def stop_file() -> Path:
    """This process's file; it exists while the rollout should end. On another machine it is never seen."""
    return Path(tempfile.gettempdir(), f"archer-stop-{os.getpid()}-{_OWN}")


def run_until_stopped(engine, file: str) -> list:
    """vLLM's ``LLM._run_engine``, ended early when ``file`` appears.

    Returns:
        The requests' outputs in their order. One that was cut short has no tokens: the caller who asked for the stop
        throws all of them away, but this worker goes through the same calls as its peers, which wait for it in the
        next collective.
    """
    identities = [group.request_id for scheduler in engine.scheduler for group in scheduler.waiting]
    finished, looked = {}, time.monotonic()
    while engine.has_unfinished_requests():
        if time.monotonic() - looked >= LOOK_S:
            looked = time.monotonic()
            if os.path.exists(file):
                engine.abort_request(identities)
                break
        finished |= {output.request_id: output for output in engine.step() if output.finished}
    return [finished.get(identity) or _nothing(identity) for identity in sorted(identities, key=int)]


def _nothing(identity: str) -> SimpleNamespace:
    nothing = SimpleNamespace(token_ids=(), logprobs=(), finish_reason="abort")
    return SimpleNamespace(request_id=identity, outputs=[nothing])
