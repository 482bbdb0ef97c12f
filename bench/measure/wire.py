"""The wire: deliveries a second and what they cost, of smtp-source, the blaster and the engine, into a sink
or a real MTA; interleaved, so that what the machine does at a time strikes all of them alike."""

import statistics
from dataclasses import dataclass

from . import calls, clients, goals, real_mta, verp, wire_table
from .base import Failed
from .baseline import Baseline
from .mta import InfeedSink, Receiver, SmtpSink, program

SINKS = ["smtp-sink", "infeed-sink", "postfix", "sendmail"]
CONTENTS = ["personalised", "shared", "verp"]
N_OF_SINKS = [1, 4, 8, 16]
N_OF_MTAS = [1, 2, 4, 8, 16, 32]
# Deliveries of one run of smtp-source, a second's worth or two. Others make more, by how fast they are.
SIZES = {(False, 1): 15_000, (False, 50): 100_000, (True, 1): 1_500, (True, 50): 15_000}
QUICK = 10


@dataclass
class Content:
    name: str
    recipients: int
    message: str
    submit: tuple = ()

    def title(self):
        if self.recipients == 1:
            return "a message of 4 KiB for each recipient"
        return f"one message of 4 KiB, {self.recipients} recipients a transaction"


PERSONALISED = Content("personalised", 1, "personalised")
SHARED = Content("shared", 50, "shared")


class Postfix(real_mta.Postfix, Receiver):
    """One for all runs: it discards, so its queue is as good as new once it is empty."""

    real = True
    counts = "what its log says was discarded"

    def ready(self):
        if not self.wait_empty(60):
            raise Failed(f"Postfix has not discarded all after 60 s: {self.queued()}")

    def close(self):
        self.ready()
        counted = self.log().count("status=sent")
        self.stop()
        self.compare(counted, self.expected, "recipients")


class Sendmail(Receiver):
    """A fresh one for each run: its queue only grows, and a full folder is slower than an empty one."""

    name = "sendmail"
    real = True
    counts = "the messages in its queue"

    def __init__(self, bench):
        self.bench = bench
        self.mta = real_mta.Sendmail(bench)
        self.file_system = self.mta.file_system
        self.messages = 0

    @property
    def address(self):
        return self.mta.address

    def expect(self, recipients, messages):
        self.messages += messages

    def ready(self):
        if self.messages:
            self.close()
            self.mta, self.messages = real_mta.Sendmail(self.bench), 0

    def cpu_seconds(self):
        return self.mta.cpu_seconds()

    def close(self):
        queued = self.mta.queued()
        self.mta.stop()
        self.compare(queued, self.messages, "messages")


def run(bench):
    asked = bench.asked
    names = chosen(asked.sinks, SINKS, "--sinks")
    contents = chosen(asked.contents, CONTENTS, "--contents")
    results = Baseline(bench, "wire")
    senders = clients.sweep(bench)
    modes = clients.modes(bench) if asked.modes_at else []
    sweeps, verps = {}, {}
    for name in names:
        sink = start(bench, name)
        # a real MTA sorts by domain what it took, and smtp-source knows only one
        bench.domains = 1 if name in ("postfix", "sendmail") else 200
        if not sink:
            continue
        try:
            for content in (PERSONALISED, SHARED):
                if content.name in contents:
                    sweeps[name, content.name] = Sweep(bench, sink, content, senders, modes)
                    sweeps[name, content.name].measure(results)
            if "verp" in contents and (best := verp.run(bench, sink, results)):
                verps[name] = best
        finally:
            sink.close()
    goals.show(bench, sweeps, verps)
    results.show()


def chosen(asked, known, option):
    names = asked.split(",") if asked else known
    for name in names:
        if name not in known:
            raise Failed(f"{option}: no {name}; there are {', '.join(known)}")
    return names


def start(bench, name, pipelining=True):
    """The receiver; None, and said why, where it can't run here."""
    if name == "infeed-sink":
        return InfeedSink(bench, pipelining=pipelining)
    if name == "smtp-sink":
        if program("smtp-sink"):
            return SmtpSink(bench, pipelining=pipelining)
        bench.skip("smtp-sink is missing: install Debian's postfix package (bench/run --install)")
        return None
    missing = real_mta.missing(name)
    if missing:
        bench.skip(f"{name}: {missing}")
        return None
    return Postfix(bench) if name == "postfix" else Sendmail(bench)


