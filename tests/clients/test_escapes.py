"""What callers send never reaches a terminal as it is: no sink has a raw control byte (reliability, T-22)."""

import json
import os
import re
import socket
import sqlite3
import ssl
import subprocess

import pytest

import botocore.exceptions

from caller import Caller
from conftest import Device, clean_environment
from handshake import handshake

# A colour, a window title, a cleared screen, a carriage return with a line of its own, a backspace, a
# bell, a delete, the one-byte forms of CSI and OSC, a line separator, and a change of direction.
SEQUENCES = [
    "\x1b[31mred", "\x1b]0;title\x07", "\x1b[2J\x1b[H", "\r\nERROR forged", "a\b\bb", "\x07", "\x7f",
    "\x9b31mred", "\x9d0;title\x9c", "\u2028next", "\u202eback", "\x00", "\t",
]
# Those that an HTTP header can carry: all but CR, LF and NUL.
IN_HEADERS = [text for text in SEQUENCES if not re.search("[\r\n\0]", text)]


def raw_controls(data):
    """Control characters besides the line feeds that end lines, and bytes that are no UTF-8."""
    text = data.decode(errors="surrogateescape")
    bad = re.compile("[\0-\t\v-\x1f\x7f-\x9f\u2028-\u202e\udc80-\udcff]")
    return [(found.group(), text[max(found.start() - 30, 0):found.end() + 30]) for found in bad.finditer(text)]


@pytest.mark.parametrize("sequence", SEQUENCES + [b"\x9b31m"])
def test_a_raw_control_byte_would_be_seen(sequence):
    data = sequence if isinstance(sequence, bytes) else sequence.encode()
    assert raw_controls(b"good\n" + data)


def adit(service, *arguments):
    command = [os.environ["ADIT_BIN"], *arguments, "--data-dir", str(service.directory)]
    return subprocess.run(command, capture_output=True, timeout=60, env=clean_environment())


def field(text):
    data = text.encode()
    return len(data).to_bytes(2, "big") + data


def packet(first, body):
    assert len(body) < 128
    return bytes([first, len(body)]) + body


def speak_mqtt(service, device, client_id, topic):
    """As a registered device, under this name; subscribes and publishes when it is let in."""
    context = ssl.create_default_context(cafile=service.ca)
    context.load_cert_chain(device.certificate, device.key)
    plain = socket.create_connection(("localhost", service.mqtt_port), timeout=20)
    connection = context.wrap_socket(plain, server_hostname="localhost")
    connection.sendall(packet(0x10, field("MQTT") + b"\x04\x02\x00\x3c" + field(client_id)))
    answer = connection.recv(4)
    if answer[3:] == b"\0":
        connection.sendall(packet(0x82, b"\0\1" + field(topic) + b"\1"))
        connection.recv(5)
        connection.sendall(packet(0x30, field(topic) + b"text"))
    while connection.recv(4096):
        pass


def register(iot, sequence):
    """A thing with this in all its texts, as far as it gets there."""
    name = f"thing-{SEQUENCES.index(sequence)}"
    for request in (
        {"thingName": name + sequence},
        {"thingName": name, "thingTypeName": sequence},
        {"thingName": name, "attributePayload": {"attributes": {sequence: "v"}}},
        {"thingName": name, "attributePayload": {"attributes": {"k": sequence}}},
        {"thingName": name},
    ):
        try:
            iot.create_thing(**request)
        except botocore.exceptions.ClientError:
            pass


def agents(device, directory):
    """What agents say of configurations with these in them."""
    quoted = lambda text: json.dumps(text, ensure_ascii=True).replace("\x7f", "\\u007f")
    for number, sequence in enumerate(SEQUENCES):
        good = {"endpoint": "localhost:1", "thing": "lamp", "certificate": device.certificate, "key": device.key}
        lines = [good | {name: value} for name in good for value in (sequence, good[name] + sequence)]
        texts = ["".join(f"{name} = {quoted(value)}\n" for name, value in line.items()) for line in lines]
        sound = "".join(f"{name} = {quoted(value)}\n" for name, value in good.items())
        texts += [f"{sound}{quoted(sequence)} = 1\n", f"{sound}[services]\n{quoted(sequence)} = 22\n",
                  f"{sound}[services]\nSSH = {quoted(sequence)}\n"]
        for turn, text in enumerate(texts):
            file = directory / f"agent-{number}-{turn}.toml"
            file.write_text(text)
            command = [os.environ["ADIT_BIN"], "agent", "--config", str(file), "--check"]
            yield subprocess.run(command, capture_output=True, timeout=60, env=clean_environment())


