"""Backup, by the protocol: what the frames promise. The copy as a whole: test_feature_backup.py."""

import os

import protocol
import pytest
from harness import Broker, until
from protocol import BrokerError


def refused(conn, kind, body, code):
    with pytest.raises(BrokerError) as e:
        conn.ask(kind, body)
    assert (e.value.code, e.value.scope) == (code, "request"), e.value


def fetch(conn, directory):
    said = conn.ask(protocol.BACKUP_BEGIN, {}, timeout=60)
    assert said["bytes"] == sum(f["data_end"] for f in said["files"])
    os.makedirs(directory)
    for i, file in enumerate(said["files"]):
        assert "/" not in file["name"] and file["data_end"] <= file["size"]
        with open(os.path.join(directory, file["name"]), "wb") as out:
            at = 0
            while at < file["data_end"]:
                piece = conn.read_backup(i, at, 100000)
                assert piece and len(piece) <= 100000
                out.write(piece)
                at += len(piece)
            assert conn.read_backup(i, at, 10) == b""
            out.truncate(file["size"])


def test_a_copy_starts(broker):
    with broker.connect() as c:
        c.create("q")
        c.publish_ok("q", *[b"%d" % i for i in range(100)])
        c.ack(*c.lease("q", max=40))
        copy = os.path.join(broker.directory, "copy", "data")
        fetch(c, copy)
        c.ask(protocol.BACKUP_END)
        c.publish_ok("q", b"behind it")
    with Broker(directory=os.path.dirname(copy)) as other, other.connect() as c:
        assert [m.body for m in c.lease("q", max=100)] == [b"%d" % i for i in range(40, 100)]


def test_one_at_a_time(broker):
    with broker.connect() as c, broker.connect() as other:
        refused(c, protocol.BACKUP_READ, {"file": 0, "bytes": 10}, protocol.REFUSED)
        refused(c, protocol.BACKUP_END, {}, protocol.REFUSED)
        c.ask(protocol.BACKUP_BEGIN)
        refused(other, protocol.BACKUP_BEGIN, {}, protocol.LIMIT_REACHED)
        refused(c, protocol.BACKUP_BEGIN, {}, protocol.LIMIT_REACHED)
        refused(other, protocol.BACKUP_READ, {"file": 0, "bytes": 10}, protocol.REFUSED)
        refused(other, protocol.BACKUP_END, {}, protocol.REFUSED)
        assert c.read_backup(0, 0, 10)
        c.ask(protocol.BACKUP_END)
        refused(c, protocol.BACKUP_READ, {"file": 0, "bytes": 10}, protocol.REFUSED)
        other.ask(protocol.BACKUP_BEGIN)


def test_it_ends_with_its_connection(broker):
    with broker.connect() as c:
        c.ask(protocol.BACKUP_BEGIN)
    with broker.connect() as c:

        def begins():
            try:
                return c.ask(protocol.BACKUP_BEGIN)
            except BrokerError:
                return None

        assert until(begins)["files"]


def test_wrong_reads(broker):
    with broker.connect() as c:
        files = c.ask(protocol.BACKUP_BEGIN)["files"]
        refused(c, protocol.BACKUP_READ, {"file": len(files), "bytes": 10}, protocol.INVALID_ARGUMENT)
        refused(c, protocol.BACKUP_READ, {"file": 0, "offset": 1 << 60, "bytes": 10}, protocol.INVALID_ARGUMENT)
        refused(c, protocol.BACKUP_READ, {"file": 0, "offset": 0, "bytes": 0}, protocol.INVALID_ARGUMENT)
        refused(c, protocol.BACKUP_READ, {"offset": 0, "bytes": 5}, protocol.INVALID_ARGUMENT)
        assert len(c.read_backup(0, 0, 0xFFFFFFFF)) <= 1 << 20


def test_gone_with_reads_under_way(broker):
    with broker.connect() as c:
        c.create("q")
        c.publish_ok("q", *[bytes(100000)] * 20)
        c.ask(protocol.BACKUP_BEGIN)
        for _ in range(8):
            c.request(protocol.BACKUP_READ, {"file": 0, "offset": 0, "bytes": 1 << 20})
    with broker.connect() as c:
        c.ask(protocol.PING)
        until(lambda: c.stats()["connections"] == 1)
