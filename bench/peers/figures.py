"""What the runs say: one figure for each scenario that is of interest, and what the figures must reach."""

import dataclasses
import statistics
from collections.abc import Callable

GIB = 1 << 30


@dataclasses.dataclass(frozen=True)
class Figure:
    """A number that a run yields."""

    name: str
    scenario: str
    unit: str
    read: Callable[[dict], float | None]
    less_is_better: bool = False


@dataclasses.dataclass(frozen=True)
class Bound:
    """What adit's figure must reach: `factor` times the reference, or `limit` in the figure's unit, or both."""

    figure: str
    reference: str = ""
    factor: float | None = None
    limit: float | None = None
    # The figure of adit's own that takes the place of another system's.
    own_figure: str = ""


@dataclasses.dataclass(frozen=True)
class Spread:
    """The figure over all rounds."""

    median: float
    low: float
    high: float
    count: int


def cpu_seconds(summary):
    """Of the whole control group, or of all processes where there was none; None: nobody was accounted for."""
    processes = summary["processes"]
    groups = [use for use in processes if use["pid"] is None]
    chosen = groups or processes
    if not chosen:
        return None
    return sum(use["cpu_user_s"] + use["cpu_system_s"] for use in chosen)


def cpu_per_gib(summary):
    """Processor seconds for each GiB of payload."""
    carried = summary["bytes_up"] + summary["bytes_down"]
    cpu = cpu_seconds(summary)
    return cpu / (carried / GIB) if cpu and carried else None


def cpu_per_operation(summary):
    """Processor microseconds for each operation."""
    cpu = cpu_seconds(summary)
    return cpu / summary["operations"] * 1e6 if cpu and summary["operations"] else None


def throughput(summary):
    """Gbit/s of verified payload, both directions."""
    return (summary["up_bits_per_second"] + summary["down_bits_per_second"]) / 1e9


def rate(summary):
    """Operations a second that ended well."""
    return summary["achieved_rate"]


def percentile(name):
    """Microseconds from the intended start."""
    return lambda summary: summary["corrected"][name] / 1e3 if summary["corrected"]["count"] else None


def named(name):
    """A figure that only the profile knows."""
    return lambda summary: summary["figures"].get(name)


def jain(summary):
    """Jain's index of the streams' bytes."""
    return summary["shares"]["jain"] if summary["shares"] else None


def memory_of(part):
    """User memory that each idle connection added to a part, in bytes; freed memory that is used again costs none."""
    read = named(f"{part}_user_memory_per_connection_bytes")
    return lambda summary: read(summary)


FIGURES = [
    Figure("CPU, 1 stream up", "bulk-up", "s/GiB", cpu_per_gib, True),
    Figure("CPU, 1 stream down", "bulk-down", "s/GiB", cpu_per_gib, True),
    Figure("throughput, 1 stream up", "bulk-up", "Gbit/s", throughput),
    Figure("throughput, 1 stream down", "bulk-down", "Gbit/s", throughput),
    Figure("throughput, 16 streams up", "bulk-16-up", "Gbit/s", throughput),
    Figure("throughput, 16 streams down", "bulk-16-down", "Gbit/s", throughput),
    Figure("round trip, 1 connection, p50", "rtt-1", "µs", percentile("p50_ns"), True),
    Figure("round trip, 1 connection, p99", "rtt-1", "µs", percentile("p99_ns"), True),
    Figure("round trips, 64 connections", "rtt-64", "/s", rate),
    Figure("round trips, 1,000 connections", "rtt-1000", "/s", rate),
    Figure("CPU of a round trip, 64 connections", "rtt-64", "µs", cpu_per_operation, True),
    Figure("CPU of a round trip, 1,000 connections", "rtt-1000", "µs", cpu_per_operation, True),
    Figure("round trip at 500/s, idle, p99", "rtt-paced", "µs", percentile("p99_ns"), True),
    Figure("round trip at 500/s beside bulk up, p99", "rtt-beside-up", "µs", percentile("p99_ns"), True),
    Figure("round trip at 500/s beside bulk down, p99", "rtt-beside-down", "µs", percentile("p99_ns"), True),
    Figure("new connections", "connect", "/s", rate),
    Figure("CPU of a connection", "connect", "µs", cpu_per_operation, True),
    Figure("user memory of an idle connection, source", "idle", "B", memory_of("source"), True),
    Figure("user memory of an idle connection, relay", "idle", "B", memory_of("relay"), True),
    Figure("user memory of an idle connection, destination", "idle", "B", memory_of("destination"), True),
    Figure("Jain's index, 50 streams, 10 s", "fair-50", "", jain),
    Figure("rate kept by 49 streams beside a stalled one", "stall-50", "", named("others_kept_share")),
]

H3 = "haproxy-3"

