"""What a chain or a fan-out brought, on its way to stdout and stderr; and the wait before it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from claude_pool.cli import live, output
from claude_pool.cli.graph_render import answers, head, table, whole_lines
from claude_pool.cli.render import Block
from claude_pool.graph_documents import of_chain_result, of_fan_out_result
from claude_pool.ids import kind_of
from claude_pool.text import clean

if TYPE_CHECKING:
    from claude_pool.pool import Pool


def follow(pool: Pool, id_: str, *, wait_s: float | None, as_json: bool) -> int:
    """Wait in front of a person, then give the result; Ctrl-C ends the waiting alone. The exit code."""
    try:
        live.wait(pool, [id_], timeout_s=wait_s)
    except KeyboardInterrupt:
        code = live.goes_on([id_])
        if as_json:
            name = "chain_id" if kind_of(id_) == "chain" else "fan_out_id"
            output.document({name: id_, "interrupted": True})
        return code
    return give_whole(pool, id_, as_json=as_json)


def give_whole(pool: Pool, id_: str, *, as_json: bool) -> int:
    """The answer on stdout, steps or branches on stderr; the exit code."""
    if kind_of(id_) == "chain":
        chain = pool.chain_result(id_)
        document, text, state, under = of_chain_result(chain), chain.final_output, chain.state, whole_lines(chain)
    else:
        fan = pool.fan_out_result(id_)
        text = fan.output if fan.gather else answers(fan.results)
        document, state, under = of_fan_out_result(fan), fan.state, whole_lines(fan)
    if as_json:
        output.document(document)
    else:
        if text:
            output.say(clean(text) if sys.stdout.isatty() else text)
        blocks = [block if isinstance(block, str) else block.plain() for block in screen(pool, id_)]
        output.note("\n".join([*blocks, *under]))
    return output.code_of(state)


def screen(pool: Pool, id_: str) -> list[Block]:
    """A chain or a fan-out as it is now: a line of the whole, and a table of its parts."""
    progress = pool.chain_progress(id_) if kind_of(id_) == "chain" else pool.fan_out_progress(id_)
    now_ms = live.now_ms()
    return [head(progress, now_ms=now_ms), table(progress, now_ms=now_ms)]
