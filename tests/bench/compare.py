#!/usr/bin/python3
"""Side by side on this machine, in turn: the floor (a bare server that writes, syncs and confirms), this broker, and its peers.

Prints rates with the figures that explain them, and the ratios that this broker is to reach. Needs a Release build. Peers that
are not installed are left out with a note.
"""
import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

from servers import Broker, Mosquitto, Redis, ServerError, find_program


DISTURBED = 0.1  # share of the processors in other hands above which a run is not worth much


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", default="build/release", help="a Release build (default %(default)s)")
    parser.add_argument("--quick", action="store_true", help="one short round, less than a minute")
    parser.add_argument("--rounds", type=int, help="rounds; the medians count (default 3)")
    parser.add_argument("--seconds", type=float, help="of each publishing run (default 5)")
    parser.add_argument("--backlog", type=int, help="messages to consume and ack (default 2,000,000)")
    parser.add_argument("--peer-backlog", type=int, help="the same for mosquitto (default 500,000)")
    parser.add_argument("--retries", type=int, help="of a run that other programs disturbed (default 2, quick 0)")
    parser.add_argument("--only", help="comma-separated: floor256, ours256, redis256, floor2048, ours2048, ours-sub, mqtt-sub")
    parser.add_argument("--dir", default="/var/tmp", help="where data goes: a real disk (default %(default)s)")
    parser.add_argument("--json", metavar="FILE", help="also write every figure there")
    parser.add_argument("--strict", action="store_true", help="end with code 1 if a target is missed")
    args = parser.parse_args()
    defaults = (1, 2, 500000, 100000, 0) if args.quick else (3, 5, 2000000, 500000, 2)
    for name, value in zip(("rounds", "seconds", "backlog", "peer_backlog", "retries"), defaults):
        if getattr(args, name) is None:
            setattr(args, name, value)
    return args


# ---- steps: each gives the JSON of one run -------------------------------------------------------------------------------


