"""XVERP: mail with a sender for each recipient, one recipient a transaction beside many."""

import statistics

from .base import spread
from .clients import Engine

N = 8  # unless --connections names another
PER = [50, 500]
ALONE = "one a transaction"
# deliveries of a run, of one that is alone in its transaction and of one that is not
SIZES = {False: (20_000, 200_000), True: (1_500, 15_000)}


def run(bench, sink, results):
    """The best ratio of XVERP to one a transaction; None where there is no XVERP."""
    from .wire import Content

    if "XVERP" not in sink.offers():
        bench.skip(f"XVERP: {sink.name} does not offer it")
        return None
    content = Content("verp", 1, "shared", ("--verp", "bounces@bench.example"))
    n = int(bench.asked.connections.split(",")[0]) if bench.asked.connections else N
    engines = [Engine(ALONE, bench.infeed, {"mta.xverp": False})]
    for per in PER:
        settings = {"mta.xverp": True, "mta.recipients_per_transaction_max": per}
        # what may be under way at once must fit
        settings["spool.progress_unsynced_max"] = max(10_000, n * 4 * per)
        engines.append(Engine(f"XVERP, {per} a transaction", bench.infeed, settings))
    unknown = engines[0].unknown(bench)
    if unknown:
        bench.skip(f"XVERP: this binary does not know it ({unknown})")
        return None
    runs = {engine.name: [] for engine in engines}
    rounds = bench.rounds(5)
    for turn in range(rounds):
        for engine in engines[turn % len(engines):] + engines[:turn % len(engines)]:
            bench.note(f"round {turn + 1} of {rounds}: verp into {sink.name}, N = {n}: {engine.name}")
            count = SIZES[sink.real][engine.name != ALONE] // (10 if bench.quick else 1)
            done = engine.run(bench, sink, n, content, count)
            runs[engine.name].append(done)
            bench.record(
                what="verp", sink=sink.name, client=engine.name, connections=n, deliveries=count,
                seconds=done.seconds, own_seconds=done.own_seconds, cpu_seconds=done.cpu_seconds,
            )
    rows, best = [], 0.0
    for name, of in runs.items():
        ratios = [a.rate / b.rate for a, b in zip(of, runs[ALONE])]
        cpu = [a.cpu_per_1000 / b.cpu_per_1000 for a, b in zip(of, runs[ALONE])]
        rows.append([
            name, spread([r.rate for r in of]), spread(ratios, 2),
            f"{statistics.median(r.cpu_per_1000 for r in of):.4f}", spread(cpu, 2),
        ])
        if name != ALONE:
            best = max(best, statistics.median(ratios))
            results.row(f"{sink.name}/verp/N={n}/{name}", ratios, cpu)
    bench.table(
        f"VERP into {sink.name}, N = {n}: one message of 4 KiB, a sender for each recipient",
        ["engine", "deliveries/s", f"of {ALONE}", "CPU s per 1,000", f"CPU of {ALONE}"],
        rows,
        f"{rounds} rounds, interleaved. Behind Postfix the mail is discarded, each recipient by itself. ",
    )
    return best
