#!/usr/bin/python3
"""What each feature costs: the same messages with it and without it in turn, through a real broker; then the engine alone.

    features.py --build build/release                       all, some minutes
    features.py --messages 50000 --rounds 1 --only keys     less, for a look

Messages have bodies of 128 bytes; confirms are asked for once written (sync interval), so that processor time is measured and
not the disk. "CPU" is the daemon's own time for one message, all of its threads; it suffers less from other programs than rates.
"""
import argparse
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

from servers import Broker, ServerError

CORE = ("plain", "priority", "id", "key", "fair", "ttl", "topic", "filter")


def drive(broker, *args):
    program = os.path.join(broker.build, "tests", "bench", "bench_features")
    done = subprocess.run([program, broker.url, *map(str, args)], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    if done.returncode != 0:
        raise ServerError(f"bench_features {' '.join(map(str, args))}: {done.stderr.decode(errors='replace')}")
    return json.loads(done.stdout)


class Case:
    """A way to publish and consume: settings of the queue, of the messages, and what else there is."""

    def __init__(self, name, title, settings=(), features=(), setup=None, group=False, consume=("consume",), queue="q"):
        self.name, self.title, self.settings, self.features = name, title, list(settings), list(features)
        self.setup, self.group, self.consume, self.queue = setup, group, consume, queue

    def run(self, args):
        with Broker(args.dir, args.build) as broker:
            broker.command("queue", "create", "q", *self.settings)
            if self.setup:
                self.setup(broker)
            publish = drive(broker, "publish", "q", args.messages, *self.features)
            if self.consume == ("both",):
                with_time = drive(broker, "both", "q", args.messages, *self.features)
                return publish, with_time
            return publish, drive(broker, "consume", "q", args.messages, *self.consume[1:]) if self.consume else None


def bind(count):
    def setup(broker):
        for i in range(count):
            name = "q" if i == 0 else f"q{i}"
            broker.command("queue", "create", name, "--exist-ok")
            broker.command("bind", name, "orders.>")
    return setup


def filtered(broker):
    """A second group, which wants one message in ten."""
    broker.command("group", "create", "q", "some", "--filter-topic", "orders.eu.t3")


def two_groups(broker):
    broker.command("group", "create", "q", "some")


CASES = [  # each is compared with the one named before it: None is "plain"
    (Case("plain", "nothing"), None),
    (Case("priority", "priority 5", features=["priority=5"]), "plain"),
    (Case("priorities", "priorities 0 to 9 mixed", features=["priority=10"]), "plain"),
    (Case("delay", "delay 500 ms, then consumed", features=["delay=500"]), "plain"),
    (Case("ids", "message id, all different", features=["id=1000000000"]), "plain"),
    (Case("duplicates", "message id, 99 of 100 known", features=["id=1000"], consume=None), "plain"),
    (Case("keys", "1,000 keys, ordered", features=["keys=1000"]), "plain"),
    (Case("unordered", "1,000 keys, order off", ["--ordered-keys", "no"], ["keys=1000"]), "plain"),
    (Case("fair", "1,000 keys, fair", ["--fair-keys", "yes"], ["keys=1000"]), "plain"),
    (Case("ttl", "ttl of an hour", features=["ttl=3600000"]), "plain"),
    (Case("headers", "one text header", features=["header"]), "plain"),
    (Case("named", "a topic, to a queue by name", features=["topic=10"]), "plain"),
    (Case("topic1", "by topic to 1 queue", features=["topic=10", "by-topic"], setup=bind(1)), "named"),
    (Case("topic10", "by topic to 10 queues", features=["topic=10", "by-topic"], setup=bind(10)), "named"),
    (Case("groups", "a second group", features=["topic=10"], setup=two_groups), "named"),
    (Case("filter", "a second group with a filter", features=["topic=10"], setup=filtered), "groups"),
    (Case("attempts", "max_attempts 5", ["--max-attempts", "5"]), "plain"),
    (Case("dead", "rejected: moved to the dead letters", consume=("consume", "reject")), "plain"),
    (Case("limit", "limit of 1 G messages", ["--max-messages", "1G"]), "plain"),
    (Case("drop", "limit of 10,000, oldest dropped", ["--max-messages", "10000", "--overflow", "drop-oldest"], consume=None), "plain"),
]


# ---- the table -------------------------------------------------------------------------------------------------------------


def part(runs, index, key):
    values = [run[index][key] for run in runs if run[index]]
    return statistics.median(values) if values else None


def cells(runs, base, index):
    """Rate, share of the base's, CPU of a message, more than the base's."""
    rate, cpu = part(runs, index, "rate"), part(runs, index, "cpu_ns")
    if rate is None:
        return f"{'-':>10} {'-':>6} {'-':>7} {'-':>7}"
    if base is None:
        return f"{rate:10,.0f} {'':6} {cpu:7.0f} {'':7}"
    ratio = statistics.median(a[index]["rate"] / b[index]["rate"] for a, b in zip(runs, base))
    return f"{rate:10,.0f} {ratio:6.2f} {cpu:7.0f} {cpu - part(base, index, 'cpu_ns'):+7.0f}"


def message_costs(args):
    wanted = [(case, base) for case, base in CASES if not args.only or any(w in case.name for w in args.only.split(","))]
    bases = {base for _, base in wanted} - {case.name for case, _ in wanted} - {None}
    wanted = [(case, base) for case, base in CASES if (case, base) in wanted or case.name in bases]
    runs = {}
    for _ in range(args.rounds):
        for case, _ in wanted:
            runs.setdefault(case.name, []).append(case.run(args))
    print(f"\n{args.messages:,} messages a run, {args.rounds} rounds, medians; x: share of the rate without the feature; "
          "CPU: ns a message in the daemon, and how much more")
    print(f"{'':37} {'publish/s':>10} {'x':>6} {'CPU':>7} {'more':>7} {'consume/s':>11} {'x':>6} {'CPU':>7} {'more':>7} "
          f"{'log bytes':>10} {'MiB':>6}")
    for case, base in wanted:
        r, b = runs[case.name], runs.get(base)
        print(f"{case.title:37} {cells(r, b, 0)}  {cells(r, b, 1)} {part(r, 0, 'bytes'):10.0f} {part(r, 0, 'rss') / 2**20:6.1f}")


# ---- what goes over whole queues ---------------------------------------------------------------------------------------------


def transactions(args):
    print("\nTake a message, publish it to two queues, ack it (durable):")
    for batch in (1, 100):
        count = min(args.messages, 500 * batch)
        with Broker(args.dir, args.build) as broker:
            for name in ("in", "a", "b"):
                broker.command("queue", "create", name)
            drive(broker, "publish", "in", 4 * count)
            results = {"separate": [], "transact": []}
            for _ in range(2):
                for how in ("separate", "transact"):
                    results[how].append(drive(broker, how, "in", "a", "b", count, batch))
            for how, title in (("separate", "publish, wait, ack, wait"), ("transact", "one transaction")):
                best = max(results[how], key=lambda r: r["rate"])
                print(f"  {title:26} {batch:4} messages at once  {best['rate']:10,.0f} messages/s {best['cpu_ns']:8.0f} ns CPU "
                      f"{best['bytes']:6.0f} bytes a message", flush=True)


def walks(args):
    print(f"\nWalking a queue of {args.messages:,} messages:")
    with Broker(args.dir, args.build) as broker:
        broker.command("queue", "create", "q")
        drive(broker, "publish", "q", args.messages, "header")
        for what, title in (("peek", "peek, all handed to the client"), ("count", "count by a header: all read"),
                            ("delete", "delete all: none read")):
            r = drive(broker, what, "q")
            print(f"  {title:32} {r['rate']:12,.0f} messages/s {r['cpu_ns']:8.0f} ns CPU", flush=True)


def compaction(args):
    """Each key ten times, so that nine of ten messages go; from the last confirm until they are gone."""
    print("\nCompaction of a log queue, each key ten times:")
    with Broker(args.dir, args.build) as broker:
        broker.command("queue", "create", "q", "--retention", "log", "--compact", "yes")
        keys = args.messages // 10
        before = broker.cpu()
        drive(broker, "publish", "q", args.messages, f"keys={keys}")
        published, begin = broker.cpu() - before, time.monotonic()
        while json.loads(broker.command("queue", "describe", "q", "--json"))["messages"] > keys * 1.01:
            if time.monotonic() - begin > 60:
                raise ServerError("compaction did not come to an end within a minute")
            time.sleep(0.05)
        took, cpu = time.monotonic() - begin, broker.cpu() - before - published
        print(f"  done {took:.1f} s after the last publish (a pass waits up to 10 s for more); {cpu / args.messages * 1e9:.0f} ns CPU a "
              f"message after the publishing, {published / args.messages * 1e9:.0f} during it", flush=True)


def backup(args):
    print("\nBackup of a running broker:")
    with Broker(args.dir, args.build) as broker:
        broker.command("queue", "create", "q")
        drive(broker, "publish", "q", args.messages * 2)
        begin, to = time.monotonic(), os.path.join(broker.dir, "copy")
        broker.command("backup", to)
        took = time.monotonic() - begin
        size = sum(os.stat(os.path.join(at, name)).st_size for at, _, names in os.walk(to) for name in names)
        print(f"  {size / 1e6:.0f} MB in {took:.2f} s: {size / 1e6 / took:.0f} MB/s", flush=True)


def core(args):
    program = os.path.join(args.build, "tests", "bench", "bench_core")
    print("\nEngine and store alone, ns a message (no sockets, no disk):")
    results = {name: [] for name in CORE}
    for _ in range(args.rounds):
        for name in CORE:
            done = subprocess.run([program, str(args.messages * 2), "128", "256", name], stdout=subprocess.PIPE, check=True)
            results[name].append([float(x) for x in re.findall(rb"([0-9.]+) ns", done.stdout)])
    plain = [statistics.median(x) for x in zip(*results["plain"])]
    for name, runs in results.items():
        ns = [statistics.median(x) for x in zip(*runs)]
        print(f"  {name:12} publish {ns[1]:7.1f} ({ns[1] - plain[1]:+7.1f})   lease, deliver, ack {ns[2]:7.1f} ({ns[2] - plain[2]:+7.1f})",
              flush=True)


PARTS = {"messages": message_costs, "transactions": transactions, "walks": walks, "compaction": compaction, "backup": backup,
         "core": core}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", default="build/release", help="a Release build (default %(default)s)")
    parser.add_argument("--messages", type=int, default=500_000, help="of each run (default %(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="the medians count (default %(default)s)")
    parser.add_argument("--part", choices=PARTS, action="append", help="only this; may be repeated")
    parser.add_argument("--only", help=f"of the features, by name, comma-separated: {', '.join(c.name for c, _ in CASES)}")
    parser.add_argument("--dir", default="/var/tmp", help="where data goes: a real disk (default %(default)s)")
    args = parser.parse_args()
    args.build = os.path.abspath(args.build)
    args.dir = tempfile.mkdtemp(prefix="broker-features-", dir=args.dir)
    print(f"{os.cpu_count()} processors, load average {os.getloadavg()[0]:.2f} (an idle machine's is near 0)")
    try:
        for name in args.part or PARTS:
            PARTS[name](args)
    except (ServerError, subprocess.CalledProcessError) as error:
        print(f"features.py: {error}", file=sys.stderr)
        return 1
    finally:
        shutil.rmtree(args.dir, ignore_errors=True)
    print(f"\nload average at the end {os.getloadavg()[0]:.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
