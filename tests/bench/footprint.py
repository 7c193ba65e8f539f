#!/usr/bin/python3
"""What a backlog, many queues and one message left lying cost in memory, start-up time and disk; checked against limits.

    footprint.py --build build/release                      the full sizes: 10 million messages, 100,000 queues
    footprint.py --messages 200000 --queues 2000            small ones, for a test
"""
import argparse
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time

from servers import Broker, ServerError

MIB = 1 << 20


class Checks:
    def __init__(self):
        self.failed = 0

    def at_most(self, what, value, limit, unit):
        ok = value <= limit
        self.failed += not ok
        print(f"  {what:64} {value:9.1f} {unit:3}  at most {limit:7.1f} {unit:3}  {'ok' if ok else 'TOO MUCH'}", flush=True)


def note(what, value, unit):
    print(f"  {what:64} {value:9.1f} {unit}", flush=True)


def fill(broker, queue, count):
    broker.command("queue", "create", queue, "--exist-ok")
    broker.command("bench", "pub", "--json", "--queue", queue, "--keep", "--count", count, "--window", 8192, "--sync", "interval",
                   "--warmup", "0")


def first_delivery_ms(broker, queue, times=5):
    """kill -9, start again, and how long from the start of the process to the first message at a consumer; the median."""
    results = []
    for _ in range(times):
        broker.stop(signal.SIGKILL)
        begin = time.monotonic()
        broker.start()
        broker.command("sub", queue, "-n", 1, "--ack", "none", "--timeout", "10s")
        results.append((time.monotonic() - begin) * 1e3)
    return statistics.median(results)


def settle_rss(broker):
    """Resident memory once it stopped falling (what was just freed may take a moment)."""
    last = broker.rss()
    for _ in range(20):
        time.sleep(0.25)
        now = broker.rss()
        if now > last - MIB // 4:
            return min(now, last)
        last = now
    return last


def backlog(args, checks):
    print(f"Backlog of {args.messages:,} messages of 128 bytes, compared with {args.small:,}")
    with Broker(args.dir, args.build, args.brokerd) as broker:
        idle = settle_rss(broker)
        note("idle, just started", idle / MIB, "MiB")
        fill(broker, "backlog", args.small)
        warm = settle_rss(broker)
        note(f"after {args.small:,} messages", warm / MIB, "MiB")
        small_ms = first_delivery_ms(broker, "backlog")
        fill(broker, "backlog", args.messages - args.small)
        checks.at_most("memory with the backlog just published, above the small one's", (settle_rss(broker) - warm) / MIB, 16, "MiB")
        large_ms = first_delivery_ms(broker, "backlog")
        checks.at_most("memory with the backlog after a restart, above the idle one's", (settle_rss(broker) - idle) / MIB, 16, "MiB")
        note(f"kill -9 to first delivery, {args.small:,} messages", small_ms, "ms")
        checks.at_most(f"kill -9 to first delivery, {args.messages:,} messages", large_ms, 200, "ms")
        checks.at_most("the same, above that of the small backlog", large_ms - small_ms, 0.25 * small_ms + 10, "ms")


def one_left(args, checks):
    print(f"One of {args.messages:,} messages is never acked")
    with Broker(args.dir, args.build, args.brokerd) as broker:
        fill(broker, "stuck", args.messages)
        full, segment = disk_use(broker)
        broker.command("lease", "stuck", "--lease", "1d")
        broker.command("bench", "sub", "--json", "--queue", "stuck", "--no-fill", "--count", args.messages - 1)
        deadline = time.monotonic() + args.patience
        limit = args.segments * segment
        while disk_use(broker)[0] > limit and time.monotonic() < deadline:
            time.sleep(0.2)
        note("disk with all messages", full / MIB, "MiB")
        checks.at_most(f"disk with one message left, segments of {segment // MIB} MiB", disk_use(broker)[0] / MIB, limit / MIB,
                       "MiB")
        note("beside that, empty segments kept for reuse (store.spare)", spare_use(broker) / MIB, "MiB")
        lines = broker.command("queue", "describe", "stuck", "--json")
        if b'"messages":1,' not in lines:
            raise ServerError(f"the message left over is not there: {lines.decode()}")


