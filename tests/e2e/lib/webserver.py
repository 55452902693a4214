#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""An HTTP/1.1 server for tests, on all addresses of both families: says what it saw, and misbehaves when asked to.

    webserver.py PORT --name NAME

The answer is JSON: name, method, target, version, headers (a list of pairs, as received), peer, local, body length.
Query parameters: status=N, delay=MS, size=N (bytes instead of JSON), chunked=1, trailers=1, header=K:V (repeatable),
fail=N&key=K (the first N requests of that key get 503), reset=head|body|start, hang=1 (no answer), early=1 (answers before
the body), fd=close (Connection: close), keep=K and recall=K (what was seen of the request that was kept), broken=1 (this and
all that follow get 500) and broken=0. /ws upgrades to an echo of bytes; with half=client it reads to the end, then says how
much that was; with half=server it says hello and ends its half, and later answers tell as "half" how much came after. /sse
sends an event every 50 ms."""
import argparse
import asyncio
import json
import socket
import struct
import urllib.parse

FAILED, KEPT = {}, {}


def text(address):
    host = address[0]
    if host.startswith("::ffff:"):
        host = host[7:]
    return f"[{host}]:{address[1]}" if ":" in host else f"{host}:{address[1]}"


def abort(writer):
    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def read_body(reader, headers):
    length = 0
    fields = {key.lower(): value for key, value in headers}
    trailers = []
    if "chunked" in fields.get("transfer-encoding", ""):
        while True:
            size = int((await reader.readline()).split(b";")[0], 16)
            if size == 0:
                while (line := (await reader.readline()).strip()):
                    key, _, value = line.decode("latin-1").partition(":")
                    trailers.append([key, value.strip()])
                return length, trailers
            await reader.readexactly(size)
            await reader.readexactly(2)
            length += size
    left = int(fields.get("content-length", 0))
    while left:
        data = await reader.read(min(left, 65536))
        if not data:
            raise ConnectionError("body cut short")
        left -= len(data)
        length += len(data)
    return length, trailers


class Server:
    def __init__(self, name):
        self.name = name
        self.connections = 0
        self.broken = False
        self.half = None

    async def upgrade(self, reader, writer, fields, half):
        writer.write(f"HTTP/1.1 101 Switching Protocols\r\nUpgrade: {fields['upgrade']}\r\n"
                     "Connection: Upgrade\r\n\r\n".encode())
        if half == "server":
            writer.write(b"hello")
            writer.write_eof()
            self.half = len(await reader.read(-1))
        elif half == "client":
            writer.write(f"got {len(await reader.read(-1))}".encode())
            await writer.drain()
        while not half and (data := await reader.read(65536)):
            writer.write(data)
            await writer.drain()

    async def events(self, writer):
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        for i in range(100):
            event = f"data: {i}\n\n".encode()
            writer.write(b"%x\r\n%s\r\n" % (len(event), event))
            await writer.drain()
            await asyncio.sleep(0.05)
        writer.write(b"0\r\n\r\n")

    async def answer(self, reader, writer, line, headers):
        method, target, version = line.decode("latin-1").split()
        fields = {key.lower(): value for key, value in headers}
        path, _, query = target.partition("?")
        ask = urllib.parse.parse_qs(query)
        first = {key: values[0] for key, values in ask.items()}
        if fields.get("expect", "").lower() == "100-continue":
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        if path == "/ws" and "upgrade" in fields:
            await self.upgrade(reader, writer, fields, first.get("half"))
            return False
        if first.get("reset") == "head":
            abort(writer)
            return False
        length, trailers = (0, []) if "early" in first else await read_body(reader, headers)
        if path == "/sse":
            await self.events(writer)
            return True
        if "hang" in first:
            await asyncio.sleep(3600)
        await asyncio.sleep(int(first.get("delay", 0)) / 1000)
        status = int(first.get("status", 200))
        if "fail" in first:
            seen = FAILED[first["key"]] = FAILED.get(first["key"], 0) + 1
            status = 503 if seen <= int(first["fail"]) else 200
        if "keep" in first and len(KEPT) < 1000:
            KEPT[first["keep"]] = {"target": target, "headers": headers}
        if "broken" in first:
            self.broken = first["broken"] == "1"
        if self.broken:
            status = 500
        body = json.dumps({
            "name": self.name, "method": method, "target": target, "version": version, "headers": headers,
            "peer": text(writer.get_extra_info("peername")), "local": text(writer.get_extra_info("sockname")),
            "body": length, "trailers": trailers, "connection": self.connections, "half": self.half,
            "recalled": KEPT.get(first.get("recall"))}).encode()
        if "size" in first:
            body = b"x" * int(first["size"])
        chunked = "chunked" in first or "trailers" in first
        head = [f"HTTP/1.1 {status} Answer", "Content-Type: application/json", f"X-Server: {self.name}"]
        head += [item.replace(":", ": ", 1) for item in ask.get("header", [])]
        close = first.get("fd") == "close" or fields.get("connection", "").lower() == "close" or version == "HTTP/1.0"
        if close:
            head.append("Connection: close")
        if status == 204 or status == 304:
            body = b""
        elif chunked:
            head.append("Transfer-Encoding: chunked")
        else:
            head.append(f"Content-Length: {len(body)}")
        head = "\r\n".join(head).encode() + b"\r\n\r\n"
        if "reset" not in first and not chunked:
            # In one piece: a server that is killed has sent all of an answer or nothing, which a retry can mend.
            writer.write(head if method == "HEAD" else head + body)
            await writer.drain()
            return not close
        writer.write(head)
        if first.get("reset") == "start":
            await writer.drain()
            abort(writer)
            return False
        if first.get("reset") == "body":
            writer.write(body[:len(body) // 2])
            await writer.drain()
            await asyncio.sleep(0.02)
            abort(writer)
            return False
        if method != "HEAD" and body:
            for at in range(0, len(body), 16384):
                piece = body[at:at + 16384]
                writer.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            writer.write(b"0\r\n" + (b"X-Trailer: seen\r\n" if "trailers" in first else b"") + b"\r\n")
        await writer.drain()
        return not close

    async def serve(self, reader, writer):
        self.connections += 1
        try:
            while line := await reader.readline():
                headers = []
                while (row := (await reader.readline()).rstrip(b"\r\n")):
                    key, _, value = row.decode("latin-1").partition(":")
                    headers.append([key, value.strip()])
                if not await self.answer(reader, writer, line, headers):
                    break
        except (ConnectionError, asyncio.IncompleteReadError, ValueError):
            pass
        finally:
            writer.close()


async def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("--name", default="server")
    options = parser.parse_args()
    server = Server(options.name)
    # asyncio turns Nagle off only where it sees the protocol
    listener = socket.socket(socket.AF_INET6, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    listener.bind(("::", options.port))
    made = await asyncio.start_server(server.serve, sock=listener, limit=1 << 20, backlog=1024)
    print("listening", flush=True)
    await made.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
