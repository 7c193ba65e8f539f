#!/usr/bin/python3
"""What a large backlog does to those who are not part of it: an urgent message behind it, keys beside a blocked one.

    backlogs.py --build build/release                                  10 million of low priority, a million of a blocked key
    backlogs.py --messages 200000 --blocked 50000                      less, for a test
"""
import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile

from features import drive
from footprint import MIB, fill, note, settle_rss
from servers import Broker, ServerError


def urgent(args):
    print(f"One urgent message (priority 9), to a consumer that takes one message at a time, behind {args.messages:,} of priority 0")
    with Broker(args.dir, args.build) as broker:
        idle = settle_rss(broker)
        broker.command("queue", "create", "empty")
        without = drive(broker, "latency", "empty", args.times, 20)
        fill(broker, "small", args.messages // 20)  # as busy a consumer, but a short queue
        small = drive(broker, "latency", "small", args.times, 20)
        fill(broker, "full", args.messages)
        note("memory with the backlog, above the idle one", (settle_rss(broker) - idle) / MIB, "MiB")
        within = drive(broker, "latency", "full", args.times, 20)
        for r, title in ((without, "empty queue"), (small, f"behind {args.messages // 20:,}"), (within, f"behind {args.messages:,}")):
            print(f"  publish to delivery, {title:20} median {r['median']:7.2f} ms   99th percentile {r['p99']:7.2f} ms   "
                  f"worst {r['worst']:7.2f} ms   meanwhile {r['others']:,.0f} others a second", flush=True)
        note("memory after it, above the idle one", (settle_rss(broker) - idle) / MIB, "MiB")


def blocked(args):
    print(f"{args.others:,} messages of 1,000 keys, published and consumed, beside {args.blocked:,} of a key whose first is leased")
    with Broker(args.dir, args.build) as broker:
        rates = {}
        for name in ("alone", "beside"):
            broker.command("queue", "create", name, "--sync", "interval")
        drive(broker, "publish", "beside", args.blocked, "keys=1")
        broker.command("lease", "beside", "--lease", "1d")
        before = settle_rss(broker)
        note("passing over the blocked ones, once: messages", pass_over(broker, args), "/s")
        note("memory that they take when passed over", (settle_rss(broker) - before) / MIB, "MiB")
        for _ in range(args.rounds):
            for name in ("alone", "beside"):
                rates.setdefault(name, []).append(drive(broker, "both", name, args.others, "keys=1000", "other-keys"))
        for name, runs in rates.items():
            print(f"  {name:8} {statistics.median(r['rate'] for r in runs):10,.0f} messages/s "
                  f"{statistics.median(r['cpu_ns'] for r in runs):7.0f} ns CPU a message", flush=True)
        ratio = statistics.median(b["rate"] / a["rate"] for a, b in zip(rates["alone"], rates["beside"]))
        note("beside, of alone", ratio * 100, "%")


def pass_over(broker, args):
    """One message behind them all: the time until it comes is that of looking at all the others."""
    first = drive(broker, "both", "beside", 1, "keys=1000", "other-keys")
    return args.blocked * first["rate"]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", default="build/release", help="a Release build (default %(default)s)")
    parser.add_argument("--messages", type=int, default=10_000_000, help="of low priority (default %(default)s)")
    parser.add_argument("--times", type=int, default=300, help="urgent messages (default %(default)s)")
    parser.add_argument("--blocked", type=int, default=1_000_000, help="messages of the blocked key (default %(default)s)")
    parser.add_argument("--others", type=int, default=300_000, help="messages of the others (default %(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="of the others (default %(default)s)")
    parser.add_argument("--only", choices=("urgent", "blocked"), help="one part")
    parser.add_argument("--dir", default="/var/tmp", help="where data goes: a real disk (default %(default)s)")
    args = parser.parse_args()
    args.build = os.path.abspath(args.build)
    args.dir = tempfile.mkdtemp(prefix="broker-backlogs-", dir=args.dir)
    print(f"{os.cpu_count()} processors, load average {os.getloadavg()[0]:.2f}")
    try:
        for name, part in (("urgent", urgent), ("blocked", blocked)):
            if args.only in (None, name):
                part(args)
    except (ServerError, subprocess.CalledProcessError) as error:
        print(f"backlogs.py: {error}", file=sys.stderr)
        return 1
    finally:
        shutil.rmtree(args.dir, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
