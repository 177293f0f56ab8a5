"""Autobahn's cases, by kosoku, against a real `adit serve` and a real `adit proxy`, through our bridge.

Every case has to be OK (or say that what it asks is not laid down), unless `deviations.json` names it
with what comes instead, and why. A case that is named there and is OK fails as well.
"""

import fnmatch
import json
import os
import pathlib
import re
import socket
import subprocess
import sys
import tempfile
import time

PATIENCE = 600
# The whole suite; `kosoku==0.1.0` has these.
CASE_COUNT = 517
# Those of its first group.
TEXT_COUNT = 8
# Compression: no extension is agreed on, so each of these says that it is not implemented.
COMPRESSION = ("12.*", "13.*")
FINE = ("OK", "INFORMATIONAL", "NON-STRICT")


def kosoku(place, mode, address, cases, out):
    command = [str(place / "venv/bin/kosoku"), "-m", mode, "-o", str(out), "-p", "2"]
    for case in cases:
        command += ["-i", case]
    # It tells of every failure, and knows nothing of what deviates on purpose.
    quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return subprocess.Popen(command + [address], **quiet)


def results(out):
    """Verdict of each case: of its messages, of its end, and the code that we closed with."""
    index = json.loads((out / "index.json").read_text())
    (cases,) = index.values()
    parts = ("behavior", "behaviorClose", "remoteCloseCode")
    return {case: [row[part] for part in parts] for case, row in cases.items()}


def against_server(place, cases, out, *options):
    """The suite is the client, `adit serve` the server."""
    bridge = subprocess.Popen(
        [os.environ["ADIT_CONFORMANCE_BIN"], *options, "server", "127.0.0.1:0"],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        address = re.search(r"listening on (\S+)", bridge.stdout.readline())[1]
        kosoku(place, "fuzzingclient", f"ws://{address}", cases, out).wait(PATIENCE)
    finally:
        bridge.terminate()
        bridge.wait(60)
    return results(out)


def against_client(place, cases, out, count, *options):
    """The suite is the server, `adit proxy` the client."""
    port = free_port()
    suite = kosoku(place, "fuzzingserver", f"127.0.0.1:{port}", cases, out)
    try:
        wait_for(port)
        bridge = [os.environ["ADIT_CONFORMANCE_BIN"], *options, "client", f"127.0.0.1:{port}"]
        paths = [f"/runCase?case={case}&agent=adit" for case in range(1, count + 1)]
        subprocess.run(bridge + paths, check=True, timeout=PATIENCE)
        # The last word, once all cases are over: it writes its report and ends.
        subprocess.run(bridge + ["/updateReports?agent=adit"], check=True, timeout=PATIENCE)
        suite.wait(60)
    finally:
        suite.kill()
        suite.wait()
    return results(out)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(port):
    deadline = time.monotonic() + 30
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port)).close()
        except ConnectionRefusedError:
            assert time.monotonic() < deadline, "the suite does not listen"
            time.sleep(0.05)


def judge(end, verdicts, deviations):
    """What is not as it should be."""
    wrong = []
    for case, verdict in sorted(verdicts.items()):
        messages, close, code = verdict
        given = next((row for row in deviations if covers(row, end, case)), None)
        if any(fnmatch.fnmatch(case, pattern) for pattern in COMPRESSION):
            expected = messages == "UNIMPLEMENTED"
        elif given:
            expected = verdict in given["verdicts"]
        else:
            expected = messages in FINE and close in ("OK", "INFORMATIONAL")
        if not expected:
            wrong.append(f"{end}, case {case}: {messages}, its end {close}, our code {code}")
    return wrong


def covers(row, end, case):
    return end in row["ends"] and any(fnmatch.fnmatch(case, pattern) for pattern in row["cases"])


def main():
    place, cases = pathlib.Path(sys.argv[1]), sys.argv[2:]
    deviations = json.loads(pathlib.Path(__file__).with_name("deviations.json").read_text())
    wrong, verdicts = [], {}
    with tempfile.TemporaryDirectory() as directory:
        for end in ("server", "client", "server, text as it is", "client, text as it is"):
            is_plain = "text" in end
            if is_plain and cases:
                continue
            out = pathlib.Path(directory) / end
            wanted, options = (["1.1.*"], ["--as-is"]) if is_plain else (cases, [])
            if end.startswith("server"):
                verdicts = against_server(place, wanted, out, *options)
                count = len(verdicts)
            else:
                verdicts = against_client(place, wanted, out, count, *options)
            by_verdict = {}
            for messages, *_ in verdicts.values():
                by_verdict[messages] = by_verdict.get(messages, 0) + 1
            said = ", ".join(f"{number} {name}" for name, number in sorted(by_verdict.items()))
            print(f"{end}: {len(verdicts)} cases: {said}", flush=True)
            expected = TEXT_COUNT if is_plain else count if cases else CASE_COUNT
            if len(verdicts) != expected:
                wrong.append(f"{end}: {len(verdicts)} of {expected} cases have a verdict")
            wrong += judge(end, verdicts, deviations)
    if wrong:
        raise SystemExit("\n".join(wrong))


main()
