"""Chaos at protocol level: the real scripts, virtual slots, a moved clock, and every promise held."""

import pytest
from chaosrig.checker import check
from chaosrig.virtual import Storm, virtual_chaos

from claude_pool.testing.redis_server import RedisServer

pytestmark = pytest.mark.redis

SEEDS = (11, 12)


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
def test_many_tasks_in_a_storm_end_once_each_with_their_cost_known(redis_server: RedisServer, seed: int) -> None:
    report = check(virtual_chaos(seed, redis_server, Storm.of(500)))
    assert report.ok, str(report)
    assert report.counts["recovered"] > 0
    assert report.counts["repeated_with_cause"] > 0


def test_without_faults_nothing_is_repeated_that_did_not_fail(redis_server: RedisServer) -> None:
    calm = Storm(tasks=100, slots=6, kills=0, stalls=0, cli_kills=0, redis_kills=0, meddling=0, jumps=0, losses=False)
    report = check(virtual_chaos(3, redis_server, calm))
    assert report.ok, str(report)
    assert report.counts["recovered"] == 0


def test_one_seed_gives_one_history(redis_server: RedisServer) -> None:
    first, second = (virtual_chaos(5, redis_server, Storm.of(60, redis_kills=0)) for _ in range(2))
    assert [(e.verb, e.subject, e.state) for e in first.events] == [(e.verb, e.subject, e.state) for e in second.events]
    assert [(f.kind, f.target) for f in first.faults] == [(f.kind, f.target) for f in second.faults]
