"""One caller opens tunnels as fast as it can: what is kept is bounded, and others are served (reliability, T-23).

`ADIT_OPENINGS` is how many times it tries in each test (a release: 100,000). Times are printed, and with
`ADIT_JUDGE=1` judged: others wait less than twice as long where the flood is held to a rate. The flood stays
on the first core and gives way to whoever else wants it, as if it came from elsewhere; who is watched stays on the
others; the service and its store have them all.
"""

import contextlib
import json
import os
import subprocess
import sys
import time

from caller import JUDGES, Caller, percentiles

OPENINGS = int(os.environ.get("ADIT_OPENINGS", "500"))
FLOODERS = 2
# How long the others are watched without the flood, in seconds; then, as long as it lasts.
WATCHED = min(30.0, OPENINGS / 1000)
# Each call beyond the rate waits so long for its refusal, in seconds.
THROTTLED_FOR = 0.1
# Of a round of four calls, so that the others keep to 80 calls in a second.
PAUSE = 0.05
# Calls in a second of the key that is throttled: a fraction of what a machine answers that builds meanwhile.
RATE = 50

# Tunnels of a page; as many are there from the start, so that a page costs the same with and without the flood.
PAGE = 100

# What one key may have open or call is another limit.
UNLIMITED = ("--quota", "open-tunnels-per-key=0", "--quota", "api-calls-per-second=0")

FLOOD_CORE, *OTHER_CORES = sorted(os.sched_getaffinity(0))


@contextlib.contextmanager
def away_from_the_flood():
    """For this process alone: what it starts has the cores that it had then, so that nothing is started in here."""
    os.sched_setaffinity(0, OTHER_CORES or {FLOOD_CORE})
    try:
        yield
    finally:
        os.sched_setaffinity(0, {FLOOD_CORE, *OTHER_CORES})


# A process of its own, so that the others do not wait for it inside this one.
FLOOD = """
import collections, json, os, sys, time
from caller import Caller
from conftest import Service
directory, endpoints, key, secret, count, core = sys.argv[1:]
os.sched_setaffinity(0, {int(core)})
os.nice(19)
service = Service(directory)
service.endpoints = json.loads(endpoints)
caller = Caller(service, (key, secret))
print("ready", flush=True)
sys.stdin.readline()
answers = collections.Counter()
started = time.monotonic()
for _ in range(int(count)):
    status, answer = caller.call("OpenTunnel")
    answers[f"{status} {answer.get('__type', '')}".strip()] += 1
print(json.dumps([time.monotonic() - started, answers]))
"""


