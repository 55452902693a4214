#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""gRPC calls over one channel; prints a line of JSON for each: status, details, metadata, trailers, messages, seconds.

    rpcclient.py TARGET METHOD REQUEST [--repeat N] [--seconds S] [--parallel P] [--timeout S] [--metadata K:V]...
                 [--stream N --interval S --turns yes] [--size N] [--authority A]

METHOD is like weft.test.Echo/Unary. --repeat and --seconds print one line with counts: {"status": {...}, "server": {...}}.
Download, Upload and Chat stream; --stream is the count of messages of Upload and Chat, --size pads what is sent. With
--turns, Chat sends each message when the one before is back."""
import argparse
import collections
import concurrent.futures
import json
import time

import grpc

parser = argparse.ArgumentParser()
parser.add_argument("target")
parser.add_argument("method")
parser.add_argument("request", nargs="?", default="{}")
parser.add_argument("--repeat", type=int, default=0)
parser.add_argument("--seconds", type=float, default=0)
parser.add_argument("--parallel", type=int, default=8)
parser.add_argument("--timeout", type=float, default=90)
parser.add_argument("--metadata", action="append", default=[])
parser.add_argument("--stream", type=int, default=0)
parser.add_argument("--interval", type=float, default=0)
parser.add_argument("--turns")
parser.add_argument("--size", type=int, default=0)
parser.add_argument("--authority")
options = parser.parse_args()
settings = [("grpc.max_receive_message_length", 64 << 20), ("grpc.max_send_message_length", 64 << 20),
            ("grpc.enable_retries", 0), ("grpc.enable_http_proxy", 0)]
if options.authority:
    settings.append(("grpc.default_authority", options.authority))
channel = grpc.insecure_channel(options.target, options=settings)
metadata = [tuple(item.split(":", 1)) for item in options.metadata]
path = "/" + options.method
kind = options.method.split("/")[1]
request = b"x" * options.size if options.size and not options.stream else options.request.encode()
words = {"timeout": options.timeout, "metadata": metadata}


def pairs(found):
    return [[key, value if isinstance(value, str) else list(value)] for key, value in found or ()]


def sent(began, when, back):
    for i in range(options.stream):
        while options.turns and len(back) < i and time.monotonic() - began < options.timeout:
            time.sleep(0.005)
        when.append(round(time.monotonic() - began, 3))
        yield b"x" * options.size if options.size else json.dumps({"i": i}).encode()
        time.sleep(options.interval)


def content(message):
    if message[:1] in (b"{", b"n"):
        made = json.loads(message)
        if "pad" in (made or {}):
            made["pad"] = len(made["pad"])
        return made
    return {"length": len(message)}


def one():
    began, messages, when = time.monotonic(), [], []
    sending = []
    out = {"status": "OK", "details": ""}
    try:
        if kind == "Download":
            call = channel.unary_stream(path)(request, **words)
        elif kind == "Upload":
            call = channel.stream_unary(path).future(sent(began, sending, when), **words)
        elif kind == "Chat":
            call = channel.stream_stream(path)(sent(began, sending, when), **words)
        else:
            call = channel.unary_unary(path).future(request, **words)
        if kind in ("Download", "Chat"):
            for message in call:
                when.append(round(time.monotonic() - began, 3))
                messages.append(content(message))
        else:
            messages.append(content(call.result()))
    except grpc.RpcError as error:
        out = {"status": error.code().name, "details": error.details()}
    out.update(messages=messages, when=when, sent=sending, seconds=round(time.monotonic() - began, 3))
    try:
        out.update(metadata=pairs(call.initial_metadata()), trailers=pairs(call.trailing_metadata()))
    except grpc.RpcError:
        pass
    return out


def many():
    status, server, details = collections.Counter(), collections.Counter(), collections.Counter()
    until = time.monotonic() + options.seconds if options.seconds else None

    def work(count):
        done = 0
        while time.monotonic() < until if until else done < count:
            done += 1
            out = one()
            status[out["status"]] += 1
            if out["status"] == "OK":
                server[dict(map(tuple, out["metadata"]))["x-server"]] += 1
            else:
                details[out["details"]] += 1
    with concurrent.futures.ThreadPoolExecutor(options.parallel) as pool:
        for future in [pool.submit(work, options.repeat // options.parallel) for _ in range(options.parallel)]:
            future.result()
    return {"status": status, "server": server, "details": details}


print(json.dumps(many() if options.repeat or options.seconds else one()), flush=True)
