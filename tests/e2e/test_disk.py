"""The disk's side: damage is told and never skipped, a full disk lets acks through, a failed sync is final."""

import json
import os
import random
import re
import shutil
import subprocess

import protocol
import pytest
from harness import FAILING_DISK, MIB, SMALL, Broker, until
from protocol import message


def fill(broker, count=300, size=200):
    """Publish, ack some; what must be there afterwards: {seq: body}."""
    with broker.connect() as c:
        c.create("q", lease_ms=60000)
        bodies = [b"%d:" % i + os.urandom(size) for i in range(1, count + 1)]
        for first in range(0, count, 50):
            c.publish_ok("q", *bodies[first : first + 50])
        got = c.lease("q", max=1000)
        settled = [m for m in got if m.seq % 3 == 0]
        c.ack(*settled)
        c.nack(*[m for m in got if m.seq % 3 != 0])
        return {i: b for i, b in enumerate(bodies, 1) if i % 3 != 0}


def drain(broker):
    """Everything that the queue still has: {seq: body}."""
    with broker.connect() as c:
        found = {}
        while True:
            got = c.lease("q", max=1000, wait_ms=200)
            if not got:
                return found
            found.update({m.seq: m.body for m in got})


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    """A small store in good order: (its directory, what is in it)."""
    directory = tmp_path_factory.mktemp("sample")
    with Broker(directory=str(directory), **SMALL) as b:
        content = fill(b)
        assert b.stop() == 0
        status, said = b.fsck()
        assert status == 0, said
    return str(directory), content


def copy_of(sample_dir, tmp_path, name):
    target = os.path.join(str(tmp_path), name)
    os.makedirs(target)
    shutil.copytree(os.path.join(sample_dir, "data"), os.path.join(target, "data"))
    return Broker(directory=target, start=False, **SMALL)


def names(said, path):
    """Does this text name the file, as a file or as a segment's number?"""
    base = os.path.basename(path)
    number = re.search(r"\d+", base)
    return base in said or bool(re.search(rf"\bsegment {int(number.group())}\b", said))


def used_bytes(path):
    """Where a file's bytes are not just the zeros of free space."""
    with open(path, "rb") as f:
        return len(f.read().rstrip(b"\0"))


def starts_or_refuses(broker, damaged_file, content):
    """A start on damage: refused, naming the file; or nothing is missing, or its consumer is told. True: all is there."""
    try:
        broker.start()
    except RuntimeError as e:
        said = str(e)
        assert broker.process.returncode == 1, said
        assert names(said, damaged_file), said
        assert "quarantine" in said, "it says what to do"
        return False
    try:
        assert drain(broker) == content, "started, with messages missing or wrong"
        return True
    except protocol.BrokerError as e:
        assert e.code == protocol.DAMAGED and "fsck" in e.text, e
        return False
    finally:
        broker.kill()


def check_damage(broker, damaged_file, content):
    status, said = broker.fsck()
    assert status in (0, 1), said
    assert names(said, damaged_file), f"fsck does not name {damaged_file}: {said}"
    if starts_or_refuses(broker, damaged_file, content):
        return
    assert status == 1, "fsck had found nothing"
    status, said = broker.fsck("--quarantine")
    assert status in (0, 1), said
    broker.start()
    left = drain(broker)
    assert all(content.get(seq, body) == body or seq % 3 == 0 for seq, body in left.items()), "wrong bytes"
    broker.kill()
    assert broker.fsck()[0] == 0


@pytest.mark.parametrize("seed", range(6))
def test_flipped_bits(sample, tmp_path, seed):
    directory, content = sample
    chance = random.Random(seed)
    names = sorted(f for f in os.listdir(os.path.join(directory, "data")) if f.startswith(("segment", "cold", "checkpoint")))
    for i in range(4):
        broker = copy_of(directory, tmp_path, f"{seed}-{i}")
        with broker:
            path = os.path.join(broker.data, chance.choice(names))
            at = chance.randrange(max(used_bytes(path), 1))
            with open(path, "r+b") as f:
                f.seek(at)
                byte = f.read(1)[0]
                f.seek(at)
                f.write(bytes([byte ^ 1 << chance.randrange(8)]))
            check_damage(broker, path, content)


@pytest.mark.parametrize("seed", range(4))
def test_truncations(sample, tmp_path, seed):
    directory, content = sample
    chance = random.Random(seed)
    names = sorted(f for f in os.listdir(os.path.join(directory, "data")) if f.startswith(("segment", "cold", "checkpoint")))
    for i in range(3):
        broker = copy_of(directory, tmp_path, f"{seed}-{i}")
        with broker:
            path = os.path.join(broker.data, chance.choice(names))
            os.truncate(path, chance.choice([0, chance.randrange(used_bytes(path) or 1), os.path.getsize(path) - 1]))
            check_damage(broker, path, content)


def test_missing_segment(sample, tmp_path):
    directory, content = sample
    with copy_of(directory, tmp_path, "missing") as broker:
        victim = broker.files("segment")[0]
        os.unlink(victim)
        status, said = broker.fsck()
        assert status == 1 and names(said, victim), said
        assert not starts_or_refuses(broker, victim, content)


