"""Deliveries, not acceptance: through a real Postfix's smtp transport to the sink, counted at the sink."""

import json
import os
import re
import time

from .base import Failed, spread
from .mta import InfeedSink
from .real_mta import TICKS, Postfix, missing

MINUTE_S = 60
HOUR_S = 3600
GOAL_PER_HOUR = {"personalised": 1_000_000, "verp": 5_000_000}
SLOWER_MAX = 0.10
VERP_PATTERN = "bounces@bench.example"

# What differs from Postfix's defaults, beside the recipe's own (tests/mta/postfix).
SETTINGS = [
    # A process for each hundred messages costs more than the messages.
    "max_use = 100000",
    # Nothing is looked up for a recipient: the client is on loopback, and is believed.
    "smtpd_recipient_restrictions = permit_mynetworks, reject",
    "smtpd_reject_unlisted_recipient = no",
    # To keep a connection costs smtp(8) more CPU (scache(8), passed descriptors) than a new one on loopback.
    "smtp_connection_cache_on_demand = no",
]
# One queue file is many deliveries, and there are always enough of them.
SETTINGS_OF_MANY = [
    # Little is active, and the brake of what comes in is firm: the queue is bounded.
    "qmgr_message_active_limit = 50",
    "in_flow_delay = 10s",
    # Few smtp(8) that are busy cost less CPU than twenty that wait for one lock.
    "default_destination_concurrency_limit = 4",
    "initial_destination_concurrency = 4",
    # The sink is one destination, and is no sign of trouble.
    "qmgr_clog_warn_time = 0",
]
# The largest transactions: what Postfix takes for a message it takes once for all of them.
ENGINE_OF_MANY = ["mta.recipients_per_transaction_max=500"]


def run(bench):
    lack = missing("postfix")
    if lack:
        bench.skip(lack)
        return
    recipients = bench.asked.messages or (2_000 if bench.quick else 1_000_000)
    contents = bench.asked.contents.split(",") if bench.asked.contents else list(GOAL_PER_HOUR)
    done = [Deliveries(bench, content, recipients).measure() for content in contents]
    bench.table(
        f"{recipients:,} messages of 4 KiB through Postfix's smtp transport to the sink behind it",
        ["content", "N", "delivered", "twice", "seconds", "deliveries/h", "of the goal", "per minute",
         "last minute to first", "largest queue", "CPU s per 1,000: infeed", "Postfix", "sink",
         "cores of others"],
        [run.row() for run in done],
        f"Counted in the sink's ledger. Queue: messages in Postfix's incoming, active and deferred folders, on "
        f"{done[0].file_system}. {' '.join(of_content(bench, content) for content in contents)} ",
    )


def of_content(bench, content):
    return f"{content}: {'; '.join(settings(bench, content))}; infeed: {', '.join(engine(bench, content)) or 'defaults'}."


def settings(bench, content):
    return SETTINGS + (SETTINGS_OF_MANY if content == "verp" else []) + (bench.asked.postfix or [])


def engine(bench, content):
    return (ENGINE_OF_MANY if content == "verp" else []) + (bench.asked.set or [])


