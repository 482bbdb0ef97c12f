"""connections = "auto" beside fixed numbers: into the sink's scenarios, and into real MTAs."""

import json
import math
import random
import statistics
import subprocess
import time
from pathlib import Path

from .base import REPO, Failed, spread
from .mta import InfeedSink
from .real_mta import Postfix, Sendmail, missing

SINKS = ["scenarios", "postfix", "sendmail"]
SCENARIOS = REPO / "examples/scenarios"
# What is left over of it waits for the next run; there is another one when it runs low.
RECIPIENTS = 4_000_000
SWEEP = [1, 2, 4, 8, 16, 32]
SWEEP_WARM_S, SWEEP_S = 4, 11
WARM_S, TIMED_S = 20, 60
PAIRS = 10


def run(bench):
    asked = bench.asked
    sinks = asked.sinks.split(",") if asked.sinks else SINKS
    recipients = 200_000 if bench.quick else asked.messages or RECIPIENTS
    bench.note(f"submitting {recipients:,} recipients")
    spool = bench.name("spool")
    bench.submit("personalised", recipients, spool)
    if "scenarios" in sinks:
        scenarios(bench, spool)
    for name in ("postfix", "sendmail"):
        if name in sinks:
            real(bench, spool, name)


def timed(bench):
    """Seconds of warm-up, and those that count."""
    if bench.quick:
        return 2, 3
    return WARM_S, bench.asked.seconds or TIMED_S


class Drain:
    """A drain that is looked at once a second: accepted recipients, connections, and what `look` says."""

    def __init__(self, bench, spool, address, connections, seconds, look=lambda: None, more=()):
        self.bench, self.spool = bench, spool
        self.samples = []
        argv = [bench.infeed, "drain", "--spool", spool, "--mta", address, "--json", "--quiet"]
        self.process = bench.start([*argv, "--connections", connections, *more])
        while not self.process.ended.is_set():
            now = time.monotonic() - self.process.began
            if now > seconds:
                break
            self.sample(look)
            time.sleep(max(0.0, min(1.0, seconds - now)))
        if self.process.ended.is_set():
            raise Failed(f"infeed drain ended before its time with {self.process.code}: {self.process.complaint()}")
        self.process.stop()
        if self.process.code not in (0, 75):
            raise Failed(f"infeed drain ended with {self.process.code}: {self.process.complaint()}")
        self.summary = json.loads(Path(self.process.stdout).read_text())

    def sample(self, look):
        said = subprocess.run(
            [str(self.bench.infeed), "status", "--json", "--spool", str(self.spool)],
            capture_output=True, text=True, check=False,
        )
        now = time.monotonic() - self.process.began
        status = json.loads(said.stdout) if said.stdout.strip() else {}
        if status.get("mtas"):
            mta = status["mtas"][0]
            self.samples.append((now, mta["accepted"], mta["established"], mta.get("connections_why"), look()))

    def between(self, start, end):
        """Accepted a second, and connections on average, from `start` to `end`."""
        inside = [sample for sample in self.samples if start <= sample[0] <= end]
        if len(inside) < 2:
            raise Failed(f"{len(inside)} looks at the drain from {start} to {end} s: the machine is too busy")
        seconds = inside[-1][0] - inside[0][0]
        return (inside[-1][1] - inside[0][1]) / seconds, statistics.mean(sample[2] for sample in inside)


def scenarios(bench, spool):
    """Each scenario with `auto` and with fixed numbers, a sink of its own for each run."""
    warm, seconds = timed(bench)
    fixed = [int(n) for n in (bench.asked.connections or "4,8,16,24,32,64").split(",")]
    rows = []
    files = sorted(SCENARIOS.glob("*.toml"))
    if bench.asked.contents:
        files = [file for file in files if file.stem in bench.asked.contents.split(",")]
    for file in files:
        found = {}
        for connections in ["auto", *fixed]:
            sink = InfeedSink(bench, more=["--scenario", file])
            drain = Drain(bench, spool, sink.address, connections, warm + seconds)
            sink.stop()
            refill(bench, spool, drain)
            found[connections] = (*drain.between(warm, warm + seconds), drain)
            bench.record(what="pressure-scenario", scenario=file.stem, connections=connections,
                         per_second=found[connections][0], mean=found[connections][1],
                         samples=drain.samples, summary=drain.summary)
            bench.note(f"{file.stem}, {connections}: {found[connections][0]:,.0f}/s at {found[connections][1]:.1f}")
        best = max(found[n][0] for n in fixed)
        least = next(n for n in fixed if found[n][0] >= 0.95 * best)
        rate, mean, drain = found["auto"]
        rows.append([
            file.stem, f"{best:,.0f}", least, f"{rate:,.0f}", f"{rate / best:.2f}", f"{mean:.1f}",
            f"{mean / least:.2f}", why_cut(drain.summary),
        ])
    bench.table(
        f'connections = "auto" into the sink, {seconds} s after {warm} s',
        ["scenario", "best fixed, /s", "least N with 95 %", "auto, /s", "of the best", "N on average",
         "of the least", "cuts"],
        rows, f"Fixed: {', '.join(map(str, fixed))}. ",
    )


