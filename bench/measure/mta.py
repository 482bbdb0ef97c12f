"""The receivers: infeed's own sink, Postfix's smtp-sink, a private Postfix, a private sendmail."""

import json
import os
import shutil
import socket

from .base import Failed, free_port, wait_for

SBIN = "/usr/sbin"


def program(name):
    """Where Debian puts it, also for users without sbin in PATH."""
    return shutil.which(name) or shutil.which(name, path=SBIN)


class Receiver:
    """What a client sends to. `real`: an MTA, a tenth as fast as a sink."""

    real = False
    expected = 0
    # how it was counted what arrived, for the remark under a table
    counts = None

    def ready(self):
        """Called before each run: nothing of the last one may be in the way of the next."""

    def expect(self, recipients, messages):
        """So many were accepted, by the client's account."""
        self.expected += recipients

    def cpu_seconds(self):
        """Of the receiver, so far."""
        return self.process.cpu_so_far()

    def offers(self):
        """The keywords of its EHLO reply."""
        host, port = self.address.split(":")
        with socket.create_connection((host, int(port)), 10) as connection:
            replies = connection.makefile("rw", newline="")
            lines = []
            for command in ("", "EHLO bench.example\r\n", "QUIT\r\n"):
                replies.write(command)
                replies.flush()
                while True:
                    lines.append(replies.readline())
                    if not lines[-1].startswith(lines[-1][:3] + "-"):
                        break
        return {line[4:].split()[0].upper() for line in lines if line[:3] == "250" and line[4:].strip()}

    def close(self):
        """Ends it; what it counted must be what the clients say, where it counts at all."""
        self.compare(self.stop(), self.expected, "recipients")

    def compare(self, counted, expected, what):
        if counted is not None and counted != expected:
            raise Failed(f"{self.name} counted {counted:,} {what}, its clients {expected:,}")


class InfeedSink(Receiver):
    """`infeed sink`, without a ledger unless one is asked for."""

    name = "infeed-sink"
    counts = "the sink's own count"

    def __init__(self, bench, ledger=None, pipelining=True, more=()):
        port_file = bench.name("port")
        argv = [bench.infeed, "sink", "--listen", "127.0.0.1:0", "--port-file", port_file, "--json"]
        argv += ["--ledger", ledger] if ledger else []
        argv += [] if pipelining else ["--without", "pipelining"]
        argv += more
        self.process = bench.start(argv)
        wait_for("infeed sink", lambda: port_file.exists() or self.process.ended.is_set())
        if self.process.ended.is_set():
            raise Failed(f"infeed sink ended: {self.process.complaint()}")
        self.address = port_file.read_text().strip()

    def stop(self):
        """Its own count of recipients."""
        if self.process.stop() != 0:
            raise Failed(f"infeed sink: {self.process.complaint()}")
        return json.loads(self.process.output())["recipients_accepted"]


class SmtpSink(Receiver):
    """Postfix's smtp-sink with a backlog of 1,024."""

    name = "smtp-sink"

    def __init__(self, bench, pipelining=True):
        self.address = f"127.0.0.1:{free_port()}"
        # As root it wants a user to become.
        argv = [program("smtp-sink")] + (["-u", "nobody"] if os.geteuid() == 0 else [])
        argv += [] if pipelining else ["-p"]
        self.process = bench.start(argv + [self.address, "1024"])
        wait_for("smtp-sink", self.answers)

    def answers(self):
        if self.process.ended.is_set():
            raise Failed(f"smtp-sink ended: {self.process.complaint()}")
        host, port = self.address.split(":")
        try:
            with socket.create_connection((host, int(port)), 1):
                return True
        except OSError:
            return False

    def stop(self):
        """It keeps no count that outlives it."""
        self.process.stop()
        return None
