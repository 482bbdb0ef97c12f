"""What a huge backlog costs a drain: peak memory, and the time to the first delivery."""

import json
import os
import statistics
import time
from pathlib import Path

from .base import Failed, folder_bytes, spread
from .mta import InfeedSink

SMALL = 10_000
MEMORY_GOAL_KIB = 64 * 1024
FIRST_GOAL_S = 1.0
BYTES_PER_RECIPIENT = 250
# Rendering ten million messages at submit takes minutes, and memory is the same from here on.
MERGED_MAX = 1_000_000


def huge(bench):
    return bench.asked.backlog or (100_000 if bench.quick else 10_000_000)


def spool_of(bench, content, recipients):
    """A spool of one job; that of the huge backlog is kept for the whole run."""
    key = ("spool", content, recipients)
    if key in bench.kept:
        return bench.kept[key]
    needed = recipients * BYTES_PER_RECIPIENT * 2
    if bench.free_bytes() < needed:
        raise Failed(f"{needed / 1e9:.1f} GB of free disk are needed; --backlog N takes fewer recipients")
    spool = bench.name(f"spool-{content}")
    bench.note(f"submitting {recipients:,} recipients, {content}")
    done = bench.submit(content, recipients, spool)
    bench.record(what="submit", content=content, rows=recipients, seconds=done.seconds)
    if recipients != SMALL:
        bench.drop_list(recipients)
        bench.kept[key] = spool
    return spool


def drain(bench, spool, sink, first=None, watch_memory=False):
    argv = [bench.infeed, "drain", "--spool", spool, "--mta", sink.address, "--connections", 8]
    argv += ["--json", "--quiet"] + (["--first", first] if first else [])
    return bench.call(argv, 3600, codes=(0, 75), watch_memory=watch_memory)


def memory_cases(bench):
    """(content, backlog, how many of it are drained), the huge backlog last: it is kept."""
    many = huge(bench)
    merged = min(many, MERGED_MAX)
    return [
        ("personalised", SMALL, SMALL // 2),
        ("personalised", SMALL, SMALL),
        ("personalised", merged, merged // 5),
        ("shared", SMALL, SMALL // 2),
        ("shared", SMALL, SMALL),
        ("shared", MERGED_MAX // (20 if bench.quick else 1), None),
        ("shared", many, many // 50),
    ]


def memory(bench):
    sink = InfeedSink(bench)
    rows = []
    small = {}
    for content, recipients, drained in memory_cases(bench):
        drained = drained or recipients
        whole = drained == recipients
        runs = []
        for _ in range(bench.rounds(3)):
            spool = spool_of(bench, content, recipients)
            octets, files = folder_bytes(spool)
            done = drain(bench, spool, sink, None if whole else drained, watch_memory=True)
            accepted = json.loads(done.output())["accepted"]
            bench.drained[spool] = bench.drained.get(spool, 0) + accepted
            runs.append(done.rss_kib)
            bench.record(
                what="memory", content=content, recipients=recipients, rss_kib=done.rss_kib,
                drained=drained, accepted=accepted, seconds=done.seconds, spool_bytes=octets, files=files,
            )
            if whole or recipients == SMALL:
                bench.kept.pop(("spool", content, recipients), None)
                bench.remove(spool)
        median = statistics.median(runs)
        of_small = median / small.setdefault((content, whole), median)
        rows.append([
            content, f"{recipients:,}", "all" if whole else f"{drained:,}",
            spread([k / 1024 for k in runs], 1), f"{of_small:.2f}",
            "yes" if max(runs) < MEMORY_GOAL_KIB else "**no**",
            f"{octets / 1e6:,.0f}", f"{octets / recipients:,.0f}", f"{files:,}",
        ])
        kept = bench.kept.get(("spool", content, recipients))
        if kept and content == "personalised":
            bench.remove(bench.kept.pop(("spool", content, recipients)))
    sink.stop()
    bench.table(
        "Memory of a drain, N = 8, into the sink",
        ["content", "backlog", "drained", "peak resident, MiB", "to 10,000 alike", "under 64 MiB",
         "spool MB", "bytes a recipient", "files"],
        rows,
        "Peak: VmHWM of the drain. A drain that reaches the end of a job also sums up its results. ",
    )


def first_delivery(bench):
    many = huge(bench)
    ledger = bench.name("ledger")
    sink = InfeedSink(bench, ledger)
    plain = InfeedSink(bench)
    rows = []
    dropped = True
    for recipients in (SMALL, many):
        cold, warm = [], []
        spool = None
        for _ in range(bench.rounds(7)):
            for seconds, drop in ((cold, True), (warm, False)):
                if spool is None or recipients == SMALL:
                    if spool:
                        bench.remove(spool)
                    spool = spool_of(bench, "shared", recipients)
                    half_drain(bench, spool, plain, recipients)
                if drop:
                    dropped &= drop_cache()
                seconds.append(first_one(bench, spool, sink, ledger))
                bench.record(
                    what="first-delivery", recipients=recipients, seconds=seconds[-1], cache_dropped=drop and dropped,
                )
        if recipients == SMALL:
            bench.remove(spool)
        rows.append([
            f"{recipients:,}, half drained", spread([s * 1000 for s in cold]),
            spread([s * 1000 for s in warm]), "yes" if max(cold) < FIRST_GOAL_S else "**no**",
        ])
    sink.stop()
    plain.stop()
    remark = "From the start of `infeed drain` to the first line in the sink's ledger. "
    if not dropped:
        remark += "The page cache could not be dropped (that needs root): the first column is warm too. "
    bench.table(
        "Time to the first delivery, N = 8",
        ["backlog", "page cache dropped, ms", "warm, ms", "under a second"], rows, remark,
    )


def half_drain(bench, spool, sink, recipients):
    # the memory runs may have drained a part of it
    half = recipients // 2 - bench.drained.get(spool, 0)
    if half > 0:
        bench.note(f"draining {half:,} of {recipients:,}")
        done = drain(bench, spool, sink, half)
        bench.record(what="half-drain", recipients=recipients, drained=half, seconds=done.seconds)


def drop_cache():
    """Whether the kernel let us."""
    os.sync()
    try:
        Path("/proc/sys/vm/drop_caches").write_text("3\n")
    except OSError:
        return False
    return True


def first_one(bench, spool, sink, ledger):
    """Seconds from the start of a drain to the first delivery; then it is ended."""
    before = ledger.stat().st_size
    drain = bench.start(
        [bench.infeed, "drain", "--spool", spool, "--mta", sink.address, "--connections", 8, "--json", "--quiet"]
    )
    while ledger.stat().st_size == before:
        if time.monotonic() - drain.began > 60 or drain.ended.is_set():
            raise Failed(f"no delivery after 60 s, or the drain ended: {drain.complaint()}")
        time.sleep(0.0005)
    seconds = time.monotonic() - drain.began
    if drain.stop() not in (0, 75):
        raise Failed(f"the drain ended with {drain.code}: {drain.complaint()}")
    return seconds
