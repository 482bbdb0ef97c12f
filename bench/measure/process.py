"""A child process with its wall time, CPU time and peak memory. It is ended by its pid, never by name."""

import os
import signal
import subprocess
import threading
import time

LIVE = set()


class Process:
    """Started at once. `wait` gives the exit code; then `seconds`, `cpu_seconds` and `rss_kib` are known."""

    def __init__(self, argv, stdout, stderr, watch_memory=False):
        self.argv = [str(word) for word in argv]
        self.code = None
        self.seconds = self.cpu_seconds = 0.0
        self.rss_kib = 0
        self.stdout, self.stderr = stdout, stderr
        with open(stdout, "wb") as out, open(stderr, "wb") as err:
            self.began = time.monotonic()
            self.child = subprocess.Popen(self.argv, stdin=subprocess.DEVNULL, stdout=out, stderr=err)
        self.pid = self.child.pid
        LIVE.add(self)
        self.ended = threading.Event()
        threading.Thread(target=self._reap, daemon=True).start()
        if watch_memory:
            threading.Thread(target=self._watch, daemon=True).start()

    def _reap(self):
        _, status, usage = os.wait4(self.pid, 0)
        self.seconds = time.monotonic() - self.began
        self.cpu_seconds = usage.ru_utime + usage.ru_stime
        self.code = os.waitstatus_to_exitcode(status)
        self.child.returncode = self.code
        LIVE.discard(self)
        self.ended.set()

    def _watch(self):
        # Not ru_maxrss: a child inherits this script's own peak in it.
        while not self.ended.wait(0.02):
            self.rss_kib = max(self.rss_kib, memory_kib(self.pid, "VmHWM"))

    def wait(self, seconds_max):
        """The exit code; None when it still runs after `seconds_max`."""
        return self.code if self.ended.wait(seconds_max) else None

    def cpu_so_far(self):
        """CPU seconds of the process until now; 0 when it is gone."""
        try:
            with open(f"/proc/{self.pid}/stat") as stat:
                # pid (command) state …; the command may hold spaces and parentheses
                fields = stat.read().rpartition(") ")[2].split(" ")
        except OSError:
            return 0.0
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def cpu_ms(self):
        """CPU milliseconds of the threads that it has now, to the nanosecond; not while threads come and go."""
        total = 0
        for task in os.listdir(f"/proc/{self.pid}/task"):
            with open(f"/proc/{self.pid}/task/{task}/schedstat") as stat:
                total += int(stat.read().split()[0])
        return total / 1e6

    def stop(self, seconds_max=30):
        """SIGTERM, and SIGKILL when that has not ended it in time."""
        for which in (signal.SIGTERM, signal.SIGKILL):
            if self.ended.is_set():
                break
            try:
                os.kill(self.pid, which)
            except ProcessLookupError:
                break
            if self.ended.wait(seconds_max):
                break
        return self.code

    def output(self):
        return self.stdout.read_text(errors="replace")

    def complaint(self):
        """The end of what it said on standard error."""
        lines = self.stderr.read_text(errors="replace").strip().splitlines()
        return " | ".join(lines[-3:])


def memory_kib(pid, field):
    """A memory field of /proc/PID/status; 0 when the process is gone."""
    try:
        with open(f"/proc/{pid}/status") as status:
            for line in status:
                if line.startswith(field + ":"):
                    return int(line.split()[1])
    except (OSError, ValueError):
        pass
    return 0


def stop_all():
    for process in list(LIVE):
        process.stop(5)
