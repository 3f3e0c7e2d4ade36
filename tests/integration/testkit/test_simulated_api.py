from __future__ import annotations

import json
import signal
import threading
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from claude_pool import processes
from claude_pool.testing.simulated import SimulatedApi, child_argv, reply, script_say, script_write, start
from claude_pool.testing.simulated.request import last_prompt
from claude_pool.testing.simulated.script import directives, script

PATIENCE_S = 20


def ask(api: SimulatedApi, prompt: str, *turns: dict[str, Any], **body: Any) -> Any:
    messages = [{"role": "user", "content": prompt}, *turns]
    return post(api, "/v1/messages", {"model": "claude-opus-5-5", "max_tokens": 9, "messages": messages, **body})


def post(api: SimulatedApi, path: str, value: Any) -> Any:
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    with urllib.request.urlopen(urllib.request.Request(api.url + path, data), timeout=PATIENCE_S) as answer:
        raw = answer.read()
        return raw if answer.headers["content-type"].startswith("text/event-stream") else json.loads(raw)


def get(api: SimulatedApi, path: str) -> Any:
    with urllib.request.urlopen(api.url + path, timeout=PATIENCE_S) as answer:
        return json.load(answer)


def failure(api: SimulatedApi, prompt: str, **body: Any) -> tuple[int, dict[str, str], str]:
    with pytest.raises(urllib.error.HTTPError) as caught:
        ask(api, prompt, **body)
    with caught.value as error:
        return error.code, dict(error.headers), json.load(error)["error"]["message"]


def texts(message: dict[str, Any]) -> list[str]:
    return [block["text"] for block in message["content"] if block["type"] == "text"]


ASSISTANT = {"role": "assistant", "content": [{"type": "tool_use", "id": "a", "name": "Bash", "input": {}}]}
TOOL_RESULT = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "a", "content": "out"}]}


# -- the script


@pytest.mark.parametrize(
    ("prompt", "found"),
    [
        ("nothing", []),
        ("[[reply:a [[b]] c]]", [("reply", "a [[b]] c")]),
        ('[[tool:Bash {"command": "echo ]]"}]] x', [("tool", 'Bash {"command": "echo ]]"}')]),
        ("[[turn]][[hang]]", [("turn", ""), ("hang", "")]),
        ("[[reply:never closed", []),
        ("[[Not one]] [[1]]", []),
    ],
)
def test_directives_are_found_with_their_brackets(prompt: str, found: list[tuple[str, str]]) -> None:
    assert [(one.name, one.arg) for one in directives(prompt)] == found


def test_every_tool_call_is_a_turn_and_the_reply_is_the_last() -> None:
    turns = script('[[say:a]][[tool:A {"x":1}]][[also:B]][[usage:in=5]][[tool:C]][[reply:done]]')
    assert [[name for name, _ in turn.tools] for turn in turns] == [["A", "B"], ["C"], []]
    assert turns[0].tools[0] == ("A", {"x": 1})
    assert [turn.usage for turn in turns] == [{}, {"in": 5}, {"in": 5}]
    assert turns[2].texts == ["done"]


def test_a_script_of_tools_alone_ends_with_a_turn_of_words() -> None:
    assert [turn.filled for turn in script("[[tool:A]]")] == [True, False]


def test_words_that_a_client_wrote_by_itself_are_not_the_prompt() -> None:
    messages = [
        {"role": "user", "content": "<system-reminder>x</system-reminder>[[reply:a]]"},
        ASSISTANT,
        {"role": "user", "content": [{"type": "text", "text": "Output token limit hit. Resume directly"}]},
    ]
    assert last_prompt(messages) == ("[[reply:a]]", 1)


def test_helpers_refuse_text_that_would_end_a_directive_early() -> None:
    for helper in (reply, script_say):
        assert directives(helper("a [[b]] c"))[0].arg == "a [[b]] c"
        for text in ("a ]] b", "[[", "ends with ]"):
            with pytest.raises(ValueError, match="brackets"):
                helper(text)


def test_written_content_may_hold_anything() -> None:
    content = 'if a[b[0]]:\n    print("]] [[reply:no]]")\n'
    (turn, _) = script(script_write("x.py", content))
    assert turn.tools == [("Write", {"file_path": "x.py", "content": content})]


# -- answers