class Sweep:
    """One table: all N, all clients, one sink, one content."""

    def __init__(self, bench, sink, content, senders, modes):
        self.bench, self.sink, self.content = bench, sink, content
        self.offers = sink.offers()
        asked = bench.asked
        self.modes_at = asked.modes_at
        default = N_OF_MTAS if sink.real else N_OF_SINKS
        self.connections = [1, 8] if bench.quick else default
        if asked.connections:
            self.connections = [int(n) for n in asked.connections.split(",")]
        usable = [c for c in senders + modes if not c.needs or c.needs in self.offers]
        self.ceiling = next((c.name for c in usable if isinstance(c, clients.Blaster)), None)
        # what recipients that differ cost shows in an MTA alone
        sweep = [c for c in usable if c in senders and (sink.real or not getattr(c, "distinct", False))]
        # the other blaster is a mode; and a real MTA is slow: there the blaster is one, too
        aside = lambda c: isinstance(c, clients.Blaster) and (sink.real or c.name != self.ceiling)  # noqa: E731
        self.always = [c for c in sweep if not aside(c)]
        self.at_one = [c for c in sweep if aside(c)] + [c for c in usable if c in modes]
        self.lock_step = None
        self.runs = {}

    def clients_at(self, n):
        beside = self.at_one if n == self.modes_at else []
        return [c for c in self.always + beside if not (c.lock_step and self.sink.real)]

    def measure(self, results):
        rounds = self.bench.rounds(5)
        try:
            for turn in range(rounds):
                for n in self.connections:
                    self.warm_up(n)
                    order = self.clients_at(n)
                    order = order[turn % len(order):] + order[:turn % len(order)]
                    for client in order:
                        self.bench.note(
                            f"round {turn + 1} of {rounds}: {self.content.name} into {self.sink.name}, "
                            f"N = {n}: {client.name}"
                        )
                        self.one(client, n)
        finally:
            if self.lock_step:
                self.lock_step.close()
        wire_table.show(self)
        at = self.modes_at if self.modes_at in self.connections else self.connections[-1]
        if not self.bench.quick or self.bench.asked.calls:
            calls.show(self.bench, self.sink, self.content, [c for c in self.clients_at(at) if not c.lock_step], at)
        results.take(self)

    def warm_up(self, n):
        """Not counted: Postfix starts its processes when the first connections come."""
        if self.sink.name == "postfix":
            count = max(100, 2 * n) * self.content.recipients
            self.always[0].run(self.bench, self.sink, n, self.content, count)

    def one(self, client, n):
        sink = self.sink
        if client.lock_step:
            self.lock_step = self.lock_step or start(self.bench, sink.name, pipelining=False)
            sink = self.lock_step
        count = self.deliveries(client, n)
        run = client.run(self.bench, sink, n, self.content, count)
        self.runs.setdefault((client.name, n), []).append(run)
        self.bench.record(
            what="wire", sink=sink.name, content=self.content.name, connections=n, client=client.name,
            deliveries=count, seconds=run.seconds, own_seconds=run.own_seconds, rss_kib=run.rss_kib,
            cpu_seconds=run.cpu_seconds, sink_cpu_seconds=run.sink_cpu_seconds,
        )

    def deliveries(self, client, n):
        per = self.content.recipients
        if self.bench.asked.messages:
            return self.bench.asked.messages * per
        count = SIZES[self.sink.real, per]
        if not self.sink.real:
            count *= client.faster[per]
            count = count // 2 if n < 4 or client.lock_step else count
        count //= QUICK if self.bench.quick else 1
        return max(count // per, n) * per

    def ratios(self, client, n, to, to_n=None, figure="rate"):
        """Round by round, so that what struck a round strikes both."""
        one, other = self.runs.get((client, n)), self.runs.get((to, to_n or n))
        if not one or not other:
            return None
        return [getattr(a, figure) / getattr(b, figure) for a, b in zip(one, other)]

    def best_n(self, client):
        """The N at which its median rate is highest."""
        rates = {n: statistics.median(r.rate for r in runs) for (c, n), runs in self.runs.items() if c == client}
        return max(rates, key=rates.get) if rates else None
