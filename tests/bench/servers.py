"""Starting and stopping the servers that the benchmarks talk to, each in a temporary directory on a free port."""
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time


class ServerError(Exception):
    pass


def find_program(name):
    """A daemon's place: also where an ordinary user's PATH does not lead."""
    return shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin:/sbin")


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def wait_until(what, condition, process, log, seconds=30):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return
        if process.poll() is not None:
            raise ServerError(f"{what}: ended with code {process.returncode}\n{tail(log)}")
        time.sleep(0.002)
    raise ServerError(f"{what}: not ready within {seconds} s\n{tail(log)}")


def tail(path, lines=20):
    try:
        with open(path, errors="replace") as f:
            return "".join(f.readlines()[-lines:])
    except OSError:
        return ""


def accepts(port):
    try:
        socket.create_connection(("127.0.0.1", port), 0.2).close()
        return True
    except OSError:
        return False


class Server:
    """One process with a directory of its own; a context manager that leaves nothing behind."""

    name = "server"

    def __init__(self, parent):
        self.dir = tempfile.mkdtemp(prefix=f"bench-{self.name}-", dir=parent)
        self.log = os.path.join(self.dir, "log")
        self.process = None
        self.port = None

    def __enter__(self):
        try:
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *unused):
        self.stop(signal.SIGKILL)
        shutil.rmtree(self.dir, ignore_errors=True)

    def spawn(self, argv):
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.dir)

    def stop(self, how=signal.SIGTERM):
        if self.process and self.process.poll() is None:
            self.process.send_signal(how)
            try:
                self.process.wait(60)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    @property
    def pid(self):
        return self.process.pid

    def rss(self):
        with open(f"/proc/{self.pid}/status") as f:
            return int(re.search(r"VmRSS:\s+(\d+) kB", f.read()).group(1)) * 1024

    def cpu(self):
        with open(f"/proc/{self.pid}/stat") as f:
            fields = f.read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Broker(Server):
    name = "brokerd"

    def __init__(self, parent, build, options=()):
        super().__init__(parent)
        self.build = build
        self.options = list(options)
        self.data = os.path.join(self.dir, "data")
        os.mkdir(self.data)

    def start(self):
        """Start, or start again over the same data. `ready_s` says how long it took until it listens."""
        begin = time.monotonic()
        seen = os.path.getsize(self.log) if os.path.exists(self.log) else 0
        port = self.port or 0
        brokerd = os.path.join(self.build, "brokerd", "brokerd")
        usage = subprocess.run([brokerd, "--help"], capture_output=True, text=True, check=True).stdout
        no_http = ["--http", ""] if "--http " in usage else []  # an older build, to be compared with, has none
        self.spawn([brokerd, "--data", self.data, "--listen", f"127.0.0.1:{port}", *no_http, *self.options])

        def listening():
            with open(self.log, errors="replace") as f:
                f.seek(seen)
                found = re.search(r"listening on tcp \S*:(\d+)", f.read())
            if found:
                self.port = int(found.group(1))
            return bool(found) and accepts(self.port)

        wait_until("brokerd", listening, self.process, self.log, 120)
        self.ready_s = time.monotonic() - begin

    @property
    def url(self):
        return f"broker://127.0.0.1:{self.port}"

    def command(self, *args, check=True, **more):
        """Run `broker ARGS...` against this broker; its standard output."""
        done = subprocess.run([os.path.join(self.build, "cli", "broker"), "--url", self.url, *map(str, args)],
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, **more)
        if check and done.returncode != 0:
            raise ServerError(f"broker {' '.join(map(str, args))}: code {done.returncode}\n"
                              f"{done.stderr.decode(errors='replace')}{tail(self.log)}")
        return done.stdout


class Redis(Server):
    name = "redis"

    def start(self):
        self.port = free_port()
        self.spawn([find_program("redis-server"), "--port", str(self.port), "--bind", "127.0.0.1", "--appendonly", "yes",
                    "--appendfsync", "always", "--save", "", "--dir", self.dir])
        wait_until("redis-server", lambda: accepts(self.port), self.process, self.log)


class Mosquitto(Server):
    name = "mosquitto"

    def start(self):
        self.port = free_port()
        conf = os.path.join(self.dir, "mosquitto.conf")
        with open(conf, "w") as f:
            f.write(f"listener {self.port} 127.0.0.1\nallow_anonymous true\npersistence false\nuser root\n"
                    "max_queued_messages 0\nmax_inflight_messages 100\nset_tcp_nodelay true\nlog_type error\n")
        self.spawn([find_program("mosquitto"), "-c", conf])
        wait_until("mosquitto", lambda: accepts(self.port), self.process, self.log)
