"""Submit rate: a CSV list and a message to a durable job."""

import os
import statistics
import time

from .base import folder_bytes, spread

GOAL_ROWS_PER_S = 500_000


def run(bench):
    sizes = [bench.asked.rows or (20_000 if bench.quick else 1_000_000)]
    if bench.asked.full and not bench.quick:
        sizes.append(10_000_000)
    rows = []
    for recipients in sizes:
        bench.list_of(recipients)
        runs = {"shared": [], "personalised": [], "disk": []}
        for _ in range(bench.rounds(5 if recipients <= 1_000_000 else 3)):
            for content in ("shared", "personalised"):
                spool = bench.name("spool")
                done = bench.submit(content, recipients, spool)
                octets, files = folder_bytes(spool)
                bench.remove(spool)
                bench.record(
                    what="submit", content=content, rows=recipients, seconds=done.seconds,
                    cpu_seconds=done.cpu_seconds, spool_bytes=octets, files=files,
                )
                runs[content].append((recipients / done.seconds, done.cpu_seconds, octets))
            seconds = plain_write(bench, octets)
            bench.record(what="plain-write", bytes=octets, seconds=seconds)
            runs["disk"].append(octets / seconds / 1e6)
        for content in ("shared", "personalised"):
            rates = [r for r, _, _ in runs[content]]
            rows.append([
                f"{recipients:,}",
                "merged" if content == "personalised" else "not merged",
                spread(rates),
                f"{statistics.median(rates) / GOAL_ROWS_PER_S:.2f}",
                f"{statistics.median(c for _, c, _ in runs[content]) / recipients * 1e6:.2f}",
                f"{statistics.median(o for _, _, o in runs[content]) / 1e6:,.0f}",
                spread(runs["disk"]),
            ])
        if recipients > 1_000_000:
            bench.drop_list(recipients)
    bench.table(
        "Submit from CSV, five columns",
        ["rows", "message", "rows/s", "of the goal", "CPU s per million rows", "spool MB",
         "plain write and fsync of as much, MB/s"],
        rows,
        "From process start to exit: read, checked, rendered where merged, duplicates found, durable. ",
    )


def plain_write(bench, octets):
    """Seconds to write and sync one file of this size: what the disk alone would take."""
    path = bench.name("plain")
    block = os.urandom(1 << 20)
    began = time.monotonic()
    with open(path, "wb") as out:
        for _ in range(max(1, octets >> 20)):
            out.write(block)
        out.flush()
        os.fsync(out.fileno())
    seconds = time.monotonic() - began
    bench.remove(path)
    return seconds
