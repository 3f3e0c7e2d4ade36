"""HTTP around the simulated model: routes, plumbing, and the playing of one turn with its faults.

A client that goes away in the middle is no error: it is noted in the record (`client_gone`), and the connection closed.
Keys are never stored, only which header carried one and how long it was.
"""

from __future__ import annotations

import json
import select
import socket
import time
import uuid
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler
from typing import Any, Final, cast
from urllib.parse import urlsplit

from claude_pool.testing.simulated.answer import failure, message, prompt_sha, sse_events
from claude_pool.testing.simulated.request import blocks, last_prompt, messages_of, session_of, tool_names
from claude_pool.testing.simulated.script import Json, Turn, script, words
from claude_pool.testing.simulated.state import State

_LOGGED: Final = (
    "anthropic-version",
    "anthropic-beta",
    "user-agent",
    "x-app",
    "x-stainless-retry-count",
    "x-stainless-timeout",
    "x-claude-code-session-id",
)
_SECRET: Final = ("authorization", "x-api-key")
_HANG_S: Final = 24 * 3600.0


class ClientGone(ConnectionError):
    """The client closed the connection while it was to wait."""


class Refusal(Exception):
    """This request is to fail with an HTTP status."""

    def __init__(self, status: int, message: str = "", headers: Mapping[str, str] | None = None) -> None:
        self.status = status
        self.message = message
        self.headers = dict(headers or {})
        super().__init__(status, message)


