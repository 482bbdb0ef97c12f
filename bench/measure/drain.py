"""Drain rate over N connections, beside Postfix's smtp-source, interleaved."""

import json
import statistics
from pathlib import Path

from .base import Failed, spread
from .mta import InfeedSink, SmtpSink, program

RECIPIENTS_PER_TRANSACTION = {"personalised": 1, "shared": 50}


def run(bench):
    asked = bench.asked
    quick = [1, 8] if bench.quick else [1, 2, 4, 8, 16, 32, 64]
    connections = [int(n) for n in asked.connections.split(",")] if asked.connections else quick
    contents = asked.contents.split(",") if asked.contents else ["personalised", "shared"]
    sinks = asked.sinks.split(",") if asked.sinks else ["infeed-sink", "smtp-sink"]
    for name in sinks:
        if name == "smtp-sink" and not program("smtp-sink"):
            bench.skip("smtp-sink is missing: install Debian's postfix package")
            continue
        sink = InfeedSink(bench) if name == "infeed-sink" else SmtpSink(bench)
        expected = 0
        for content in contents:
            expected += into(bench, sink, content, connections)
        counted = sink.stop()
        if counted is not None and counted != expected:
            bench.failed = True
            print(f"**The sink counted {counted:,} recipients, not {expected:,}.**\n")


def tools(bench):
    found = {"infeed": bench.infeed}
    if bench.asked.against:
        found["against"] = Path(bench.asked.against).resolve()
    if program("smtp-source"):
        found["smtp-source"] = program("smtp-source")
    else:
        bench.skip("smtp-source is missing: install Debian's postfix package")
    return found


def into(bench, sink, content, connections):
    """All N into one sink; the recipients sent."""
    by = tools(bench)
    runs = {tool: {n: [] for n in connections} for tool in by}
    sent = 0
    rounds = bench.rounds(3)
    for turn in range(rounds):
        for n in connections:
            order = list(by) if turn % 2 == 0 else list(reversed(by))
            for tool in order:
                count = deliveries(bench, content, n)
                bench.note(f"round {turn + 1} of {rounds}: {content} into {sink.name}, N = {n}: {tool}")
                if tool == "smtp-source":
                    seconds, cpu = smtp_source(bench, by[tool], sink, content, n, count)
                else:
                    seconds, cpu = infeed(bench, by[tool], sink, content, n, count)
                sent += count
                runs[tool][n].append((count / seconds, cpu / count * 1000))
                bench.record(
                    what="drain", sink=sink.name, content=content, connections=n, tool=tool,
                    deliveries=count, seconds=seconds, cpu_seconds=cpu,
                )
    show(bench, sink, content, connections, runs)
    return sent


def deliveries(bench, content, n):
    if bench.asked.messages:
        return bench.asked.messages * RECIPIENTS_PER_TRANSACTION[content]
    if content == "shared":
        return 20_000 if bench.quick else 400_000
    return 2_000 if bench.quick else (20_000 if n < 4 else 40_000)


def infeed(bench, binary, sink, content, n, count):
    """Seconds and CPU seconds of `infeed drain`, from process start to exit."""
    spool = bench.name("spool")
    bench.submit(content, count, spool)
    argv = [binary, "drain", "--spool", spool, "--mta", sink.address, "--connections", n, "--json", "--quiet"]
    done = bench.call(argv, 600)
    accepted = json.loads(done.output())["accepted"]
    bench.remove(spool)
    if accepted != count:
        raise Failed(f"infeed drain: {accepted} of {count} accepted")
    return done.seconds, done.cpu_seconds


def smtp_source(bench, binary, sink, content, n, count):
    per = RECIPIENTS_PER_TRANSACTION[content]
    argv = [binary, "-d", "-s", n, "-l", 4096, "-m", count // per, "-r", per]
    argv += ["-f", "news@bench.example", "-t", "reader@bench.example", sink.address]
    done = bench.call(argv, 600)
    return done.seconds, done.cpu_seconds


def show(bench, sink, content, connections, runs):
    per = RECIPIENTS_PER_TRANSACTION[content]
    source = runs.get("smtp-source")
    others = [tool for tool in runs if tool != "smtp-source"]
    median = lambda values: statistics.median(values)  # noqa: E731
    best = max(median([r for r, _ in source[n]]) for n in connections) if source else None
    header = ["N"]
    for tool in others:
        header += [f"{tool}, deliveries/s"]
    if source:
        header += ["smtp-source, deliveries/s", "ratio at this N", "ratio to its best N"]
    header += [f"{tool}, CPU s per 1,000" for tool in runs]
    if "against" in runs:
        header.append("infeed / against")
    rows = []
    for n in connections:
        row = [n] + [spread([r for r, _ in runs[tool][n]]) for tool in others]
        if source:
            pairs = [a / b for (a, _), (b, _) in zip(runs["infeed"][n], source[n])]
            row += [spread([r for r, _ in source[n]]), spread(pairs, 2)]
            row.append(f"{median([r for r, _ in runs['infeed'][n]]) / best:.2f}")
        row += [f"{median([c for _, c in runs[tool][n]]):.4f}" for tool in runs]
        if "against" in runs:
            row.append(spread([a / b for (a, _), (b, _) in zip(runs["infeed"][n], runs["against"][n])], 2))
        rows.append(row)
    what = "one recipient each, personalised" if per == 1 else f"shared content, {per} recipients a transaction"
    bench.table(
        f"Drain into {sink.name}: 4 KiB messages, {what}",
        header,
        rows,
        "From process start to exit; infeed reads a durable spool and journals each outcome. ",
    )