@pytest.mark.parametrize("form", ["text", "json"])
def test_no_sink_has_a_raw_control_byte(new_service, form, tmp_path):
    service = new_service("--log-format", form, "-v", "6")
    tunnels, refused, closed = [], 0, 0
    for sequence in IN_HEADERS:
        for agent in (sequence.encode(), sequence.encode("latin-1", "ignore")):
            try:
                status, _ = Caller(service, agent=b"agent " + agent).call("ListTunnels")
                refused += status != 200
            except (OSError, IndexError):
                closed += 1
    caller = Caller(service)
    for sequence in SEQUENCES:
        for request in (
            {"description": sequence},
            {"destinationConfig": {"thingName": sequence, "services": ["SSH"]}},
            {"destinationConfig": {"services": [sequence]}},
            {"tags": [{"key": "k" + sequence, "value": sequence}]},
        ):
            status, answer = caller.call("OpenTunnel", **request)
            if status == 200:
                tunnels.append(answer["tunnelId"])
            else:
                refused += 1
        caller.call("DescribeTunnel", tunnelId=sequence)
        caller.call(f"List{sequence}".encode("ascii", "ignore").decode().replace("\r\n", ""))
        caller = Caller(service)
        for mode in ("source", sequence.strip() or "x"):
            try:
                handshake(service, "token", re.sub("[\r\n\0 ]", "", mode) or "x")
            except (OSError, IndexError):
                closed += 1
    device = Device(service.client("iot"), tmp_path, "lamp")
    for sequence in SEQUENCES:
        for client_id in ("lamp", "lamp" + sequence):
            try:
                speak_mqtt(service, device, client_id, f"$aws/things/{sequence}/tunnels/notify")
            except OSError:
                closed += 1
    assert tunnels, "some of it is allowed, and stored"
    iot = service.client("iot", parameter_validation=False)
    for sequence in SEQUENCES:
        register(iot, sequence)
    shown = [adit(service, "tunnel", "list")]
    shown += [adit(service, "tunnel", "describe", tunnel) for tunnel in tunnels]
    shown += [adit(service, "tunnel", "describe", sequence) for sequence in SEQUENCES if "\0" not in sequence]
    shown += [adit(service, "thing", "list")]
    assert shown[0].returncode == shown[-1].returncode == 0, (shown[0].stderr, shown[-1].stderr)
    assert b"thing-0" in shown[-1].stdout
    names = [f"thing-{number}" for number in range(len(SEQUENCES))]
    names += [sequence for sequence in SEQUENCES if "\0" not in sequence]
    shown += [adit(service, "thing", "describe", name) for name in names]
    shown += agents(device, tmp_path)
    service.stop()
    with sqlite3.connect(service.directory / "adit.db") as database:
        rows = [row for row, in database.execute("SELECT record FROM audit ORDER BY sequence")]
    assert rows and all(json.loads(row) for row in rows)
    sinks = {
        "log": service.log.read_bytes(),
        "audit": (service.directory / "audit.jsonl").read_bytes(),
        "audit's rows": "\n".join(rows).encode(),
    }
    for number, run in enumerate(shown):
        sinks[f"stdout {number}"], sinks[f"stderr {number}"] = run.stdout, run.stderr
    assert b"agent " in sinks["audit"] and all(json.loads(line) for line in sinks["audit"].splitlines())
    found = {name: raw_controls(data) for name, data in sinks.items()}
    assert not any(found.values()), {name: bad[:3] for name, bad in found.items() if bad}
    size = sum(len(data) for data in sinks.values())
    print(f"T-22: {len(tunnels)} tunnels opened, {refused} requests refused, {closed} connections closed; "
          f"no raw control byte in {len(sinks)} sinks of {size} bytes")
