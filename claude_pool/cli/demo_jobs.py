"""The demonstration's work: a small repository, six tasks on it, and what has to come of each.

The prompts are the same for every model. For the simulated one each carries its answer as a script of directives
(see `claude_pool.testing.simulated`); what the CLI then does with the files is real.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, cast

from claude_pool.models.task import ErrorCode, TaskResult, TaskState
from claude_pool.testing.simulated.prompts import reply, script_edit, script_pause, script_say, script_write

FILES: Final = {
    "convert.py": '''"""Temperatures from one scale to another."""


def fahrenheit(celsius):
    """Celsius to Fahrenheit."""
    return celsius * 9 / 5 + 32


def kelvin(celsius):
    """Celsius to Kelvin."""
    return celsius + 273
''',
    "README.md": "# convert\n\nTemperatures from one scale to another.\n",
    "stations.csv": "station,celsius\nnorth,-12.5\nharbour,7.25\nsouth,21.0\n",
}

UNKNOWN_MODEL: Final = "claude-nobody-knows-this-one"

SCHEMA: Final = {
    "type": "object",
    "properties": {
        "functions": {"type": "array", "items": {"type": "string"}},
        "stations": {"type": "integer"},
    },
    "required": ["functions", "stations"],
    "additionalProperties": False,
}


@dataclass(frozen=True, slots=True)
class Job:
    """One task of the demonstration. `touches` is a file that its branch must change."""

    title: str
    prompt: str
    script: str
    touches: str | None = None
    error: ErrorCode | None = None
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])

    def text(self, *, simulated: bool) -> str:
        """The prompt, with the answer's script for a model that can't think."""
        return f"{self.prompt}\n\n(Script for the simulated model: {self.script})" if simulated else self.prompt

    def expectation(self) -> str:
        """What has to come of it, in words."""
        if self.error:
            return f"fails with {self.error.value}"
        return f"completes, and its branch changes {self.touches}" if self.touches else "completes with JSON that fits"

    def fulfilled(self, result: TaskResult) -> bool:
        """Whether that came of it."""
        if self.error:
            return result.state is TaskState.FAILED and result.error is not None and result.error.code is self.error
        if result.state is not TaskState.COMPLETED:
            return False
        if self.touches:
            return result.branch is not None and self.touches in result.branch.paths
        return _fits(result.structured_output)


def _fits(value: Any) -> bool:
    """Whether the structured answer says what is in the repository."""
    if not isinstance(value, dict):
        return False
    told = cast("dict[str, Any]", value)
    names = {str(name).removesuffix("()") for name in told.get("functions", ())}
    return names == {"fahrenheit", "kelvin"} and told.get("stations") == 3


def _slowly(*parts: str) -> str:
    """The parts of a script, with a moment before each: a person is watching."""
    return "".join(script_pause(0.6) + part for part in parts)


_TESTS = """from convert import fahrenheit, kelvin


def test_water_boils_at_212_fahrenheit():
    assert fahrenheit(100) == 212


def test_kelvin_grows_with_celsius():
    assert kelvin(1) > kelvin(0)
"""

_USAGE = """another.

## Usage

    from convert import fahrenheit
    fahrenheit(20)  # 68.0
"""

JOBS: Final = (
    Job(
        title="Fix kelvin()",
        prompt="kelvin() in convert.py is wrong by 0.15 degrees. Correct it, and change nothing else.",
        script=script_say("I look at the file first.")
        + _slowly(script_edit("convert.py", "celsius + 273", "celsius + 273.15"), reply("kelvin() now adds 273.15.")),
        touches="convert.py",
    ),
    Job(
        title="Write tests",
        prompt="Write test_convert.py: two plain pytest functions that test convert.py. Don't run them.",
        script=_slowly(script_write("test_convert.py", _TESTS), reply("Two tests are in test_convert.py.")),
        touches="test_convert.py",
    ),
    Job(
        title="Document the usage",
        prompt="Add a section 'Usage' to README.md that shows how to call fahrenheit() of convert.py.",
        script=_slowly(
            script_edit("README.md", "another.\n", _USAGE), reply("README.md shows how to call fahrenheit().")
        ),
        touches="README.md",
    ),
    Job(
        title="Add type hints",
        prompt="Add type hints (float) to both functions of convert.py, and change nothing else.",
        script=_slowly(
            script_edit("convert.py", "def fahrenheit(celsius):", "def fahrenheit(celsius: float) -> float:"),
            script_edit("convert.py", "def kelvin(celsius):", "def kelvin(celsius: float) -> float:"),
            reply("Both functions have type hints."),
        ),
        touches="convert.py",
    ),
    Job(
        title="Take stock, as JSON",
        prompt="Which functions does convert.py define, by name only, and how many stations are in stations.csv?",
        script=_slowly(f"[[json:{json.dumps({'functions': ['fahrenheit', 'kelvin'], 'stations': 3})}]]"),
        options={"json_schema": SCHEMA},
    ),
    Job(
        title="Ask a model that does not exist",
        prompt="Say hello.",
        script=reply("hello"),
        error=ErrorCode.MODEL_NOT_FOUND,
        options={"model": UNKNOWN_MODEL},
    ),
)
