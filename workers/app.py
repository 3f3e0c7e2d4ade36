"""The Celery side of a slot: hears doorbells, hands each id to the slot, one at a time.

A doorbell whose claim is refused, or whose task ended in a way that must not go on, leaves by `Ignore`, so that Celery
rings no further link of a canvas for it. The worker runs `-P threads -c 1` in the slot's own process: it answers pings
while a task runs, and holds nothing beyond it (docs/decisions/0002-celery-settings.md).
"""

# Celery ships no types.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportMissingTypeArgument=false, reportUntypedFunctionDecorator=false, reportUnknownParameterType=false

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any, Final

from celery import Celery, signals
from celery.app.amqp import AMQP
from celery.exceptions import Ignore
from celery.worker import state as worker_state

from claude_pool.keys import TASK_NAME
from claude_pool.store.base import Doorbell

_log = logging.getLogger(__name__)

# Celery loads these by name when a worker starts. Loaded here they are loaded once a node, before its slots are forked:
# that is half of the CPU time of a slot's start, and memory that the slots share.
for _name in (
    "celery.app.amqp", "celery.app.control", "celery.app.events", "celery.app.log", "celery.app.trace",
    "celery.apps.worker", "celery.backends.base", "celery.concurrency.thread", "celery.events.receiver",
    "celery.loaders.app", "celery.worker.autoscale", "celery.worker.components", "celery.worker.consumer",
    "celery.worker.consumer.delayed_delivery", "celery.worker.control", "celery.worker.loops", "celery.worker.pidbox",
    "celery.worker.strategy", "billiard.pool", "kombu.transport.redis",
):  # fmt: skip
    import_module(_name)

CANARY_NAME: Final = "claude_pool.canary"
"""Wire name of the doorbell by which a slot proves to itself that it still hears."""


_KNOCKS: Final = {"interval_start": 0.1, "interval_step": 0.1, "interval_max": 1.0}
"""Seconds between attempts to reach Redis again. Celery's own pauses grow to half a minute, and for that long after the
server is back a slot would hear nothing."""


class _Knocking(AMQP.Connection):
    """A connection that is tried again soon."""

    def ensure_connection(self, *args: Any, **kwargs: Any) -> Any:
        return super().ensure_connection(*args, **{**_KNOCKS, **kwargs})


class Ear:
    """One slot's Celery worker. `listen` blocks until `stop` was called and the running task has ended."""

    def __init__(
        self, app: Celery, *, name: str, queues: Sequence[str], answer: Callable[[str, Doorbell | None], bool],
        on_canary: Callable[[], None], on_ready: Callable[[], None],
    ) -> None:  # fmt: skip
        app.amqp.Connection = _Knocking
        self._app = app
        self._name = name
        self._queues = list(queues)
        self._on_ready = on_ready

        def run(self: Any, task_id: str) -> None:
            if not answer(task_id, _link_of(self.request)):
                raise Ignore

        def canary() -> None:
            on_canary()

        app.task(name=TASK_NAME, bind=True, acks_late=True, ignore_result=True, shared=False)(run)
        app.task(name=CANARY_NAME, acks_late=True, ignore_result=True, shared=False)(canary)

    def listen(self) -> None:
        """Serve doorbells until told to stop."""
        worker_state.should_stop = worker_state.should_terminate = None
        signals.setup_logging.connect(_keep_our_logging, weak=False)
        signals.worker_ready.connect(self._ready, weak=False)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="(?s).*superuser privileges.*")
            worker: Any = self._app.Worker(
                hostname=self._name, pool="threads", concurrency=1, queues=self._queues, quiet=True,
                without_gossip=True, without_mingle=True, loglevel="WARNING",
            )  # fmt: skip
            worker.start()

    def canary(self) -> None:
        """Ring this slot's own bell, the first of its queues."""
        self._app.send_task(CANARY_NAME, queue=self._queues[0], expires=60, retry=False)

    def _ready(self, **_: Any) -> None:
        self._on_ready()

    def stop(self) -> None:
        """Take no more doorbells; `listen` returns after the one that is being answered. Safe from any thread."""
        worker_state.should_stop = 0
        try:
            self.canary()  # the consumer looks up at once instead of within a second
        except Exception as error:  # noqa: BLE001 - whatever Celery raises when Redis is away
            _log.debug("stopping without a bell: %s", error)


def _link_of(request: Any) -> Doorbell | None:
    """The next link of the chain that a doorbell came in, if it came in one."""
    chain: Any = request.chain
    if not chain:
        return None
    try:
        options = chain[-1]["options"]
        return Doorbell(task_id=str(options["task_id"]), queue=str(options["queue"]), priority=int(options["priority"]))
    except (KeyError, TypeError, ValueError):
        return None


def _keep_our_logging(**_: Any) -> None:
    """Connected so that Celery leaves logging alone."""
