"""The real broker as a child process, and the command line, for the tests in this folder."""

import ctypes
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time

import protocol

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.environ.get("BROKER_BUILD", os.path.join(ROOT, "build", "debug"))
BROKERD = os.path.join(BUILD, "brokerd", "brokerd")
BROKER = os.path.join(BUILD, "cli", "broker")
FAILING_DISK = os.path.join(BUILD, "tests", "e2e", "libfailing_disk.so")
SANITIZED = {
    "ASAN_OPTIONS": "abort_on_error=1:detect_stack_use_after_return=0:verify_asan_link_order=0:quarantine_size_mb=8",
    "UBSAN_OPTIONS": "print_stacktrace=1:abort_on_error=1",
}
MIB = 1 << 20
# Settings of a store whose segments roll and are cleaned within a short test.
SMALL = {"store__segment": "1MiB", "store__checkpoint": "1MiB", "limits__max_message": "256KiB"}

_libc = ctypes.CDLL(None, use_errno=True)


def die_with_parent():
    """No broker outlives its test."""
    _libc.prctl(1, signal.SIGKILL)


def until(condition, seconds=20.0, what="the condition"):
    """Wait until condition() is true; its value."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what} did not come true within {seconds} s")
        time.sleep(0.005)


class Broker:
    """A broker with a directory of its own. Settings: section__key="value"."""

    def __init__(self, directory=None, start=True, env=None, arguments=(), **settings):
        self.own = directory is None
        self.directory = directory or tempfile.mkdtemp(prefix="broker-e2e-")
        self.data = os.path.join(self.directory, "data")
        self.socket = os.path.join(self.directory, "socket")
        self.log_path = os.path.join(self.directory, "log")
        if not settings.keys() & {"store__segment", "limits__max_message", "limits__max_frame"}:
            # The least that the default message fits: a start fills a segment with zeros, and there are a thousand starts.
            settings["store__segment"] = "16MiB"
        self.settings, self.env, self.arguments = settings, env or {}, list(arguments)
        self.http_port_file = os.path.join(self.directory, "http-port")
        self.process, self.port, self.http_port = None, None, None
        if start:
            self.start()

    def command(self, *more):
        words = [BROKERD, "--data", self.data]
        for key, value in self.settings.items():
            words += ["--set", f"{key.replace('__', '.')}={value}"]
        return words + self.arguments + list(more)

    def spawn(self, *more):
        port_file = os.path.join(self.directory, "port")
        for stale in (port_file, self.http_port_file):
            if os.path.exists(stale):
                os.unlink(stale)
        os.makedirs(self.data, exist_ok=True)
        with open(self.log_path, "ab") as log:
            self.log_start = log.tell()
            self.process = subprocess.Popen(
                self.command(
                    *("--listen", f"127.0.0.1:{self.port or 0}", "--unix", self.socket, "--port-file", port_file),
                    *("--http", f"127.0.0.1:{self.http_port or 0}", "--http-port-file", self.http_port_file),
                    *more,
                ),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **SANITIZED, **self.env},
                preexec_fn=die_with_parent,
            )
        return port_file

    def start(self, *more):
        port_file = self.spawn(*more)

        def port(file):
            if self.process.poll() is not None:
                raise RuntimeError(f"the broker ended at its start with {self.process.returncode}:\n{self.log()}")
            try:
                with open(file, encoding="ascii") as f:
                    return int(f.read())
            except (OSError, ValueError):
                return None

        self.port = until(lambda: port(port_file), 60, "the broker's start")
        self.http_port = until(lambda: port(self.http_port_file), 60, "the broker's HTTP port")
        return self

    @property
    def address(self):
        return ("127.0.0.1", self.port)

    @property
    def url(self):
        return f"broker://127.0.0.1:{self.port}"

    @property
    def http(self):
        return f"http://127.0.0.1:{self.http_port}"

    def log(self):
        """What the running (or last) process has said."""
        with open(self.log_path, encoding="utf-8", errors="replace") as f:
            f.seek(self.log_start)
            return f.read()

    def connect(self, **options):
        return protocol.Connection(self.address, **options)

    def connect_unix(self, **options):
        return protocol.Connection(self.socket, **options)

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def restart(self):
        """kill -9 and start again."""
        self.kill()
        return self.start()

    def wait(self, seconds=30):
        """The exit status of a broker that ends by itself."""
        return self.process.wait(seconds)

    def stop(self):
        """SIGTERM; the exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.wait()

    def rss(self):
        with open(f"/proc/{self.process.pid}/status", encoding="ascii") as f:
            for line in f:
                if line.startswith("VmRSS:"):
                    return int(line.split()[1]) * 1024
        raise RuntimeError("no VmRSS")

    def files(self, prefix=""):
        return sorted(os.path.join(self.data, f) for f in os.listdir(self.data) if f.startswith(prefix))

    def fsck(self, *options, data=None):
        """fsck of the (stopped) broker's directory: (exit status, what it said)."""
        run = subprocess.run(
            [BROKERD, "--fsck", data or self.data, *options],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            env={**os.environ, **SANITIZED},
        )
        return run.returncode, run.stdout + run.stderr

    def cli(self, *words, stdin=b"", timeout=60, env=None):
        """The broker command against this broker: the finished process, with bytes in stdout and stderr."""
        return subprocess.run(
            [BROKER, *words],
            input=stdin,
            capture_output=True,
            timeout=timeout,
            check=False,
            env={**os.environ, **SANITIZED, "BROKER_URL": self.url, **(env or {})},
        )

    def cli_json(self, *words, **options):
        """The same with --json, which must succeed: what it printed, one value or a list of lines."""
        run = self.cli(*words, "--json", **options)
        assert run.returncode == 0, run.stderr.decode()
        lines = [json.loads(line) for line in run.stdout.splitlines() if line.strip()]
        return lines[0] if len(lines) == 1 else lines

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        crashed = None
        if self.process and self.process.poll() is None:
            self.kill()
        elif self.process and self.process.returncode < 0 and self.process.returncode != -signal.SIGKILL:
            crashed = f"the broker crashed with signal {-self.process.returncode}"
        if self.process and os.path.exists(self.log_path):
            log = self.log()
            for words in ("AddressSanitizer", "runtime error:", "LeakSanitizer"):
                if words in log:
                    crashed = words
            if kind or crashed:
                print(f"---- the broker's log:\n{log[-6000:]}")
        if self.own:
            shutil.rmtree(self.directory, ignore_errors=True)
        if crashed and not kind:
            raise AssertionError(crashed)
