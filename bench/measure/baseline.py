"""The committed figures in bench/results, and how today's compare with them.

Only ratios within one run are kept and compared: machines differ, and so does one machine by the hour.
"""

import json
import statistics
from datetime import datetime, timezone

from .base import REPO, machine

SOURCE = "smtp-source"


class Baseline:
    """Rows of a kind (`wire`, `micro`), today's and the committed ones.

    A row is {"rate": [median, min, max], "cpu": [median, min, max], "at": date, "machine": text}: the rate
    is better when higher, the CPU when lower; both relative to the reference that its key implies.
    """

    def __init__(self, bench, kind):
        self.bench = bench
        self.path = REPO / "bench/results" / f"{kind}.json"
        self.committed = json.loads(self.path.read_text()) if self.path.exists() else {}
        self.now = {}

    def row(self, key, rate, cpu):
        self.now[key] = {"rate": three(rate), "cpu": three(cpu)}

    def take(self, sweep):
        """The engine's rows of a sweep, beside smtp-source at the same N."""
        for client, n in sweep.runs:
            if not client.startswith(("engine", "blaster")):
                continue
            rate = sweep.ratios(client, n, SOURCE)
            if rate:
                cpu = sweep.ratios(client, n, SOURCE, None, "cpu_per_1000")
                self.row(f"{sweep.sink.name}/{sweep.content.name}/N={n}/{client}", rate, cpu)

    def show(self):
        """Prints today's beside the committed ones; writes them down with --save."""
        if not self.now:
            return
        rows, marks = [], 0
        for key, now in self.now.items():
            old = self.committed.get(key)
            row = [key.replace("/", " / ")]
            for figure, better in (("rate", 1), ("cpu", -1)):
                shown, mark = compared(now[figure], old and old[figure], better)
                row += shown
                marks += mark
            rows.append(row)
        kept = sorted({f"{old['at']} on {old['machine']}" for k, old in self.committed.items() if k in self.now})
        self.bench.table(
            "Against the committed table (ratios, as each table above has them)",
            ["what", "rate now", "committed", "change", "CPU now", "committed", "change"],
            rows,
            f"**{marks} figures are worse beyond the spread of both.** " if marks else "",
        )
        print(f"Committed: {'; '.join(kept) or 'none of these rows yet'}; {self.path.relative_to(REPO)}.\n")
        if self.bench.asked.save:
            self.save()

    def save(self):
        if self.bench.quick:
            self.bench.note("--save: not the figures of a --quick run")
            return
        at, on = f"{datetime.now(timezone.utc):%Y-%m-%d}", machine(self.bench.root)
        for key, now in self.now.items():
            self.committed[key] = now | {"at": at, "machine": on}
        self.path.parent.mkdir(exist_ok=True)
        lines = [f"  {json.dumps(k)}: {json.dumps(v)}" for k, v in sorted(self.committed.items())]
        self.path.write_text("{\n" + ",\n".join(lines) + "\n}\n")
        self.bench.note(f"{len(self.now)} rows written to {self.path.relative_to(REPO)}: commit it")


def three(values):
    return values and [round(v, 4) for v in (statistics.median(values), min(values), max(values))]


def compared(now, old, better):
    """The cells [now, committed, change], and whether it is worse beyond the spread of both."""
    if not now:
        return ["–", "–", "–"], False
    shown = [f"{now[0]:.2f} ({now[1]:.2f}–{now[2]:.2f})"]
    if not old:
        return [*shown, "–", "new"], False
    change = (now[0] / old[0] - 1) * 100
    # beyond what either run would do to itself
    apart = not (old[1] <= now[0] <= old[2]) and not (now[1] <= old[0] <= now[2])
    worse = apart and change * better < 0
    text = f"{change:+.0f} %"
    if apart:
        text = f"**{text} worse**" if worse else f"{text} better"
    return [*shown, f"{old[0]:.2f} ({old[1]:.2f}–{old[2]:.2f})", text], worse
