"""Build, folders, the machine, tables: what every measurement shares."""

import atexit
import json
import os
import platform
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import time
from datetime import datetime, timezone
from pathlib import Path

from .process import Process, stop_all

REPO = Path(__file__).resolve().parents[2]
COLUMNS = ["first_name", "city", "plan", "unsubscribe_token"]


class Failed(Exception):
    """A measurement that can't be made; the text says why and what to do."""


class Bench:
    """One run of bench/run. Leaving it ends its processes and removes its folder."""

    def __init__(self, asked):
        self.asked = asked
        self.quick = asked.quick
        self.failed = False
        self.root = Path(os.environ.get("CARGO_TARGET_DIR", REPO / "target")) / "bench"
        self.dir = self.root / f"run.{os.getpid()}"
        stamp = datetime.now(timezone.utc).strftime("%Y%m%dT%H%M%S")
        self.jsonl = self.root / f"{stamp}-{os.getpid()}-{'+'.join(asked.what)}.jsonl"
        self.names = 0
        self.began = time.time()
        self.kept = {}
        self.domains = 200
        self.drained = {}

    def __enter__(self):
        self.dir.mkdir(parents=True)
        # the defaults, whatever this machine's own configuration says
        (self.dir / "infeed.toml").touch()
        os.environ["INFEED_CONFIG"] = str(self.dir / "infeed.toml")
        atexit.register(stop_all)
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
        return self

    def __exit__(self, *_):
        stop_all()
        shutil.rmtree(self.dir, ignore_errors=True)

    def begin(self):
        self.infeed = Path(self.asked.binary).resolve() if self.asked.binary else self.build()
        self.make_messages()
        print(f"<!-- bench/run {' '.join(sys.argv[1:])} -->\n")
        print(f"{machine(self.root)}, {datetime.now(timezone.utc):%Y-%m-%d}\n", flush=True)
        if self.quick:
            print("A smoke run (--quick): its numbers mean nothing.\n")

    def build(self):
        self.cargo("build", "--release", "--bin", "infeed")
        return self.root.parent / "release" / "infeed"

    def cargo(self, *words):
        self.note("cargo " + " ".join(words))
        done = subprocess.run(["cargo", words[0], "--quiet", *words[1:]], cwd=REPO, stdout=sys.stderr)
        if done.returncode != 0:
            raise Failed(f"it failed: cargo {' '.join(words)}")

    def make_messages(self):
        """4 KiB of body each, as `smtp-source -l 4096` sends."""
        headers = (
            "From: Bench <news@bench.example>\n"
            "Date: Sun, 01 Nov 2026 08:00:00 +0000\n"
            "List-Id: <bench.bench.example>\n"
            "List-Unsubscribe: <https://bench.example/u>\n"
            "List-Unsubscribe-Post: List-Unsubscribe=One-Click\n"
            "MIME-Version: 1.0\n"
            "Content-Type: text/plain; charset=utf-8\n"
            "Content-Transfer-Encoding: 8bit\n"
        )
        line = "The towpath is open again between the old mill and the lock, all of it.\n"
        merged = (
            headers
            + "To: {{ address }}\nSubject: {{ first_name }}, the towpath is open\n\n"
            + "Dear {{ first_name }},\n\nsee you in {{ city }} ({{ plan }}).\n"
            + "https://bench.example/u?t={{ unsubscribe_token }}\n\n"
        )
        shared = headers + "To: readers@bench.example\nSubject: The towpath is open\n\n"
        self.messages, self.rendered = {}, {}
        for name, text in (("personalised", merged), ("shared", shared)):
            body = text.split("\n\n", 1)[1]
            # what the columns come to is about what their names in braces take
            room = 4096 - len(body)
            text += line * (room // len(line)) + "x" * (room % len(line)) + "\n"
            path = self.dir / f"{name}.eml"
            path.write_text(text)
            self.messages[name] = path
            self.rendered[name] = self.dir / f"{name}.rendered"
            self.rendered[name].write_text(re.sub(r"{{ (\w+) }}", r"a-\1", text))

    def note(self, text):
        print(f"bench/run: {text}", file=sys.stderr, flush=True)

    def name(self, stem):
        self.names += 1
        return self.dir / f"{stem}.{self.names}"

    def start(self, argv, watch_memory=False):
        """Starts a program; its output goes to files of this run."""
        out = self.name("out")
        return Process(argv, out, out.with_name(out.name + ".err"), watch_memory)

    def call(self, argv, seconds_max=3600, codes=(0,), watch_memory=False):
        """Runs a program to its end."""
        process = self.start(argv, watch_memory)
        code = process.wait(seconds_max)
        if code is None:
            process.stop(5)
            raise Failed(f"not done after {seconds_max} s: {' '.join(process.argv)}")
        if code not in codes:
            raise Failed(f"exit code {code}: {' '.join(process.argv)}: {process.complaint()}")
        return process

    def remove(self, path):
        if path.is_dir():
            shutil.rmtree(path)
        elif path.exists():
            path.unlink()

    def list_of(self, recipients):
        """A CSV list of five columns, at `domains` domains; made once a run."""
        key = ("list", recipients, self.domains)
        if key not in self.kept:
            path = self.dir / f"list-{recipients}-{self.domains}.csv"
            if self.domains == 1:
                self.plain_list(path, recipients)
            else:
                argv = [self.infeed, "make-list", "--recipients", recipients, "--domains", self.domains]
                self.call([*argv, "--output", path])
            self.kept[key] = path
        return self.kept[key]

    def plain_list(self, path, recipients):
        """The addresses that `smtp-source -N -t reader@bench.example` sends to."""
        with open(path, "w") as out:
            out.write(",".join(["address", *COLUMNS]) + "\n")
            for number in range(1, recipients + 1):
                out.write(f"{number}reader@bench.example,Ada,Springfield,basic,{number:024x}\n")

    def drop_list(self, recipients):
        path = self.kept.pop(("list", recipients, self.domains), None)
        if path:
            self.remove(path)

    def submit(self, content, recipients, spool, more=()):
        """Submits the list to a spool; the finished process. `more`: further options of `submit`."""
        argv = [self.infeed, "submit", self.messages[content], "--to", self.list_of(recipients)]
        argv += ["--yes", "--again", "--quiet", "--spool", spool]
        argv += ["--merge"] if content == "personalised" else []
        argv += more
        return self.call(argv)

    def record(self, **values):
        values["at"] = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
        values["load_1min"] = round(os.getloadavg()[0], 2)
        with open(self.jsonl, "a") as out:
            out.write(json.dumps(values) + "\n")

    def table(self, title, header, rows, remark=""):
        print(f"### {title}\n")
        print("| " + " | ".join(header) + " |")
        print("|" + " ---: |" * len(header))
        for row in rows:
            print("| " + " | ".join(str(cell) for cell in row) + " |")
        one, five, _ = os.getloadavg()
        print(f"\n{remark}Load average at the end: {one:.1f} (1 min), {five:.1f} (5 min).\n", flush=True)

    def skip(self, text):
        print(f"Skipped: {text}\n", flush=True)

    def rounds(self, default):
        return self.asked.rounds or (1 if self.quick else default)

    def free_bytes(self):
        return shutil.disk_usage(self.dir).free


def machine(path):
    """Cores, processor, memory, kernel and file system, in one line."""
    model = "unknown processor"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.split(":", 1)[1].strip()
            break
    memory_gib = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    path, best = str(path.resolve()), ("", "?", "?")
    for line in Path("/proc/mounts").read_text().splitlines():
        device, at, kind = line.split()[:3]
        if (path + "/").startswith(at.rstrip("/") + "/") and len(at) > len(best[0]):
            best = (at, device, kind)
    cores = len(os.sched_getaffinity(0))
    return f"{cores} cores ({model}), {memory_gib:.0f} GiB, Linux {platform.release()}, {best[2]} on {best[1]}"


def free_port():
    """A port of loopback that was free a moment ago, for programs that can't be given port 0."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(what, check, seconds_max=10.0):
    until = time.monotonic() + seconds_max
    while time.monotonic() < until:
        if check():
            return
        time.sleep(0.01)
    raise Failed(f"{what}: not there after {seconds_max:.0f} s")


def folder_bytes(path):
    """What a folder takes on disk, and how many files it holds."""
    total = files = 0
    for folder, _, names in os.walk(path):
        for name in names:
            try:
                total += os.lstat(os.path.join(folder, name)).st_blocks * 512
                files += 1
            except FileNotFoundError:
                pass
    return total, files


def spread(values, digits=0):
    """`median (min–max)`."""
    shown = [f"{v:,.{digits}f}" for v in (statistics.median(values), min(values), max(values))]
    return shown[0] if len(values) == 1 else f"{shown[0]} ({shown[1]}–{shown[2]})"
