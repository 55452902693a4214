# SPDX-License-Identifier: Apache-2.0
"""A gRPC service in as much of HTTP/2 and protobuf as rate limits and authorization need: judge(message) of the code that it
is given makes each answer.   judge.py PORT CODE"""
import os
import socket
import struct
import sys
import threading

from .traffic import PYTHON


def field(number, data):
    return bytes([number << 3 | 2]) + bytes([len(data)]) + data


def literal(name, value):
    return b"\0" + bytes([len(name)]) + name + bytes([len(value)]) + value


def frame(kind, flags, stream, data):
    return struct.pack(">I", len(data))[1:] + struct.pack(">BBI", kind, flags, stream) + data


def serve(conn, judge):
    file = conn.makefile("rb")
    file.read(24)
    conn.sendall(frame(4, 0, 0, b""))
    bodies = {}
    while True:
        head = file.read(9)
        if len(head) < 9:
            return
        kind, flags, stream = struct.unpack(">BBI", head[3:])
        data = file.read(int.from_bytes(head[:3], "big"))
        if kind == 4 and not flags & 1:
            conn.sendall(frame(4, 1, 0, b""))
        if kind == 6 and not flags & 1:
            conn.sendall(frame(6, 1, 0, data))
        if kind == 0:
            bodies[stream] = bodies.get(stream, b"") + data
        if kind in (0, 1) and flags & 1:
            answer = judge(bodies.pop(stream, b""))
            conn.sendall(frame(1, 4, stream, b"\x88" + literal(b"content-type", b"application/grpc"))
                         + frame(0, 0, stream, b"\0" + struct.pack(">I", len(answer)) + answer)
                         + frame(1, 5, stream, literal(b"grpc-status", b"0")))


def main():
    names = {"field": field}
    exec(sys.argv[2], names)  # pylint: disable=exec-used
    server = socket.create_server(("0.0.0.0", int(sys.argv[1])))
    print("listening", flush=True)
    while True:
        threading.Thread(target=serve, args=(server.accept()[0], names["judge"]), daemon=True).start()


def start(place, code, port=9001):
    here = os.path.dirname(os.path.abspath(__file__))
    process = place.spawn("env", f"PYTHONPATH={os.path.dirname(here)}", PYTHON, "-m", "lib.judge", port, code,
                          name=f"judge-{place.name}")
    return process.wait_output("listening")


if __name__ == "__main__":
    main()
