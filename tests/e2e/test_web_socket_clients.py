"""WebSocket with clients that others wrote: Python's websockets, and ws for node; both also with permessage-deflate."""

import asyncio
import json
import os
import shutil
import subprocess
import tempfile

import pytest
from harness import Broker

websockets = pytest.importorskip("websockets")
NODE_PATH = "/usr/share/nodejs"
DEFLATE = {None: None, "deflate": "deflate"}


@pytest.fixture(scope="module", params=["no", "yes"])
def broker(request):
    with Broker(websocket__deflate=request.param) as b:
        b.deflate = request.param == "yes"
        yield b


# ---- websockets ------------------------------------------------------------------------------------------------------------


class Client:
    def __init__(self, socket):
        self.socket, self.ids, self.waiting = socket, 0, []

    async def next(self, **fields):
        for i, m in enumerate(self.waiting):
            if fields.items() <= m.items():
                return self.waiting.pop(i)
        while True:
            m = json.loads(await asyncio.wait_for(self.socket.recv(), 20))
            if fields.items() <= m.items():
                return m
            self.waiting.append(m)

    async def ok(self, op, **fields):
        self.ids += 1
        await self.socket.send(json.dumps({"op": op, "id": self.ids, **fields}))
        answer = await self.next(id=self.ids)
        assert answer["op"] == "ok", answer
        return answer


def run(broker, work, **options):
    async def main():
        options.setdefault("subprotocols", ["brokerd.v1.json"])
        async with websockets.connect(f"ws://127.0.0.1:{broker.http_port}/v1/ws", **options) as socket:
            await work(Client(socket))

    asyncio.run(main())


def test_websockets_publishes_and_consumes(broker):
    async def work(c):
        assert c.socket.subprotocol == "brokerd.v1.json"
        names = [e.name for e in c.socket.extensions]
        assert names == (["permessage-deflate"] if broker.deflate else [])
        await c.ok("request", name="queue_create", args={"queue": "py"})
        await c.ok("subscribe", sub=1, queue="py", credit=1000)
        await c.ok("subscribe", sub=2, queue="py", **{"from": "beginning"})
        for i in range(50):
            await c.ok("publish", queue="py", message={"body": "€" * i * 50})
        for i in range(50):
            m = await c.next(op="message", sub=1)
            assert m["body"] == "€" * i * 50
            await c.ok("ack", receipts=[m["receipt"]])
            assert (await c.next(op="message", sub=2))["body"] == m["body"]

    run(broker, work)


def test_websockets_sends_in_fragments(broker):
    async def work(c):
        text = json.dumps({"op": "ping", "id": 5, "data": "😀" * 1000}, ensure_ascii=False)
        await c.socket.send([text[:10], text[10:500], text[500:]])
        assert (await c.next(id=5))["op"] == "ok"

    run(broker, work)


def test_websockets_pings_and_closes(broker):
    async def work(c):
        await asyncio.wait_for(await c.socket.ping(b"are you there"), 10)
        await c.socket.close(4321, "good bye")
        assert c.socket.close_code == 4321

    run(broker, work)


def test_websockets_sees_why_it_is_closed(broker):
    async def work(c):
        await c.socket.send(b"binary")
        with pytest.raises(websockets.ConnectionClosedError) as closed:
            await c.socket.recv()
        assert closed.value.rcvd.code == 1003

    run(broker, work)


def test_websockets_without_a_subprotocol_and_with_a_wrong_one(broker):
    async def work(c):
        assert c.socket.subprotocol is None
        await c.ok("ping")

    run(broker, work, subprotocols=None)
    with pytest.raises(websockets.InvalidStatusCode) as refused:
        run(broker, work, subprotocols=["mqtt"])
    assert refused.value.status_code == 400


# ---- ws ------------------------------------------------------------------------------------------------------------------------

SCRIPT = """
const WebSocket = require('ws');
const assert = require('assert');
const [url, deflate] = process.argv.slice(2);
const socket = new WebSocket(url, ['brokerd.v1.json'], { perMessageDeflate: deflate === 'yes' ? { threshold: 0 } : true });
let ids = 0;
const answers = new Map(), messages = [];
let wanted = null;
function call(op, fields) {
  const id = ++ids;
  socket.send(JSON.stringify({ op, id, ...fields }));
  return new Promise((resolve, reject) => answers.set(id, (m) => (m.op === 'ok' ? resolve(m) : reject(new Error(JSON.stringify(m))))));
}
const next = () => new Promise((resolve) => { wanted = resolve; pump(); });
function pump() { if (wanted && messages.length) { const w = wanted; wanted = null; w(messages.shift()); } }
socket.on('message', (data, binary) => {
  assert(!binary);
  const m = JSON.parse(data);
  if (m.op === 'message') { messages.push(m); pump(); }
  else if (answers.has(m.id)) { const f = answers.get(m.id); answers.delete(m.id); f(m); }
  else console.log('OTHER ' + JSON.stringify(m));
});
socket.on('open', async () => {
  assert.strictEqual(socket.protocol, 'brokerd.v1.json');
  assert.strictEqual(socket.extensions.includes('permessage-deflate'), deflate === 'yes');
  await call('request', { name: 'queue_create', args: { queue: 'node' } });
  await call('subscribe', { sub: 1, queue: 'node', credit: 10000 });
  const bodies = [];
  for (let i = 0; i < 100; i++) bodies.push('ä'.repeat(i * 37));
  await Promise.all(bodies.map((body) => call('publish', { queue: 'node', message: { body } })));
  for (const body of bodies) {
    const m = await next();
    assert.strictEqual(m.body, body);
    await call('ack', { receipts: [m.receipt] });
  }
  const half = JSON.stringify({ op: 'ping', id: 999999, data: '😀'.repeat(500) });
  const ponged = new Promise((resolve) => socket.on('pong', resolve));
  answers.set(999999, () => {});
  const done = new Promise((resolve) => answers.set(999999, resolve));
  socket.send(half.slice(0, 100), { fin: false });
  socket.ping('between');
  socket.send(half.slice(100), { fin: true });
  await Promise.all([done, ponged]);
  await assert.rejects(call('publish', { queue: 'nowhere', message: {} }), /QUEUE_NOT_FOUND/);
  socket.close(1000, 'done');
});
socket.on('close', (code, reason) => { console.log('CLOSED ' + code); });
socket.on('error', (e) => { console.log('ERROR ' + e); process.exit(1); });
"""


@pytest.mark.skipif(not shutil.which("node") or not os.path.isdir(f"{NODE_PATH}/ws"), reason="node with ws is not installed")
def test_ws_publishes_and_consumes(broker):
    with tempfile.TemporaryDirectory() as folder:
        script = os.path.join(folder, "client.js")
        with open(script, "w", encoding="utf-8") as f:
            f.write(SCRIPT)
        run_ = subprocess.run(
            ["node", script, f"ws://127.0.0.1:{broker.http_port}/v1/ws", "yes" if broker.deflate else "no"],
            env={**os.environ, "NODE_PATH": NODE_PATH}, capture_output=True, text=True, timeout=50, check=False)
        assert run_.returncode == 0, run_.stdout + run_.stderr
        assert run_.stdout.split() == ["CLOSED", "1000"], run_.stdout + run_.stderr
