"""Starting and stopping the simulated API: in this process (`start`), or as a process of its own (`main`)."""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from collections.abc import Sequence
from http.server import ThreadingHTTPServer
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Final, Self

from claude_pool.testing.simulated.handler import Handler
from claude_pool.testing.simulated.script import Json
from claude_pool.testing.simulated.state import DEFAULT_MODELS, Settings, State

_POLL_S: Final = 0.02
DUMMY_KEY: Final = "sk-simulated"


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False  # a hanging answer must not keep the server from stopping
    request_queue_size = 256
    allow_reuse_address = True

    def __init__(self, settings: Settings) -> None:
        self.state = State(settings)
        super().__init__((settings.host, settings.port), Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), (OSError, ValueError)):  # those are clients that went away
            super().handle_error(request, client_address)


class SimulatedApi:
    """A running simulated API; a context manager that stops it."""

    def __init__(self, settings: Settings) -> None:
        self._server = _Server(settings)
        host, port = self._server.server_address[:2]
        self.url = f"http://{host!s}:{port}"
        """Base URL, as `ANTHROPIC_BASE_URL` wants it."""
        self._thread = threading.Thread(target=self._server.serve_forever, args=(_POLL_S,), daemon=True)
        self._thread.start()

    @property
    def environment(self) -> dict[str, str]:
        """The variables that send the CLI here; the key is a dummy."""
        return {"ANTHROPIC_BASE_URL": self.url, "ANTHROPIC_API_KEY": DUMMY_KEY}

    @property
    def requests(self) -> list[Json]:
        """What was asked so far, in the order of the answers."""
        return self._server.state.records()

    @property
    def messages(self) -> list[Json]:
        """The requests for an answer of the model, without counts of tokens and the like."""
        return [one for one in self.requests if str(one["path"]).split("?")[0] == "/v1/messages"]

    def health(self) -> Json:
        """`requests`, `active` (being answered now) and `peak`."""
        return self._server.state.health()

    def set_rules(self, *rules: Json) -> None:
        """Replace the rules; none ends every outage."""
        self._server.state.set_rules(list(rules))

    def reset(self) -> None:
        """Forget rules, counters and requests."""
        self._server.state.reset()

    def wait(self) -> None:
        """Until somebody stops it."""
        self._thread.join()

    def stop(self) -> None:
        """Take no more requests; answers under way are dropped."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
        self._server.state.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def start(port: int = 0, **settings: Any) -> SimulatedApi:
    """Start one in this process, on a free port of the loopback unless told otherwise; settings as in `Settings`."""
    return SimulatedApi(Settings(port=port, **settings))


def child_argv(*options: str) -> tuple[str, ...]:
    """The command that serves as a process of its own, with these options (`--port`, `--log`, …) of `main`.

    Isolated, so that no folder named `claude_pool` in the working directory can take its place.
    """
    return (sys.executable, "-I", "-c", f"from {__name__} import main; main()", *options)


def _settings(argv: Sequence[str] | None) -> Settings:
    parser = argparse.ArgumentParser(
        description="A simulated Messages API on the loopback: no network, no key, no cost."
    )
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0: any free one, printed")
    parser.add_argument("--log", type=Path, help="append one JSON line a request here")
    parser.add_argument("--dump", type=Path, help="folder for whole request bodies (for debugging)")
    parser.add_argument("--latency-s", type=float, default=0.0, help="seconds before every answer")
    parser.add_argument("--prompt-head", type=int, default=80, help="characters of the prompt to log (0: none)")
    parser.add_argument("--models", nargs="+", default=DEFAULT_MODELS, help="names or patterns that exist")
    chosen: dict[str, Any] = vars(parser.parse_args(argv))
    chosen["models"] = tuple(chosen["models"])
    return Settings(**chosen)


def main(argv: Sequence[str] | None = None) -> None:
    """Serve until TERM or INT; the first line on stdout is the base URL."""
    stop = threading.Event()

    def on_signal(_number: int, _frame: FrameType | None) -> None:
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, on_signal)
    with SimulatedApi(_settings(argv)) as api:
        sys.stdout.write(api.url + "\n")
        sys.stdout.flush()
        stop.wait()
