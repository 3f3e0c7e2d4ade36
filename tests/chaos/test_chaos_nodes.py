"""Chaos at process level, a short one: real nodes and processes, every kind of fault, and every promise held."""

import pytest
from chaosrig.checker import check
from chaosrig.nodes import Plan, node_chaos

pytestmark = [pytest.mark.redis, pytest.mark.slow, pytest.mark.timeout(240)]


def test_nodes_that_are_hurt_all_the_time_end_every_task_once_and_leave_nothing() -> None:
    report = check(node_chaos(1, Plan(tasks=200, within_s=12.0)))
    assert report.ok, str(report)
    assert report.counts["faults"] > 30
    assert report.counts["completed"] > 100
