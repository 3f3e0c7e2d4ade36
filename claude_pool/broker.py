"""Broker: rings doorbells through Celery. A doorbell says that a task waits; it never says what is to be done.

Duties: make the Celery application that publishers and slots share, publish ids, one or ten thousand at a time, and
tell how many doorbells wait. When Redis does not answer, `ring` raises Unreachable; callers that have already stored
the task may ignore that, because the housekeeper rings again what was not heard.

Celery is imported when the first application is made, and for a counter that is when its first bell rings: it takes a
quarter of a second, which somebody who only looks should not have to wait for.

Settings and why: `docs/decisions/0002-celery-settings.md`.
"""

# Celery and Kombu ship no types.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportMissingTypeArgument=false

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Lock
from typing import TYPE_CHECKING, Any, Final, Protocol

from claude_pool.errors import Unreachable
from claude_pool.keys import TASK_NAME, Keys
from claude_pool.store.base import Doorbell

_log = logging.getLogger(__name__)

if TYPE_CHECKING:
    from celery import Celery

PRIORITIES: Final = 5
"""0 is the most urgent; each has a Redis list of its own."""

_DAY_S: Final = 86_400
_AT_ONCE: Final = 1_000


class Broker(Protocol):
    """Where doorbells are rung. Its double in tests is a list."""

    def ring(self, bells: Sequence[Doorbell]) -> None:
        """Tell the slots that these tasks wait. Raises Unreachable."""
        ...

    def waiting(self, queue: str) -> int:
        """Doorbells nobody has heard yet."""
        ...

    def close(self) -> None: ...


def broker_url(redis_url: str) -> str:
    """The same server in Kombu's spelling."""
    if redis_url.startswith("unix://"):
        return "redis+socket://" + redis_url.removeprefix("unix://")
    return redis_url


def make_app(pool: str, redis_url: str) -> Celery:
    """A Celery application for one pool; nothing connects yet.

    Late acknowledgement only keeps a slot from holding more than it runs. A message that comes twice is refused by the
    claim, so the visibility timeout is set beyond the longest run and never matters.
    """
    from celery import Celery  # noqa: PLC0415 - heavy, see above

    app = Celery("claude-pool", broker=broker_url(redis_url), set_as_current=False, fixups=())
    app.conf.update(
        accept_content=["json"],
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_pool_limit=2,
        broker_transport_options={
            "global_keyprefix": Keys(pool=pool).broker_prefix(),
            "visibility_timeout": 30 * _DAY_S,
            "priority_steps": list(range(PRIORITIES)),
            "queue_order_strategy": "priority",
            "socket_connect_timeout": 3,
            "socket_timeout": 10,
            "socket_keepalive": True,
            "health_check_interval": 25,
        },
        task_acks_late=True,
        task_acks_on_failure_or_timeout=True,
        task_create_missing_queues=True,
        task_ignore_result=True,
        task_reject_on_worker_lost=False,
        task_serializer="json",
        task_store_errors_even_if_ignored=False,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        worker_hijack_root_logger=False,
        worker_prefetch_multiplier=1,
        worker_send_task_events=False,
    )
    return app


@contextmanager
def _as_unreachable(what: str) -> Generator[None]:
    from kombu.exceptions import OperationalError  # noqa: PLC0415 - heavy, see above
    from kombu.transport.redis import Transport  # noqa: PLC0415 - the same

    # Kombu translates what fails while it connects; of a connection that breaks, or a server that is full, it lets
    # the library's own errors through. It counts KeyError among them, which would hide mistakes of ours.
    raw = {*Transport.connection_errors, *Transport.channel_errors} - {KeyError}
    try:
        yield
    except (OperationalError, OSError, *raw) as error:
        raise Unreachable(f"The pool's broker can't be reached to {what}: {error}.") from error


