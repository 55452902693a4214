#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A server and a client that tell what they see, for runs inside pods. Standard library only.

peer.py serve PORT [--udp] [--name NAME]     answers each connection with one line of JSON, then echoes
peer.py call ADDRESS PORT [options]          prints one line of JSON of what it saw; exit status 0 when answered
"""
import argparse
import asyncio
import errno
import json
import socket
import struct
import sys
import time


def text(address):
    host, port = address[0], address[1]
    return f"[{host}]:{port}" if ":" in host and not host.startswith("::ffff:") else f"{host.replace('::ffff:', '')}:{port}"


def hello(name, sock, peer=None):
    return json.dumps({"name": name, "peer": text(peer or sock.getpeername()), "local": text(sock.getsockname())})


async def serve_tcp(arguments):
    async def on_connection(reader, writer):
        sock = writer.get_extra_info("socket")
        accepted = writer.get_extra_info("peername")
        try:
            writer.write(hello(arguments.name, sock, accepted).encode() + b"\n")
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
            writer.write_eof()
        except OSError:
            pass
        finally:
            writer.close()

    listener = socket.socket(socket.AF_INET6, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    listener.bind(("::", arguments.port))
    server = await asyncio.start_server(on_connection, sock=listener, backlog=4096)
    print("listening", flush=True)
    await server.serve_forever()


def serve_udp(arguments):
    sock = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    sock.bind(("::", arguments.port))
    print("listening", flush=True)
    while True:
        data, peer = sock.recvfrom(65536)
        answer = {"name": arguments.name, "peer": text(peer), "data": data.decode(errors="replace")}
        sock.sendto(json.dumps(answer).encode(), peer)


def resolve(arguments):
    family = {"4": socket.AF_INET, "6": socket.AF_INET6, "mapped": socket.AF_INET6, "any": 0}[arguments.family]
    address = arguments.address
    if arguments.family == "mapped" and ":" not in address:
        address = "::ffff:" + address
    kind = socket.SOCK_DGRAM if arguments.udp else socket.SOCK_STREAM
    return socket.getaddrinfo(address, arguments.port, family, kind)[0]


def call(arguments):
    seen = {"ok": False}
    begin = time.monotonic()
    sock = None
    try:
        family, kind, _, _, target = resolve(arguments)
        sock = socket.socket(family, kind)
        sock.settimeout(arguments.timeout)
        if arguments.bind:
            sock.bind((arguments.bind, 0))
        if arguments.udp and not arguments.connect:
            sock.sendto(arguments.send.encode(), target)
            data, peer = sock.recvfrom(65536)
            seen.update(ok=True, peer=text(peer), answer=json.loads(data))
        else:
            sock.connect(target)
            seen["connect_ms"] = round((time.monotonic() - begin) * 1000, 2)
            if not arguments.udp:  # tcpi_total_retrans: of the SYN, so far
                info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)
                seen["retransmitted"] = struct.unpack_from("=I", info, 100)[0]
            seen.update(peer=text(sock.getpeername()), local=text(sock.getsockname()))
            if arguments.udp:
                sock.send(arguments.send.encode())
                seen.update(ok=True, answer=json.loads(sock.recv(65536)))
            else:
                file = sock.makefile("rwb")
                seen["answer"] = json.loads(file.readline())
                file.write(arguments.send.encode() + b"\n")
                file.flush()
                seen["echo"] = file.readline().decode().strip()
                seen["ok"] = seen["echo"] == arguments.send
                if arguments.hold:
                    print(json.dumps(seen), flush=True)
                    hold(arguments, file)
                    return 0
    except TimeoutError:
        seen["error"] = "ETIMEDOUT"
    except OSError as error:
        # ENOTCONN: it was reset before we asked for its addresses
        number = errno.ECONNRESET if error.errno == errno.ENOTCONN else error.errno
        seen["error"] = errno.errorcode.get(number, str(error)) if number else str(error)
    except json.JSONDecodeError:
        seen["error"] = "EOF"
    finally:
        if sock:
            sock.close()
    print(json.dumps(seen))
    return 0 if seen["ok"] else 1


def hold(arguments, file):
    """Echoes a line every 50 ms until --hold seconds have passed; says when the connection ends before."""
    end = time.monotonic() + arguments.hold
    rounds = 0
    while time.monotonic() < end:
        try:
            file.write(b"tick\n")
            file.flush()
            if file.readline() != b"tick\n":
                raise OSError(errno.ECONNRESET, "closed")
        except OSError as error:
            print(json.dumps({"held": False, "rounds": rounds, "error": str(error)}), flush=True)
            sys.exit(1)
        rounds += 1
        time.sleep(0.05)
    print(json.dumps({"held": True, "rounds": rounds}), flush=True)


def churn(arguments):
    """New connections one after the other for --hold seconds; prints how many, and those that failed."""
    begin, rounds, failed = time.monotonic(), 0, []
    while time.monotonic() - begin < arguments.hold:
        rounds += 1
        try:
            family, kind, _, _, target = resolve(arguments)
            with socket.socket(family, kind) as sock:
                sock.settimeout(arguments.timeout)
                sock.connect(target)
                file = sock.makefile("rwb")
                if not file.readline():
                    raise OSError(errno.ECONNRESET, "closed without a word")
        except OSError as error:
            failed.append(f"after {time.monotonic() - begin:.3f} s: {error}")
    print(json.dumps({"rounds": rounds, "failed": failed}))
    return 0


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    serve = commands.add_parser("serve")
    serve.add_argument("port", type=int)
    serve.add_argument("--udp", action="store_true")
    serve.add_argument("--name", default="server")
    client = commands.add_parser("call")
    client.add_argument("--churn", action="store_true")
    client.add_argument("address")
    client.add_argument("port", type=int)
    client.add_argument("--udp", action="store_true")
    client.add_argument("--connect", action="store_true", help="connected UDP")
    client.add_argument("--family", default="any", choices=["4", "6", "mapped", "any"])
    client.add_argument("--bind")
    client.add_argument("--send", default="ping")
    client.add_argument("--hold", type=float, default=0)
    client.add_argument("--timeout", type=float, default=30)
    arguments = parser.parse_args()
    if arguments.command == "call":
        return churn(arguments) if arguments.churn else call(arguments)
    return serve_udp(arguments) if arguments.udp else asyncio.run(serve_tcp(arguments))


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
