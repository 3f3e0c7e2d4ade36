"""How a turn of the fake `claude` ends, or fails to: results of every kind, API errors, crashes, silence, hangs.

A mode that gives True has ended the turn; False goes on to the next directive. Without any ending the turn is `ok`.
"""

from __future__ import annotations

import json
import os
import signal
import time

from claude_pool.testing import fake_shapes as shapes
from claude_pool.testing.fake_deeds import put
from claude_pool.testing.fake_turn import Limit

TYPE_CHECKING = False  # spares the fake the 3 ms that importing typing costs, in every run
if TYPE_CHECKING:
    from typing import Any

    from claude_pool.testing.fake_script import Step
    from claude_pool.testing.fake_turn import Turn

DEFAULT_COST_USD = 0.01
_LIMIT_NAMES = {"five_hour": "5-hour limit", "seven_day": "weekly limit"}
_LONGEST_ECHO = 4000


class Exit(Exception):
    """The process is to end with this code, now."""

    def __init__(self, code: int) -> None:
        self.code = code
        super().__init__(code)


def ok(turn: Turn, step: Step) -> bool:
    """Answer `text=` (default: the prompt, echoed) for `cost=`; `write=path:content` writes a file first."""
    if step.has("write"):
        path, _, content = step.args["write"].partition(":")
        put(turn, path, content)
    turn.spend(step, DEFAULT_COST_USD)
    text = step.text("text", "ok" if step.index >= 0 else "echo: " + turn.prompt[:_LONGEST_ECHO])
    turn.say(text)
    schema = turn.options.schema
    if schema is None or step.has("unstructured"):
        turn.finish(result=text)
        return True
    value = json.loads(step.args["json"]) if step.has("json") else shapes.sample(schema)
    turn.use("StructuredOutput", value, "Structured output provided successfully")
    changes = {"structured_output": value, "stop_reason": "tool_use", "num_turns": turn.calls + 1}
    turn.finish(result=json.dumps(value), **changes)
    return True


def say(turn: Turn, step: Step) -> bool:
    """Say `text=`, at `cost=` if given."""
    turn.spend(step)
    turn.say(step.text("text", "…"))
    return False


def slow(turn: Turn, step: Step) -> bool:
    """Work for `s=` seconds (default 1) and say so every `every=` seconds (default a fifth)."""
    turn.spend(step)
    seconds = step.number("s", 1.0)
    every = max(0.001, step.number("every", seconds / 5))
    for number in range(round(seconds / every)):
        turn.say(f"working {number + 1}")
        turn.pipes.wait(every)
    return False


def silent(turn: Turn, step: Step) -> bool:
    """Say nothing for `s=` seconds (default 600); an interrupt ends it."""
    turn.spend(step)
    turn.pipes.wait(step.number("s", 600))
    return False


def listen(turn: Turn, step: Step) -> bool:
    """Wait up to `s=` seconds (default 10) for a message in mid-run, and say what was heard."""
    turn.pipes.wait(step.number("s", 10), wake_on_message=True)
    for heard in turn.heard():
        turn.say(f"heard: {heard}")
    return False


def hang(turn: Turn, step: Step) -> bool:
    """Go deaf to stdin, interrupts and its end included, for `s=` seconds (default 600); `ignore-term`: to TERM too."""
    turn.spend(step)
    _hang(turn, step)
    raise Exit(0)


def linger(turn: Turn, step: Step) -> bool:
    """Answer, and then hang as `hang` does instead of leaving."""
    ok(turn, step)
    _hang(turn, step)
    raise Exit(0)


def closed(turn: Turn, step: Step) -> bool:
    """Close stdout and stderr without a result, and live on as `hang` does."""
    turn.spend(step)
    os.close(1)
    os.close(2)
    _hang(turn, step)
    raise Exit(0)


def _hang(turn: Turn, step: Step) -> None:
    if step.has("ignore-term"):
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
    turn.pipes.deaf = True
    turn.pipes.wait(step.number("s", 600))