def test_damage_in_the_middle_is_refused_then_quarantined(tmp_path):
    with Broker(directory=str(tmp_path), **SMALL) as b:
        content = fill(b, 200)
        b.kill()  # no clean checkpoint: the log itself must be read
        path = max(b.files("segment"), key=used_bytes)
        with open(path, "r+b") as f:
            data = f.read()
            at = data.index(content[100][:20])
            f.seek(at + 50)
            f.write(b"\xee" if data[at + 50] != 0xEE else b"\xdd")
        with pytest.raises(RuntimeError) as e:
            b.start()
        assert names(str(e.value), path) and "quarantine" in str(e.value)
        status, said = b.fsck()
        assert status == 1 and names(said, path) and "q" in said
        status, said = b.fsck("--quarantine")
        b.start()
        left = drain(b)
        assert 100 not in left and left.items() <= {**content, **left}.items()
        assert all(content[s] == body for s, body in left.items() if s in content)
        assert len(left) >= len(content) - 60, "what is intact is kept"
        assert os.listdir(os.path.join(b.data, "quarantine"))
        with b.connect() as c:
            c.publish_ok("q", b"goes on")


def test_torn_tail_is_no_damage(tmp_path):
    with Broker(directory=str(tmp_path), **SMALL) as b:
        content = fill(b, 100)
        b.kill()
        path = max(b.files("segment"), key=used_bytes)
        end = used_bytes(path)
        with open(path, "r+b") as f:  # half a batch that was never acknowledged
            f.seek((end + 7) // 8 * 8)
            f.write(os.urandom(700))
        status, said = b.fsck()
        assert status == 0 and names(said, path), said
        b.start()
        assert drain(b) == content


def test_fsck_json(sample):
    directory, _ = sample
    b = Broker(directory=directory, start=False)
    status, said = b.fsck("--json")
    assert status == 0
    lines = [json.loads(line) for line in said.splitlines() if line.strip()]
    assert any("messages" in json.dumps(line) for line in lines)


def test_fsck_of_nothing(tmp_path):
    b = Broker(directory=str(tmp_path), start=False)
    assert b.fsck(data=str(tmp_path / "not-there"))[0] == 2


def test_fsck_refuses_a_running_brokers_directory(broker):
    status, said = broker.fsck()
    assert status == 2 and ("use" in said or "lock" in said), said


# ---- full


def publish_until_full(conn, size=20000, most=20000):
    """How many of these messages were stored before the disk was full."""
    stored = 0
    for _ in range(most // 20):
        ranges = conn.publish("q", *[bytes(size)] * 20)
        stored += sum(r.count for r in ranges if r.code == 0)
        bad = {r.code for r in ranges if r.code}
        if bad:
            assert bad == {protocol.DISK_FULL}, bad
            return stored
    raise AssertionError("it never became full")


def consume_all(conn, count):
    """On a full disk consuming goes on, and acks are confirmed, all the way."""
    while count:
        got = conn.lease("q", max=200, wait_ms=5000)
        assert got, f"{count} messages are there and do not come"
        assert conn.ack(*got) == (len(got), [])
        count -= len(got)


def full_disk(broker):
    with broker.connect() as c:
        c.create("q", lease_ms=600000)
        stored = publish_until_full(c)
        assert stored > 20
        for _ in range(3):
            consume_all(c, stored)
            again = 0

            def room_is_back():
                nonlocal again
                again += publish_until_full(c)
                return again > stored // 2

            until(room_is_back, 30, "room after the disk was emptied")
            stored = again
    broker.restart()
    assert len(drain(broker)) > 10


def test_disk_full_by_configuration():
    with Broker(**SMALL, store__max_disk="10MiB") as broker:
        full_disk(broker)
        assert sum(os.stat(f).st_blocks * 512 for f in broker.files()) < 16 * MIB


@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts a small disk")
def test_disk_full_for_real(tmp_path):
    place = tmp_path / "small"
    place.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", str(place)], capture_output=True, check=False).returncode:
        pytest.skip("cannot mount a tmpfs here")
    try:
        with Broker(directory=str(place), **SMALL) as broker:
            broker.log_path = str(tmp_path / "log")
            full_disk(broker)
    finally:
        subprocess.run(["umount", "-l", str(place)], check=False)


# ---- failing


@pytest.mark.skipif(not os.path.exists(FAILING_DISK), reason="the shim is not built")
def test_failed_sync_stops_the_broker(tmp_path):
    with Broker(directory=str(tmp_path), env={"LD_PRELOAD": FAILING_DISK, "FAIL_SYNC": "40"}, store__writer="thread") as b:
        confirmed = []
        with b.connect() as c:
            c.create("q")
            try:
                for i in range(1000):
                    confirmed += [(s, b"%d" % i) for s in c.publish_ok("q", message(b"%d" % i))]
            except (protocol.Closed, ConnectionError, protocol.BrokerError):
                pass
        assert b.wait() == 1
        assert "sync" in b.log().lower() and ("I/O" in b.log() or "input/output" in b.log().lower()), b.log()
        assert 5 < len(confirmed) < 1000
        b.env = {}
        b.start()
        assert set(confirmed) <= set(drain(b).items())


@pytest.mark.skipif(not os.path.exists(FAILING_DISK), reason="the shim is not built")
def test_sync_failing_at_once(tmp_path):
    with Broker(directory=str(tmp_path), start=False, env={"LD_PRELOAD": FAILING_DISK, "FAIL_SYNC": "0"}, store__writer="thread") as b:
        with pytest.raises(RuntimeError):
            b.start()
        assert b.process.returncode == 1
        b.env = {}
        b.start()
