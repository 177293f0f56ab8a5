"""sslyze's intermediate profile (Mozilla's) against both listeners of a fresh `adit serve`.

Both have to comply, with the service's own authority as the one that is trusted.
"""

import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import time

READY_TIMEOUT = 30.0

# What the profile asks of the certificate and not of the protocol, and why it is ours to decide.
# A finding that is not listed here fails, and so does one that is listed and no longer there.
DEVIATIONS = {}


def start(directory):
    command = [os.environ["ADIT_BIN"], "serve", "--data-dir", str(directory), "--name", "localhost"]
    for name in ("--api-listen", "--tunnel-listen"):
        command += [name, "127.0.0.1:0"]
    log = open(directory.with_suffix(".log"), "wb")
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    deadline = time.monotonic() + READY_TIMEOUT
    while True:
        try:
            return process, json.loads((directory / "endpoints.json").read_text())
        except (FileNotFoundError, ValueError):
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(directory.with_suffix(".log").read_text())
            time.sleep(0.05)


def findings(place, port, directory):
    """What does not comply on this port: names of checks, with what is said about them."""
    report = directory / f"{port}.json"
    command = [
        str(place / "venv/bin/sslyze"),
        "--mozilla_config=intermediate",
        f"--certinfo_ca_file={directory / 'data' / 'ca.pem'}",
        f"--json_out={report}",
        f"localhost:{port}",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    result = json.loads(report.read_text())["server_scan_results"][0]
    assert result["connectivity_status"] == "COMPLETED", done.stdout
    for name, scan in result["scan_result"].items():
        assert scan["status"] in ("COMPLETED", "NOT_SCHEDULED"), f"{name}: {scan}"
    # One line for each thing that does not comply, between the headings of other checks.
    found = re.findall(r"^ *\* ([a-z0-9_]+): (.*)$", done.stdout, re.MULTILINE)
    is_good = done.returncode == 0
    assert is_good == ("OK - Compliant." in done.stdout), done.stdout
    assert is_good == (not found), done.stdout
    return {check: f"{check}: {what}" for check, what in found}


def main():
    place = pathlib.Path(sys.argv[1])
    wrong = []
    with tempfile.TemporaryDirectory() as directory:
        directory = pathlib.Path(directory)
        process, endpoints = start(directory / "data")
        try:
            for name in ("api", "tunnel"):
                port = int(endpoints[name].rpartition(":")[2].split("/")[0])
                found = findings(place, port, directory)
                for check, line in found.items():
                    if check not in DEVIATIONS:
                        wrong.append(f"{name}: {line}")
                wrong += [f"{name}: {c} is met by now" for c in DEVIATIONS if c not in found]
                print(f"{name}, port {port}: {len(found)} deviations from the intermediate profile")
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(20)
    if wrong:
        raise SystemExit("\n".join(wrong))


main()