BOUNDS = [
    Bound("CPU, 1 stream up", H3, 1.25),
    Bound("CPU, 1 stream down", H3, 1.25),
    Bound("throughput, 1 stream up", H3, 0.8),
    Bound("throughput, 1 stream down", H3, 0.8),
    Bound("throughput, 16 streams up", H3, 0.8),
    Bound("throughput, 16 streams down", H3, 0.8),
    Bound("round trip, 1 connection, p50", H3, 1.3),
    Bound("round trip, 1 connection, p99", H3, 1.3),
    Bound("round trips, 64 connections", H3, 1.5),
    Bound("round trips, 1,000 connections", H3, 1.5),
    Bound("CPU of a round trip, 1,000 connections", "adit", 1.0, own_figure="CPU of a round trip, 64 connections"),
    Bound(
        "round trip at 500/s beside bulk up, p99", "adit", 3.0, 2000.0, own_figure="round trip at 500/s, idle, p99"
    ),
    Bound(
        "round trip at 500/s beside bulk down, p99", "adit", 3.0, 2000.0, own_figure="round trip at 500/s, idle, p99"
    ),
    Bound("new connections", "ssh", 1.5, 10_000.0),
    Bound("user memory of an idle connection, source", limit=512.0),
    # It should be none. Buffers grow with traffic, not with connections, and memory is counted in pages: sixteen of
    # them over 8,000 connections are 8 B each, less than a relay could hold for one.
    Bound("user memory of an idle connection, relay", limit=8.0),
    Bound("user memory of an idle connection, destination", limit=512.0),
    Bound("Jain's index, 50 streams, 10 s", limit=0.99),
    Bound("rate kept by 49 streams beside a stalled one", limit=0.9),
]


class Runs:
    """All runs of one file."""

    def __init__(self, lines):
        self.machines = [line for line in lines if line["kind"] == "machine"]
        self.machine = self.machines[0] if self.machines else {}
        self.runs = [line for line in lines if line["kind"] == "run"]
        self.busy = [line["share"] for line in lines if line["kind"] == "busy"]

    def systems(self):
        """In the order in which they first ran, adit before all others and the chain of three next."""
        names = dict.fromkeys(run["system"] for run in self.runs)
        return sorted(names, key=lambda name: {"adit": 0, H3: 1}.get(name, 2))

    def failures(self):
        """Runs that did not end well."""
        return [run for run in self.runs if run["exit_code"] != 0]

    def values(self, figure, system):
        """By round. A run that failed has no figures: bytes were wrong, or it did not do what it was asked for."""
        found = {}
        for run in self.runs:
            if (run["system"], run["scenario"]) == (system, figure.scenario) and run["exit_code"] == 0:
                value = figure.read(run["summary"])
                if value is not None:
                    found[run["round"]] = value
        return found

    def spread(self, figure, system):
        """Over all rounds; None where there is no value."""
        return spread_of(self.values(figure, system).values())

    def generator_bound(self, figure, system):
        """Whether in most runs the generator itself was busy all the time, so that the figure may be its own."""
        runs = [
            run["summary"]["generator"]["is_bottleneck"]
            for run in self.runs
            if (run["system"], run["scenario"]) == (system, figure.scenario) and "summary" in run
        ]
        return sum(runs) * 2 > len(runs)


def spread_of(values):
    """Median, lowest and highest."""
    values = list(values)
    if not values:
        return None
    return Spread(statistics.median(values), min(values), max(values), len(values))


@dataclasses.dataclass(frozen=True)
class Verdict:
    """How adit stands to one bound."""

    figure: Figure
    bound: Bound
    own: Spread | None
    reference: Spread | None
    # adit's by the reference's, round by round.
    ratio: Spread | None
    # None: there is not all that it takes.
    is_met: bool | None


def judge(runs, bound):
    """The bound holds if it holds for the medians."""
    figure = figure_named(bound.figure)
    own = runs.spread(figure, "adit")
    reference = ratio = None
    conditions = []
    if bound.factor is not None:
        other = figure_named(bound.own_figure or bound.figure)
        reference = runs.spread(other, bound.reference)
        mine, theirs = runs.values(figure, "adit"), runs.values(other, bound.reference)
        ratio = spread_of(mine[at] / theirs[at] for at in sorted(mine.keys() & theirs.keys()) if theirs[at])
        conditions.append(ratio and holds(figure, ratio.median, bound.factor))
    if bound.limit is not None:
        conditions.append(own and holds(figure, own.median, bound.limit))
    is_met = None if any(held is None for held in conditions) else all(conditions)
    return Verdict(figure, bound, own, reference, ratio, is_met)


def holds(figure, value, limit):
    """At most, or at least, as the figure is."""
    return value <= limit if figure.less_is_better else value >= limit


def figure_named(name):
    """The figure of that name."""
    return next(figure for figure in FIGURES if figure.name == name)
