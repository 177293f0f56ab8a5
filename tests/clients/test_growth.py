"""Tunnels opened and closed by the thousand leave nothing behind (reliability, L-06).

`ADIT_TUNNELS` is how many (a release: 100,000).
"""

import concurrent.futures
import os
import pathlib

TUNNELS = int(os.environ.get("ADIT_TUNNELS", "600"))
CALLERS = 4
# What an allocator may keep of the largest moment; a leak of 200 bytes per tunnel would be seen
# in a release's run.
SLACK = 16 << 20


def usage(service):
    """Resident bytes and open descriptors."""
    place = pathlib.Path("/proc") / str(service.process.pid)
    status = dict(line.split(":", 1) for line in (place / "status").read_text().splitlines())
    return int(status["VmRSS"].split()[0]) << 10, len(list((place / "fd").iterdir()))


def churn(service, count):
    client = service.client(max_pool_connections=CALLERS)

    def one(_):
        tunnel = client.open_tunnel(description="x" * 500)["tunnelId"]
        client.close_tunnel(tunnelId=tunnel, delete=True)

    with concurrent.futures.ThreadPoolExecutor(CALLERS) as pool:
        list(pool.map(one, range(count)))


def test_tunnels_come_and_go_without_a_trace(new_service, store):
    service = new_service(*store)
    churn(service, max(TUNNELS // 10, 100))
    memory, descriptors = usage(service)
    churn(service, TUNNELS)
    after_memory, after_descriptors = usage(service)
    print(f"{TUNNELS} tunnels: {memory >> 10} KiB -> {after_memory >> 10} KiB, "
          f"{descriptors} -> {after_descriptors} descriptors")
    assert service.client().list_tunnels()["tunnelSummaries"] == []
    assert after_memory < memory + SLACK
    assert after_descriptors <= descriptors + CALLERS
