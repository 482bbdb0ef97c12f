"""What a scrape of /metrics takes with many jobs in the spool, and what one a second costs a drain."""

import datetime
import http.client
import json
import math
import random
import statistics
import subprocess
import threading
import time
from pathlib import Path

from .base import Failed, spread, wait_for
from .mta import InfeedSink
from .pressure import interval

JOBS = 1_000
JOB_RECIPIENTS = 20
SCRAPES = 50
GOAL_MS = 5.0
PAIRS = 10
# Ten seconds, about, into the own sink.
DRAIN_RECIPIENTS = 250_000
GOAL_COST = 0.01


def run(bench):
    duration(bench)
    cost(bench)


def submit_jobs(bench, spool, more=()):
    """Many small jobs, each submitted by itself."""
    jobs = 50 if bench.quick else JOBS
    bench.note(f"submitting {jobs:,} jobs")
    for _ in range(jobs):
        bench.submit("personalised", JOB_RECIPIENTS, spool, more)
    return jobs


class Server:
    """`infeed serve` (or drain) with a listener for metrics."""

    def __init__(self, bench, argv):
        self.process = bench.start([bench.infeed, *argv, "--metrics", "127.0.0.1:0"])
        self.address = None
        wait_for("the address of the metrics", self.found, 60)

    def found(self):
        for line in self.process.stderr.read_text().splitlines():
            if "metrics on http://" in line:
                self.address = line.split("http://")[1].split("/")[0]
                return True
        if self.process.ended.is_set():
            raise Failed(f"it ended: {self.process.complaint()}")
        return False

    def scrape(self):
        """Milliseconds of one scrape, as curl counts it from connect to the last octet; octets; the text."""
        said = subprocess.run(
            ["curl", "-s", "-S", "-f", "-w", "\n%{time_total} %{size_download}", f"http://{self.address}/metrics"],
            capture_output=True, text=True, check=False,
        )
        if said.returncode != 0:
            raise Failed(f"curl: {said.stderr.strip()}")
        text, _, timing = said.stdout.rpartition("\n")
        seconds, size = timing.split()
        return float(seconds) * 1000, int(size), text


def duration(bench):
    """Scrapes of a daemon that stands still, and of one that drains slowly."""
    spool = bench.name("spool")
    jobs = submit_jobs(bench, spool)
    sink = InfeedSink(bench, more=["--latency-ms", "50"])
    serve = Server(bench, ["serve", "--spool", spool, "--mta", sink.address, "--connections", "4"])
    rows = []
    for what, command in (("everything paused", ["pause", "--all"]), ("draining into a slow sink", ["resume", "--all"])):
        bench.call([bench.infeed, *command, "--spool", spool])
        # what it reads aside, it reads within some seconds
        time.sleep(1 if bench.quick else 12)
        took, size, text = [], 0, ""
        cpu = work(serve, lambda: None)
        for _ in range(SCRAPES):
            ms, size, text = serve.scrape()
            took.append(ms)
            time.sleep(0.2)
        # what it does anyway, in as long a time, is not the scrapes'
        cpu = (work(serve, serve.scrape) - cpu) / SCRAPES
        active = gauge(text, 'infeed_jobs{state="active"}')
        bench.record(what="scrape", state=what, jobs=active, ms=took, octets=size, cpu_ms=cpu)
        took.sort()
        p95 = took[math.ceil(0.95 * len(took)) - 1]
        met = "met" if p95 < GOAL_MS else "**missed**"
        rows.append([what, f"{active:,.0f}", len(took), f"{statistics.median(took):.2f}", f"{p95:.2f}",
                     f"{took[-1]:.2f}", f"{cpu:.2f}" if command[0] == "pause" else "-", f"{size / 1024:.0f}", met])
    serve.process.stop()
    sink.stop()
    bench.remove(spool)
    bench.table(
        f"A scrape with {jobs:,} jobs",
        ["", "active jobs at the end", "scrapes", "median, ms", "p95, ms", "highest, ms", "CPU, ms", "KiB", f"p95 under {GOAL_MS:.0f} ms"],
        rows, "Time by curl (`time_total`), a connection for each. CPU: the daemon's, a scrape, where it does nothing else. ",
    )


