"""The table of a sweep: a row for each N and client."""

import statistics

from .base import spread

SOURCE = "smtp-source"
HEADER = [
    "N", "client", "deliveries/s", "of smtp-source at this N", "of its best N", "of the blaster",
    "CPU s per 1,000", "CPU of smtp-source's", "receiver, CPU s per 1,000", "peak, MiB", "steady, deliveries/s",
]


def show(sweep):
    best = sweep.best_n(SOURCE)
    rows = []
    for n in sweep.connections:
        for client in sweep.clients_at(n):
            runs = sweep.runs[client.name, n]
            rows.append([
                n,
                client.name,
                spread([run.rate for run in runs]),
                ratio(sweep, client, n, SOURCE),
                ratio(sweep, client, n, SOURCE, best),
                ratio(sweep, client, n, sweep.ceiling),
                f"{statistics.median(run.cpu_per_1000 for run in runs):.4f}",
                ratio(sweep, client, n, SOURCE, None, "cpu_per_1000"),
                f"{statistics.median(run.sink_cpu_seconds / run.deliveries for run in runs) * 1000:.4f}",
                f"{max(run.rss_kib for run in runs) / 1024:.1f}",
                f"{statistics.median(run.deliveries / run.own_seconds for run in runs):,.0f}",
            ])
    sink = sweep.sink
    counted = f"must be {sink.counts}" if sink.counts else f"can't be checked: {sink.name} keeps no count"
    where = f"Its queue is fresh, on {sink.file_system}. " if sink.real else ""
    sweep.bench.table(
        f"Into {sink.name}: {sweep.content.title()}",
        HEADER,
        rows,
        f"From process start to exit; `steady`: by the client's own report. {where}"
        f"What the clients say was accepted {counted}. "
        f"smtp-source's best N: {best}. {sweep.bench.rounds(5)} rounds, interleaved. ",
    )


def ratio(sweep, client, n, to, to_n=None, figure="rate"):
    if client.name == to and (to_n or n) == n:
        return "1"
    values = sweep.ratios(client.name, n, to, to_n, figure) if to else None
    return spread(values, 2) if values else "–"
