"""What sends: Postfix's smtp-source, the blaster, and the engine in each of its modes.

A client is asked for deliveries (recipients that a sink accepts) and ends when it has made them, or the
run fails: what was not accepted never counts.
"""

import json
import os
from dataclasses import dataclass, field
from pathlib import Path

from .base import Failed
from .mta import program

# The engine as a user has it does both where it is offered; so does the blaster beside it.
DEPTH = 4


@dataclass
class Run:
    """One run of one client. `own_seconds`: from its first transaction on, by its own report."""

    deliveries: int
    seconds: float
    cpu_seconds: float
    rss_kib: int
    own_seconds: float
    sink_cpu_seconds: float = 0.0

    @property
    def rate(self):
        return self.deliveries / self.seconds

    @property
    def cpu_per_1000(self):
        return self.cpu_seconds / self.deliveries * 1000


class Client:
    """`needs`: the EHLO keyword without which it has nothing to show. `lock_step`: it wants a sink that
    offers no PIPELINING."""

    needs = None
    lock_step = False
    # how many times the size of smtp-source's run it takes to last as long, by recipients a transaction
    faster = {1: 1, 50: 1}

    def prepare(self, bench, content, count):
        """What must be there before the clock runs; it is given to `argv`, then to `tidy`."""
        return None

    def tidy(self, bench, prepared):
        pass

    def accepted(self, output, count):
        """(deliveries by its own report, seconds by its own report)."""
        return count, None

    def run(self, bench, sink, n, content, count, prefix=()):
        prepared = self.prepare(bench, content, count)
        sink.ready()
        argv = [*prefix, *self.argv(sink, n, content, count, prepared)]
        sink_cpu = sink.cpu_seconds()
        done = bench.call(argv, 900, watch_memory=True)
        sink_cpu = sink.cpu_seconds() - sink_cpu
        self.tidy(bench, prepared)
        accepted, own = self.accepted(done.output(), count)
        if accepted != count:
            raise Failed(f"{self.name}: {accepted:,} of {count:,} accepted by {sink.name}, N = {n}")
        sink.expect(count, count // content.recipients)
        return Run(count, done.seconds, done.cpu_seconds, done.rss_kib, own or done.seconds, sink_cpu)


class SmtpSource(Client):
    """It goes on only after the reply it wants, so its exit code is the proof. All its recipients are one
    and the same, unless `distinct`: an MTA that looks each one up has its last answer at hand."""

    def __init__(self, distinct=False):
        self.binary = program("smtp-source")
        self.distinct = distinct
        self.name = "smtp-source -N" if distinct else "smtp-source"

    def prepare(self, bench, content, count):
        return bench.rendered[content.message]

    def argv(self, sink, n, content, count, prepared):
        per = content.recipients
        argv = [self.binary, "-d", "-s", n, "-m", count // per, "-r", per, *["-N"][:self.distinct]]
        # a real MTA reads the headers: there it gets the engine's own message, rendered once
        argv += ["-F", prepared] if sink.real else ["-l", 4096]
        return [*argv, "-f", "news@bench.example", "-t", "reader@bench.example", sink.address]


class Blaster(Client):
    faster = {1: 4, 50: 10}

    def __init__(self, binary, depth=None):
        """`depth`: messages in one write by BDAT; without it, DATA grouped across the dot."""
        self.binary = binary
        self.depth = depth
        self.name = f"blaster, BDAT {depth}" if depth else "blaster, DATA"
        self.needs = "CHUNKING" if depth else "PIPELINING"

    def argv(self, sink, n, content, count, _):
        per = content.recipients
        argv = [self.binary, "-s", n, "-m", count // per, "-r", per, "-l", 4096]
        return [*argv, *(["--bdat", "--depth", self.depth] if self.depth else []), sink.address]

    def accepted(self, output, count):
        said = json.loads(output)
        return said["recipients"], said["seconds"]


@dataclass
class Engine(Client):
    """`infeed drain` of a durable spool with a journal; submitting is not in the time. `settings` go into
    a configuration file, over the defaults."""

    name: str
    binary: Path
    settings: dict = field(default_factory=dict)
    needs: str = None
    lock_step: bool = False
    faster = {1: 4, 50: 8}

    def config(self, bench):
        key = ("config", json.dumps(self.settings))
        if key not in bench.kept:
            path = bench.name("mode.toml")
            groups = {}
            for name, value in self.settings.items():
                group, _, setting = name.partition(".")
                groups.setdefault(group, []).append(f"{setting} = {json.dumps(value)}")
            path.write_text("".join(f"[{g}]\n" + "\n".join(lines) + "\n" for g, lines in groups.items()))
            bench.kept[key] = path
        return bench.kept[key]

    def unknown(self, bench):
        """What this binary says against the mode's settings; empty when it knows them."""
        checked = bench.call([self.binary, "config", "check", self.config(bench)], 60, codes=(0, 78))
        return (checked.complaint() or checked.output().strip()) if checked.code else ""

    def prepare(self, bench, content, count):
        spool = bench.name("spool")
        bench.submit(content.message, count, spool, content.submit)
        return spool, self.config(bench)

    def argv(self, sink, n, content, count, prepared):
        spool, config = prepared
        argv = [self.binary, "drain", "--config", config, "--spool", spool, "--mta", sink.address]
        return [*argv, "--connections", n, "--json", "--quiet"]

    def tidy(self, bench, prepared):
        bench.remove(prepared[0])

    def accepted(self, output, count):
        said = json.loads(output)
        return said["accepted"], said["seconds"]


def blaster_binary(bench):
    """Built, unless one is named, or `--binary` says that nothing is to be built and one is there."""
    asked = bench.asked
    built = bench.root.parent / "release" / "examples" / "blaster"
    if asked.blaster:
        return Path(asked.blaster).resolve()
    if not (asked.binary and os.access(built, os.X_OK)):
        bench.cargo("build", "--release", "--example", "blaster")
    return built


def sweep(bench):
    """The clients of the sweep over N: smtp-source where there is one, both blasters, the engine."""
    binary = blaster_binary(bench)
    clients = [SmtpSource(), SmtpSource(distinct=True)] if program("smtp-source") else []
    if not clients:
        bench.skip("smtp-source is missing: install Debian's postfix package (bench/run --install)")
    clients += [Blaster(binary, DEPTH), Blaster(binary), Engine("engine", bench.infeed)]
    if bench.asked.against:
        clients.append(Engine("against", Path(bench.asked.against).resolve()))
    return clients


def modes(bench):
    """What is measured beside the sweep at one N: the same, one switch apart."""
    data = {"mta.chunking": False}
    bdat = {"mta.chunking": True}
    found = [Blaster(blaster_binary(bench), 1)]
    for name, settings, needs in (
        ("engine, DATA", data, "CHUNKING"),
        ("engine, DATA, not grouped", data | {"mta.group_across_dot": False}, "PIPELINING"),
        ("engine, BDAT 1", bdat | {"mta.pipelining_depth_max": 1}, "CHUNKING"),
        ("engine, BDAT 4", bdat | {"mta.pipelining_depth_max": 4}, "CHUNKING"),
    ):
        engine = Engine(name, bench.infeed, settings, needs)
        if engine.unknown(bench):
            # a binary from before CHUNKING: DATA is all that it has, and needs no switch
            engine = Engine(name, bench.infeed, {k: v for k, v in settings.items() if k not in data}, needs)
            if engine.unknown(bench) or needs == "CHUNKING":
                bench.skip(f"{name}: this binary does not know its settings")
                continue
        found.append(engine)
    found.append(Engine("engine, lock step", bench.infeed, lock_step=True))
    return found
