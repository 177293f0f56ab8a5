"""Good handshakes while bad ones come in, in a network namespace of its own (reliability, T-07).

The flood has the first core for itself, and the service and its good clients have the others: so the
flood costs them what it makes the service do, and not the cores that a far attacker would bring along.

Started by `test_flood.py`: addresses of the loopback network are spared by the limit of failures, so
that this one gives `lo` others. Prints one line of JSON.
"""

import json
import multiprocessing
import os
import pathlib
import random
import secrets
import socket
import ssl
import struct
import subprocess
import sys
import time

from caller import Caller, percentiles
from conftest import Service

SECONDS = float(os.environ.get("ADIT_FLOOD_SECONDS", "1"))
RATE = int(os.environ.get("ADIT_FLOOD_RATE", "2000"))
FLOODERS = 2
SERVICE = "192.0.2.1"
GOOD = "192.0.2.2"
ONE = "192.0.2.3"
FLOOD_CORE, *OTHER_CORES = sorted(os.sched_getaffinity(0))
ANOTHER = "198.19.0.1"
# All of these are addresses of this machine here.
MANY = "198.18.0.0/15"
# Addresses of this many of them are some machines of one attacker; all of them are half the world.
SOME = 250
# Connections of one flooder that wait for their end.
OPEN_MAX = 256
RESET = struct.pack("ii", 1, 0)
UPGRADE = (
    "GET /tunnel?local-proxy-mode=source HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n"
    "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    "Sec-WebSocket-Protocol: aws.iot.securetunneling-3.0\r\naccess-token: {}\r\nclient-token: {}\r\n\r\n"
)


def hello():
    """The first flight of a TLS client: it costs the server a key exchange and a signature."""
    out = ssl.MemoryBIO()
    client = ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), out, server_hostname="localhost")
    try:
        client.do_handshake()
    except ssl.SSLWantReadError:
        return out.read()


def one():
    return ONE


def another():
    return ANOTHER


def some():
    return f"198.18.0.{random.randrange(1, SOME + 1)}"


def many():
    return f"198.{random.randrange(18, 20)}.{random.randrange(256)}.{random.randrange(1, 255)}"


def guess(port, address, context, counter, errors):
    """Finishes handshakes with tokens that are none, as fast as it can."""
    os.sched_setaffinity(0, {FLOOD_CORE})
    began = time.monotonic()
    while time.monotonic() < began + SECONDS:
        request = UPGRADE.format(secrets.token_urlsafe(48), "g" * 32).encode()
        try:
            plain = socket.create_connection((SERVICE, port), 30, (address(), 0))
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            with context.wrap_socket(plain, server_hostname="localhost") as connection:
                connection.sendall(request)
                assert b" 400 " in connection.recv(4096)[:16]
            counter.value += 1
        except OSError:
            errors.value += 1


def flood(port, address, context, counter, errors):
    """Connects at a steady rate and says hello; goes on however slowly it is answered."""
    os.sched_setaffinity(0, {FLOOD_CORE})
    first, waiting = hello(), []
    rate, began = RATE / FLOODERS, time.monotonic()
    while (now := time.monotonic()) < began + SECONDS:
        behind = int((now - began) * rate) - counter.value - errors.value
        if behind <= 0:
            time.sleep(0.0005)
        for _ in range(min(behind, 64)):
            connection = socket.socket()
            try:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                # The port is chosen with both addresses known, so that all of them can be used.
                connection.setsockopt(socket.IPPROTO_IP, 24, 1)
                connection.bind((address(), 0))
                connection.setblocking(False)
                connection.connect_ex((SERVICE, port))
                connection.send(first)
                counter.value += 1
            except OSError:
                # Reset already, or the queue of the listener is full.
                errors.value += 1
            waiting.append(connection)
            if len(waiting) > OPEN_MAX:
                waiting.pop(0).close()


def good(context, port, request):
    """Seconds that one takes, from the connect to the 101."""
    begun = time.monotonic()
    plain = socket.create_connection((SERVICE, port), 30, (GOOD, 0))
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection = context.wrap_socket(plain, server_hostname="localhost")
    connection.sendall(request)
    answer = connection.recv(4096)
    took = time.monotonic() - begun
    assert answer.startswith(b"HTTP/1.1 101"), answer
    connection.close()
    return took


def dropped():
    """SYNs that found the queue of a listener full; their clients ask again after a second."""
    lines = [line.split() for line in pathlib.Path("/proc/net/netstat").read_text().splitlines()]
    names, values = (line for line in lines if line[0] == "TcpExt:")
    return int(dict(zip(names, values))["ListenDrops"])


def resident(service):
    status = pathlib.Path(f"/proc/{service.process.pid}/status").read_text()
    return int(dict(line.split(":", 1) for line in status.splitlines())["VmRSS"].split()[0])


def phase(service, context, port, request, kind, address):
    """Good handshakes beside a kind of flood, from such addresses; beside none without a kind."""
    counters = [(multiprocessing.Value("q", 0), multiprocessing.Value("q", 0)) for _ in range(FLOODERS)]
    flooders = []
    if kind:
        arguments = (port, address, context)
        flooders = [multiprocessing.Process(target=kind, args=(*arguments, *pair)) for pair in counters]
        for flooder in flooders:
            flooder.start()
    before, times, ends = dropped(), [], time.monotonic() + SECONDS
    while time.monotonic() < ends:
        times.append(good(context, port, request))
        time.sleep(0.002)
    for flooder in flooders:
        flooder.join()
    median, p99 = percentiles(times)
    return {
        "offered/s": round(sum(sent.value + errors.value for sent, errors in counters) / SECONDS),
        "of them got as far as they would/s": round(sum(sent.value for sent, _ in counters) / SECONDS),
        "good": len(times), "median ms": round(median, 2), "p99 ms": round(p99, 2),
        "dropped before us": dropped() - before,
        "resident KiB": resident(service),
    }


def main():
    for arguments in (["addr", "add", f"{SERVICE}/24", "dev", "lo"], ["addr", "add", MANY, "dev", "lo"],
                      ["link", "set", "lo", "up"]):
        subprocess.run(["ip", *arguments], check=True)
    for name in (GOOD, ONE):
        subprocess.run(["ip", "addr", "add", f"{name}/24", "dev", "lo"], check=True)
    os.sched_setaffinity(0, OTHER_CORES or {FLOOD_CORE})
    service = Service(pathlib.Path(sys.argv[1]) / "data", ["--tunnel-listen", f"{SERVICE}:0"]).start()
    try:
        port = service.tunnel_port
        context = ssl.create_default_context(cafile=service.ca)
        token = Caller(service).ok("OpenTunnel")["sourceAccessToken"]
        request = UPGRADE.format(token, "g" * 32).encode()
        phases = {
            "nobody": (None, None),
            "one address": (flood, one),
            "guesses of one address": (guess, another),
            f"{SOME} addresses": (flood, some),
            "131,072 addresses": (flood, many),
        }
        print(json.dumps({
            name: phase(service, context, port, request, *how) for name, how in phases.items()
        }))
    finally:
        service.stop()


if __name__ == "__main__":
    main()
