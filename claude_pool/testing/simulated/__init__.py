"""A simulated Messages API: the real `claude` CLI runs end to end with no network, no key and no cost.

Standard library only. In a test:

    with simulated.start() as api:  # .url, .environment, .requests, .set_rules(), .health(), .stop()
        ...

As a process of its own: `simulated.child_argv()` is a command that prints the address and serves until TERM. What an
answer costs is made up; whatever it says without a script, it says as "the simulated model", so that nobody takes it
for a real one.

Endpoints

    POST /v1/messages                 streaming (SSE) and plain
    POST /v1/messages/count_tokens    size / 4
    GET  /v1/models, /v1/models/ID
    GET  /_fake/health                {"ok": true, "requests": N, "active": N, "peak": N}
    GET  /_fake/requests              what was logged, as a JSON list
    POST /_fake/rules                 a JSON list of rules (below); replaces the old ones
    POST /_fake/reset                 forgets rules, counters and the log kept in memory

What is answered is decided by directives in the last user prompt. A prompt is a script: every tool directive is one
assistant turn, the reply is the last one; the turn to play is found by counting the assistant messages after the
prompt, so the server keeps no conversation state and survives a resume.

    [[reply:TEXT]]                    final text (several: one content block each)
    [[json:{"a":1}]]                  structured output: a StructuredOutput call if that tool is offered,
                                      else the JSON as text
    [[tool:NAME {"arg":1}]]           a tool call (name as offered to the model)
    [[also:NAME {"arg":1}]]           one more call in the same turn as the tool before it
    [[say:TEXT]]                      text put before the next tool call
    [[thinking:TEXT]]                 a thinking block put before the next turn's content
    [[turn]]                          begins a new turn by hand: what follows is the next one's
    [[usage:in=1000,out=500,cache_read=0,cache_write=0]]   from this turn on
    [[stop:max_tokens]]               the stop_reason of this turn
    [[sleep:2.5]]                     wait before this turn is answered (before any header)
    [[gap:0.2]]                       wait before each text delta, from this turn on
    [[drip:0.2 n=50]]                 split the text in n deltas with that wait
    [[error:429 retry-after=3 times=2 MESSAGE]]  fail this turn; with times only so often
    [[sse-error:overloaded_error]]    an error event in mid-stream (times= as well)
    [[cut:after=3]]                   drop the connection after that many SSE events (times=)
    [[hang]]                          never answer (until the client goes away)
    [[header:NAME=VALUE]]             an extra response header, from this turn on
    [[model:NAME]]                    the model name reported back
    [[echo-tool-result]]              the final text is the last tool result, as text

The error message defaults to what the real API says for that status. Text inside a directive may hold further balanced
[[...]] (a sub-agent's script, say). Rules make an outage that no prompt knows of. Each is an object:

    {"status": 529, "times": 5, "retry_after": 3, "message": "...", "model": "claude-opus*",
     "match": "substring of the prompt", "sleep": 1.0, "headers": {}}

The first rule that fits and is not used up wins; without times it holds until the rules are replaced; without status it
only sleeps.
"""

from __future__ import annotations

from claude_pool.testing.simulated.prompts import (
    reply,
    script_bash,
    script_edit,
    script_pause,
    script_say,
    script_usage,
    script_write,
)
from claude_pool.testing.simulated.server import SimulatedApi, child_argv, start

__all__ = [
    "SimulatedApi",
    "child_argv",
    "reply",
    "script_bash",
    "script_edit",
    "script_pause",
    "script_say",
    "script_usage",
    "script_write",
    "start",
]
