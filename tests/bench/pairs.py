#!/usr/bin/python3
"""Two builds in turn (A B A B ...), so that what the machine does meanwhile meets both: medians and the ratio within each pair.

    pairs.py --old OLD/build/release --new build/release           publish at two windows, consume, both at once, the core alone
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

from compare import measured_once
from servers import Broker, ServerError


def bench(build, parent, *command):
    with Broker(parent, build) as broker:
        result = json.loads(broker.command("bench", *command, "--json"))
        return {"rate": result["rate"], "cpu": result["broker_cpu_s_per_million"]}


def core(build, parent, args):
    """Nanoseconds of the server's own code for one message, publish and consume."""
    done = subprocess.run([os.path.join(build, "tests", "bench", "bench_core"), str(args.count)], stdout=subprocess.PIPE, check=True)
    ns = [float(x) for x in re.findall(rb"([0-9.]+) ns", done.stdout)]
    return {"rate": 1e9 / (ns[1] + ns[2]), "cpu": (ns[1] + ns[2]) / 1e3}


def steps(args):
    pub = ("--seconds", f"{args.seconds}s", "--warmup", "500ms")
    return [("publish, window 256", lambda b: bench(b, args.dir, "pub", "--window", 256, *pub)),
            ("publish, window 2,048", lambda b: bench(b, args.dir, "pub", "--window", 2048, *pub)),
            ("consume and ack", lambda b: bench(b, args.dir, "sub", "--count", args.count)),
            ("both at once", lambda b: bench(b, args.dir, "both", "--seconds", f"{args.seconds}s", "--warmup", "500ms")),
            ("engine and store alone", lambda b: core(b, args.dir, args))]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--old", required=True, help="a Release build to compare with")
    parser.add_argument("--new", default="build/release", help="a Release build (default %(default)s)")
    parser.add_argument("--pairs", type=int, default=7, help="of runs (default %(default)s)")
    parser.add_argument("--seconds", type=float, default=2, help="of a publishing run (default %(default)s)")
    parser.add_argument("--count", type=int, default=1_000_000, help="messages to consume (default %(default)s)")
    parser.add_argument("--only", help="the steps whose name contains this")
    parser.add_argument("--dir", default="/var/tmp", help="where data goes: a real disk (default %(default)s)")
    args = parser.parse_args()
    builds = os.path.abspath(args.old), os.path.abspath(args.new)
    args.dir = tempfile.mkdtemp(prefix="broker-pairs-", dir=args.dir)
    print(f"{os.cpu_count()} processors, load average {os.getloadavg()[0]:.2f}; {args.pairs} pairs; medians\n")
    print(f"{'':24} {'messages/s':>23} {'ratio':>7} {'lowest':>7} {'highest':>7}   {'server CPU us a message':>24} {'ratio':>6} {'other':>6}")
    print(f"{'':24} {'old':>11} {'new':>11} {'':>7} {'':>7} {'':>7}   {'old':>12} {'new':>11} {'':>6} {'load':>6}")
    try:
        for name, step in steps(args):
            if args.only and args.only not in name:
                continue
            pairs = [[measured_once(lambda unused: step(b), args) for b in builds] for _ in range(args.pairs)]
            rates = [[run["rate"] for run in side] for side in zip(*pairs)]
            cpus = [[run["cpu"] for run in side] for side in zip(*pairs)]
            ratios = [new["rate"] / old["rate"] for old, new in pairs]
            print(f"{name:24} {statistics.median(rates[0]):11,.0f} {statistics.median(rates[1]):11,.0f} "
                  f"{statistics.median(ratios):7.3f} {min(ratios):7.3f} {max(ratios):7.3f}   "
                  f"{statistics.median(cpus[0]):12.3f} {statistics.median(cpus[1]):11.3f} "
                  f"{statistics.median(new['cpu'] / old['cpu'] for old, new in pairs):6.3f} "
                  f"{max(run['other_load'] for pair in pairs for run in pair):5.0%}", flush=True)
    except (ServerError, subprocess.CalledProcessError) as error:
        print(f"pairs.py: {error}", file=sys.stderr)
        return 1
    finally:
        shutil.rmtree(args.dir, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
