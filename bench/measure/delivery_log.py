"""What the delivery log costs a drain: pairs of drains, without and with it, into the sink."""

import json
import math
import statistics

from .base import Failed
from .mta import InfeedSink

# A pair is two drains of the same list, one after the other; who goes first changes from pair to pair.
PAIRS = 12
RECIPIENTS = 200_000
# Student's t, two-sided, 95 %, by degrees of freedom
T_95 = {1: 12.71, 2: 4.30, 3: 3.18, 4: 2.78, 5: 2.57, 6: 2.45, 7: 2.36, 8: 2.31, 9: 2.26, 10: 2.23, 11: 2.20,
        12: 2.18, 13: 2.16, 14: 2.14, 15: 2.13, 19: 2.09, 23: 2.07, 29: 2.05}


def t_95(freedom):
    return T_95[max(known for known in T_95 if known <= freedom)]


def interval(ratios):
    """The geometric mean of ratios, and the ends of its 95 % confidence interval."""
    logs = [math.log(ratio) for ratio in ratios]
    mean = statistics.mean(logs)
    half = t_95(len(logs) - 1) * statistics.stdev(logs) / math.sqrt(len(logs)) if len(logs) > 1 else math.inf
    return math.exp(mean), math.exp(mean - half), math.exp(mean + half)


def drained(bench, content, recipients, sink, log):
    spool = bench.name("spool")
    bench.submit(content, recipients, spool)
    argv = [bench.infeed, "drain", "--spool", spool, "--mta", sink.address, "--connections", 8, "--json", "--quiet"]
    argv += ["--set", f"delivery_log.file={log}"] if log else []
    done = bench.call(argv)
    said = json.loads(done.output())
    if said["accepted"] != recipients:
        raise Failed(f"{said['accepted']} of {recipients} accepted")
    if log:
        with open(log, "rb") as lines:
            count = sum(1 for _ in lines)
        bench.remove(log)
        if count != recipients:
            raise Failed(f"{count} lines of {recipients} in the delivery log")
    bench.remove(spool)
    bench.record(what="delivery-log", content=content, log=bool(log), rate=said["deliveries_per_second"],
                 cpu_s=done.cpu_seconds, recipients=recipients)
    return said["deliveries_per_second"], done.cpu_seconds * 1000 / recipients


def run(bench):
    sink = InfeedSink(bench)
    recipients = 5_000 if bench.quick else bench.asked.messages or RECIPIENTS
    rows = []
    for content in ("personalised", "shared"):
        without, with_log = [], []
        for pair in range(bench.rounds(PAIRS)):
            for has_log in (False, True) if pair % 2 == 0 else (True, False):
                log = bench.name("delivery.ndjson") if has_log else None
                (with_log if has_log else without).append(drained(bench, content, recipients, sink, log))
        rate = interval([b[0] / a[0] for a, b in zip(without, with_log)])
        cpu = interval([b[1] / a[1] for a, b in zip(without, with_log)])
        rows.append([
            content, len(without),
            f"{statistics.median(a[0] for a in without):,.0f}", f"{statistics.median(b[0] for b in with_log):,.0f}",
            f"{rate[0]:.3f} ({rate[1]:.3f}–{rate[2]:.3f})",
            f"{statistics.median(a[1] for a in without):.4f}", f"{statistics.median(b[1] for b in with_log):.4f}",
            f"{cpu[0]:.3f} ({cpu[1]:.3f}–{cpu[2]:.3f})",
        ])
    sink.stop()
    bench.table(
        "The delivery log, N = 8, into the sink",
        ["content", "pairs", "without, deliveries/s", "with", "ratio (95 % interval)",
         "without, CPU s per 1,000", "with", "ratio (95 % interval)"],
        rows,
        f"{recipients:,} recipients a drain; medians; the ratio is the geometric mean over the pairs. ",
    )
