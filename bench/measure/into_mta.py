"""Drain rate into a real Postfix and a real sendmail, beside smtp-source at the same N, interleaved."""

from . import drain
from .base import Failed
from .mta import program
from .real_mta import Postfix, Sendmail, missing

# A few seconds a run: N = 1 takes a few hundred messages a second.
MESSAGES = {1: 1_000, 2: 2_000}
MESSAGES_ELSE = 4_000
TRANSACTIONS = 600
WARM_UP = 100


def run(bench):
    asked = bench.asked
    connections = [int(n) for n in asked.connections.split(",")] if asked.connections else None
    connections = connections or ([1, 8] if bench.quick else [1, 2, 4, 8, 16, 32])
    contents = asked.contents.split(",") if asked.contents else ["personalised", "shared"]
    for name in asked.sinks.split(",") if asked.sinks else ["postfix", "sendmail"]:
        lack = missing(name)
        if lack or not program("smtp-source"):
            bench.skip(lack or "smtp-source is missing: install Debian's postfix package")
            continue
        for content in contents:
            into(bench, {"postfix": Postfix, "sendmail": Sendmail}[name], content, connections)


def into(bench, mta, content, connections):
    tools = drain.tools(bench)
    runs = {tool: {n: [] for n in connections} for tool in tools}
    rounds = bench.rounds(5)
    for turn in range(rounds):
        instance = mta(bench)
        for n in connections:
            if mta is Sendmail and n != connections[0]:
                # its queue only grows
                instance.stop()
                instance = mta(bench)
            warm_up(bench, instance, n)
            for tool in list(tools) if turn % 2 == 0 else reversed(tools):
                count = deliveries(bench, content, n)
                bench.note(f"round {turn + 1} of {rounds}: {content} into {mta.name}, N = {n}: {tool}")
                tell = drain.smtp_source if tool == "smtp-source" else drain.infeed
                cpu_before = instance.cpu_seconds()
                seconds, cpu = tell(bench, tools[tool], instance, content, n, count)
                if mta is Postfix and not instance.wait_empty(60):
                    raise Failed(f"Postfix has not discarded all after 60 s: {instance.queued()}")
                runs[tool][n].append((count / seconds, cpu / count * 1000))
                bench.record(
                    what="into-mta", mta=mta.name, content=content, connections=n, tool=tool, deliveries=count,
                    seconds=seconds, cpu_seconds=cpu, mta_cpu_seconds=instance.cpu_seconds() - cpu_before,
                )
        instance.stop()
    drain.show(bench, instance, content, connections, runs)


def deliveries(bench, content, n):
    messages = bench.asked.messages or (200 if bench.quick else None)
    if content == "shared":
        return (messages or TRANSACTIONS) * drain.RECIPIENTS_PER_TRANSACTION[content]
    return messages or MESSAGES.get(n, MESSAGES_ELSE)


def warm_up(bench, instance, n):
    """So that neither tool pays for the MTA's processes."""
    drain.smtp_source(bench, program("smtp-source"), instance, "personalised", n, max(WARM_UP, 2 * n))
    if isinstance(instance, Postfix):
        instance.wait_empty(10)
