#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""An HTTP/1.1 server that ends its connections where it is told to, byte by byte.

    cutserver.py PORT --name NAME

/cut?at=N&how=rst|fin sends the first N bytes of ANSWER (chunked=1: of CHUNKED) and ends the connection; key=K: only the
first time for that key, later all of it. /quiet answers in full and then ends its half without saying so. /hang never
answers; /hung says how many of those connections were ended by the other side. All else gets the whole of ANSWER."""
import argparse
import asyncio
import socket
import struct
import urllib.parse

BODY = b"0123456789"
SEEN, HUNG = set(), 0
parser = argparse.ArgumentParser()
parser.add_argument("port", type=int)
parser.add_argument("--name", default="server")
options = parser.parse_args()
NAME = options.name.encode()
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\nX-Server: " + NAME + b"\r\n\r\n" + BODY
CHUNKED = (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX-Server: " + NAME
           + b"\r\n\r\n5\r\n01234\r\n5\r\n56789\r\n0\r\nX-T: 1\r\n\r\n")


async def serve(reader, writer):
    global HUNG
    sock = writer.get_extra_info("socket")
    try:
        while head := await reader.readuntil(b"\r\n\r\n"):
            path, _, query = head.split(b" ", 2)[1].decode().partition("?")
            ask = dict(urllib.parse.parse_qsl(query))
            whole = CHUNKED if "chunked" in ask else ANSWER
            if path == "/cut" and ask.get("key") not in SEEN:
                SEEN.add(ask.get("key", object()))
                writer.write(whole[:int(ask["at"])])
                await writer.drain()
                if ask.get("how") == "rst":
                    await asyncio.sleep(0.005)
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    writer.transport.abort()
                return
            if path == "/hang":
                try:
                    await reader.read(1)
                finally:
                    HUNG += 1
                return
            if path == "/hung":
                whole = ANSWER.replace(BODY, b"%-10d" % HUNG)
            if path == "/lengths":
                whole = ANSWER.replace(BODY, b"%-4d %-5d" % (len(ANSWER), len(CHUNKED)))
            writer.write(whole)
            await writer.drain()
            if path == "/quiet":
                writer.write_eof()
                await reader.read()
                return
    except (ConnectionError, asyncio.IncompleteReadError):
        pass
    finally:
        writer.close()


async def main():
    listener = socket.socket(socket.AF_INET6, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    listener.bind(("::", options.port))
    made = await asyncio.start_server(serve, sock=listener)
    print("listening", flush=True)
    await made.serve_forever()

asyncio.run(main())
