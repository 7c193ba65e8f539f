"""Through nginx and haproxy as they are installed: the least configuration that names the broker."""

import os
import shutil
import socket
import subprocess
import tempfile
import threading
import time

import pytest

import harness
import web

NGINX = """
daemon off;
worker_processes 1;
pid {dir}/pid;
error_log {dir}/error.log;
events {{ }}
http {{
    access_log off;
    client_body_temp_path {dir}/body;
    proxy_temp_path {dir}/proxy;
    fastcgi_temp_path {dir}/fastcgi;
    uwsgi_temp_path {dir}/uwsgi;
    scgi_temp_path {dir}/scgi;
    server {{
        listen 127.0.0.1:{port};
        location / {{ proxy_pass http://127.0.0.1:{broker}; }}
        location /v1/ws {{
            proxy_pass http://127.0.0.1:{broker};
            proxy_http_version 1.1;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection "upgrade";
        }}
    }}
}}
"""
HAPROXY = """
global
    maxconn 1000
defaults
    mode http
    option abortonclose
    timeout connect 5s
    timeout client 50s
    timeout server 50s
listen broker
    bind 127.0.0.1:{port}
    server one 127.0.0.1:{broker}
"""


def find_program(name):
    return shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")


class Proxy:
    def __init__(self, kind, broker):
        self.kind = kind
        self.directory = tempfile.mkdtemp(prefix="broker-e2e-proxy-")
        os.chmod(self.directory, 0o755)  # its worker may be another user
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            self.http_port = s.getsockname()[1]
        path = os.path.join(self.directory, "conf")
        with open(path, "w", encoding="ascii") as f:
            template = NGINX if kind == "nginx" else HAPROXY
            f.write(template.format(dir=self.directory, port=self.http_port, broker=broker.http_port))
        words = ["-c", path, "-e", os.path.join(self.directory, "error.log")] if kind == "nginx" else ["-db", "-f", path]
        with open(os.path.join(self.directory, "log"), "wb") as log:
            self.process = subprocess.Popen(
                [find_program(kind), *words], stdin=subprocess.DEVNULL, stdout=log, stderr=log, preexec_fn=harness.die_with_parent
            )
        harness.until(self._accepts, 20, f"{kind}'s start")

    def _accepts(self):
        assert self.process.poll() is None, open(os.path.join(self.directory, "log"), encoding="utf-8").read()
        try:
            socket.create_connection(("127.0.0.1", self.http_port), 1).close()
            return True
        except OSError:
            return False

    def stop(self):
        self.process.kill()
        self.process.wait()
        shutil.rmtree(self.directory, ignore_errors=True)


@pytest.fixture(params=["nginx", "haproxy"])
def proxied(request):
    if not find_program(request.param):
        pytest.skip(f"{request.param} is not installed")
    with harness.Broker(http__event_heartbeat="1s") as broker:
        proxy = Proxy(request.param, broker)
        try:
            yield broker, proxy
        finally:
            proxy.stop()


def test_requests(proxied):
    broker, proxy = proxied
    with web.connect(proxy) as http:
        http.ok("PUT", "/v1/queues/q")
        body = bytes(range(256)) * 300  # over a proxy's first buffer
        made = http.ok("POST", "/v1/queues/q/messages", body, Content_Type="application/octet-stream", Broker_Header_Tenant="acme", Broker_Key="k")
        assert made.status == 201 and made.headers["Location"] == "/v1/queues/q/messages/1"
        got = http.ok("GET", "/v1/queues/q/messages/1")
        assert got.body == body and got.headers["Broker-Header-tenant"] == "acme"
        leased = http.ok("POST", "/v1/queues/q/lease?max=1").json()["messages"][0]
        assert http.ok("POST", f"/v1/receipts/{leased['receipt']}/ack").status == 204
        http.refused(404, "POST", "/v1/queues/none/messages", b"x")
        batch = [{"body": f"m{i}"} for i in range(1000)]
        assert len(http.ok("POST", "/v1/queues/q/messages/batch", batch).json()["results"]) == 1000