class Deliveries:
    """One job from the spool to the sink behind Postfix."""

    def __init__(self, bench, content, recipients):
        self.bench, self.content, self.recipients = bench, content, recipients
        asked = bench.asked.connections
        self.connections = int(asked) if asked else {"personalised": 4, "verp": 1}[content]
        # (seconds, delivered, queue, CPU seconds of infeed, Postfix, sink, and of the whole machine)
        self.samples = []

    def measure(self):
        bench = self.bench
        spool, ledger = bench.name("spool"), bench.name("ledger")
        bench.note(f"submitting {self.recipients:,} recipients, {self.content}")
        self.submit(spool)
        self.sink = InfeedSink(bench, ledger)
        self.postfix = Postfix(bench, self.sink.address.split(":")[1], settings(bench, self.content))
        self.file_system = self.postfix.file_system
        with open(ledger, "rb") as arrived:
            self.watch(spool, arrived)
        self.check(ledger)
        self.sink.stop()
        self.postfix.stop()
        bench.remove(spool)
        bench.remove(ledger)
        bench.record(what="deliveries", content=self.content, **self.summary())
        return self

    def submit(self, spool):
        if self.content == "verp":
            self.bench.submit("shared", self.recipients, spool, ["--verp", VERP_PATTERN])
        else:
            self.bench.submit(self.content, self.recipients, spool)

    def watch(self, spool, arrived):
        """Drains, and looks once a second, until all have arrived or nothing does for a minute."""
        argv = [self.bench.infeed, "drain", "--spool", spool, "--mta", self.postfix.address, "--json", "--quiet"]
        argv += ["--connections", self.connections]
        for setting in engine(self.bench, self.content):
            argv += ["--set", setting]
        self.drain = self.bench.start(argv)
        self.delivered, moved = 0, time.monotonic()
        minute = 0
        while self.delivered < self.recipients:
            time.sleep(0.1 if self.bench.quick else 1)
            came = count_lines(arrived)
            self.delivered += came
            now = time.monotonic()
            moved = now if came else moved
            self.sample(now - self.drain.began)
            if now - moved > MINUTE_S:
                raise Failed(f"{self.delivered:,} of {self.recipients:,} delivered, and none for a minute")
            if self.drain.ended.is_set() and self.drain.code != 0:
                raise Failed(f"infeed drain ended with {self.drain.code}: {self.drain.complaint()}")
            if now - self.drain.began >= (minute + 1) * MINUTE_S:
                minute += 1
                self.note_minute(minute)
        self.drain.wait(HOUR_S)

    def sample(self, seconds):
        queue = self.postfix.queued()
        self.samples.append((
            seconds, self.delivered, queue, cpu_of(self.drain), self.postfix.cpu_seconds(),
            cpu_of(self.sink.process), cpu_of_machine(),
        ))

    def note_minute(self, minute):
        seconds, delivered, queue, *cpu = self.samples[-1]
        before = self.at(seconds - MINUTE_S)
        rate = (delivered - before[1]) / (seconds - before[0])
        used = [(now - then) / MINUTE_S for now, then in zip(cpu, before[3:])]
        others = used[3] - sum(used[:3])
        self.bench.note(
            f"minute {minute}: {rate:,.0f}/s, {delivered:,} delivered; queue {queue}; cores: infeed "
            f"{used[0]:.2f}, Postfix {used[1]:.2f}, sink {used[2]:.2f}, others {others:.2f}"
        )
        self.bench.record(
            what="deliveries-minute", content=self.content, minute=minute, per_second=rate, delivered=delivered,
            **queue, cores_infeed=used[0], cores_postfix=used[1], cores_sink=used[2], cores_others=others,
        )

    def at(self, seconds):
        """The last sample that is not later."""
        earlier = [sample for sample in self.samples if sample[0] <= max(seconds, self.samples[0][0])]
        return earlier[-1]

    def check(self, ledger):
        """Every recipient arrived once: the sink's ledger against its own count and the list."""
        self.twice = 0
        seen = bytearray(self.recipients)
        with open(ledger) as lines:
            for line in lines:
                number = number_of(json.loads(line)["recipient"])
                self.twice += seen[number]
                seen[number] = 1
        missed = self.recipients - sum(seen)
        if missed or self.twice:
            self.bench.failed = True
            self.bench.note(f"{missed:,} recipients missed, {self.twice:,} deliveries too many")

    def summary(self):
        first, last = self.samples[0], self.samples[-1]
        begin = next(sample for sample in self.samples if sample[1])
        width = min(MINUTE_S, last[0] - begin[0]) or last[0]
        in_first = self.rate(begin[0], begin[0] + width)
        in_last = self.rate(last[0] - width, last[0])
        minutes = [self.rate(start, start + width) for start in whole_minutes(begin[0], last[0], width)]
        cpu = [(now - then) / self.recipients * 1000 for now, then in zip(last[3:6], first[3:6])]
        others = (last[6] - first[6] - sum(now - then for now, then in zip(last[3:6], first[3:6]))) / last[0]
        return {
            "connections": self.connections, "recipients": self.recipients, "delivered": self.delivered,
            "twice": self.twice, "seconds": last[0], "per_hour": self.delivered / last[0] * HOUR_S,
            "minutes": minutes, "last_to_first": in_last / in_first if in_first else 0,
            "queue_max": max(sum(sample[2].values()) for sample in self.samples),
            "queue_max_by": {name: max(sample[2][name] for sample in self.samples) for name in last[2]},
            "cpu_per_1000": cpu, "cores_others": others, "drain_seconds": self.drain.seconds,
        }

    def rate(self, start, end):
        then, now = self.at(start), self.at(end)
        return (now[1] - then[1]) / ((now[0] - then[0]) or 1)

    def row(self):
        sums = self.summary()
        goal = GOAL_PER_HOUR[self.content]
        kept = sums["last_to_first"] >= 1 - SLOWER_MAX
        return [
            self.content, self.connections, f"{self.delivered:,}", f"{self.twice:,}", f"{sums['seconds']:,.0f}",
            f"{sums['per_hour']:,.0f}", f"{sums['per_hour'] / goal:.2f}",
            spread([rate * MINUTE_S for rate in sums["minutes"]]),
            f"{sums['last_to_first']:.2f}" if kept else f"**{sums['last_to_first']:.2f}**",
            f"{sums['queue_max']:,}", *[f"{each:.3f}" for each in sums["cpu_per_1000"]],
            f"{sums['cores_others']:.2f}",
        ]


def whole_minutes(begin, end, width):
    starts = []
    while begin + width <= end + 0.5:
        starts.append(begin)
        begin += width
    return starts


def count_lines(file):
    """Lines that were appended since the last call."""
    count = 0
    while block := file.read(1 << 20):
        count += block.count(b"\n")
    return count


def number_of(address):
    """Addresses of `infeed make-list` are numbered from 1: `name.NUMBER@domain`."""
    return int(re.search(r"\.(\d+)@", address).group(1)) - 1


def cpu_of(process):
    """CPU seconds of a process of ours, also when it has ended."""
    if process.ended.is_set():
        return process.cpu_seconds
    try:
        with open(f"/proc/{process.pid}/stat") as stat:
            fields = stat.read().rpartition(") ")[2].split(" ")
    except OSError:
        return process.cpu_seconds
    return sum(int(ticks) for ticks in fields[11:13]) / TICKS


def cpu_of_machine():
    """CPU seconds of all that ran on it, that which the hypervisor took included."""
    with open("/proc/stat") as stat:
        user, nice, system, _, _, irq, softirq, steal, *_ = map(int, stat.readline().split()[1:])
    return (user + nice + system + irq + softirq + steal) / TICKS
