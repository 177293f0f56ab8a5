"""Bad handshakes by the thousand do not keep good ones out (reliability, T-07).

`ADIT_FLOOD_RATE` is how many are offered in a second (a release: 50,000), `ADIT_FLOOD_SECONDS` for how
long. Times are printed, and with `ADIT_JUDGE=1` judged: beside one address that floods, good ones take less
than twice as long. Where several hundred do, more of their handshakes are taken in, and good ones wait longer.
"""

import json
import subprocess
import sys

import programs

from caller import JUDGES

JUDGED = ("one address", "guesses of one address")
# Of a handshake of the service, its buffers, and 65,536 addresses that are remembered.
MEMORY_MAX_KIB = 128 << 10


def test_good_handshakes_come_through_a_flood_of_bad_ones(tmp_path):
    tools = all(programs.find(tool) for tool in ("ip", "unshare"))
    if not tools or subprocess.run(["unshare", "--net", "true"], capture_output=True).returncode:
        programs.lacking("network namespaces, or ip and unshare")
    command = ["unshare", "--net", sys.executable, "flood.py", str(tmp_path)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert run.returncode == 0, run.stderr
    phases = json.loads(run.stdout)
    for name, figures in phases.items():
        print(f"flood by {name}: {figures}")
    # All of the good ones were let in, or it would have failed; and there were some in each phase.
    assert all(figures["good"] > 0 for figures in phases.values())
    alone = phases["nobody"]["p99 ms"]
    missed = [name for name in JUDGED if phases[name]["p99 ms"] >= 2 * alone]
    assert not JUDGES or not missed, missed
    base = phases["nobody"]["resident KiB"]
    assert max(figures["resident KiB"] for figures in phases.values()) < base + MEMORY_MAX_KIB
