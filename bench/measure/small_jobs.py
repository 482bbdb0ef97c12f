"""Small jobs through the library's API: offered at a rate, committed in packs, drained beside it."""

import json
import statistics
import subprocess

from .base import REPO, Failed, spread


def run(bench):
    asked = bench.asked
    rate = asked.rate or 1_000
    seconds = asked.seconds or (2 if bench.quick else 60)
    runs = []
    for _ in range(bench.rounds(3)):
        argv = ["cargo", "bench", "--quiet", "--bench", "small_jobs", "--"]
        argv += ["--rate", str(rate), "--seconds", str(seconds), "--dir", str(bench.dir)]
        done = subprocess.run(argv, cwd=REPO, stdout=subprocess.PIPE, text=True)
        if done.returncode != 0:
            raise Failed("the bench failed (cargo bench --bench small_jobs)")
        came = json.loads(done.stdout.strip().splitlines()[-1])
        bench.record(what="small-jobs", **came)
        if came["accepted"] != came["jobs"]:
            bench.failed = True
            bench.note(f"{came['accepted']} of {came['jobs']} jobs were delivered")
        runs.append(came)

    def of(name, digits=0):
        return spread([came[name] for came in runs], digits)

    lag = statistics.median(came["drain_lag_s"] for came in runs)
    bench.table(
        f"{rate:,} small jobs a second for {seconds} s, drained into the sink beside it",
        ["offered/s", "committed/s", "submit p50, ms", "p99", "max", "jobs a pack",
         "syncs a job, submitting", "draining", "inodes a job", "runs"],
        [[of("offered_per_s"), of("committed_per_s"), of("latency_ms_p50"), of("latency_ms_p99"),
          of("latency_ms_max"), of("jobs_a_pack", 1), of("submit_syncs_a_job", 2),
          of("drain_syncs_a_job", 2), of("inodes_a_job", 2), len(runs)]],
        f"One recipient and 4 KiB each; the drain had delivered the last one {lag:.2f} s (median) after the "
        "last submit. ",
    )
