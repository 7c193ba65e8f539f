#!/usr/bin/python3
"""The web's ways against what others do, in turn on the same machine.

    web.py [--build build/release] [--rounds 3] [--seconds 3] [--only publish|sse|websocket|idle] [--subscribers 1000]

publish    durable publish of 128 bytes over 64 keep-alive connections (wrk), beside a bare epoll server that answers 204
sse        one message to 1,000 event streams, 8 in flight, beside nginx with nchan
websocket  the same over WebSocket
idle       memory of 10,000 idle event streams and of 10,000 waiting long polls
"""
import argparse
import json
import os
import re
import resource
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request

import servers
from servers import Server, ServerError, accepts, find_program, free_port, wait_until

BODY = "x" * 128
LUA = f'wrk.method = "POST"\nwrk.body = "{BODY}"\nwrk.headers["Content-Type"] = "text/plain"\n'
NGINX = """
load_module {module};
worker_processes 1;
daemon off;
pid {dir}/pid;
error_log {dir}/error.log;
worker_rlimit_nofile 65536;
events {{ worker_connections 16384; }}
http {{
    access_log off;
    client_body_temp_path {dir}/body;
    proxy_temp_path {dir}/proxy;
    fastcgi_temp_path {dir}/fastcgi;
    uwsgi_temp_path {dir}/uwsgi;
    scgi_temp_path {dir}/scgi;
    keepalive_requests 100000000;
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        location /pub {{ nchan_publisher; nchan_channel_id bench; nchan_message_buffer_length 100; }}
        location /sub {{ nchan_subscriber; nchan_channel_id bench; nchan_subscriber_first_message newest; }}
    }}
}}
"""


class WebBroker(servers.Broker):
    """The broker with HTTP on a port of its own, and a queue."""

    def __init__(self, parent, build, options=(), queue="retention=log"):
        http = free_port()
        super().__init__(parent, build, [*options, "--http", f"127.0.0.1:{http}"])
        self.http = http

    def start(self):
        super().start()
        wait_until("brokerd's HTTP", lambda: accepts(self.http), self.process, self.log)

    def request(self, method, path, body=b"", **headers):
        made = urllib.request.Request(f"http://127.0.0.1:{self.http}{path}", data=body or None, method=method, headers=headers)
        with urllib.request.urlopen(made, timeout=60) as answer:
            return answer.read()

    def log_queue(self, name):
        settings = {"retention": "log", "log_max_bytes": 64 << 20}
        self.request("PUT", f"/v1/queues/{name}", json.dumps(settings).encode(), **{"Content-Type": "application/json"})


class Nchan(Server):
    name = "nchan"

    def start(self):
        self.port = free_port()
        conf = os.path.join(self.dir, "nginx.conf")
        with open(conf, "w") as f:
            f.write(NGINX.format(module="/usr/lib/nginx/modules/ngx_nchan_module.so", dir=self.dir, port=self.port))
        self.spawn([find_program("nginx"), "-c", conf, "-e", os.path.join(self.dir, "error.log")])
        wait_until("nginx", lambda: accepts(self.port), self.process, self.log)
        self.http = self.port


class Bare(Server):
    name = "bare"

    def __init__(self, parent, build):
        super().__init__(parent)
        self.program = os.path.join(build, "tests", "bench", "bench_bare")

    def start(self):
        self.spawn([self.program])
        wait_until("bench_bare", lambda: re.match(r"\d+\n", servers.tail(self.log)), self.process, self.log)
        self.http = self.port = int(servers.tail(self.log))


def wrk(server, path, args):
    lua = os.path.join(server.dir, "post.lua")
    with open(lua, "w") as f:
        f.write(LUA)
    cpu = server.cpu()
    out = subprocess.run([find_program("wrk"), "-t1", "-c64", f"-d{args.seconds:g}s", "--latency", "-s", lua,
                          f"http://127.0.0.1:{server.http}{path}"], stdout=subprocess.PIPE, text=True, check=True).stdout
    bad = re.search(r"Non-2xx or 3xx responses: (\d+)", out) or re.search(r"Socket errors: (.*)", out)
    if bad:
        raise ServerError(f"{server.name}: {bad.group(0)}")
    return {"rate": float(re.search(r"Requests/sec:\s+([0-9.]+)", out).group(1)),
            "p99": re.search(r"99%\s+(\S+)", out).group(1), "cpu": server.cpu() - cpu}


def publish(args):
    """Requests per second: bare, ours."""
    def ours():
        with WebBroker(args.dir, args.build) as broker:
            broker.log_queue("bench")
            return wrk(broker, "/v1/queues/bench/messages", args)

    def bare():
        with Bare(args.dir, args.build) as server:
            return wrk(server, "/", args)

    return compare("publish, 64 connections: requests/s", bare, ours, 0.60, args)