def why_cut(summary):
    return ", ".join(f"{reason} {count}" for reason, count in summary["cuts"].items() if count) or "none"


def real(bench, spool, name):
    """The best fixed number by a sweep, then pairs of it and `auto`, in turn."""
    lack = missing(name)
    if lack:
        bench.skip(lack)
        return
    warm, seconds = timed(bench)
    fixed = [int(n) for n in bench.asked.connections.split(",")] if bench.asked.connections else SWEEP
    sweep_warm, sweep_s = (1, 3) if bench.quick else (SWEEP_WARM_S, SWEEP_S)
    pairs = bench.rounds(PAIRS)
    found = {n: [] for n in fixed}
    if not bench.quick:
        # the list was written a moment ago, and is still on its way to the disk
        one(bench, spool, name, fixed[0], sweep_warm, sweep_s)
    for turn in range(1 if bench.quick else 3):
        for n in random.Random(turn).sample(fixed, len(fixed)):
            rate, _, _ = one(bench, spool, name, n, sweep_warm, sweep_s)
            found[n].append(rate)
            bench.note(f"{name}, N = {n}: {rate:,.0f}/s")
    best = max(fixed, key=lambda n: statistics.median(found[n]))
    bench.table(f"{name}: fixed numbers, {sweep_s} s each", ["N", "accepted/s"],
                [[n, spread(found[n])] for n in fixed])
    ratios, autos, bests, means, queues = [], [], [], [], []
    for pair in range(pairs):
        rates = {}
        for connections in random.Random(pair).sample(["auto", best], 2):
            rate, mean, drain = one(bench, spool, name, connections, warm, seconds)
            rates[connections] = rate
            bench.record(what="pressure-real", mta=name, connections=connections, pair=pair, per_second=rate,
                         mean=mean, samples=drain.samples, summary=drain.summary)
            if connections == "auto":
                means.append(mean)
                queues.append(max(sample[4] or 0 for sample in drain.samples))
        ratios.append(rates["auto"] / rates[best])
        autos.append(rates["auto"])
        bests.append(rates[best])
        bench.note(f"{name}, pair {pair + 1}: auto {autos[-1]:,.0f}/s at {means[-1]:.1f}, N = {best} {bests[-1]:,.0f}/s")
    low, high = interval(ratios)
    bench.table(
        f'{name}: connections = "auto" beside N = {best}, {pairs} pairs, {seconds} s each after {warm} s',
        ["N = " + str(best) + ", accepted/s", "auto, accepted/s", "auto's N on average", "ratio",
         "95 % interval of its mean", "largest queue with auto"],
        [[spread(bests), spread(autos), spread(means, 1), spread(ratios, 2), f"{low:.2f}–{high:.2f}", max(queues)]],
        "Queue: files in Postfix's incoming and active folders, once a second; sendmail here keeps all. ",
    )


def one(bench, spool, name, connections, warm, seconds):
    """One run into an MTA of its own."""
    mta = Postfix(bench) if name == "postfix" else Sendmail(bench)
    # sendmail keeps all in its queue here, which is no sign of anything
    more = ["--set", f"mta.queue_dir={mta.dir / 'spool'}"] if name == "postfix" else []

    def queued():
        if name != "postfix":
            return None
        now = mta.queued()
        return now["incoming"] + now["active"]

    try:
        drain = Drain(bench, spool, mta.address, connections, warm + seconds, queued, more)
    finally:
        mta.stop()
    refill(bench, spool, drain)
    return *drain.between(warm, warm + seconds), drain


def refill(bench, spool, drain):
    """So that no run comes to the end of the job."""
    if drain.summary["unfinished"] < RECIPIENTS / 4 and not (bench.quick or bench.asked.messages):
        bench.submit("personalised", RECIPIENTS, spool)


def interval(ratios):
    """95 % of the mean, by Student's t over the logarithms."""
    logs = [math.log(ratio) for ratio in ratios]
    if len(logs) < 2:
        return ratios[0], ratios[0]
    # two-sided 95 %, by degrees of freedom
    t = {1: 12.71, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306, 9: 2.262,
         11: 2.201, 14: 2.145, 19: 2.093}
    half = t.get(len(logs) - 1, 2.0) * statistics.stdev(logs) / math.sqrt(len(logs))
    mean = statistics.mean(logs)
    return math.exp(mean - half), math.exp(mean + half)
