"""What is wanted of a run, whenever and from wherever it is wanted."""

from __future__ import annotations

import os
import threading
import time

from claude_pool.models.run import StopCause
from workers.controls import Controls


def test_a_cancel_outranks_a_drain_and_a_fence_outranks_both() -> None:
    controls = Controls()
    for cause, then in [
        (StopCause.DRAINED, StopCause.DRAINED),
        (StopCause.TIMEOUT, StopCause.DRAINED),
        (StopCause.CANCELLED, StopCause.CANCELLED),
        (StopCause.DRAINED, StopCause.CANCELLED),
        (StopCause.FENCED, StopCause.FENCED),
        (StopCause.CANCELLED, StopCause.FENCED),
    ]:
        controls.stop(cause)
        assert controls.stopped is then


def test_controls_wake_a_waiting_runner_and_ring_for_what_came_before() -> None:
    controls = Controls()
    controls.say("early")
    with controls.heard() as ear:
        assert os.read(ear, 10)
        assert controls.take_said() == ["early"]
        threading.Thread(target=controls.stop, args=(StopCause.CANCELLED,)).start()
        deadline = time.monotonic() + 10
        while controls.stopped is StopCause.NONE:
            assert time.monotonic() < deadline
        for _ in range(100_000):  # a full pipe must not block who rings
            controls.say("x")
    controls.stop(StopCause.FENCED)  # after the run: kept, harmless
    assert controls.stopped is StopCause.FENCED