def test_without_a_script_the_answer_says_that_it_is_simulated(simulated_api: SimulatedApi) -> None:
    first, again, other = (texts(ask(simulated_api, prompt))[0] for prompt in ("hello", "hello", "hello!"))
    assert "simulated model" in first
    assert '"hello"' in first
    assert first == again != other


def test_a_conversation_plays_the_script_turn_by_turn(simulated_api: SimulatedApi) -> None:
    prompt = '[[thinking:hm]][[say:first]][[tool:Bash {"command":"ls"}]][[echo-tool-result]]'
    first = ask(simulated_api, prompt)
    assert [block["type"] for block in first["content"]] == ["thinking", "text", "tool_use"]
    assert first["stop_reason"] == "tool_use"
    second = ask(simulated_api, prompt, ASSISTANT, TOOL_RESULT)
    assert (texts(second), second["stop_reason"]) == (["out"], "end_turn")
    assert texts(ask(simulated_api, prompt, ASSISTANT, TOOL_RESULT, ASSISTANT, TOOL_RESULT)) == ["(end of script)"]


def test_a_stream_carries_the_same_message(simulated_api: SimulatedApi) -> None:
    raw = ask(
        simulated_api, "[[drip:0.001 n=5]][[usage:in=7,out=9]][[reply:héllo world]][[stop:max_tokens]]", stream=True
    )
    events = [json.loads(line[6:]) for line in raw.decode().splitlines() if line.startswith("data: ")]
    deltas = [event["delta"]["text"] for event in events if event["type"] == "content_block_delta"]
    assert "".join(deltas) == "héllo world"
    assert len(deltas) == 4
    assert events[0]["message"]["usage"]["input_tokens"] == 7
    assert events[-2]["delta"]["stop_reason"] == "max_tokens"
    assert events[-1]["type"] == "message_stop"


def test_structured_output_goes_by_the_tool_when_it_is_offered(simulated_api: SimulatedApi) -> None:
    offered = ask(simulated_api, '[[json:{"a":1}]]', tools=[{"name": "StructuredOutput"}])
    assert offered["content"][0]["input"] == {"a": 1}
    assert texts(ask(simulated_api, '[[json:{"a":1}]]')) == ['{"a": 1}']


def test_headers_and_the_models_name_can_be_set(simulated_api: SimulatedApi) -> None:
    assert ask(simulated_api, "[[model:other]][[reply:x]]")["model"] == "other"
    status, headers, _ = failure(simulated_api, "[[header:x-a=b]][[error:429 retry-after=3 slow down]]")
    assert (status, headers["x-a"], headers["retry-after"]) == (429, "b", "3")


# -- faults


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 413, 429, 500, 529])
def test_errors_have_the_real_apis_words(simulated_api: SimulatedApi, status: int) -> None:
    assert failure(simulated_api, f"[[error:{status}]]")[0] == status
    assert failure(simulated_api, f"[[error:{status} so many words]]")[2] == "so many words"


def test_a_fault_can_be_played_only_so_often(simulated_api: SimulatedApi) -> None:
    prompt = "[[error:529 times=2]][[reply:at last]]"
    assert failure(simulated_api, prompt)[0] == 529
    assert failure(simulated_api, prompt)[2] == "Overloaded"
    assert texts(ask(simulated_api, prompt)) == ["at last"]


def test_an_unknown_model_is_not_found(simulated_api: SimulatedApi) -> None:
    status, _, message = failure(simulated_api, "hi", model="gpt")
    assert (status, message) == (404, "model: gpt")


def test_a_bad_directive_is_a_bad_request(simulated_api: SimulatedApi) -> None:
    assert failure(simulated_api, "[[tool:Bash {oops}]]")[0] == 400
    assert failure(simulated_api, "[[sleep:long]]")[0] == 400


def test_a_cut_stream_ends_without_its_end(simulated_api: SimulatedApi) -> None:
    with pytest.raises(Exception, match=r"IncompleteRead|Remote|reset"):
        ask(simulated_api, "[[cut:after=3]][[reply:x]]", stream=True)
    assert simulated_api.messages[-1]["cut_after"] == 3


def test_an_error_can_come_in_mid_stream(simulated_api: SimulatedApi) -> None:
    raw = ask(simulated_api, "[[sse-error:overloaded_error]][[reply:x]]", stream=True)
    assert b"event: error" in raw
    assert b"message_stop" not in raw


