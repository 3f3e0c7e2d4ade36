"""A `claude` that costs two milliseconds: a shell script for plain answers, the full fake for everything else.

Ten thousand runs of a Python program would measure Python's start. The model `quick` chooses the short way: it reads the
prompt, notes itself in the ledger as `claude_pool.testing.fake_session` describes, and answers what the prompt's
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
me="$CLAUDE_POOL_TASK $CLAUDE_POOL_RUN $$"
read -r up rest < /proc/uptime
echo "S $me ${up}9999" >> "@LEDGER@"
used='"usage":{"input_tokens":1,"output_tokens":1},"model_usage_since_last_result":{"quick":{"inputTokens":1,"outputTokens":1,"costUSD":0.01}},"modelUsage":{"quick":{"inputTokens":1,"outputTokens":1,"costUSD":0.01}}'
echo '{"type":"system","subtype":"init","session_id":"'$session'","model":"quick","claude_code_version":"2.1.330","tools":[],"mcp_servers":[]}'
echo '{"type":"assistant","session_id":"'$session'","message":{"id":"m1","role":"assistant","model":"quick","content":[{"type":"text","text":"'$answer'"}],"usage":{"input_tokens":1,"output_tokens":1}}}'
read -r up rest < /proc/uptime
echo "E $me ${up} @COST@ success" >> "@LEDGER@"
echo '{"type":"result","subtype":"success","is_error":false,"terminal_reason":"completed","stop_reason":"end_turn","session_id":"'$session'","num_turns":1,"duration_ms":1,"duration_api_ms":1,"total_cost_usd":0.01,"result":"'$answer'",'"$used"'}'
"""


def install(folder: Path, *, ledger: Path) -> Path:
    """Write the script, and the full fake behind it; gives the path to use as `claude`."""
    full = fake_claude.install(folder / "full", ledger=ledger)
    program = folder / "claude"
    text = _SCRIPT.replace("@FULL@", str(full)).replace("@LEDGER@", str(ledger)).replace("@COST@", COST)
    program.write_text(text)
    program.chmod(0o755)
    return program
