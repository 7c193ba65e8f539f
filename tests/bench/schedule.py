#!/usr/bin/python3
"""What millions of scheduled messages cost in memory and start-up time, and how late messages come; checked against limits.

    schedule.py --build build/release                     10 million messages over a year
    schedule.py --messages 200000                         fewer, for a test
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

from footprint import MIB, Checks, note, settle_rss
from servers import Broker, ServerError

YEAR_MS = 365 * 86400 * 1000


def drive(broker, queue, what, count, span_ms):
    program = os.path.join(broker.build, "tests", "bench", "bench_schedule")
    done = subprocess.run([program, broker.url, queue, what, str(count), str(span_ms)], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    if done.returncode != 0:
        raise ServerError(done.stderr.decode(errors="replace"))
    return done.stdout.decode().split()


def first_delivery_ms(broker, times):
    """kill -9, start again, and how long until a message that is due reaches a consumer; the median."""
    results = []
    for _ in range(times):
        broker.command("pub", "now", "a message that is due")
        broker.stop(signal.SIGKILL)
        begin = time.monotonic()
        broker.start()
        broker.command("sub", "now", "-n", 1, "--timeout", "10s")
        results.append((time.monotonic() - begin) * 1e3)
    return statistics.median(results)


def lateness(broker, checks, what, limit_ms):
    broker.command("queue", "create", "soon", "--exist-ok")
    median, p99, worst, early = map(float, drive(broker, "soon", "late", 20000, 10000))
    note(f"lateness {what}, median", median, "ms")
    checks.at_most(f"lateness {what}, 99th percentile", p99, limit_ms, "ms")
    note(f"lateness {what}, worst", worst, "ms")
    checks.at_most(f"came before their time {what}", early, 0, "")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", default="build/release", help="a Release build (default %(default)s)")
    parser.add_argument("--messages", type=int, default=10_000_000, help="that are scheduled (default 10,000,000)")
    parser.add_argument("--span-ms", type=int, default=YEAR_MS, help="within which they are due (default: a year)")
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.OPTION=VALUE", help="for brokerd")
    parser.add_argument("--dir", default="/var/tmp", help="where data goes: a real disk (default %(default)s)")
    args = parser.parse_args()
    args.build = os.path.abspath(args.build)
    args.dir = tempfile.mkdtemp(prefix="broker-schedule-", dir=args.dir)
    checks = Checks()
    try:
        with Broker(args.dir, args.build, [word for setting in args.set for word in ("--set", setting)]) as broker:
            idle = settle_rss(broker)
            note("idle, just started", idle / MIB, "MiB")
            broker.command("queue", "create", "later")
            broker.command("queue", "create", "now")
            idle_ms = first_delivery_ms(broker, 5)
            lateness(broker, checks, "with nothing else", 5)
            begin = time.monotonic()
            drive(broker, "later", "fill", args.messages, args.span_ms)
            note(f"scheduling {args.messages:,} messages: a second", args.messages / (time.monotonic() - begin), "")
            checks.at_most("memory with them, above the idle one", (settle_rss(broker) - idle) / MIB, 64, "MiB")
            lateness(broker, checks, "with them", 5)
            with_ms = first_delivery_ms(broker, 5)
            note("kill -9 to first delivery, nothing scheduled", idle_ms, "ms")
            checks.at_most("kill -9 to first delivery with them", with_ms, 300, "ms")
            checks.at_most("memory after the restart, above the idle one", (settle_rss(broker) - idle) / MIB, 64, "MiB")
            load = subprocess.Popen([os.path.join(args.build, "tests", "bench", "bench_schedule"), broker.url, "later", "fill",
                                     str(max(args.messages // 10, 1)), str(args.span_ms)])
            lateness(broker, checks, "while more are published", 5)
            load.wait()
    except ServerError as error:
        print(f"schedule.py: {error}", file=sys.stderr)
        return 1
    finally:
        shutil.rmtree(args.dir, ignore_errors=True)
    print("all within limits" if not checks.failed else f"{checks.failed} over the limit")
    return 1 if checks.failed else 0


if __name__ == "__main__":
    sys.exit(main())
