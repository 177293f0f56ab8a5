"""Autobahn's cases, by kosoku, against the WebSocket code of the relay and of the proxy.

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
    """The suite is the client, our accept loop and reader the server."""
    server = subprocess.Popen(
        [os.environ["ADIT_CONFORMANCE_BIN"], *options, "server", "127.0.0.1:0"],
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        address = re.search(r"listening on (\S+)", server.stderr.readline())[1]
        kosoku(place, "fuzzingclient", f"ws://{address}", cases, out).wait(PATIENCE)
    finally:
        server.kill()
        server.wait()
    return results(out)


def against_client(place, cases, out, count):
    """The suite is the server, our dialler and reader the client."""
    port = free_port()
    suite = kosoku(place, "fuzzingserver", f"127.0.0.1:{port}", cases, out)
    try:
        wait_for(port)
        paths = [f"/runCase?case={case}&agent=adit" for case in range(1, count + 1)]
        command = [os.environ["ADIT_CONFORMANCE_BIN"], "client", f"127.0.0.1:{port}"]
        subprocess.run(command + paths + ["/updateReports?agent=adit"], check=True, timeout=PATIENCE)
        # That was the last word: it writes its report and ends.
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
        for end in ("server", "client", "server, text as it is"):
            out = pathlib.Path(directory) / end
            if end == "server":
                verdicts = against_server(place, cases, out)
                count = len(verdicts)
            elif end == "client":
                verdicts = against_client(place, cases, out, count)
            elif not cases:
                verdicts = against_server(place, ["1.1.*"], out, "--as-is")
                count = TEXT_COUNT
            else:
                continue
            by_verdict = {}
            for messages, *_ in verdicts.values():
                by_verdict[messages] = by_verdict.get(messages, 0) + 1
            said = ", ".join(f"{number} {name}" for name, number in sorted(by_verdict.items()))
            print(f"{end}: {len(verdicts)} cases: {said}", flush=True)
            expected = count if cases or end not in ("server", "client") else CASE_COUNT
            if len(verdicts) != expected:
                wrong.append(f"{end}: {len(verdicts)} of {expected} cases have a verdict")
            wrong += judge(end, verdicts, deviations)
    if wrong:
        raise SystemExit("\n".join(wrong))


main()