def disk_use(broker):
    """Bytes on disk of all files but spare ones, and the size of a segment (the largest file)."""
    used, largest = 0, 0
    for entry in os.scandir(broker.data):
        try:
            stat = entry.stat()
        except FileNotFoundError:
            continue  # the cleaner was faster
        used += 0 if entry.name.startswith("spare-") else stat.st_blocks * 512
        largest = max(largest, stat.st_size)
    return used, largest


def spare_use(broker):
    return sum(e.stat().st_blocks * 512 for e in os.scandir(broker.data) if e.name.startswith("spare-"))


def create_queues(broker, count, processes=16):
    """Several at a time: they share syncs."""
    running = []
    for p in range(processes):
        names = "".join(f"queue-{i:06}\n" for i in range(p, count, processes))
        child = subprocess.Popen([os.path.join(broker.build, "cli", "broker"), "--url", broker.url, "queue", "create", "--quiet", "-"],
                                 stdin=subprocess.PIPE, stderr=subprocess.PIPE)
        running.append((child, names))
    for child, names in running:
        child.stdin.write(names.encode())
        child.stdin.close()
    for child, _ in running:
        error = child.stderr.read().decode()
        if child.wait() != 0:
            raise ServerError(f"queues were not created: {error}")


def queues(args, checks):
    print(f"{args.queues:,} idle queues")
    with Broker(args.dir, args.build, args.brokerd) as broker:
        idle = settle_rss(broker)
        begin = time.monotonic()
        create_queues(broker, args.queues)
        note("creating them took", time.monotonic() - begin, "s")
        rss = settle_rss(broker)
        checks.at_most("memory", rss / MIB, 150, "MiB")
        note("a queue", (rss - idle) / args.queues, "B")
        broker.stop(signal.SIGKILL)
        broker.start()
        checks.at_most("start-up after kill -9", broker.ready_s, 1, "s")
        checks.at_most("memory after that", settle_rss(broker) / MIB, 150, "MiB")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", default="build/release", help="a Release build (default %(default)s)")
    parser.add_argument("--messages", type=int, default=10_000_000, help="of the backlog (default 10,000,000)")
    parser.add_argument("--small", type=int, default=100_000, help="of the backlog compared with (default 100,000)")
    parser.add_argument("--queues", type=int, default=100_000, help="idle ones (default 100,000)")
    parser.add_argument("--segments", type=int, default=6, help="segments that may be left with one message (default 6)")
    parser.add_argument("--patience", type=float, default=60, help="seconds for the cleaner (default 60)")
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.OPTION=VALUE", help="for brokerd")
    parser.add_argument("--only", choices=("backlog", "one-left", "queues"), help="one part")
    parser.add_argument("--dir", default="/var/tmp", help="where data goes: a real disk (default %(default)s)")
    args = parser.parse_args()
    args.small = min(args.small, args.messages // 2)
    args.brokerd = [word for setting in args.set for word in ("--set", setting)]
    args.build = os.path.abspath(args.build)
    args.dir = tempfile.mkdtemp(prefix="broker-footprint-", dir=args.dir)
    checks = Checks()
    try:
        for name, part in (("backlog", backlog), ("one-left", one_left), ("queues", queues)):
            if args.only in (None, name):
                part(args, checks)
    except ServerError as error:
        print(f"footprint.py: {error}", file=sys.stderr)
        return 1
    finally:
        shutil.rmtree(args.dir, ignore_errors=True)
    print("all within limits" if not checks.failed else f"{checks.failed} over the limit")
    return 1 if checks.failed else 0


if __name__ == "__main__":
    sys.exit(main())
