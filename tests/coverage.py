"""Says how many lines of the program its tests run, by crate, from what llvm-cov exports as lcov on standard input.

Left out are tests themselves: files of tests, and in any other file all that stands behind `#[cfg(test)]`.
Ends with exit code 1 where a floor is not reached: 95 % of the lines of the codec, 85 % of all.
"""

import collections
import pathlib
import re
import sys

# What is delivered. The others are tests and measurements.
CRATES = {
    "proto": "adit-proto",
    "process": "adit-process",
    "verify": "adit-verify",
    "engine": "adit-engine",
    "service": "adit-service",
    "cli": "adit",
    "loadgen": "adit-loadgen",
}
FLOORS = {"adit-proto": 0.95, "all": 0.85}
TESTS = re.compile(r"/tests/|/(tests|properties|worked_examples)\.rs$")
SHOWN = 40


def main():
    root = pathlib.Path.cwd()
    run, lines, missed = collections.Counter(), collections.Counter(), {}
    for path, counts in files(sys.stdin):
        crate = crate_of(root, path)
        if crate is None:
            continue
        end = tests_begin(path)
        counts = {line: count for line, count in counts.items() if line < end}
        for name in (crate, "all"):
            lines[name] += len(counts)
            run[name] += sum(count > 0 for count in counts.values())
        missed[path.relative_to(root)] = sorted(line for line, count in counts.items() if count == 0)
    for path, numbers in sorted(missed.items(), key=lambda item: -len(item[1]))[:SHOWN]:
        if numbers:
            print(f"not run: {path}: {len(numbers)} lines: {spans(numbers)}")
    low = [name for name in lines if run[name] < FLOORS.get(name, 0) * lines[name]]
    for name in [*CRATES.values(), "all"]:
        if lines[name]:
            print(f"{name}: {run[name]} of {lines[name]} lines run ({100 * run[name] / lines[name]:.2f} %)")
    for name in low:
        print(f"{name}: below its floor of {100 * FLOORS[name]:.0f} %")
    return 1 if low or not lines["all"] else 0


def files(report):
    """Each file of the report with its counts by line; a file is there once for each object it is in."""
    found = collections.defaultdict(lambda: collections.defaultdict(int))
    counts = None
    for text in report:
        if text.startswith("SF:"):
            counts = found[pathlib.Path(text[3:].strip())]
        elif text.startswith("DA:"):
            line, count = text[3:].split(",")[:2]
            counts[int(line)] = max(counts[int(line)], int(count))
    return found.items()


def crate_of(root, path):
    if not path.is_relative_to(root) or TESTS.search(f"/{path.relative_to(root)}"):
        return None
    return CRATES.get(path.relative_to(root).parts[0])


def tests_begin(path):
    for number, text in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if text == "#[cfg(test)]":
            return number
    return sys.maxsize


def spans(numbers):
    """Like `3-5, 9`, of the first few."""
    spans = []
    for number in numbers:
        if spans and spans[-1][1] == number - 1:
            spans[-1][1] = number
        else:
            spans.append([number, number])
    texts = [str(first) if first == last else f"{first}-{last}" for first, last in spans]
    return ", ".join(texts[:12]) + (", …" if len(texts) > 12 else "")


if __name__ == "__main__":
    sys.exit(main())