def run_json(argv):
    done = subprocess.run(list(map(str, argv)), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    if done.returncode != 0:
        raise ServerError(f"{argv[0]}: code {done.returncode}: {done.stderr.decode(errors='replace')}")
    return json.loads(done.stdout)


def bench_program(args, name):
    return os.path.join(args.build, "tests", "bench", name)


def durations(args):
    return ["--seconds", f"{args.seconds}s", "--warmup", f"{min(1, args.seconds / 4)}s"]


def floor(args, window):
    return run_json([bench_program(args, "bench_floor"), "--dir", args.dir, "--window", window, "--json", *durations(args)])


def ours_pub(args, window):
    with Broker(args.dir, args.build) as broker:
        return json.loads(broker.command("bench", "pub", "--json", "--window", window, *durations(args)))


def ours_sub(args):
    with Broker(args.dir, args.build) as broker:
        return json.loads(broker.command("bench", "sub", "--json", "--count", args.backlog))


def redis_pub(args, window):
    with Redis(args.dir) as redis:
        return run_json([bench_program(args, "bench_redis"), "--port", redis.port, "--pid", redis.pid, "--window", window,
                         "--json", *durations(args)])


def mqtt_sub(args):
    with Mosquitto(args.dir) as mosquitto:
        return run_json([bench_program(args, "bench_mqtt"), "--port", mosquitto.port, "--pid", mosquitto.pid, "--mode", "sub",
                         "--count", args.peer_backlog, "--json"])


STEPS = [  # name, what it is, function, what it needs
    ("floor256", "floor, window 256", lambda a: floor(a, 256), None),
    ("ours256", "brokerd, window 256", lambda a: ours_pub(a, 256), None),
    ("redis256", "Redis Streams, always, window 256", lambda a: redis_pub(a, 256), "redis-server"),
    ("floor2048", "floor, window 2,048", lambda a: floor(a, 2048), None),
    ("ours2048", "brokerd, window 2,048", lambda a: ours_pub(a, 2048), None),
    ("ours-sub", "brokerd, consume+ack, durable acks", ours_sub, None),
    ("mqtt-sub", "mosquitto QoS 1, consume+ack, memory", mqtt_sub, "mosquitto"),
]

TARGETS = [  # what, step, compared with, at least
    ("window 256 against Redis", "ours256", "redis256", 3.5),
    ("window 256 against the floor", "ours256", "floor256", 0.55),
    ("window 2,048 against the floor", "ours2048", "floor2048", 0.50),
    ("consume+ack against mosquitto", "ours-sub", "mqtt-sub", 2.0),
]


# ---- the machine -----------------------------------------------------------------------------------------------------------


def busy_seconds():
    with open("/proc/stat") as f:
        fields = list(map(int, f.readline().split()[1:9]))
    tick = os.sysconf("SC_CLK_TCK")
    return (sum(fields) - fields[3] - fields[4]) / tick, sum(fields) / tick


def children_seconds():
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    own = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime + own.ru_utime + own.ru_stime


def sync_microseconds(directory):
    """Median of a 4 KiB overwrite and fdatasync: what a lone confirm cannot go below."""
    with tempfile.TemporaryFile(dir=directory) as f:
        times = []
        os.pwrite(f.fileno(), bytes(1 << 20), 0)
        os.fsync(f.fileno())
        for i in range(200):
            begin = time.perf_counter()
            os.pwrite(f.fileno(), b"x" * 4096, i * 4096)
            os.fdatasync(f.fileno())
            times.append(time.perf_counter() - begin)
    return statistics.median(times) * 1e6


def measured(step, args):
    """Run a step, again if other programs disturbed it; the least disturbed run counts."""
    runs = []
    for _ in range(1 + args.retries):
        runs.append(measured_once(step, args))
        if runs[-1]["other_load"] <= DISTURBED:
            break
    return min(runs, key=lambda run: run["other_load"])


def measured_once(step, args):
    """Run a step; adds the share of the processors that other programs used meanwhile."""
    busy, everything = busy_seconds()
    ours = children_seconds()
    result = step(args)
    busy_after, everything_after = busy_seconds()
    other = (busy_after - busy) - (children_seconds() - ours)
    result["other_load"] = max(0.0, other / max(everything_after - everything, 0.01))
    return result


# ---- the table -------------------------------------------------------------------------------------------------------------


def median_of(results, *keys):
    values = [r[k] for r in results for k in keys if k in r]
    return statistics.median(values) if values else None


def latency(results, key):
    direct = median_of(results, key)
    return direct if direct is not None else median_of([r.get("latency", {}) for r in results], key)


def cell(value, form, scale=1.0):
    return "-" if value is None else form.format(value * scale)


def print_table(results):
    print(f"\n{'':38} {'messages/s':>11} {'spread':>7} {'p50':>8} {'p99':>8} {'CPU s per million':>18} {'resident':>9} "
          f"{'syncs/s':>8} {'written':>9} {'other':>6}")
    print(f"{'':38} {'':>11} {'':>7} {'ms':>8} {'ms':>8} {'server':>10} {'client':>7} {'MiB':>9} {'':>8} {'MiB':>9} {'load':>6}")
    for name, title, _, _ in STEPS:
        runs = results.get(name)
        if not runs:
            continue
        rates = [r["rate"] for r in runs]
        rate = statistics.median(rates)
        spread = (max(rates) - min(rates)) / rate * 100
        print(f"{title:38} {rate:11,.0f} {spread:6.0f}% {cell(latency(runs, 'p50_us'), '{:.2f}', 1e-3):>8} "
              f"{cell(latency(runs, 'p99_us'), '{:.2f}', 1e-3):>8} "
              f"{cell(median_of(runs, 'server_cpu_s_per_million', 'broker_cpu_s_per_million'), '{:.2f}'):>10} "
              f"{cell(median_of(runs, 'client_cpu_s_per_million'), '{:.2f}'):>7} "
              f"{cell(median_of(runs, 'server_rss_bytes', 'broker_rss_bytes'), '{:.1f}', 1 / 2**20):>9} "
              f"{cell(median_of(runs, 'syncs_per_second'), '{:,.0f}'):>8} "
              f"{cell(median_of(runs, 'bytes_written'), '{:,.0f}', 1 / 2**20):>9} {max(r['other_load'] for r in runs):5.0%}")


def print_targets(results):
    missed = 0
    print()
    for what, ours, other, least in TARGETS:
        if not results.get(ours) or not results.get(other):
            print(f"  {what:34} not measured")
            continue
        # Runs of the same round were neighbours in time, so the ratio is taken within a round.
        ratio = statistics.median(a["rate"] / b["rate"] for a, b in zip(results[ours], results[other]))
        missed += ratio < least
        print(f"  {what:34} {ratio:5.2f} times (to reach: {least:.2f})   {'ok' if ratio >= least else 'MISSED'}")
    if any(r["other_load"] > DISTURBED for runs in results.values() for r in runs):
        print("\nOther programs used more than 10 % of the processors during a run: repeat on a quiet machine before trusting this.")
    return missed


def main():
    args = parse_arguments()
    args.build = os.path.abspath(args.build)
    args.dir = tempfile.mkdtemp(prefix="broker-bench-", dir=args.dir)
    wanted = args.only.split(",") if args.only else [name for name, _, _, _ in STEPS]
    unknown = set(wanted) - {name for name, _, _, _ in STEPS}
    if unknown:
        print(f"compare.py: no step named {', '.join(sorted(unknown))}", file=sys.stderr)
        return 2
    results = {}
    try:
        print(f"{os.cpu_count()} processors, load average {os.getloadavg()[0]:.2f}; "
              f"a 4 KiB overwrite and sync takes {sync_microseconds(args.dir):.0f} µs here; "
              f"rounds: {args.rounds}, seconds a run: {args.seconds:g}, bodies of 128 bytes")
        for round_number in range(1, args.rounds + 1):
            for name, title, step, needs in STEPS:
                if name not in wanted:
                    continue
                if needs and not find_program(needs):
                    if round_number == 1:
                        print(f"  {title}: left out, {needs} is not installed", flush=True)
                    continue
                result = measured(step, args)
                results.setdefault(name, []).append(result)
                print(f"  {round_number}/{args.rounds} {title:38} {result['rate']:11,.0f}/s", flush=True)
    except ServerError as error:
        print(f"compare.py: {error}", file=sys.stderr)
        return 1
    finally:
        shutil.rmtree(args.dir, ignore_errors=True)
    print_table(results)
    missed = print_targets(results)
    if args.json:
        with open(args.json, "w") as f:
            json.dump(results, f, indent=1)
    return 1 if args.strict and missed else 0


if __name__ == "__main__":
    sys.exit(main())
