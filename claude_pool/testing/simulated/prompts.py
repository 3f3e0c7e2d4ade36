"""Prompts that script the simulated model into plausible work with the real CLI's tools, for demos and tests.

Join the parts into one prompt, plain words first, `reply` last: each tool part becomes one turn of the model, and the
CLI really runs the tool, with its permissions, in its working directory.

    prompt = "Add a greeting. " + script_write("greet.py", SOURCE) + script_bash("python3 greet.py") + reply("Done.")
"""

from __future__ import annotations

import json


def _safe(text: str) -> str:
    """Text that can stand inside a directive. Raises ValueError when its brackets would end it early."""
    depth = 0
    for index in range(len(text) - 1):
        pair = text[index : index + 2]
        depth += (pair == "[[") - (pair == "]]")
        if depth < 0:
            break
    if depth or text.endswith("]"):
        msg = f"double square brackets must be balanced, and ']' can't be the last character: {text[:80]!r}"
        raise ValueError(msg)
    return text


def _tool(name: str, **arguments: object) -> str:
    return f"[[tool:{name} {json.dumps(arguments)}]]"


def script_write(path: str, content: str) -> str:
    """The model writes a file, by its path relative to the working directory or absolute."""
    return _tool("Write", file_path=path, content=content)


def script_edit(path: str, old: str, new: str) -> str:
    """The model reads a file (the CLI refuses to edit one that was not read), then replaces `old` by `new`."""
    return _tool("Read", file_path=path) + _tool("Edit", file_path=path, old_string=old, new_string=new)


def script_bash(command: str, description: str = "Run a command") -> str:
    """The model runs a shell command; it must be allowed (`allowed_tools`), or it is denied."""
    return _tool("Bash", command=command, description=description)


def script_say(text: str) -> str:
    """What the model says before its next tool call."""
    return f"[[say:{_safe(text)}]]"


def script_pause(seconds: float) -> str:
    """The model thinks for so long before its next turn."""
    return f"[[sleep:{seconds:g}]]"


def script_usage(*, tokens_in: int, tokens_out: int) -> str:
    """What every turn from here on is said to have used; the CLI makes its cost from that."""
    return f"[[usage:in={tokens_in},out={tokens_out}]]"


def reply(text: str) -> str:
    """The model's final words."""
    return f"[[reply:{_safe(text)}]]"
