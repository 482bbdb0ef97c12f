"""The receivers: infeed's own sink, and Postfix's smtp-sink."""

import json
import os
import shutil
import socket

from .base import Failed, free_port, wait_for

SBIN = "/usr/sbin"


def program(name):
    """Where Debian puts it, also for users without sbin in PATH."""
    return shutil.which(name) or shutil.which(name, path=SBIN)


class InfeedSink:
    """`infeed sink`, without a ledger unless one is asked for."""

    name = "infeed-sink"

    def __init__(self, bench, ledger=None):
        port_file = bench.name("port")
        argv = [bench.infeed, "sink", "--listen", "127.0.0.1:0", "--port-file", port_file, "--json"]
        argv += ["--ledger", ledger] if ledger else []
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


class SmtpSink:
    """Postfix's smtp-sink with a backlog of 1,024."""

    name = "smtp-sink"

    def __init__(self, bench):
        self.address = f"127.0.0.1:{free_port()}"
        # As root it wants a user to become.
        argv = [program("smtp-sink")] + (["-u", "nobody"] if os.geteuid() == 0 else [])
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
