"""Made-up runs whose figures can be worked out by hand."""

import pathlib
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).parent))

import figures  # noqa: E402
import plot  # noqa: E402
import record  # noqa: E402
import render  # noqa: E402

MACHINE = {
    "kind": "machine",
    "started_at": "2026-01-02T03:04:05Z",
    "commit": "0123456789ab",
    "command": "bench/peers.sh --repeat 3",
    "system": "Debian 12",
    "kernel": "6.1.0",
    "architecture": "x86_64",
    "cpu": "a | b",
    "is_virtual": True,
    "cores": 2,
    "memory_gib": 8.0,
    "congestion_control": "reno",
    "accounting": "control group (version 2)",
    "versions": {"adit": "adit 0.1.0"},
}


def use(pid, cpu):
    return {"pid": pid, "cpu_user_s": cpu / 2, "cpu_system_s": cpu / 2}


def run(scenario, system, round_number=1, exit_code=0, **over):
    summary = {
        "bytes_up": 0,
        "bytes_down": 0,
        "up_bits_per_second": 0.0,
        "down_bits_per_second": 0.0,
        "operations": 0,
        "achieved_rate": 0.0,
        "errors": {},
        "corrected": {"count": 0},
        "shares": None,
        "figures": {},
        "processes": [],
        "generator": {"is_bottleneck": False},
    } | over
    return {
        "kind": "run",
        "round": round_number,
        "scenario": scenario,
        "system": system,
        "exit_code": exit_code,
        "ended_at": "",
        "summary": summary,
    }


def bulk(system, round_number, cpu, **more):
    return run(
        "bulk-up", system, round_number, bytes_up=2 << 30, processes=[use(None, cpu), use(7, 99.0)], **more
    )


class Figures(unittest.TestCase):
    def bound(self, name):
        return next(bound for bound in figures.BOUNDS if bound.figure == name)

    def test_a_group_counts_and_its_processes_do_not_count_again(self):
        self.assertEqual(figures.cpu_per_gib(bulk("adit", 1, 3.0)["summary"]), 1.5)
        without_group = run("bulk-up", "adit", bytes_up=1 << 30, processes=[use(7, 1.0), use(8, 0.5)])
        self.assertEqual(figures.cpu_per_gib(without_group["summary"]), 1.5)
        self.assertIsNone(figures.cpu_per_gib(run("bulk-up", "adit", bytes_up=1)["summary"]))

    def test_ratios_are_of_the_same_round(self):
        lines = []
        for number, (own, other) in enumerate([(1.0, 1.0), (4.0, 2.0), (30.0, 10.0)], 1):
            lines += [bulk("adit", number, own), bulk("haproxy-3", number, other)]
        verdict = figures.judge(figures.Runs(lines), self.bound("CPU, 1 stream up"))
        self.assertEqual((verdict.ratio.low, verdict.ratio.median, verdict.ratio.high), (1.0, 2.0, 3.0))
        self.assertIs(verdict.is_met, False)

    def test_a_failed_run_has_no_figures(self):
        lines = [bulk("adit", 1, 1.0), bulk("haproxy-3", 1, 1.0), bulk("adit", 2, 0.1, exit_code=1)]
        runs = figures.Runs(lines)
        self.assertEqual(runs.spread(figures.figure_named("CPU, 1 stream up"), "adit").count, 1)
        self.assertEqual(len(runs.failures()), 1)

    def test_what_was_not_measured_is_neither_met_nor_missed(self):
        for bound in figures.BOUNDS:
            self.assertIsNone(figures.judge(figures.Runs([MACHINE]), bound).is_met, bound)

    def test_both_halves_of_a_bound_must_hold(self):
        bound = self.bound("new connections")
        for own, other, is_met in [(12_000, 8_000, True), (12_000, 8_001, False), (9_999, 10, False)]:
            lines = [run("connect", "adit", achieved_rate=own), run("connect", "ssh", achieved_rate=other)]
            self.assertIs(figures.judge(figures.Runs(lines), bound).is_met, is_met, (own, other))

    def test_a_scenario_can_be_held_against_another_of_its_own(self):
        def paced(scenario, p99_us):
            return run(scenario, "adit", corrected={"count": 9, "p50_ns": 1, "p99_ns": p99_us * 1000})

        bound = self.bound("round trip at 500/s beside bulk up, p99")
        for idle, beside, is_met in [(100, 300, True), (100, 301, False), (1000, 2001, False)]:
            runs = figures.Runs([paced("rtt-paced", idle), paced("rtt-beside-up", beside)])
            self.assertIs(figures.judge(runs, bound).is_met, is_met, (idle, beside))

    def test_every_bound_has_its_figure(self):
        for bound in figures.BOUNDS:
            figures.figure_named(bound.figure)
            figures.figure_named(bound.own_figure or bound.figure)
        for name in plot.PANELS:
            figures.figure_named(name)