def test_polling_is_conditional(proxied):
    broker, proxy = proxied
    with web.connect(proxy) as http:
        http.ok("PUT", "/v1/queues/q")
        http.ok("POST", "/v1/queues/q/messages", b"one")
        first = http.ok("GET", "/v1/queues/q/messages?from=1")
        tag = first.headers["ETag"]
        assert tag.startswith('"'), "a strong one"
        assert http.request("GET", "/v1/queues/q/messages?from=1", If_None_Match=tag).status == 304
        http.ok("POST", "/v1/queues/q/messages", b"two")
        assert http.request("GET", "/v1/queues/q/messages?from=1", If_None_Match=tag).status == 200


def test_long_poll_is_answered_at_once(proxied):
    broker, proxy = proxied
    with web.connect(broker) as direct:
        direct.ok("PUT", "/v1/queues/q")
        took = []

        def wait():
            with web.connect(proxy) as http:
                got = http.ok("POST", "/v1/queues/q/lease?wait=20s").json()["messages"]
                took.append((time.monotonic(), got))

        thread = threading.Thread(target=wait)
        thread.start()
        described = lambda: direct.ok("GET", "/v1/stats").json()
        harness.until(lambda: described() and thread.is_alive(), 5)
        direct.ok("POST", "/v1/queues/q/messages", b"now")
        sent = time.monotonic()
        thread.join(15)
        assert took and took[0][0] - sent < 5 and took[0][1][0]["body"] == "now"


def test_events_are_not_held_back(proxied):
    broker, proxy = proxied
    with web.connect(broker) as direct:
        direct.ok("PUT", "/v1/queues/q")
        with web.events(proxy, "/v1/queues/q/events?from=beginning") as stream:
            assert stream.status == 200
            for i in range(5):  # each must come before the next is sent
                direct.ok("POST", "/v1/queues/q/messages", f"e{i}".encode())
                event = stream.next(10)
                assert event.json()["body"] == f"e{i}"
            last = event.id
        direct.ok("POST", "/v1/queues/q/messages", b"missed")
        with web.events(proxy, "/v1/queues/q/events", last_event_id=last) as stream:
            assert stream.next(10).json()["body"] == "missed"


def test_websocket(proxied):
    broker, proxy = proxied
    with web.connect(broker) as direct:
        direct.ok("PUT", "/v1/queues/q")
    with web.websocket(proxy) as ws:
        ws.ok("subscribe", sub=1, queue="q", credit=10)
        ws.ok("publish", queue="q", message={"body": "hello", "headers": {"a": "b"}})
        got = ws.next(op="message")
        assert got["body"] == "hello" and got["headers"] == {"a": "b"}
        ws.ok("ack", receipts=[got["receipt"]])


def test_a_client_that_goes_leaves_no_lease(proxied):
    """The proxy tells the broker, by closing its side, that the waiting client has gone."""
    broker, proxy = proxied
    with web.connect(broker) as direct:
        direct.ok("PUT", "/v1/queues/q")
        before = direct.ok("GET", "/v1/stats").json()
        waiting = socket.create_connection(("127.0.0.1", proxy.http_port))
        waiting.sendall(b"POST /v1/queues/q/lease?wait=30s HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
        connections = lambda: len(established(broker))
        harness.until(lambda: connections() >= 2, 10, "the proxy's connection")
        waiting.close()
        harness.until(lambda: connections() == 1, 20, "the end of the proxy's connection")
        direct.ok("POST", "/v1/queues/q/messages", b"x")
        got = direct.ok("POST", "/v1/queues/q/lease?wait=5s").json()["messages"]
        assert got[0]["attempt"] == 1
        assert before


def established(broker):
    """Connections of the broker's HTTP port, as the system sees them."""
    port = f":{broker.http_port:04X}"
    with open("/proc/net/tcp", encoding="ascii") as f:
        rows = [line.split() for line in f.readlines()[1:]]
    return [r for r in rows if r[1].endswith(port) and r[3] == "01"]
