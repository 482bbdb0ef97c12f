"""Private instances of the real MTAs, by the recipes in tests/mta: own configuration, queue, log and port.

Each has a fresh queue folder, on a tmpfs where there is one: some disks are slow for minutes after many
files were deleted. It is removed when the MTA has ended, so end it after the measurement, not within.
"""

import atexit
import itertools
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

from .base import REPO, Failed, free_port

LIVE = set()
NUMBERS = itertools.count()
TICKS = os.sysconf("SC_CLK_TCK")


def missing(mta):
    """Why `postfix` or `sendmail` can't run here; empty when it can."""
    done = recipe(mta, ["check"])
    return "" if done.returncode == 0 else done.stderr.strip()


def recipe(mta, argv, said=subprocess.PIPE, **environment):
    # a daemon keeps a pipe open for as long as it lives: `start` gets a file instead
    kept = {name: value for name, value in os.environ.items() if name != "MAIL_CONFIG"}
    return subprocess.run(
        [REPO / "tests/mta" / mta, *map(str, argv)], env=kept | environment, text=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=said,
    )


def place():
    """A folder for queues that every user may pass through, and what file system it is on."""
    for folder in (Path("/dev/shm"), Path(tempfile.gettempdir()), Path("/tmp")):
        if os.access(folder, os.W_OK) and all(part.stat().st_mode & 1 for part in (folder, *folder.parents)):
            break
    best = ("", "?")
    for line in Path("/proc/mounts").read_text().splitlines():
        _, at, kind = line.split()[:3]
        if (str(folder) + "/").startswith(at.rstrip("/") + "/") and len(at) >= len(best[0]):
            best = (at, kind)
    return folder, best[1]


class Instance:
    """What the two have in common. `relay`: a port of 127.0.0.1 that all mail goes to, `discard` (taken and
    forgotten), or `queue` (it stays in the queue)."""

    def __init__(self, bench, relay, lines, **environment):
        folder, self.file_system = place()
        self.dir = folder / f"infeed-mta-{os.getpid()}-b{next(NUMBERS)}"
        self.dir.mkdir()
        self.dir.chmod(0o755)
        LIVE.add(self)
        port = free_port()
        self.address = f"127.0.0.1:{port}"
        said = bench.name("said")
        with open(said, "w") as file:
            done = recipe(self.name, ["start", self.dir, port, relay, *lines], file, **environment)
        if done.returncode != 0:
            raise Failed(f"{self.name} did not start: {said.read_text().strip()}")
        self.session = int((self.dir / self.pid_file).read_text())

    def stop(self):
        """Ends its processes by their ids, and removes its folder. It has no count that outlives it."""
        LIVE.discard(self)
        done = recipe(self.name, ["stop", self.dir])
        if done.returncode != 0:
            raise Failed(f"{self.name} in {self.dir}: {done.stderr.strip()}")
        shutil.rmtree(self.dir)

    def log(self):
        return (self.dir / "log").read_text(errors="replace")

    def cpu_seconds(self):
        """What its processes have used so far, those included that have ended."""
        total = 0
        for path in Path("/proc").glob("[0-9]*/stat"):
            try:
                # pid (command) state ppid pgrp session …; the command may hold spaces and parentheses
                fields = path.read_text().rpartition(") ")[2].split(" ")
            except OSError:
                continue
            if int(fields[3]) == self.session:
                total += sum(int(ticks) for ticks in fields[11:15])
        return total / TICKS


class Postfix(Instance):
    """`settings`: lines of main.cf, after the recipe's. XVERP is offered unless `xverp` is false."""

    name = "postfix"
    pid_file = "spool/pid/master.pid"

    def __init__(self, bench, relay="discard", settings=(), xverp=True):
        super().__init__(bench, relay, [*settings, *([] if xverp else ["smtpd_authorized_verp_clients ="])])

    def queued(self):
        """Messages in its incoming, active and deferred queue."""
        return {name: files(self.dir / "spool" / name) for name in ("incoming", "active", "deferred")}

    def wait_empty(self, seconds_max):
        """Whether all of its queue was empty within that time."""
        until = time.monotonic() + seconds_max
        while any(self.queued().values()):
            if time.monotonic() > until:
                return False
            time.sleep(0.1)
        return True


class Sendmail(Instance):
    """Its listen backlog is sendmail's own default of 10, not the recipe's. `lines`: further m4 lines."""

    name = "sendmail"
    pid_file = "session.pid"

    def __init__(self, bench, relay="queue", lines=(), backlog=10):
        super().__init__(bench, relay, lines, INFEED_SENDMAIL_BACKLOG=str(backlog))

    def queued(self):
        """Messages in its queue."""
        return sum(entry.name.startswith("qf") for entry in os.scandir(self.dir / "queue"))


def files(folder):
    """Files below a queue's folder; those that go meanwhile count or don't."""
    try:
        with os.scandir(folder) as entries:
            return sum(1 if len(entry.name) > 1 else files(entry.path) for entry in entries)
    except FileNotFoundError:
        return 0


def stop_all():
    for instance in list(LIVE):
        instance.stop()


atexit.register(stop_all)
