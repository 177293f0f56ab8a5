#!/usr/bin/env python3
"""Renders saved runs: render.py RUNS.jsonl[,RUNS.jsonl…] RESULTS.md. The plot goes beside the report, as an SVG.

Later files take the place of earlier ones in the scenarios that they have, for all systems: what is compared was measured
in the same rounds.
"""

import json
import pathlib
import sys

import figures
import plot

NAMES = {
    "adit": "adit",
    "haproxy-3": "HAProxy ×3",
    "haproxy-3-splice": "HAProxy ×3, splice",
    "haproxy-1": "HAProxy ×1",
    "haproxy-tls": "HAProxy TLS pair",
    "stunnel": "stunnel pair",
    "ssh": "`ssh -L`",
    "socat": "socat",
    "penguin": "penguin",
    "adit-epoll": "adit, epoll",
    "adit-uring": "adit, io_uring",
    "direct": "no forwarder",
}

WHAT = {
    "adit": "`adit serve --loops 1` as relay, `adit proxy` as source and as destination, TLS 1.3 on both links",
    "haproxy-3": "three HAProxy processes in a row, plain TCP (H3 below)",
    "haproxy-3-splice": "the same with `option splice-auto`",
    "haproxy-1": "one HAProxy process, plain TCP",
    "haproxy-tls": "two HAProxy processes, TLS 1.3 with AES-128-GCM between them",
    "stunnel": "two stunnel processes, TLS 1.3 with AES-128-GCM between them",
    "ssh": "`ssh -L` and sshd, aes128-gcm@openssh.com, no compression",
    "socat": "one socat process for each connection, plain TCP",
    "adit-epoll": "the same as adit, all three processes with `--io epoll`",
    "adit-uring": "the same as adit, all three processes with `--io uring`",
    "penguin": "rusty-penguin from crates.io: WebSocket over TLS, all connections in one",
    "direct": "the generator on its own server: what machine and generator can do",
}


# More than this share of the cores taken by others, and figures are theirs, too.
BUSY_MAX = 0.1


def main(runs_paths, results_path):
    texts = [pathlib.Path(path).read_text() for path in runs_paths.split(",")]
    runs = figures.Runs(merge([[json.loads(line) for line in text.splitlines() if line.strip()] for text in texts]))
    results = pathlib.Path(results_path)
    picture = results.with_suffix(".svg")
    picture.write_text(plot.draw(runs, {name: text.replace("`", "") for name, text in NAMES.items()}))
    results.write_text(document(runs, picture.name))
    print(f"{results}\n{picture}")


def merge(files):
    """One list of lines. Each machine's line gets the scenarios and rounds that are its file's."""
    kept = []
    for lines in files:
        own = [line for line in lines if line["kind"] == "run"]
        scenarios = list(dict.fromkeys(run["scenario"] for run in own))
        rounds = max((run["round"] for run in own), default=0)
        kept = [without(line, scenarios) for line in kept if line["kind"] != "run" or line["scenario"] not in scenarios]
        kept += [
            {**line, "scenarios": scenarios, "rounds": rounds} if line["kind"] == "machine" else line for line in lines
        ]
    return kept


def without(line, scenarios):
    """A machine's line, less what a later file has."""
    if line["kind"] != "machine":
        return line
    return {**line, "scenarios": [name for name in line["scenarios"] if name not in scenarios]}


def document(runs, picture):
    parts = [
        "# adit beside its peers\n",
        head(runs),
        "## Against the bounds\n",
        bounds(runs),
        "## All systems\n",
        everything(runs),
        f"![The same, drawn]({picture})\n",
        failures(runs),
    ]
    return "\n".join(part for part in parts if part)


def head(runs):
    machine = runs.machine
    cores = f"{machine['cores']} cores" + (", virtual" if machine["is_virtual"] else "")
    versions = "; ".join(f"{name}: {version}" for name, version in machine["versions"].items())
    listed = [f"* {NAMES[name]}: {WHAT[name]}" for name in runs.systems()]
    rows = [
        *measured(runs),
        ("machine", f"{machine['cpu']}, {cores}, {machine['memory_gib']} GiB"),
        ("system", f"{machine['system']}, Linux {machine['kernel']} {machine['architecture']}"),
        ("network", f"loopback in a private namespace, congestion control {machine['congestion_control']}"),
        ("processor time", f"by {machine['accounting']}, user and kernel, of all processes of a system"),
        ("versions", versions),
        ("others", others(runs.busy)),
    ]
    table = ["| | |", "|---|---|", *(f"| {name} | {cell(text)} |" for name, text in rows)]
    words = (
        "Generator, its verifying server and the system under test share the machine's cores. Every byte is verified. "
        "In each round every system runs each scenario once, in turns, as new processes in a new namespace. Figures "
        "are medians over the rounds, with the lowest and the highest in parentheses; ratios are medians of the "
        "rounds' ratios. A dagger (†) marks figures of runs in which mostly the generator itself was at its limits "
        "(a thread of it over 80 % busy, or woken over 1 ms late).\n\n"
        "This file is written by the command; what it cannot measure is not in it.\n"
    )
    return "\n".join([*table, "", words, *listed, ""])


