"""The clock is set while tunnels are up, or while the service is not: none ends early, and none lives on
(reliability, T-25).

A tunnel lives for a minute at least, so that this takes long: for all jumps at once.
"""

import pathlib
import socket
import time

import botocore

import programs
from handshake import handshake

MINUTE = 60.0
# Later than this it would have been kept alive; the machine may be busy.
LATE = 3 * MINUTE


def libfaketime():
    places = sorted(pathlib.Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
    if not places:
        programs.lacking("faketime")
    return str(places[0])


class Site:
    """A service with a time of day of its own, and a tunnel with both its sides."""

    def __init__(self, new_service, directory, name, jumps, store=(), minutes=1):
        self.name, self.jumps = name, jumps
        self.file = directory / name
        self.file.write_text("+0")
        self.service = new_service(
            "--insecure-no-auth", *store,
            environment={
                "LD_PRELOAD": libfaketime(),
                "FAKETIME_TIMESTAMP_FILE": str(self.file),
                "FAKETIME_NO_CACHE": "1",
                # Monotonic time goes on; the name differs between versions.
                "FAKETIME_DONT_FAKE_MONOTONIC": "1",
                "DONT_FAKE_MONOTONIC": "1",
            },
        )
        self.client = self.service.client(keys=("none", "none"), signature_version=botocore.UNSIGNED)
        self.opened = time.monotonic()
        tunnel = self.client.open_tunnel(timeoutConfig={"maxLifetimeTimeoutMinutes": minutes})
        self.id = tunnel["tunnelId"]
        self.links = []
        for mode in ("source", "destination"):
            token = tunnel[f"{mode}AccessToken"]
            assert handshake(self.service, token, mode, keep=self.links)[0] == 101

    def jump(self, to):
        before = self.service_time()
        self.file.write_text(to)
        # The tunnel opened for the look shows that the clock really is another one.
        moved = self.service_time() - before
        seconds = {"h": 3600, "y": 365 * 86400}[to[-1]] * int(to[:-1])
        return abs(moved) >= abs(seconds) * 0.9

    def restart_after(self, to):
        """Sets the clock while nothing runs."""
        self.service.stop()
        self.file.write_text(to)
        self.service.start()
        self.client = self.service.client(keys=("none", "none"), signature_version=botocore.UNSIGNED)

    def is_open(self):
        return self.client.describe_tunnel(tunnelId=self.id)["tunnel"]["status"] == "OPEN"

    def service_time(self):
        tunnel = self.client.open_tunnel()["tunnelId"]
        created = self.client.describe_tunnel(tunnelId=tunnel)["tunnel"]["createdAt"]
        self.client.close_tunnel(tunnelId=tunnel, delete=True)
        return created.timestamp()

    def is_up(self):
        tunnel = self.client.describe_tunnel(tunnelId=self.id)["tunnel"]
        sides = [tunnel[f"{mode}ConnectionState"]["status"] for mode in ("source", "destination")]
        return tunnel["status"] == "OPEN" and sides == ["CONNECTED"] * 2

    def end(self):
        """How long after the opening both links were cut."""
        for link in self.links:
            left = self.opened + LATE - time.monotonic()
            link.settimeout(max(left, 0.1))
            try:
                while link.recv(4096):
                    pass
            except socket.timeout:
                return None
            except OSError:
                pass
        return time.monotonic() - self.opened


def test_the_clock_is_set_while_tunnels_are_up(new_service, postgres, tmp_path):
    sites = [
        Site(new_service, tmp_path, jump, [jump]) for jump in ("+1h", "-1h", "+1y", "-1y")
    ]
    all_jumps = ["+1h", "-1h", "+1y", "-1y"]
    sites.append(Site(new_service, tmp_path, "postgres", all_jumps, ["--store", postgres.url]))
    assert all(site.is_up() for site in sites)
    for site in sites:
        for jump in site.jumps:
            assert site.jump(jump), f"{site.name}: the clock did not jump by {jump}"
            assert site.is_up(), f"{site.name}: not up after {jump}"
    # Whatever the timer naps for, it has been awake meanwhile.
    pause = min(site.opened for site in sites) + MINUTE - 10 - time.monotonic()
    time.sleep(max(pause, 0))
    for site in sites:
        assert time.monotonic() - site.opened < MINUTE, "this machine is too slow for this test"
        assert site.is_up(), f"{site.name}: cut short"
    for site in sites:
        lasted = site.end()
        assert lasted is not None, f"{site.name}: it lives on"
        assert lasted >= MINUTE - 1, (site.name, lasted)
        assert site.client.describe_tunnel(tunnelId=site.id)["tunnel"]["status"] == "CLOSED"
        print(f"{site.name}: jumps {site.jumps}, the tunnel lasted {lasted:.1f} s")


def test_the_clock_is_set_while_the_service_is_not_running(new_service, postgres, tmp_path):
    # As far as the certificate of its first start holds.
    jumps = ["+1h", "-1h", "+100d", "-100d"]
    stores = {"at-rest": [], "at-rest-postgres": ["--store", postgres.url]}
    sites = [Site(new_service, tmp_path, name, jumps, store, minutes=2) for name, store in stores.items()]
    for site in sites:
        before = site.service_time()
        for jump in site.jumps:
            site.restart_after(jump)
            assert abs(site.service_time() - before) > 3000, f"{site.name}: not another clock"
            assert site.is_open(), f"{site.name}: not open after {jump}"
    # In the second half, so that a lifetime that begins anew is seen.
    for site in sites:
        time.sleep(max(site.opened + MINUTE - time.monotonic(), 0))
        site.restart_after("+0")
        is_open = site.is_open()
        assert time.monotonic() - site.opened < 2 * MINUTE, "this machine is too slow for this test"
        assert is_open, f"{site.name}: cut short"
    for site in sites:
        time.sleep(max(site.opened + 2 * MINUTE + 1 - time.monotonic(), 0))
        assert not site.is_open(), f"{site.name}: it lives on"