class CeleryBroker:
    """Rings over Celery's Redis transport."""

    def __init__(self, app: Celery) -> None:
        self._app = app

    def ring(self, bells: Sequence[Doorbell]) -> None:
        """One message each, pushed together: the envelope is Celery's own, the push is one command per thousand."""
        with _as_unreachable("ring"), self._app.producer_or_acquire() as producer:
            channel: Any = producer.channel
            lists: dict[str, list[str]] = defaultdict(list)
            for bell in bells:
                lists[channel._q_for_pri(bell.queue, bell.priority)].append(self._message(channel, bell))  # noqa: SLF001
            with channel.conn_or_acquire() as client:
                for name, messages in lists.items():
                    for start in range(0, len(messages), _AT_ONCE):
                        client.lpush(name, *messages[start : start + _AT_ONCE])

    def _links(self, bell: Doorbell) -> list[dict[str, Any]]:
        """The steps behind it, as Celery's chain carries them: immutable signatures with ids, the last one first."""
        options = {"queue": bell.queue, "priority": bell.priority, "ignore_result": True}
        return [
            dict(self._app.signature(TASK_NAME, args=(id_,), immutable=True, options={**options, "task_id": id_}))
            for id_ in reversed(bell.then)
        ]

    def _message(self, channel: Any, bell: Doorbell) -> str:
        """What Celery itself would push for a task alone, the head of a chain or a member of a group.

        The id of the message is the task's, and that of the group the fan-out's, so that Flower shows ids we know.
        """
        from kombu.serialization import dumps as serialize  # noqa: PLC0415 - heavy, see above
        from kombu.utils.json import dumps as to_json  # noqa: PLC0415 - the same

        amqp: Any = self._app.amqp
        links = self._links(bell)
        task: Any = amqp.as_task_v2(
            bell.task_id, TASK_NAME, args=(bell.task_id,), kwargs={}, ignore_result=True, root_id=bell.task_id,
            chain=links or None, group_id=bell.group or None,
        )  # fmt: skip
        content_type, encoding, body = serialize(task.body, serializer="json")
        properties = {**task.properties, "delivery_mode": 2}
        message = channel.prepare_message(body, bell.priority, content_type, encoding, task.headers, properties)
        channel._inplace_augment_message(message, "", bell.queue)  # noqa: SLF001
        return to_json(message)

    def waiting(self, queue: str) -> int:
        """The length of the queue's lists, all priorities together."""
        with _as_unreachable("count"), self._app.connection_or_acquire() as connection:
            channel: Any = connection.default_channel
            return int(channel._size(queue))  # noqa: SLF001

    def close(self) -> None:
        """Give connections back."""
        self._app.close()


class LateBroker:
    """A broker that is made when it is first needed."""

    def __init__(self, make: Callable[[], Broker]) -> None:
        self._make = make
        self._made: Broker | None = None
        self._lock = Lock()

    def ring(self, bells: Sequence[Doorbell]) -> None:
        """See `Broker`."""
        self._broker().ring(bells)

    def waiting(self, queue: str) -> int:
        """See `Broker`."""
        return self._broker().waiting(queue)

    def close(self) -> None:
        """Close it, if it was made."""
        if self._made is not None:
            self._made.close()

    def _broker(self) -> Broker:
        with self._lock:
            if self._made is None:
                self._made = self._make()
            return self._made


class BackgroundBroker:
    """A broker that rings in a thread of its own, in order: whoever hands in has his answer some milliseconds earlier.

    The task is stored before anybody rings, so nothing but time is lost with a bell: the housekeeper rings again.
    """

    def __init__(self, inner: Broker) -> None:
        self._inner = inner
        self._ringer = ThreadPoolExecutor(max_workers=1, thread_name_prefix="bells")

    def ring(self, bells: Sequence[Doorbell]) -> None:
        """See `Broker`; never fails."""
        self._ringer.submit(self._ring, tuple(bells))

    def waiting(self, queue: str) -> int:
        """See `Broker`."""
        return self._inner.waiting(queue)

    def close(self) -> None:
        """Ring what is left, then close."""
        self._ringer.shutdown()
        self._inner.close()

    def _ring(self, bells: Sequence[Doorbell]) -> None:
        try:
            self._inner.ring(bells)
        except Unreachable as error:
            _log.warning("stored, but the doorbell did not ring: %s", error)
        except Exception:  # noqa: BLE001 - nobody is there to be told; the next bell must ring all the same
            _log.exception("the doorbell did not ring")