class Report(unittest.TestCase):
    def test_says_what_is_met_what_failed_and_on_what(self):
        lines = [MACHINE, bulk("haproxy-3", 1, 2.0), bulk("adit", 1, 2.4)]
        lines += [run("rtt-1", "adit", exit_code=1, errors={"reset": 3}) | {"said": "first\nlast | line"}]
        lines += [{"kind": "busy", "round": 1, "share": 0.02}]
        text = render.document(figures.Runs(render.merge([lines])), "plot.svg")
        self.assertIn("| others | kept the cores 2% to 2% busy in the second before each round |", text)
        row = next(line for line in text.splitlines() if line.startswith("| CPU, 1 stream up | 1.20"))
        self.assertEqual(
            row, "| CPU, 1 stream up | 1.20 s/GiB | HAProxy ×3 | 1.00 s/GiB | 1.20 | ≤ 1.25 × | yes |"
        )
        self.assertIn("Met: 1 of 1 measured.", text)
        self.assertIn("| 1 | rtt-1 | adit | 1 | reset: 3; last \\| line |", text)
        self.assertIn("a \\| b, 2 cores, virtual", text)
        self.assertIn("`bench/peers.sh --repeat 3`", text)

    def test_a_machine_that_is_not_quiet_is_told(self):
        self.assertIn("not quiet", render.others([0.01, 0.4]))
        self.assertNotIn("not quiet", render.others([0.01, 0.1]))

    def test_numbers_have_three_digits(self):
        wanted = {0: "0", 0.03456: "0.035", 0.5: "0.50", 0.9951: "0.9951", 1.234: "1.23", 56.78: "56.8", 123456.7: "123,457"}
        self.assertEqual({value: render.number(value) for value in wanted}, wanted)

    def test_the_picture_is_well_formed(self):
        from xml.etree import ElementTree

        lines = [MACHINE, bulk("adit", 1, 2.0), bulk("adit", 2, 3.0), bulk("haproxy-3", 1, 2.0)]
        picture = ElementTree.fromstring(plot.draw(figures.Runs(lines), render.NAMES))
        bars = [rect for rect in picture.iter("{http://www.w3.org/2000/svg}rect")][1:]
        # Two of the CPU's panel, two without length of the throughput's.
        self.assertEqual(len(bars), 4)
        # 1.25 and 1 of at most 1.5 s/GiB.
        self.assertAlmostEqual(float(bars[0].get("width")) / float(bars[1].get("width")), 1.25, places=2)

    def test_a_line_of_a_run_is_short_and_says_what_failed(self):
        with tempfile.TemporaryDirectory() as directory:
            place = pathlib.Path(directory)
            (place / "summary.json").write_text('{"series": [1], "corrected": {"p50_ns": 5, "spectrum": [1]}}')
            (place / "stderr.log").write_text("error: no\n")
            line = record.run("2", "rtt-1", "adit", "1", directory)
        self.assertEqual(line["summary"], {"corrected": {"p50_ns": 5}})
        self.assertEqual((line["round"], line["said"]), (2, "error: no"))


class Merged(unittest.TestCase):
    """Several files make one report."""

    def test_a_later_file_takes_the_place_of_an_earlier_one_in_its_scenarios(self):
        first = [MACHINE, run("rtt-1", "adit"), run("idle", "adit"), run("idle", "haproxy-3", 2)]
        later = [{**MACHINE, "commit": "feed"}, run("idle", "adit", 3)]
        runs = figures.Runs(render.merge([first, later]))
        self.assertEqual([(it["scenario"], it["round"]) for it in runs.runs], [("rtt-1", 1), ("idle", 3)])
        rows = render.measured(runs)
        self.assertEqual([name for name, _ in rows], ["measured", "command", "measured later"])
        self.assertIn("2 rounds", rows[0][1])
        self.assertIn("idle: 2026-01-02T03:04:05Z, commit feed, 3 rounds", rows[2][1])

    def test_a_file_is_not_named_by_what_a_later_one_has_taken_from_it(self):
        first = [MACHINE, run("rtt-1", "adit")]
        second = [MACHINE, run("idle", "adit"), run("connect", "adit")]
        third = [MACHINE, run("idle", "adit")]
        rows = render.measured(figures.Runs(render.merge([first, second, third])))
        later = [text.split(":")[0] for name, text in rows if name == "measured later"]
        self.assertEqual(later, ["connect", "idle"])


if __name__ == "__main__":
    unittest.main()
