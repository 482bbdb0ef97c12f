"""System calls a delivery: of a short run and a longer one, the difference, so that start and end of the
process do not count. These runs are apart from the timed ones: watching is not free."""

import re
import shutil
import subprocess

# deliveries of the short run, by recipients a transaction; the longer one has three times as many
SHORT = {1: 2_000, 50: 20_000}
NAMES_SHOWN = 6


def show(bench, sink, content, clients, n):
    perf, strace = perf_counts(bench), shutil.which("strace")
    if not perf and not strace:
        bench.skip("system calls: neither perf (with tracepoints) nor strace is there")
        return
    rows = []
    for client in clients:
        bench.note(f"system calls: {content.name} into {sink.name}, N = {n}: {client.name}")
        short = SHORT[content.recipients]
        total, by_name = None, {}
        if perf:
            total = difference(short, lambda count: by_perf(bench, client, sink, n, content, count))["all"]
        if strace:
            by_name = difference(short, lambda count: by_strace(bench, client, sink, n, content, count))
            total = sum(by_name.values()) if total is None else total
        common = sorted(by_name.items(), key=lambda item: -item[1])[:NAMES_SHOWN]
        shown = ", ".join(f"{name} {calls:.2g}" for name, calls in common if calls >= 0.005)
        bench.record(
            what="calls", sink=sink.name, content=content.name, connections=n, client=client.name,
            calls_a_delivery=total, by_name=by_name,
        )
        rows.append([client.name, f"{total:.3g}", shown or "–"])
    bench.table(
        f"System calls a delivery, N = {n}, into {sink.name}: {content.title()}",
        ["client", "calls", "by name (strace)"],
        rows,
        f"Counted by {'perf' if perf else 'strace'}. Under strace a client is slow, so a wait finds more ready: "
        "its names show the kind, not the number. " if strace and perf else "",
    )


def difference(short, count):
    """Calls a delivery, by name, past the first `short` deliveries."""
    one, other = count(short), count(3 * short)
    return {name: (calls - one.get(name, 0)) / (2 * short) for name, calls in other.items()}


def perf_counts(bench):
    """Whether perf may count system calls here."""
    perf = shutil.which("perf")
    probe = perf and subprocess.run(
        [perf, "stat", "-x", ",", "-e", "raw_syscalls:sys_enter", "true"], capture_output=True, text=True
    )
    return bool(probe) and probe.returncode == 0 and re.search(r"^\d+,", probe.stderr, re.M) is not None


def by_perf(bench, client, sink, n, content, count):
    out = bench.name("perf")
    client.run(
        bench, sink, n, content, count, ["perf", "stat", "-x", ",", "-o", out, "-e", "raw_syscalls:sys_enter", "--"]
    )
    return {"all": int(re.search(r"^(\d+),", out.read_text(), re.M).group(1))}


def by_strace(bench, client, sink, n, content, count):
    out = bench.name("strace")
    client.run(bench, sink, n, content, count, ["strace", "-f", "-c", "-o", out, "--"])
    calls = {}
    for line in out.read_text().splitlines():
        fields = line.split()
        # % time, seconds, usecs/call, calls, [errors,] name
        if len(fields) >= 5 and re.match(r"[\d.]+$", fields[0]) and fields[-1] != "total":
            calls[fields[-1]] = int(fields[3])
    return calls