def cut(turn: Turn, step: Step) -> bool:
    """Half of the result's line, then exit 0."""
    turn.spend(step, DEFAULT_COST_USD)
    turn.say("an answer")
    event = turn.result(result="an answer")
    turn.close(event)
    line = json.dumps(event).encode()
    turn.pipes.write(line[: len(line) // 2])
    raise Exit(step.whole("code"))


def two_results(turn: Turn, step: Step) -> bool:
    """The answer, and after it the result of a follow-up that nobody asked for (a finished background command)."""
    ok(turn, step)
    turn.emit(shapes.synthetic("<task-notification>"))
    follow_up = turn.result(result="the follow-up", origin={"kind": "task-notification"}, num_turns=1)
    turn.results += 1
    turn.pipes.emit(follow_up)
    return True


def no_result(turn: Turn, step: Step) -> bool:
    """An answer, then exit 0 (`code=`) without a result."""
    turn.spend(step, DEFAULT_COST_USD)
    turn.say(step.text("text", "an answer without a result"))
    raise Exit(step.whole("code"))


def result(turn: Turn, step: Step) -> bool:
    """A result of your own: `subtype= terminal= status= text= error=`, flag `is-error`; then exit `code=` if given."""
    turn.spend(step)
    changes: dict[str, Any] = {"is_error": step.has("is-error")}
    for key, name in (("subtype", "subtype"), ("terminal", "terminal_reason"), ("text", "result")):
        if step.has(key):
            changes[name] = step.args[key]
    if step.has("status"):
        changes["api_error_status"] = step.whole("status")
    if step.has("error"):
        changes["errors"] = [step.args["error"]]
    turn.finish(**changes)
    if step.has("code"):
        raise Exit(step.whole("code"))
    return True


def exit_now(turn: Turn, step: Step) -> bool:
    """Exit with `code=` (default 1), `text=` on stderr, no result."""
    turn.spend(step)
    if step.has("text"):
        turn.pipes.write(step.args["text"].encode() + b"\n", fd=2)
    raise Exit(step.whole("code", 1))


def kill_self(turn: Turn, step: Step) -> bool:
    """Die by signal `number=` (default 9); no last word in the ledger, as when anybody else does it."""
    turn.spend(step)
    number = step.whole("number", 9)
    if number == signal.SIGSEGV:
        import resource  # noqa: PLC0415 - no other run should pay for loading it

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if number not in (signal.SIGKILL, signal.SIGSTOP):
        signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
    turn.pipes.wait(60)
    raise Exit(1)


def segv(turn: Turn, step: Step) -> bool:
    """Die by a segmentation fault."""
    return kill_self(turn, _with(step, number="11"))


def oom(turn: Turn, step: Step) -> bool:
    """Die as the kernel's out-of-memory killer does it: SIGKILL."""
    return kill_self(turn, _with(step, number="9"))


def _with(step: Step, **args: str) -> Step:
    step.args.update(args)
    return step


def api(turn: Turn, step: Step) -> bool:
    """The API failed with `status=` (default 500; 0: connection refused) after `retries=`; `message=` is the text."""
    turn.spend(step)
    status = step.whole("status", 500)
    for number in range(step.whole("retries", 1 if status in shapes.RETRIED else 0)):
        turn.emit(shapes.api_retry(number + 1, step.whole("retries", 1), status))
    text = step.text("message") or shapes.API_ERRORS.get(status, ("", "", f"API Error: {status}"))[2]
    if status == 404:
        turn.pipes.write(b'[claude-code:unrecognized_model] {"model":"%s"}\n' % turn.options.model.encode(), fd=2)
    more = {} if status else {"api_error": "connection_failed"}
    fail(turn, text.replace("{model}", turn.options.model), status, **more)
    return True


def fail(turn: Turn, text: str, status: int, terminal: str = "api_error", **more: Any) -> None:
    """End the turn as the CLI does when the API refused."""
    event = shapes.api_failure(text, status, **more)
    turn.emit(event)
    turn.finish(
        is_error=True,
        result=text,
        terminal_reason=terminal,
        stop_reason="stop_sequence",
        api_error_status=event["api_error_status"],
        api_error_type=event["api_error_type"],
        **{key: value for key, value in more.items() if key == "api_error"},
    )


def limit(turn: Turn, step: Step) -> bool:
    """The plan's quota `type=` is used up, for `resets=` seconds (default 3600, may be negative) or `missing`.

    `unit=ms` tells the time of the reset in milliseconds.
    """
    turn.spend(step)
    raw = step.text("resets", "3600")
    resets_at = None if raw == "missing" else round(time.time() + float(raw))
    kind = step.text("type", "five_hour")
    told = resets_at * 1000 if resets_at is not None and step.text("unit") == "ms" else resets_at
    info = shapes.rate_limit("rejected", told, kind)
    turn.emit({"type": "rate_limit_event", "rate_limit_info": info})
    text = f"You've hit your {_LIMIT_NAMES.get(kind, 'limit')}"
    if resets_at is not None:
        text += (
            time.strftime(" · resets %-I:%M%p (UTC)", time.gmtime(resets_at)).replace("AM", "am").replace("PM", "pm")
        )
    fail(turn, text, 429, api_error="usage_limit_reached", api_error_params={"rate_limit_info": info})
    return True


def overloaded(turn: Turn, step: Step) -> bool:
    """Partial output, then 529 for good."""
    turn.spend(step, DEFAULT_COST_USD)
    turn.say(step.text("text", "half an answ"))
    return api(turn, _with(step, status="529", cost="0"))


def too_long(turn: Turn, step: Step) -> bool:
    """The prompt does not fit into the model's context."""
    turn.spend(step)
    fail(turn, "Prompt is too long", 400, "prompt_too_long", error="invalid_request")
    return True


def login(turn: Turn, step: Step) -> bool:
    """No key, no sign-in."""
    turn.spend(step)
    fail(turn, "Not logged in · Please run /login", 0, error="authentication_failed")
    return True


def max_turns(turn: Turn, step: Step) -> bool:
    """The turns are used up, whatever `--max-turns` says."""
    turn.spend(step, DEFAULT_COST_USD)
    raise Limit("turns")


def budget(turn: Turn, step: Step) -> bool:
    """The run's money is used up, whatever `--max-budget-usd` says."""
    turn.spend(step, DEFAULT_COST_USD)
    raise Limit("budget")


def schema_unmet(turn: Turn, step: Step) -> bool:
    """An answer in plain text where structured output was asked for: a success without `structured_output`."""
    return ok(turn, _with(step, unstructured=""))


def schema_exhausted(turn: Turn, step: Step) -> bool:
    """Five answers that the schema refuses."""
    turn.spend(step, DEFAULT_COST_USD)
    text = "Failed to provide valid structured output after 5 attempts"
    terminal = "structured_output_retry_exhausted"
    changes: dict[str, Any] = {"subtype": "error_max_structured_output_retries", "errors": [text], "num_turns": 6}
    turn.finish(is_error=True, result=None, terminal_reason=terminal, stop_reason="tool_use", **changes)
    return True


def denied(turn: Turn, step: Step) -> bool:
    """A call of `tool=` (default Write) for `path=` that nobody allowed; the run goes on."""
    tool, path = step.text("tool", "Write"), step.text("path", "/etc/passwd")
    tool_input = {"file_path": path} if tool != "Bash" else {"command": path}
    message = f"Claude requested permissions to write to {path}, but you haven't granted it yet."
    call = turn.use(tool, tool_input, message, is_error=True)
    denial = {"tool_name": tool, "tool_use_id": call}
    turn.emit({"type": "system", "subtype": "permission_denied", **denial, "message": message})
    turn.denials.append({**denial, "tool_input": tool_input})
    return False


def refusal(turn: Turn, step: Step) -> bool:
    """A safety classifier stopped the model; the CLI asked it once to go on."""
    turn.spend(step, DEFAULT_COST_USD)
    turn.emit(shapes.synthetic("Your response above was stopped by a safety classifier"))
    turn.say(step.text("text", "I can't help with that."))
    stop = step.text("stop", "end_turn")
    turn.finish(result=step.text("text", "I can't help with that."), safety_stops=1, num_turns=2, stop_reason=stop)
    return True


def max_output(turn: Turn, step: Step) -> bool:
    """The answer was cut at the output limit, and the one after the CLI's nudge as well."""
    turn.spend(step, DEFAULT_COST_USD)
    turn.say("the first part of")
    turn.emit(shapes.synthetic("Output token limit hit. Resume directly"))
    turn.say("an answer without an e")
    turn.finish(result="an answer without an e", num_turns=2, stop_reason="max_tokens")
    return True


def report(turn: Turn, step: Step) -> bool:
    """Answer with what this process was started with, as JSON; of secrets only the names."""
    turn.spend(step, DEFAULT_COST_USD)
    shown = {k: v for k, v in os.environ.items() if not any(w in k for w in ("KEY", "TOKEN", "SECRET", "PASSWORD"))}
    facts = {
        "cwd": os.getcwd(),
        "env": shown,
        "env_names": sorted(os.environ),
        "model": turn.options.model,
        "options": turn.options.values,
        "lists": turn.options.lists,
        "switches": sorted(turn.options.switches),
        "session_id": turn.session.id,
        "prompts": [prompt for _, prompt in turn.session.prompts],
    }
    text = json.dumps(facts)
    turn.say(text)
    turn.finish(result=text)
    return True


ENDINGS = {
    "ok": ok,
    "say": say,
    "slow": slow,
    "silent": silent,
    "listen": listen,
    "hang": hang,
    "linger": linger,
    "closed": closed,
    "cut": cut,
    "two-results": two_results,
    "no-result": no_result,
    "result": result,
    "exit": exit_now,
    "signal": kill_self,
    "segv": segv,
    "oom": oom,
    "api": api,
    "limit": limit,
    "overloaded": overloaded,
    "too-long": too_long,
    "login": login,
    "max-turns": max_turns,
    "budget": budget,
    "schema-unmet": schema_unmet,
    "schema-exhausted": schema_exhausted,
    "denied": denied,
    "refusal": refusal,
    "max-output": max_output,
    "report": report,
}
