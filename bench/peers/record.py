#!/usr/bin/env python3
"""Turns what a run left behind into one line of runs.jsonl.

record.py machine ROOT CONGESTION ACCOUNTING COMMAND VERSIONS   the first line
record.py run ROUND SCENARIO SYSTEM EXIT_CODE DIRECTORY         a line for each run
record.py busy ROUND                                            how busy the machine is with others
record.py line                                                  a line from standard input, in words
"""

import datetime
import json
import os
import pathlib
import platform
import subprocess
import sys
import time

# Lists with an entry for each second, stream or percentile stay in the run's own summary.json.
LEFT_OUT = {"series", "spectrum", "bins", "streams", "command_line", "thresholds", "ramp"}

# Exit code of a system that did not come up.
NOT_UP = 100


def machine(root, congestion, accounting, command, versions):
    """What figures were measured on, without names of hosts or users."""
    cpu = _after("/proc/cpuinfo", "model name")
    flags = (_after("/proc/cpuinfo", "flags") or "").split()
    memory = int((_after("/proc/meminfo", "MemTotal") or "0 kB").split()[0])
    os_name = {}
    for line in _text("/etc/os-release").splitlines():
        key, _, value = line.partition("=")
        os_name[key] = value.strip('"')
    system = os_name.get("PRETTY_NAME", "unknown system")
    if os_name.get("ID") == "debian":
        system = f"Debian {_text('/etc/debian_version').strip()}"
    return {
        "kind": "machine",
        "started_at": _now(),
        "commit": _commit(root),
        "command": command,
        "system": system,
        "kernel": platform.release(),
        "architecture": platform.machine(),
        "cpu": cpu,
        "is_virtual": "hypervisor" in flags,
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(memory / (1 << 20), 1),
        "congestion_control": congestion,
        "accounting": accounting,
        "versions": json.loads(versions),
    }


def run(round_number, scenario, system, code, directory):
    """One run, with what the generator says of it."""
    directory = pathlib.Path(directory)
    line = {
        "kind": "run",
        "round": int(round_number),
        "scenario": scenario,
        "system": system,
        "exit_code": int(code),
        "ended_at": _now(),
    }
    path = directory / "summary.json"
    if path.exists():
        line["summary"] = _short(json.loads(path.read_text()))
    if int(code) not in (0, 3):
        line["said"] = _text(directory / "stderr.log").strip()[-500:]
    return line


def busy(round_number):
    """How much of the cores others use, while nothing of this script runs: over a second."""
    idle, total = _ticks()
    time.sleep(1)
    idle_later, total_later = _ticks()
    share = 1 - (idle_later - idle) / max(total_later - total, 1)
    return {"kind": "busy", "round": int(round_number), "share": round(max(share, 0.0), 3)}


def in_words(line):
    """A line for whoever watches."""
    if line["kind"] == "busy":
        return f"{line['round']} others keep the cores {line['share']:.0%} busy"
    head = f"{line['round']} {line['scenario']:<16} {line['system']:<16}"
    if line["exit_code"] == NOT_UP:
        return f"{head} did not come up"
    summary = line.get("summary")
    if summary is None:
        return f"{head} failed ({line['exit_code']}): {line.get('said', '')}"
    bits = summary["up_bits_per_second"] + summary["down_bits_per_second"]
    latency = summary["corrected"]
    text = f"{head} {bits / 1e9:7.3f} Gbit/s {summary['achieved_rate']:9.0f}/s"
    if latency["count"]:
        text += f"  p50 {latency['p50_ns'] / 1e3:.0f} µs  p99 {latency['p99_ns'] / 1e3:.0f} µs"
    if line["exit_code"]:
        text += f"  exit code {line['exit_code']}, errors {summary['errors']}"
    return text


def _ticks():
    """Idle ones, waiting for disks included, and all; since the machine is up, over all cores."""
    ticks = [int(word) for word in _text("/proc/stat").splitlines()[0].split()[1:9]]
    return ticks[3] + ticks[4], sum(ticks)


def _short(value):
    if isinstance(value, dict):
        return {key: _short(inner) for key, inner in value.items() if key not in LEFT_OUT}
    if isinstance(value, list):
        return [_short(inner) for inner in value]
    return value


def _commit(root):
    """The commit, and whether something was changed beyond it."""

    def git(*words):
        done = subprocess.run(["git", "-C", root, *words], capture_output=True, text=True, check=False)
        return done.stdout.strip() if done.returncode == 0 else ""

    commit = git("rev-parse", "--short=12", "HEAD")
    changed = git("status", "--porcelain", "--untracked-files=no", "--", ":!bench")
    return f"{commit} with changes" if changed else commit


def _now():
    return datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def _text(path):
    try:
        return pathlib.Path(path).read_text(errors="replace")
    except OSError:
        return ""


def _after(path, key):
    for line in _text(path).splitlines():
        name, _, value = line.partition(":")
        if name.strip() == key:
            return value.strip()
    return None


def main(words):
    if words[:1] == ["line"]:
        print(in_words(json.load(sys.stdin)))
        return
    made = {"machine": machine, "run": run, "busy": busy}[words[0]](*words[1:])
    print(json.dumps(made, ensure_ascii=False))


if __name__ == "__main__":
    main(sys.argv[1:])