def work(serve, scrape):
    """CPU milliseconds of the daemon over as long as the scrapes take, with them or without."""
    until = time.monotonic() + 0.1 * SCRAPES
    before = serve.process.cpu_ms()
    for number in range(SCRAPES):
        scrape()
        time.sleep(max(0.0, until - 0.1 * (SCRAPES - 1 - number) - time.monotonic()))
    return serve.process.cpu_ms() - before


def gauge(text, name):
    for line in text.splitlines():
        if line.startswith(name + " "):
            return float(line.split()[-1])
    raise Failed(f"{name} is not among the metrics")


class Scraper(threading.Thread):
    """A scrape a second, over one connection, as Prometheus does it."""

    def __init__(self, address):
        super().__init__(daemon=True)
        self.address, self.over, self.scrapes = address, threading.Event(), 0
        self.start()

    def run(self):
        connection = http.client.HTTPConnection(self.address, timeout=10)
        while not self.over.wait(1.0):
            try:
                connection.request("GET", "/metrics")
                connection.getresponse().read()
                self.scrapes += 1
            except OSError:
                # the drain has ended, or is about to
                connection.close()


def cost(bench):
    """Pairs of drains, with a scraper and without, in an order thrown anew for each."""
    spool = bench.name("spool")
    # jobs that are active and wait for their hours: they are told, and nothing of them goes
    hour = (datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(hours=10)).hour
    jobs = submit_jobs(bench, spool, ["--window", f"{hour:02}:00-{hour:02}:30 UTC"])
    recipients = 20_000 if bench.quick else bench.asked.messages or DRAIN_RECIPIENTS
    pairs = bench.rounds(PAIRS)
    rates, cpu, scrapes = {True: [], False: []}, {True: [], False: []}, []
    for pair in range(-1, pairs):
        for scraped in random.Random(pair).sample([True, False], 2):
            rate, cpu_s, n = one(bench, spool, recipients, scraped)
            # the first pair warms the machine up
            if pair < 0:
                continue
            rates[scraped].append(rate)
            cpu[scraped].append(cpu_s)
            scrapes += [n] if scraped else []
            bench.record(what="scraped-drain", pair=pair, scraped=scraped, per_second=rate, cpu_s=cpu_s, scrapes=n)
        bench.note(f"pair {pair + 1}: {rates[True][-1:]} scraped, {rates[False][-1:]} not")
    ratios = [a / b for a, b in zip(rates[True], rates[False])]
    low, high = interval(ratios)
    mean = math.exp(statistics.mean(math.log(ratio) for ratio in ratios))
    costs = math.exp(statistics.mean(math.log(a / b) for a, b in zip(cpu[True], cpu[False])))
    cpu_low, cpu_high = interval([a / b for a, b in zip(cpu[True], cpu[False])])
    met = "met" if mean > 1 - GOAL_COST else "**missed**"
    bench.table(
        f"A drain of {recipients:,} personalised recipients beside {jobs:,} waiting jobs, with a scrape a second and without",
        ["without, deliveries/s", "with", "ratio", "95 % interval of its mean", "CPU s, ratio", "95 % interval",
         "scrapes a drain", "pairs", "costs less than 1 %"],
        [[spread(rates[False]), spread(rates[True]), f"{mean:.4f}", f"{low:.4f}–{high:.4f}", f"{costs:.4f}",
          f"{cpu_low:.4f}–{cpu_high:.4f}", spread(scrapes), pairs, met]],
    )


def one(bench, spool, recipients, scraped):
    """Deliveries a second of one drain, its CPU seconds, and how often it was scraped."""
    job = bench.name("drained").name
    bench.submit("personalised", recipients, spool, ["--id", job])
    sink = InfeedSink(bench)
    drain = Server(bench, ["drain", "--spool", spool, "--mta", sink.address, "--connections", "8", "--json"])
    scraper = Scraper(drain.address) if scraped else None
    code = drain.process.wait(600)
    if scraper:
        scraper.over.set()
        scraper.join(20)
    sink.stop()
    # 75: the jobs that wait for their hours
    if code != 75:
        raise Failed(f"infeed drain ended with {code}: {drain.process.complaint()}")
    accepted = json.loads(Path(drain.process.stdout).read_text())["accepted"]
    if accepted != recipients:
        raise Failed(f"{accepted:,} of {recipients:,} accepted")
    bench.call([bench.infeed, "job", "remove", job, "--spool", spool])
    return accepted / drain.process.seconds, drain.process.cpu_seconds, scraper.scrapes if scraper else 0
