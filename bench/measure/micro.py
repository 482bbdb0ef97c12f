"""The hot parts by themselves, by criterion; its own samples are read, for median and spread."""

import json

from .base import Failed, spread
from .baseline import Baseline

REFERENCE = "reference"


def run(bench):
    if bench.quick:
        bench.skip("micro: a quick run of it says nothing (cargo bench --bench micro -- --test)")
        return
    bench.cargo("bench", "--bench", "micro", "--", "--noplot")
    samples = {}
    folder = bench.root.parent / "criterion"
    for path in sorted(folder.glob("**/new/sample.json")):
        # what an earlier run left there is not today's
        if path.stat().st_mtime >= bench.began:
            samples[str(path.parent.parent.relative_to(folder))] = nanoseconds(path)
    if REFERENCE not in samples:
        raise Failed(f"criterion left no samples in {folder}")
    reference = sorted(samples.pop(REFERENCE))
    typical = reference[len(reference) // 2]
    results = Baseline(bench, "micro")
    rows = []
    for name, times in samples.items():
        elements, unit = throughput(folder / name / "new" / "benchmark.json")
        each = [t / elements for t in times]
        ratios = [t / typical for t in times]
        rows.append([name, spread(times), spread(each, 2 if unit == "octet" else 1), unit, spread(ratios, 2)])
        bench.record(what="micro", name=name, ns=sorted(times), reference_ns=typical)
        results.row(name, None, ratios)
    bench.table(
        "The hot parts by themselves",
        ["what", "ns", "ns for each", "each", "of the reference"],
        rows,
        f"Reference: arithmetic over 4 KiB, {typical:,.0f} ns here; bench/micro.rs says what each does. ",
    )
    results.show()


def nanoseconds(path):
    """Of one iteration, by sample."""
    sample = json.loads(path.read_text())
    return [time / iterations for time, iterations in zip(sample["times"], sample["iters"])]


def throughput(path):
    """(how many, of what) an iteration deals with."""
    said = json.loads(path.read_text()).get("throughput") or {"Elements": 1}
    (kind, number), = said.items()
    return number, "octet" if kind.startswith("Bytes") else "element"