class Handler(BaseHTTPRequestHandler):
    """One connection of a client."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else each streamed answer waits 40 ms for an ACK

    @property
    def state(self) -> State:
        return cast("Any", self.server).state

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class names it
        """Nothing: the records are the log."""

    # -- routes

    def do_HEAD(self) -> None:
        self._send(200, {})

    def do_GET(self) -> None:
        path = urlsplit(self.path).path.rstrip("/")
        model = path.removeprefix("/v1/models/")
        if path == "/_fake/health":
            self._send(200, self.state.health())
        elif path == "/_fake/requests":
            self._send(200, self.state.records())
        elif path == "/v1/models":
            cards = [_card(name) for name in self.state.settings.models]
            self._send(200, {"data": cards, "has_more": False, "first_id": cards[0]["id"], "last_id": cards[-1]["id"]})
        elif model != path and self.state.knows(model):
            self._send(200, _card(model))
        else:
            self._nowhere()

    def do_POST(self) -> None:
        path = urlsplit(self.path).path
        data = self._body()
        try:
            body = json.loads(data or b"{}")
        except ValueError:
            self._note(400, len(data))
            self._send(400, failure(400, "not JSON"))
            return
        if path == "/_fake/reset":
            self.state.reset()
            self._send(200, {"ok": True})
        elif path == "/_fake/rules":
            self.state.set_rules(cast("list[Json]", body if isinstance(body, list) else [body]))
            self._send(200, {"ok": True})
        elif path == "/v1/messages/count_tokens":
            self._note(200, len(data))
            self._send(200, {"input_tokens": max(1, len(data) // 4)})
        elif path == "/v1/messages" and isinstance(body, dict):
            self._messages(cast("Json", body), data)
        else:
            self._nowhere(len(data))

    # -- plumbing

    def _send(self, status: int, value: Any, headers: Mapping[str, str] | None = None) -> None:
        data = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self._more_headers(headers)
        if self.command != "HEAD":
            self.wfile.write(data)

    def _more_headers(self, headers: Mapping[str, str] | None) -> None:
        self.send_header("request-id", "req_" + uuid.uuid4().hex[:20])
        for name, text in (headers or {}).items():
            self.send_header(name, text)
        self.end_headers()

    def _nowhere(self, size: int = 0) -> None:
        self._note(404, size)
        self._send(404, failure(404, "no such path: " + self.path))

    def _note(self, status: int, size: int) -> None:
        """Record a request that is not a message."""
        record: Json = {"n": self.state.enter(), "t": round(time.time(), 3), "method": self.command}
        self.state.leave({**record, "path": self.path, "status": status, "bytes": size})

    def _body(self) -> bytes:
        if self.headers.get("transfer-encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("content-length") or 0))
        data = b""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            data += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return data

    def _wait(self, seconds: float) -> None:
        """Wait. Raises ClientGone as soon as the client has closed the connection."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            ready, _, _ = select.select([self.connection], [], [], min(left, 0.5))
            if ready:
                try:
                    gone = self.connection.recv(1, socket.MSG_PEEK) == b""
                except OSError:
                    gone = True
                if gone:
                    raise ClientGone
                time.sleep(min(left, 0.05))  # it sent more (a pipelined request): that is for later

    # -- the one that matters

    def _messages(self, body: Json, data: bytes) -> None:
        number = self.state.enter()
        prompt, step = last_prompt(messages_of(body))
        record = {"n": number, "t": round(time.time(), 3), **self._description(body, data, prompt, step)}
        if self.state.settings.dump:
            (self.state.settings.dump / f"{number:05d}.json").write_bytes(data)
        try:
            self._answer(body, len(data), prompt, step, record)
        except Refusal as refusal:
            record["status"] = refusal.status
            self._leave(record)
            self._send(refusal.status, failure(refusal.status, refusal.message), refusal.headers)
        except (BrokenPipeError, ConnectionError):
            record["client_gone"] = True
            self.close_connection = True
        finally:
            self._leave(record)

    def _leave(self, record: Json) -> None:
        """Tell of it, once: before the last byte goes out, so that a client that has its answer finds the record."""
        if "seconds" not in record:
            record["seconds"] = round(time.time() - record["t"], 3)
            self.state.leave(record)

    def _description(self, body: Json, data: bytes, prompt: str, step: int) -> Json:
        return {
            "method": "POST",
            "path": self.path,
            "model": body.get("model"),
            "stream": bool(body.get("stream")),
            "max_tokens": body.get("max_tokens"),
            "bytes": len(data),
            "system_chars": sum(len(str(block.get("text", ""))) for block in blocks(body.get("system"))),
            "messages": len(messages_of(body)),
            "tools": tool_names(body),
            "thinking": body.get("thinking"),
            "output_config": body.get("output_config"),
            "session": session_of(body, cast("Mapping[str, str]", self.headers)),
            "step": step,
            "prompt_sha": prompt_sha(prompt),
            "prompt_head": prompt[: self.state.settings.prompt_head],
            "headers": {name: self.headers[name] for name in _LOGGED if self.headers.get(name)},
            "auth": [f"{n} ({len(self.headers[n])} characters)" for n in _SECRET if self.headers.get(n)],
        }

    def _answer(self, body: Json, size: int, prompt: str, step: int, record: Json) -> None:
        model = str(body.get("model") or "")
        if not self.state.knows(model):
            raise Refusal(404, f"model: {model}")
        self._outage(model, prompt, record)
        turn = _turn(prompt, step)
        self._wait(self.state.settings.latency_s + turn.sleep_s)
        faults = self._faults(turn, step, record)
        whole = message(turn, body, prompt, size)
        record["status"] = 200
        record["answer"] = [block.get("name") or block["type"] for block in whole["content"]]
        if body.get("stream"):
            self._stream(whole, turn, faults, record)
            return
        self._wait(sum(wait for _, _, wait in sse_events(whole, turn)))
        self._leave(record)
        self._send(200, whole, turn.headers)

    def _outage(self, model: str, prompt: str, record: Json) -> None:
        """Play the rule that fits, if there is one."""
        rule = self.state.rule_for(model, prompt)
        if rule is None:
            return
        record["rule"] = rule
        self._wait(float(rule.get("sleep", 0.0)))
        if rule.get("status"):
            headers = dict(cast("dict[str, str]", rule.get("headers") or {}))
            if "retry_after" in rule:
                headers["retry-after"] = str(rule["retry_after"])
            raise Refusal(int(rule["status"]), str(rule.get("message") or ""), headers)

    def _faults(self, turn: Turn, step: int, record: Json) -> dict[str, str]:
        """Play the faults that come before an answer; gives those that come in its middle, by name."""
        later: dict[str, str] = {}
        for index, fault in enumerate(turn.faults):
            keyed, plain = words(fault.arg)
            key = ("fault", record["session"], record["prompt_sha"], step, index)
            if not self.state.spend(key, int(keyed["times"]) if "times" in keyed else None):
                continue
            record["fault"] = f"{fault.name}:{fault.arg}"
            if fault.name == "hang":
                self._wait(_HANG_S)
            elif fault.name == "error":
                known = {"retry-after": "retry-after", "should-retry": "x-should-retry"}
                extra = {header: keyed[word] for word, header in known.items() if word in keyed}
                raise Refusal(int(plain[0]), " ".join(plain[1:]), {**turn.headers, **extra})
            elif fault.name == "cut":
                later["cut"] = keyed.get("after", "3")
            else:
                later["error"] = plain[0] if plain else "overloaded_error"
        return later

    def _stream(self, whole: Json, turn: Turn, faults: Mapping[str, str], record: Json) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream; charset=utf-8")
        self.send_header("cache-control", "no-cache")
        self.send_header("transfer-encoding", "chunked")
        self._more_headers(turn.headers)
        cut = int(faults["cut"]) if "cut" in faults else None
        for sent, (name, value, wait_s) in enumerate(sse_events(whole, turn)):
            if sent == cut:
                record["cut_after"] = sent
                self._leave(record)
                self.close_connection = True
                self.connection.shutdown(socket.SHUT_RDWR)
                return
            if sent == 3 and "error" in faults:
                kind = faults["error"]
                text = "Overloaded" if kind == "overloaded_error" else kind
                self._event("error", {"error": {"type": kind, "message": text}})
                break
            self._wait(wait_s)
            self._event(name, value)
        self._leave(record)
        self.wfile.write(b"0\r\n\r\n")
        self.wfile.flush()

    def _event(self, name: str, value: Json) -> None:
        event = f"event: {name}\ndata: {json.dumps({'type': name, **value})}\n\n".encode()
        self.wfile.write(b"%x\r\n%s\r\n" % (len(event), event))
        self.wfile.flush()


def _turn(prompt: str, step: int) -> Turn:
    """The turn to play now; a client that goes on after the last one gets a plain end."""
    try:
        turns = script(prompt)
    except (ValueError, IndexError) as error:
        raise Refusal(400, f"bad directive in the prompt: {error}") from None
    if step < len(turns):
        return turns[step]
    return Turn(texts=["(end of script)"], usage=dict(turns[-1].usage), headers=dict(turns[-1].headers))


def _card(model: str) -> Json:
    return {"type": "model", "id": model, "display_name": model, "created_at": "2026-01-01T00:00:00Z"}