def measured(runs):
    """When, and by which command. Only what was measured later is named by its scenarios."""
    rows = []
    for machine in runs.machines:
        when = f"{machine['started_at']}, commit {machine['commit']}, {machine['rounds']} rounds"
        command = f"`{machine['command']}`"
        if rows and machine["scenarios"]:
            rows.append(("measured later", f"{', '.join(machine['scenarios'])}: {when}, by {command}"))
        elif not rows:
            rows += [("measured", when), ("command", command)]
    return rows


def others(shares):
    if not shares:
        return "not known"
    text = f"kept the cores {min(shares):.0%} to {max(shares):.0%} busy in the second before each round"
    return text if max(shares) <= BUSY_MAX else f"{text}: **not quiet, so latencies and ratios say little**"


def bounds(runs):
    lines = [
        "| figure | adit | beside | its figure | ratio | bound | met |",
        "|---|---|---|---|---|---|---|",
    ]
    verdicts = [figures.judge(runs, bound) for bound in figures.BOUNDS]
    for verdict in verdicts:
        figure, bound = verdict.figure, verdict.bound
        beside = reference = ratio = "–"
        if bound.factor is not None:
            beside = bound.own_figure or NAMES[bound.reference]
            reference = spread(verdict.reference, figure.unit)
            ratio = spread(verdict.ratio, "")
        met = {None: "not measured", True: "yes", False: "**no**"}[verdict.is_met]
        own = spread(verdict.own, figure.unit) + dagger(runs, figure, "adit")
        row = [figure.name, own, beside, reference, ratio, wanted(figure, bound), met]
        lines.append("| " + " | ".join(row) + " |")
    met = sum(verdict.is_met is True for verdict in verdicts)
    measured = sum(verdict.is_met is not None for verdict in verdicts)
    lines += ["", f"Met: {met} of {measured} measured."]
    return "\n".join([*lines, ""])


def wanted(figure, bound):
    sign = "≤" if figure.less_is_better else "≥"
    parts = []
    if bound.factor is not None:
        parts.append(f"{sign} {bound.factor:g} ×")
    if bound.limit is not None:
        parts.append(f"{sign} {quantity(bound.limit, figure.unit)}")
    return ", ".join(parts)


def everything(runs):
    systems = runs.systems()
    lines = [
        "| figure | unit | " + " | ".join(NAMES[name] for name in systems) + " |",
        "|---|---|" + "---|" * len(systems),
    ]
    for figure in figures.FIGURES:
        spreads = [runs.spread(figure, name) for name in systems]
        if not any(spreads):
            continue
        cells = [spread(found, "") + dagger(runs, figure, name) for found, name in zip(spreads, systems)]
        lines.append(f"| {figure.name} | {figure.unit or 'share'} | " + " | ".join(cells) + " |")
    return "\n".join([*lines, ""])


def failures(runs):
    failed = runs.failures()
    if not failed:
        return f"All {len(runs.runs)} runs ended well: every byte arrived, in order, as it was sent.\n"
    lines = [
        f"## Runs that failed\n\n{len(failed)} of {len(runs.runs)}. Their figures are left out above.\n",
        "| round | scenario | system | exit code | what was said |",
        "|---|---|---|---|---|",
    ]
    for run in failed:
        said = run.get("said", "").splitlines()
        errors = run.get("summary", {}).get("errors") or {}
        what = "; ".join([*(f"{kind}: {count}" for kind, count in errors.items()), *said[-1:]])
        words = [run["round"], run["scenario"], NAMES[run["system"]], run["exit_code"], cell(what)]
        lines.append("| " + " | ".join(str(word) for word in words) + " |")
    return "\n".join([*lines, ""])


def dagger(runs, figure, system):
    return " †" if runs.spread(figure, system) and runs.generator_bound(figure, system) else ""


def spread(found, unit):
    if found is None:
        return "–"
    text = quantity(found.median, unit)
    if found.count > 1:
        text += f" ({number(found.low)}–{number(found.high)})"
    return text


def quantity(value, unit):
    return f"{number(value)}{'' if unit in ('', '/s') else ' '}{unit}"


def number(value):
    """Three significant digits; thousands apart."""
    if value == 0:
        return "0"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    if 0.99 <= value < 1:
        return f"{value:.4f}"
    digits = 2 if abs(value) < 10 else 1 if abs(value) < 100 else 0
    return f"{value:.{digits}f}" if abs(value) >= 0.1 else f"{value:.2g}"


def cell(text):
    return str(text).replace("|", "\\|").replace("\n", " ")


if __name__ == "__main__":
    main(*sys.argv[1:])
