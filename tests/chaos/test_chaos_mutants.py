"""Seeded bugs: the checker must catch every one, or its silence about the real thing proves nothing."""

import pytest
from chaosrig.checker import check
from chaosrig.mutants import MUTANTS, SEEDS, STORM, Mutant, hunt
from chaosrig.scripts import EVERYWHERE, Edit, apply
from chaosrig.virtual import virtual_chaos

from claude_pool.store import lua
from claude_pool.testing.redis_server import RedisServer

pytestmark = [pytest.mark.redis, pytest.mark.slow]


@pytest.mark.parametrize("seed", SEEDS)
def test_the_storm_without_a_bug_is_clean(redis_server: RedisServer, seed: int) -> None:
    report = check(virtual_chaos(seed, redis_server, STORM))
    assert report.ok, str(report)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name.replace(" ", "-"))
def test_a_seeded_bug_is_caught(redis_server: RedisServer, mutant: Mutant) -> None:
    caught = hunt(mutant, redis_server)
    assert caught.by, f"nobody noticed: {mutant.name}"


def test_every_seeded_bug_fits_the_scripts_as_they_are() -> None:
    for mutant in MUTANTS:
        for edit in mutant.edits:
            for name in lua.names() if edit.script == EVERYWHERE else (edit.script,):
                apply(name, lua.script(name, flags=True).text, (edit,))


def test_a_bug_whose_text_is_gone_says_so() -> None:
    with pytest.raises(LookupError, match="0 times"):
        apply("finish", "local a = 1", (Edit(EVERYWHERE, "local b", "local c"),))
    assert apply("finish", "local a = 1", (Edit("start", "local b", "local c"),)) == "local a = 1"
