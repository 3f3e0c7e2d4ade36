"""A `claude` that costs two milliseconds: a shell script for plain answers, the full fake for everything else.

Ten thousand runs of a Python program would measure Python's start. The model `quick` chooses the short way: it reads
the prompt, notes itself in the ledger as `claude_pool.testing.fake_session` describes, and answers what the prompt's
`text=` says. Its clock is /proc/uptime, in hundredths: starts are rounded up and ends down, so that an overlap that the
ledger shows did happen.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from claude_pool.testing import fake_claude

MODEL: Final = "quick"
COST: Final = "0.010000000"

_SCRIPT: Final = r"""#!/bin/sh
case " $* " in
  *"--model=quick "*|*"--model quick "*) ;;
  *) exec "@FULL@" "$@" ;;
esac
IFS= read -r line || exit 1
for word in "$@"; do
  case $word in --session-id=*|--resume=*) session=${word#*=} ;; esac
done
answer=${line#*"[[fake:ok text="}
answer=${answer%%]*}
task=${line##*'"claude_pool": {"task": "'}
run=${line##*'"run": "'}
me="${task%%'"'*} ${run%%'"'*} $$"
read -r up rest < /proc/uptime
echo "S $me ${up}9999" >> "@LEDGER@"
said='"session_id":"'$session'","model":"quick"'
tokens='"inputTokens":1,"outputTokens":1,"costUSD":0.01'
used='"model_usage_since_last_result":{"quick":{'$tokens'}},"modelUsage":{"quick":{'$tokens'}},"total_cost_usd":0.01'
text='"content":[{"type":"text","text":"'$answer'"}],"usage":{"input_tokens":1,"output_tokens":1}'
echo '{"type":"system","subtype":"init",'$said',"claude_code_version":"2.1.330","tools":[],"mcp_servers":[]}'
echo '{"type":"assistant",'$said',"message":{"id":"m1","role":"assistant","model":"quick",'$text'}}'
read -r up rest < /proc/uptime
echo "E $me ${up} @COST@ success" >> "@LEDGER@"
ended='"is_error":false,"terminal_reason":"completed","stop_reason":"end_turn","num_turns":1'
echo '{"type":"result","subtype":"success",'$ended','$said',"result":"'$answer'","usage":{},'$used'}'
"""


def install(folder: Path, *, ledger: Path) -> Path:
    """Write the script, and the full fake behind it; gives the path to use as `claude`."""
    full = fake_claude.install(folder / "full", ledger=ledger)
    program = folder / "claude"
    text = _SCRIPT.replace("@FULL@", str(full)).replace("@LEDGER@", str(ledger)).replace("@COST@", COST)
    program.write_text(text)
    program.chmod(0o755)
    return program
