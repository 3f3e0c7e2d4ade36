from typing import Any

from claude_pool.errors import CliError
from claude_pool.models.chain import Gate
from claude_pool.models.task import ErrorCode
from workers import gate
from workers.controls import Controls


class NoShell:
    def spawn(self, argv: Any, env: Any, cwd: str) -> Any:
        raise CliError(f"{argv[0]} can't be had")


def test_a_gate_without_a_command_is_open() -> None:
    guard: Any = NoShell()
    assert gate.check(Gate(review=True), env={}, cwd="/", guard=guard, controls=Controls()) is None


def test_a_gate_that_cannot_be_started_is_shut_and_says_why() -> None:
    guard: Any = NoShell()
    error = gate.check(Gate(command="true"), env={}, cwd="/", guard=guard, controls=Controls())
    assert error is not None
    assert error.code is ErrorCode.GATE_FAILED
    assert "can't be had" in error.message
