#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A gRPC server for tests, without protocol buffers: messages are JSON.

    rpcserver.py PORT --name NAME [--spans DIRECTORY]

Methods of weft.test.Echo: Unary (also of weft.test.Other), Download, Upload, Chat, Wait (until the call ends), Ended (what
is known of the calls of Wait). A request's members: status, details, fail and key (so many calls of that key are
UNAVAILABLE), size (of the answer), count and interval (of Download), key (of Wait).
With --spans it is a collector of OTLP, too: each request goes into a file of its own."""
import argparse
import concurrent.futures
import itertools
import json
import os
import threading
import time

import grpc

FAILED, WAITED, SPANS = {}, {}, itertools.count()
LOCK = threading.Lock()
LIMITS = [("grpc.max_receive_message_length", 64 << 20), ("grpc.max_send_message_length", 64 << 20),
          ("grpc.so_reuseport", 0)]
OPTIONS = None


def answer(context, method, length, **more):
    return json.dumps({
        "name": OPTIONS.name, "method": method, "peer": context.peer(), "length": length,
        "metadata": [[key, value if isinstance(value, str) else list(value)] for key, value in context.invocation_metadata()],
        "remaining": context.time_remaining(), **more}).encode()


def finish(context, ask):
    """Metadata and trailers, and the status that was asked for."""
    context.send_initial_metadata((("x-server", OPTIONS.name), ("x-first", "one"), ("x-blob-bin", b"\0\1\xff")))
    context.set_trailing_metadata((("x-last", "two"), ("x-last", "three"), ("x-tail-bin", b"\xfe\0")))
    status = ask.get("status", 0)
    if "fail" in ask:
        with LOCK:
            seen = FAILED[ask["key"]] = FAILED.get(ask["key"], 0) + 1
        status = 14 if seen <= ask["fail"] else 0
    if status:
        code = next(code for code in grpc.StatusCode if code.value[0] == status)
        context.abort(code, ask.get("details", "as asked"))


def unary(method):
    def serve(request, context):
        ask = json.loads(request) if request[:1] == b"{" else {}
        if "fail" in ask or "status" in ask:
            # nothing but trailers, as servers do that refuse
            with LOCK:
                seen = FAILED[ask.get("key")] = FAILED.get(ask.get("key"), 0) + 1
            status = ask["status"] if "status" in ask else 14
            if "status" in ask or seen <= ask["fail"]:
                context.set_trailing_metadata((("x-last", "two"),))
                context.abort(next(code for code in grpc.StatusCode if code.value[0] == status),
                              ask.get("details", "as asked"))
        finish(context, {})
        return b"x" * ask["size"] if "size" in ask else answer(context, method, len(request))
    return serve


def download(request, context):
    ask = json.loads(request)
    context.send_initial_metadata((("x-server", OPTIONS.name),))
    for i in range(ask["count"]):
        yield json.dumps({"i": i, "pad": "x" * ask.get("size", 0)}).encode()
        time.sleep(ask.get("interval", 0))
    if ask.get("status"):
        context.abort(next(code for code in grpc.StatusCode if code.value[0] == ask["status"]), "in the end")


def upload(requests, context):
    began, arrived, length = time.monotonic(), [], 0
    for message in requests:
        arrived.append(round(time.monotonic() - began, 3))
        length += len(message)
    return answer(context, "Upload", length, arrived=arrived)


def chat(requests, context):
    for message in requests:
        yield message


def wait(request, context):
    """A call that lasts until its client, the mesh or its deadline ends it."""
    key = json.loads(request)["key"]
    ended = threading.Event()
    began = time.monotonic()
    WAITED[key] = {"remaining": context.time_remaining(), "ended": None}
    context.add_callback(ended.set)
    ended.wait(60)
    WAITED[key]["ended"] = round(time.monotonic() - began, 3)
    return b"{}"


def ended(request, context):
    return json.dumps(WAITED.get(json.loads(request)["key"])).encode()


def export(request, context):
    path = os.path.join(OPTIONS.spans, f"{next(SPANS):06}")
    with open(path + ".part", "wb") as file:
        file.write(request)
    os.rename(path + ".part", path)
    return b""


def handlers():
    echo = {"Unary": grpc.unary_unary_rpc_method_handler(unary("Echo/Unary")),
            "Denied": grpc.unary_unary_rpc_method_handler(unary("Echo/Denied")),
            "Download": grpc.unary_stream_rpc_method_handler(download),
            "Upload": grpc.stream_unary_rpc_method_handler(upload),
            "Chat": grpc.stream_stream_rpc_method_handler(chat),
            "Wait": grpc.unary_unary_rpc_method_handler(wait),
            "Ended": grpc.unary_unary_rpc_method_handler(ended)}
    made = [grpc.method_handlers_generic_handler("weft.test.Echo", echo),
            grpc.method_handlers_generic_handler(
                "weft.test.Other", {"Unary": grpc.unary_unary_rpc_method_handler(unary("Other/Unary"))})]
    if OPTIONS.spans:
        for service in ("trace.v1.TraceService", "logs.v1.LogsService"):
            made.append(grpc.method_handlers_generic_handler(
                f"opentelemetry.proto.collector.{service}", {"Export": grpc.unary_unary_rpc_method_handler(export)}))
    return made


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("--name", default="server")
    parser.add_argument("--spans")
    OPTIONS = parser.parse_args()
    server = grpc.server(concurrent.futures.ThreadPoolExecutor(32), options=LIMITS)
    server.add_generic_rpc_handlers(handlers())
    if not server.add_insecure_port(f"[::]:{OPTIONS.port}"):
        raise SystemExit("can't listen")
    server.start()
    print("listening", flush=True)
    server.wait_for_termination()
