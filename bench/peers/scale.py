#!/usr/bin/env python3
"""scale.py RUNS RESULTS: the report of bench/scale.sh, from what its runs left behind."""

import json
import pathlib
import sys

MIB = 1 << 20


class Runs:
    """The directory of one call."""

    def __init__(self, directory):
        self.directory = pathlib.Path(directory)
        self.machine = json.loads((self.directory / "machine.json").read_text())

    def summary(self, name):
        """Of one process of the generator; None: it did not run, or failed."""
        path = self.directory / "runs" / name / "summary.json"
        code = self.directory / "runs" / f"{name}.code"
        if not path.exists() or code.read_text().strip() != "0":
            return None
        return json.loads(path.read_text())

    def was_run(self, name):
        """Whether it was asked for."""
        return (self.directory / "runs" / f"{name}.code").exists()

    def number(self, name):
        """One that a file holds."""
        path = self.directory / "runs" / name
        return int(path.read_text()) if path.exists() else None


def rows_of(runs):
    """(what, figure, bound, whether it is met) of all parts that were run."""
    rows = []
    for part, find in (
        ("connections-1", connections),
        ("base", base),
        ("tunnels", tunnels),
        ("handshakes-500", handshakes),
    ):
        if runs.was_run(part):
            rows += find(runs)
    return rows


def connections(runs):
    """Two processes of the generator, one tunnel."""
    summaries = [runs.summary(f"connections-{seed}") for seed in (1, 2)]
    what = "10,000 connections at once in one tunnel, two processes of the generator"
    if None in summaries:
        return [(what, "a run failed: bytes were lost or wrong", "all verified, none lost", False)]
    lost = sum(sum(it["errors"].values()) + sum(it["connection_errors"].values()) for it in summaries)
    trips = sum(it["operations"] for it in summaries)
    at_once = runs.number("connections.open")
    figure = f"{at_once:,} open at once; {trips:,} round trips verified, {lost} lost or wrong"
    return [(what, figure, "all verified, none lost", lost == 0 and at_once >= 10_000)]


def base(runs):
    """User memory of each process."""
    summary = runs.summary("base")
    if summary is None:
        return [("user memory of a process with one connection", "the run failed", "< 12 MiB", False)]
    rows = []
    for use in summary["processes"]:
        if use["pid"] is not None:
            size = use["user_memory_max_bytes"] / MIB
            what = f"user memory with one connection, {use['name']}"
            rows.append((what, f"{size:.1f} MiB", "< 12 MiB", size < 12))
    return rows


def tunnels(runs):
    """Idle tunnels beside active ones."""
    summary = runs.summary("tunnels")
    what = "1,000 tunnels on one relay, 10 active: "
    if summary is None:
        return [(what + "all", "the run failed", "", False)]
    figures = summary["figures"]
    kept = figures["kept_share"]
    low, high = figures["kept_least_share"], figures["kept_most_share"]
    rate = f"{kept:.3f} ({low:.3f}–{high:.3f})"
    return [(what + "share of their rate that the active ones keep", rate, "≥ 0.95", kept >= 0.95)]


def handshakes(runs):
    """The same storm over more and more tunnels. With 500 it is the clients' jitter that bounds the rate."""
    rows, first = [], None
    for count in (500, 2000, 5000):
        name = f"handshakes-{count}"
        if not runs.was_run(name):
            continue
        summary = runs.summary(name)
        what = f"handshakes when {count:,} tunnels come back"
        if summary is None:
            rows.append((what, "the run failed", "", False))
            continue
        figures = summary["figures"]
        attempts, peak = figures["attempts_count"], figures["attempts_max_per_second"]
        cpu = sum(
            use["cpu_user_s"] + use["cpu_system_s"] for use in summary["processes"] if use["name"].startswith("service")
        )
        each = cpu / attempts * 1e3
        figure = (
            f"{peak:,.0f} in the fullest second; {each:.2f} ms of the relay's processor time each; "
            f"{figures['failed_attempts_count']:,.0f} refused and tried again; all back after "
            f"{figures['both_links_back_max_s']:.1f} s"
        )
        first = first or (peak, each)
        is_met = peak >= first[0] and each <= first[1]
        rows.append((what, figure, "not fewer in a second, nor dearer, than with 500", is_met))
    return rows


def main(directory, results):
    """Writes the report."""
    runs = Runs(directory)
    machine = runs.machine
    lines = [
        "# How adit grows",
        "",
        "| | |",
        "|---|---|",
        f"| measured | {machine['started_at']}, commit {machine['commit']} |",
        f"| command | `{machine['command']}` |",
        f"| machine | {machine['cpu']}, {machine['cores']} cores"
        f"{', virtual' if machine['is_virtual'] else ''}, {machine['memory_gib']} GiB |",
        f"| system | {machine['system']}, Linux {machine['kernel']} {machine['architecture']} |",
        f"| network | loopback in a private namespace, congestion control {machine['congestion_control']} |",
        "",
        "This file is written by the command; what it cannot measure is not in it. Generator, its server and all",
        "parts of the tunnel share the cores. `bench/RESULTS.md` has the figures beside other systems.",
        "",
        "| what | figure | bound | met |",
        "|---|---|---|---|",
    ]
    for what, figure, bound, is_met in rows_of(runs):
        lines.append(f"| {what} | {figure} | {bound} | {'yes' if is_met else '**no**'} |")
    pathlib.Path(results).write_text("\n".join(lines) + "\n")
    print("\n".join(lines[-12:]))


if __name__ == "__main__":
    main(*sys.argv[1:])