class Flood:
    def __init__(self, service, keys, openings=OPENINGS):
        count = str(openings // FLOODERS)
        arguments = [str(service.directory), json.dumps(service.endpoints), *keys, count, str(FLOOD_CORE)]
        self.processes = [
            subprocess.Popen([sys.executable, "-c", FLOOD, *arguments], text=True,
                             stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            for _ in range(FLOODERS)
        ]
        for process in self.processes:
            assert process.stdout.readline() == "ready\n"
        for process in self.processes:
            process.stdin.write("go\n")
            process.stdin.flush()

    def runs(self):
        return any(process.poll() is None for process in self.processes)

    def end(self):
        """What was answered, and how many calls in a second."""
        total, longest = {}, 0.0
        for process in self.processes:
            out, _ = process.communicate(timeout=3600)
            assert process.returncode == 0
            took, answers = json.loads(out)
            longest = max(longest, took)
            for answer, count in answers.items():
                total[answer] = total.get(answer, 0) + count
        return total, sum(total.values()) / longest


def second_key(service):
    """A key of somebody else, who may do everything, too."""
    path = service.directory / "access-keys.json"
    keys = json.loads(path.read_text())
    other = keys[0] | {"accessKeyId": "ADITOTHERSOTHERSOTHERS", "secretAccessKey": "o" * 40, "user": "other"}
    path.write_text(json.dumps([*keys, other]))
    service.reload()
    keys = other["accessKeyId"], other["secretAccessKey"]
    deadline = time.monotonic() + 10
    while Caller(service, keys).call("ListTunnels")[0] != 200:
        assert time.monotonic() < deadline, "the second key is not taken"
        time.sleep(0.05)
    return keys


def watch(caller, goes_on, pause=PAUSE):
    """Calls of somebody else, one after the other; times by operation."""
    times = {"OpenTunnel": [], "DescribeTunnel": [], "ListTunnels": [], "CloseTunnel": []}

    def timed(operation, **request):
        begun = time.monotonic()
        answer = caller.ok(operation, **request)
        times[operation].append(time.monotonic() - begun)
        return answer

    while goes_on() or not times["CloseTunnel"]:
        tunnel = timed("OpenTunnel")["tunnelId"]
        timed("DescribeTunnel", tunnelId=tunnel)
        timed("ListTunnels", maxResults=PAGE)
        timed("CloseTunnel", tunnelId=tunnel, delete=True)
        time.sleep(pause)
    return times


def for_a_while():
    ends = time.monotonic() + WATCHED
    return lambda: time.monotonic() < ends


def show(name, base, flooded, judged):
    missed = []
    for operation, samples in base.items():
        (median, p99), (under, under_p99) = percentiles(samples), percentiles(flooded[operation])
        print(f"{name}: {operation}: median {median:.2f} -> {under:.2f} ms, p99 {p99:.2f} -> "
              f"{under_p99:.2f} ms, {len(samples)} and {len(flooded[operation])} calls")
        if under_p99 >= 2 * p99:
            missed.append(operation)
    assert not (judged and JUDGES and missed), missed


def flood(service, name, judged=True, openings=OPENINGS, pause=PAUSE):
    other = Caller(service, second_key(service))
    page = []
    for _ in range(PAGE):
        page.append(other.ok("OpenTunnel")["tunnelId"])
        time.sleep(pause / 4)
    with away_from_the_flood():
        base = watch(other, for_a_while(), pause)
    flood = Flood(service, service.keys, openings)
    with away_from_the_flood():
        flooded = watch(other, flood.runs, pause)
    answers, rate = flood.end()
    throttled = sum(count for answer, count in answers.items() if answer.endswith("ThrottlingException"))
    assert openings / rate >= throttled / FLOODERS * THROTTLED_FOR, "who is throttled was answered at once"
    print(f"{name}: {openings} calls, {rate:.0f} a second: {answers}")
    show(name, base, flooded, judged)
    # One server holds what each test opens, and this key has a quota, too.
    for tunnel in page:
        other.ok("CloseTunnel", tunnelId=tunnel, delete=True)
        time.sleep(pause / 4)
    return answers


def stored(service):
    caller, count, token = Caller(service), 0, {}
    while True:
        status, page = caller.call("ListTunnels", maxResults=PAGE, **token)
        if status != 200:
            assert page["__type"] == "ThrottlingException", page
            time.sleep(PAUSE)
            continue
        count += len(page["tunnelSummaries"])
        if "nextToken" not in page:
            return count
        token = {"nextToken": page["nextToken"]}


def test_a_flood_of_openings_ends_at_the_quota(new_service, store):
    """Tunnels take no more room than the quota says, whoever opens them and how often."""
    quota = OPENINGS // 4
    service = new_service(*UNLIMITED, "--quota", f"open-tunnels={quota}", *store)
    keys = second_key(service)
    answers = Flood(service, service.keys).end()[0]
    refused = [answer for answer in answers if answer.endswith("LimitExceededException")]
    assert answers.pop("200") == quota and len(refused) == 1, answers
    assert answers == {refused[0]: OPENINGS // FLOODERS * FLOODERS - quota}
    assert stored(service) == quota
    other = Caller(service, keys)
    other.ok("DescribeTunnel", tunnelId=other.ok("ListTunnels")["tunnelSummaries"][0]["tunnelId"])


def test_a_flood_of_one_caller_ends_at_its_own_quota_and_others_open_on(new_service, store):
    """By the rate that every key is held to unless somebody says otherwise."""
    quota = max(OPENINGS // 10, 2 * PAGE)
    service = new_service("--quota", f"open-tunnels-per-key={quota}", *store)
    answers = flood(service, "limited")
    assert answers.pop("200") == quota
    refused = {answer.split()[-1] for answer in answers}
    assert "LimitExceededException" in refused
    assert refused <= {"LimitExceededException", "ThrottlingException"}


def test_what_a_flood_costs_others_where_no_rate_is_kept(new_service, store):
    quota = max(OPENINGS // 10, 2 * PAGE)
    limits = ("--quota", f"open-tunnels-per-key={quota}", "--quota", "api-calls-per-second=0")
    service = new_service(*limits, *store)
    answers = flood(service, "no rate", judged=False)
    refused = [answer for answer in answers if answer.endswith("LimitExceededException")]
    assert answers == {"200": quota, refused[0]: OPENINGS // FLOODERS * FLOODERS - quota}


def test_a_flood_beyond_the_rate_is_throttled_and_others_are_served(new_service, store):
    service = new_service("--quota", f"api-calls-per-second={RATE}", *store)
    before = stored(service)
    # Each that is throttled waits for its answer, so that fewer take as long.
    answers = flood(service, "throttled", openings=max(OPENINGS // 10, 300), pause=2 * PAUSE)
    assert answers.pop("200") == stored(service) - before
    throttled = [answer for answer in answers if answer.endswith("ThrottlingException")]
    assert list(answers) == throttled and throttled, answers


def test_what_lists_and_descriptions_cost_in_a_full_store(new_service, store):
    """Everything is admitted and kept: ListTunnels and DescribeTunnel as a caller sees them."""
    service = new_service(*UNLIMITED, "--quota", "open-tunnels=1000000", *store)
    answers = flood(service, "admitted", judged=False)
    assert answers == {"200": OPENINGS // FLOODERS * FLOODERS}
    times = watch(Caller(service), for_a_while())
    for operation in ("ListTunnels", "DescribeTunnel"):
        median, p99 = percentiles(times[operation])
        print(f"{OPENINGS} stored: {operation}: median {median:.2f} ms, p99 {p99:.2f} ms")
        assert not JUDGES or p99 < 5.0, operation
