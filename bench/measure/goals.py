"""What the wire is meant to reach, beside what a run came to. The figures are medians over the rounds."""

import statistics

from .wire_table import SOURCE

ENGINE = "engine"
# whose recipients differ, as the engine's: a real MTA remembers the last addresses that it looked up
DISTINCT = f"{SOURCE} -N"
# (receiver, content, whose rate or CPU, to which client, at least or at most, how much)
SWEEP = [
    ("smtp-sink", "personalised", "rate at its best N", SOURCE, ">=", 1.7),
    ("smtp-sink", "personalised", "rate at its best N", "blaster", ">=", 0.9),
    ("smtp-sink", "personalised", "CPU at its best N", SOURCE, "<=", 0.5),
    ("smtp-sink", "shared", "rate at its best N", SOURCE, ">=", 6.0),
    ("postfix", "personalised", "rate at each N", DISTINCT, ">=", 1.0),
    ("postfix", "shared", "rate at each N", DISTINCT, ">=", 1.2),
    ("sendmail", "personalised", "rate at each N", DISTINCT, ">=", 1.0),
    ("sendmail", "shared", "rate at each N", DISTINCT, ">=", 1.2),
]
XVERP_MIN = 5.0


def show(bench, sweeps, verp_ratios):
    """`sweeps` by (receiver, content); `verp_ratios`: of XVERP to one a transaction, by receiver."""
    rows = []
    if bench.quick:
        return
    for sink, content, what, to, way, goal in SWEEP:
        sweep = sweeps.get((sink, content))
        if not sweep:
            continue
        to_name = sweep.ceiling if to == "blaster" else to
        came = at_each(sweep, to_name) if what.endswith("each N") else at_best(sweep, to_name, what)
        if came is not None:
            value, where = came
            rows.append(row(f"{content} into {sink}: {what}, of {to}'s", way, goal, value, where))
    for sink, ratio in verp_ratios.items():
        rows.append(row(f"XVERP into {sink}, of one a transaction", ">=", XVERP_MIN, ratio, "the best"))
    if rows:
        bench.table("Goals", ["goal", "", "came to", "at", "met"], rows)


def row(what, way, goal, value, where):
    met = value >= goal if way == ">=" else value <= goal
    bound = f"{'at least' if way == '>=' else 'at most'} {goal:g}"
    return [what, bound, f"{value:.2f}", where, "yes" if met else "**no**"]


def at_best(sweep, to, what):
    """Each at the N where its own rate is highest."""
    n, to_n = sweep.best_n(ENGINE), sweep.best_n(to)
    if n is None or to_n is None:
        return None
    figure = "cpu_per_1000" if what.startswith("CPU") else "rate"
    return statistics.median(sweep.ratios(ENGINE, n, to, to_n, figure)), f"N = {n}, to {to_n}"


def at_each(sweep, to):
    """The worst of all N."""
    found = [(statistics.median(ratios), f"N = {n}, the worst")
             for n in sweep.connections if (ratios := sweep.ratios(ENGINE, n, to))]
    return min(found, default=None)