def test_a_hang_ends_when_the_client_goes_away(simulated_api: SimulatedApi) -> None:
    body = {"model": "claude-opus-5-5", "messages": [{"role": "user", "content": "[[hang]]"}]}
    request = urllib.request.Request(simulated_api.url + "/v1/messages", json.dumps(body).encode())
    with pytest.raises(TimeoutError):
        urllib.request.urlopen(request, timeout=0.2)
    waited = threading.Event()
    for _ in range(PATIENCE_S * 20):
        if simulated_api.messages:
            break
        waited.wait(0.05)
    assert simulated_api.messages[0]["client_gone"] is True


def test_rules_make_an_outage_for_some_and_for_so_long(simulated_api: SimulatedApi) -> None:
    simulated_api.set_rules({"status": 503, "times": 1, "match": "unlucky", "retry_after": 9, "message": "down"})
    assert "simulated" in texts(ask(simulated_api, "lucky"))[0]
    status, headers, message = failure(simulated_api, "unlucky")
    assert (status, headers["retry-after"], message) == (503, "9", "down")
    assert texts(ask(simulated_api, "unlucky"))
    post(simulated_api, "/_fake/rules", [{"status": 500, "model": "claude-opus*"}])
    assert failure(simulated_api, "lucky")[0] == 500
    assert texts(ask(simulated_api, "lucky", model="claude-haiku-5-5"))


# -- the server


def test_it_counts_and_remembers_without_any_key(simulated_api: SimulatedApi) -> None:
    url = simulated_api.url + "/v1/messages/count_tokens"
    request = urllib.request.Request(url, b'{"model":"m"}', {"x-api-key": "hush"})
    with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
        assert json.load(answer)["input_tokens"] > 0
    ask(simulated_api, "a prompt")
    assert simulated_api.health() == {"ok": True, "requests": 2, "active": 0, "peak": 1}
    assert simulated_api.messages[0]["prompt_head"] == "a prompt"
    assert "hush" not in json.dumps(get(simulated_api, "/_fake/requests"))
    post(simulated_api, "/_fake/reset", {})
    assert simulated_api.requests == []


def test_models_are_listed_and_paths_that_are_none_refused(simulated_api: SimulatedApi) -> None:
    assert get(simulated_api, "/v1/models")["data"][0]["id"] == "claude-opus-5-5"
    assert get(simulated_api, "/v1/models/claude-haiku-5-5")["id"] == "claude-haiku-5-5"
    for path in ("/", "/v1/models/nope", "/v1/nothing"):
        with pytest.raises(urllib.error.HTTPError, match="404") as caught:
            get(simulated_api, path)
        caught.value.close()


@pytest.mark.parametrize("body", [b"not json", b"[1]"])
def test_a_body_that_is_no_object_is_refused(simulated_api: SimulatedApi, body: bytes) -> None:
    with pytest.raises(urllib.error.HTTPError) as caught:
        post(simulated_api, "/v1/messages", body)
    with caught.value as error:
        assert error.code in {400, 404}


def test_it_logs_to_a_file_and_dumps_bodies(tmp_path: Path) -> None:
    with start(log=tmp_path / "log", dump=tmp_path, prompt_head=0) as api:
        ask(api, "secret words")
    (record,) = map(json.loads, (tmp_path / "log").read_text().splitlines())
    assert record["prompt_head"] == ""
    assert json.loads((tmp_path / "00001.json").read_text())["messages"]


def test_it_stops_while_an_answer_hangs() -> None:
    api = start()
    body = json.dumps({"model": "claude-opus-5-5", "messages": [{"role": "user", "content": "[[hang]]"}]}).encode()
    with pytest.raises(TimeoutError):
        urllib.request.urlopen(urllib.request.Request(api.url + "/v1/messages", body), timeout=0.1)
    api.stop()
    with pytest.raises(urllib.error.URLError):
        get(api, "/_fake/health")


def test_as_a_process_it_prints_its_address_and_leaves_on_term() -> None:
    child = processes.start(child_argv("--prompt-head", "5"), env={}, stdout=processes.PIPE)
    try:
        url = child.stdout.readline().decode().strip()
        with urllib.request.urlopen(url + "/_fake/health", timeout=PATIENCE_S) as answer:
            assert json.load(answer)["ok"] is True
        child.send_signal(signal.SIGTERM)
        assert child.wait(PATIENCE_S) == 0
    finally:
        processes.end(child)
        child.stdout.close()
