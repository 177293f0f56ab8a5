"""Tunnels opened and closed by the thousand leave nothing behind (reliability, L-06).

`ADIT_TUNNELS` is how many (a release: 100,000).
"""

import concurrent.futures
import os
import pathlib
import sqlite3
import subprocess

from caller import Caller

TUNNELS = int(os.environ.get("ADIT_TUNNELS", "600"))
CALLERS = 4
# Every so many tunnels one is closed and kept for its retention; the others are deleted.
KEPT = 20
# What an allocator may keep of the largest moment; a leak of 200 bytes per tunnel would be seen
# in a release's run.
SLACK = 16 << 20
# Records of the audit that a store keeps, and those that may be added before the next pruning.
AUDIT_MAX = 100_000 + 1_024


def usage(service):
    """Resident bytes and open descriptors."""
    place = pathlib.Path("/proc") / str(service.process.pid)
    status = dict(line.split(":", 1) for line in (place / "status").read_text().splitlines())
    return int(status["VmRSS"].split()[0]) << 10, len(list((place / "fd").iterdir()))


def churn(service, count):
    """Opens and closes so many; returns how many are kept."""

    def run(caller):
        kept = 0
        for number in range(caller, count, CALLERS):
            tunnel = callers[caller].ok("OpenTunnel", description="x" * 500)["tunnelId"]
            delete = number % KEPT != 0
            callers[caller].ok("CloseTunnel", tunnelId=tunnel, delete=delete)
            kept += not delete
        return kept

    callers = [Caller(service) for _ in range(CALLERS)]
    with concurrent.futures.ThreadPoolExecutor(CALLERS) as pool:
        return sum(pool.map(run, range(CALLERS)))


def rows(service, store):
    """How many rows each table has, looked at from outside."""
    if not store:
        database = sqlite3.connect(f"file:{service.directory / 'adit.db'}?mode=ro", uri=True)
        query = lambda sql: [row[0] for row in database.execute(sql)]
        names = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
    else:
        url = store[-1]
        query = lambda sql: subprocess.run(
            ["psql", url, "-Atc", sql], check=True, capture_output=True, text=True
        ).stdout.split()
        names = "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"
    return {name: int(query(f"SELECT count(*) FROM {name}")[0]) for name in query(names)}


def test_tunnels_come_and_go_without_a_trace(new_service, store):
    service = new_service("--quota", "api-calls-per-second=0", *store)
    kept = churn(service, max(TUNNELS // 10, 100))
    memory, descriptors = usage(service)
    before = rows(service, store)
    kept += churn(service, TUNNELS)
    after_memory, after_descriptors = usage(service)
    after = rows(service, store)
    print(f"{TUNNELS} tunnels: {memory >> 10} KiB -> {after_memory >> 10} KiB, "
          f"{descriptors} -> {after_descriptors} descriptors, rows {after}")
    assert after.pop("tunnels") == kept
    assert after.pop("audit") <= AUDIT_MAX
    before = {name: count for name, count in before.items() if name in after}
    assert after == before, "rows of other tables"
    assert after_memory < memory + SLACK
    assert after_descriptors <= descriptors + CALLERS