def fanout(args, server, *words):
    out = subprocess.run([os.path.join(args.build, "tests", "bench", "bench_fanout"), "--json", "--seconds", f"{args.seconds:g}",
                          "--subscribers", str(args.subscribers), "--port", str(server.http), *words], stdout=subprocess.PIPE, text=True)
    if out.returncode:
        raise ServerError(f"bench_fanout at {server.name}: {out.stdout} (status {out.returncode})\n{servers.tail(server.log)}")
    got = json.loads(out.stdout)
    return {"rate": got["rate"], "p99": f"{got['p99_ms']:.1f}ms", "cpu": server.cpu()}


def spread(args, websocket):
    def nchan():
        with Nchan(args.dir) as server:
            return fanout(args, server, "--publish", "/pub", "--subscribe", "/sub", *(["--websocket"] if websocket else []))

    def ours():
        with WebBroker(args.dir, args.build) as broker:
            broker.log_queue("bench")
            to = ("--publish", "/v1/queues/bench/messages")
            if websocket:
                hello = '{"op":"subscribe","sub":1,"queue":"bench","from":"end","credit":1000000000}'
                return fanout(args, broker, *to, "--websocket", "--subscribe", "/v1/ws", "--protocol", "brokerd.v1.json", "--hello", hello)
            return fanout(args, broker, *to, "--subscribe", f"/v1/queues/bench/events?format={args.format}")

    return compare(f"{'WebSocket' if websocket else 'SSE'}, {args.subscribers:,} subscribers: deliveries/s", nchan, ours, 1.5, args)


def compare(title, other, ours, target, args):
    rounds = [(other(), ours()) for _ in range(args.rounds)]
    ratios = [b["rate"] / a["rate"] for a, b in rounds]
    a, b = (statistics.median(r[i]["rate"] for r in rounds) for i in (0, 1))
    print(f"{title:52} {a:11,.0f} {b:11,.0f} {statistics.median(ratios):7.2f} {min(ratios):7.2f} {target:7.2f}"
          f"   {rounds[-1][0]['p99']:>8} {rounds[-1][1]['p99']:>8}", flush=True)
    return statistics.median(ratios) >= target


def open_many(broker, count, head):
    socks = []
    for _ in range(count):
        s = socket.create_connection(("127.0.0.1", broker.http), 10)
        s.sendall(head)
        socks.append(s)
    return socks


def idle(args):
    """Memory of the process for each idle client, beyond the kernel's."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    good = True
    cases = [("idle event stream", "/v1/queues/bench/events", "GET", 4096), ("waiting long poll (lease)", "/v1/queues/bench/lease?wait=60s", "POST", 2048),
             ("waiting long poll (read)", "/v1/queues/bench/messages?from=end&wait=60s", "GET", 2048)]
    for title, path, method, target in cases:
        with WebBroker(args.dir, args.build) as broker:
            broker.request("PUT", "/v1/queues/bench")
            head = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{'Content-Length: 0' if method == 'POST' else 'Accept: */*'}\r\n\r\n".encode()
            some = open_many(broker, 200, head)  # pools and tables are there
            before = settled_rss(broker)
            many = open_many(broker, args.clients, head)
            each = (settled_rss(broker) - before) / args.clients
            print(f"{title:52} {each:8,.0f} bytes each ({args.clients:,} of them); at most {target:,}", flush=True)
            good = good and each <= target
            for s in some + many:
                s.close()
    return good


def settled_rss(broker):
    """Resident memory once it stands still."""
    last = -1
    while (now := broker.rss()) != last:
        last = now
        time.sleep(0.5)
    return now


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", default="build/release", help="a Release build (default %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="of both in turn; medians are shown (default %(default)s)")
    parser.add_argument("--seconds", type=float, default=3, help="of one run (default %(default)s)")
    parser.add_argument("--subscribers", type=int, default=1000, help="default %(default)s")
    parser.add_argument("--clients", type=int, default=10000, help="idle ones (default %(default)s)")
    parser.add_argument("--format", default="body", help="of our event streams: body, as nchan's, or json (default %(default)s)")
    parser.add_argument("--only", help="publish, sse, websocket or idle")
    parser.add_argument("--dir", default="/var/tmp", help="where data goes: a real disk (default %(default)s)")
    args = parser.parse_args()
    args.build = os.path.abspath(args.build)
    args.dir = tempfile.mkdtemp(prefix="broker-web-", dir=args.dir)
    os.chmod(args.dir, 0o755)  # nginx's worker is another user
    steps = {"publish": publish, "sse": lambda a: spread(a, False), "websocket": lambda a: spread(a, True), "idle": idle}
    print(f"{os.cpu_count()} processors, load average {os.getloadavg()[0]:.2f}; medians of {args.rounds}\n")
    print(f"{'':52} {'theirs':>11} {'ours':>11} {'ratio':>7} {'lowest':>7} {'target':>7}   {'p99':>8} {'p99':>8}")
    good = True
    try:
        for name, step in steps.items():
            if not args.only or name == args.only:
                good = step(args) and good
    except (ServerError, subprocess.CalledProcessError) as error:
        print(f"web.py: {error}", file=sys.stderr)
        return 1
    finally:
        shutil.rmtree(args.dir, ignore_errors=True)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
