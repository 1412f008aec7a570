#!/usr/bin/env python3
"""A client of Ostler in another language, with nothing but the standard library.

It knows JSON-RPC and how the transports carry it, and takes everything else from the document that the host hands out:
which methods there are, in which order their parameters stand, what a result and an event look like. Over each transport
it holds a conversation of two messages with the `rehearsal` and checks every answer and every event against its schema.

    smoke_client.py SOCKET FOLDER [--http URL --token-file FILE] [--stdio OSTLER]

SOCKET is the host's unix socket, FOLDER a granted folder. Prints a line for each transport and ends with 0, or says what
is wrong and ends with 1.
"""

import argparse
import base64
import itertools
import json
import os
import queue
import re
import socket
import struct
import subprocess
import sys
import threading

PATIENCE = 90


class Wrong(Exception):
    """The host does not do what its document says."""


# --- JSON Schema, as far as the document uses it


class Schemas:
    def __init__(self, document):
        self.document = document

    def resolve(self, schema):
        while isinstance(schema, dict) and "$ref" in schema:
            target = self.document
            for step in schema["$ref"].removeprefix("#/").split("/"):
                target = target[step.replace("~1", "/").replace("~0", "~")]
            rest = {name: value for name, value in schema.items() if name != "$ref"}
            schema = {**target, **rest} if rest else target
        return schema

    def check(self, value, schema, at="$"):
        """Every place where a value does not fit."""
        schema = self.resolve(schema)
        if schema is True or schema == {}:
            return []
        if schema is False:
            return [f"{at}: nothing may stand here"]
        wrong = []
        kinds = schema.get("type")
        if kinds is not None and not any(is_a(value, kind) for kind in ([kinds] if isinstance(kinds, str) else kinds)):
            return [f"{at}: {value!r} is no {kinds}"]
        if "const" in schema and value != schema["const"]:
            wrong.append(f"{at}: {value!r} is not {schema['const']!r}")
        if "enum" in schema and value not in schema["enum"]:
            wrong.append(f"{at}: {value!r} is not one of {schema['enum']}")
        for part in schema.get("allOf", []):
            wrong += self.check(value, part, at)
        for name in ("anyOf", "oneOf"):
            if name in schema:
                fits = [part for part in schema[name] if not self.check(value, part, at)]
                if not fits or (name == "oneOf" and len(fits) != 1):
                    wrong.append(f"{at}: fits {len(fits)} of {name}: {value!r}")
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            if value < schema.get("minimum", value) or value > schema.get("maximum", value):
                wrong.append(f"{at}: {value} is out of range")
        if isinstance(value, str) and "pattern" in schema and not re.search(schema["pattern"], value):
            wrong.append(f"{at}: {value!r} does not match {schema['pattern']}")
        if isinstance(value, list):
            for place, item in enumerate(value):
                wrong += self.check(item, schema.get("items", True), f"{at}[{place}]")
        if isinstance(value, dict):
            properties = schema.get("properties", {})
            wrong += [f"{at}: {name} is missing" for name in schema.get("required", []) if name not in value]
            for name, item in value.items():
                inner = properties.get(name, schema.get("additionalProperties", True))
                wrong += self.check(item, inner, f"{at}.{name}")
        return wrong


def is_a(value, kind):
    if isinstance(value, bool):
        return kind == "boolean"
    return {
        "null": value is None,
        "integer": isinstance(value, int) or (isinstance(value, float) and value.is_integer()),
        "number": isinstance(value, (int, float)),
        "string": isinstance(value, str),
        "array": isinstance(value, list),
        "object": isinstance(value, dict),
    }.get(kind, False)


# --- Transports: each sends a message and gives those that come


class Http:
    """`POST /rpc` for calls, `GET /events` for events: a connection for each."""

    def __init__(self, connect, host, token=None):
        self.connect, self.host, self.token = connect, host, token
        self.incoming = queue.Queue()

    def open(self, method, target, body=b""):
        stream = self.connect()
        head = [f"{method} {target} HTTP/1.1", f"Host: {self.host}", "Connection: close", f"Content-Length: {len(body)}"]
        if self.token:
            head.append(f"Authorization: Bearer {self.token}")
        stream.sendall("\r\n".join(head).encode() + b"\r\n\r\n" + body)
        answer = stream.makefile("rb")
        status = int(answer.readline().split()[1])
        headers = dict(line.decode().lower().strip().split(": ", 1) for line in iter(answer.readline, b"\r\n"))
        return stream, status, pieces(answer, headers)

    def send(self, message):
        stream, status, body = self.open("POST", "/rpc", json.dumps(message).encode())
        with stream:
            answer = b"".join(body)
        if status != 200:
            raise Wrong(f"POST /rpc: {status} {answer!r}")
        self.incoming.put(json.loads(answer))

    def receive(self):
        return self.incoming.get(timeout=PATIENCE)

    def subscribe(self, client, params):
        query = "&".join(f"{name}={value}" for name, value in params.items())
        stream, status, body = self.open("GET", f"/events?{query}")
        if status != 200:
            raise Wrong(f"GET /events: {status} {b''.join(body)!r}")
        threading.Thread(target=self.listen, args=(stream, body), daemon=True).start()

    def listen(self, stream, body):
        text = b""
        with stream:
            for piece in body:
                text += piece
                *events, text = text.split(b"\n\n")
                for event in events:
                    fields = dict(line.split(b": ", 1) for line in event.split(b"\n") if b": " in line)
                    if fields.get(b"event") == b"run_event":
                        params = json.loads(fields[b"data"])
                        self.incoming.put({"jsonrpc": "2.0", "method": "run_event", "params": params})


def pieces(answer, headers):
    if "chunked" not in headers.get("transfer-encoding", ""):
        yield answer.read(int(headers["content-length"])) if "content-length" in headers else answer.read()
        return
    while size := int(answer.readline(), 16):
        yield answer.read(size)
        answer.readline()


class Web:
    """JSON-RPC over a WebSocket."""

    def __init__(self, stream, host, token=None):
        self.stream = stream
        key = base64.b64encode(os.urandom(16)).decode()
        head = ["GET /ws HTTP/1.1", f"Host: {host}", "Connection: Upgrade", "Upgrade: websocket"]
        head += ["Sec-WebSocket-Version: 13", f"Sec-WebSocket-Key: {key}"]
        if token:
            head.append(f"Authorization: Bearer {token}")
        stream.sendall("\r\n".join(head).encode() + b"\r\n\r\n")
        self.answer = stream.makefile("rb")
        status = self.answer.readline()
        if b"101" not in status:
            raise Wrong(f"the WebSocket was refused: {status!r}")
        while self.answer.readline() != b"\r\n":
            pass

    def frame(self, opcode, payload):
        length = len(payload)
        head = bytes([0x80 | opcode])
        if length < 126:
            head += bytes([0x80 | length])
        elif length < 1 << 16:
            head += bytes([0x80 | 126]) + struct.pack(">H", length)
        else:
            head += bytes([0x80 | 127]) + struct.pack(">Q", length)
        mask = os.urandom(4)
        masked = bytes(byte ^ key for byte, key in zip(payload, itertools.cycle(mask)))
        self.stream.sendall(head + mask + masked)

    def send(self, message):
        self.frame(1, json.dumps(message).encode())

    def receive(self):
        message = b""
        while True:
            first, second = self.answer.read(2)
            length = second & 0x7F
            if length == 126:
                (length,) = struct.unpack(">H", self.answer.read(2))
            elif length == 127:
                (length,) = struct.unpack(">Q", self.answer.read(8))
            payload = self.answer.read(length)
            opcode = first & 0x0F
            if opcode == 9:
                self.frame(10, payload)
            elif opcode == 8:
                raise Wrong(f"the host closed the WebSocket: {payload!r}")
            elif opcode in (0, 1):
                message += payload
                if first & 0x80:
                    return json.loads(message)

    def subscribe(self, client, params):
        return client.call("subscribe", params)


class Stdio:
    """JSON-RPC over the standard streams of `ostler rpc --stdio`."""

    def __init__(self, program):
        self.child = subprocess.Popen([program, "rpc", "--stdio"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def send(self, message):
        self.child.stdin.write(json.dumps(message).encode() + b"\n")
        self.child.stdin.flush()

    def receive(self):
        line = self.child.stdout.readline()
        if not line:
            raise Wrong("ostler rpc ended")
        return json.loads(line)

    def subscribe(self, client, params):
        return client.call("subscribe", params)

    def close(self):
        self.child.stdin.close()
        if self.child.wait(PATIENCE) != 0:
            raise Wrong(f"ostler rpc ended with {self.child.returncode}")


# --- The client


class Client:
    def __init__(self, transport):
        self.transport = transport
        self.ids = itertools.count(1)
        self.events = []
        self.document = None
        self.document = self.call("rpc.discover", {})
        self.schemas = Schemas(self.document)
        self.methods = {method["name"]: method for method in self.document["methods"]}
        self.payloads = {event["type"]: event["payload"] for event in self.document["x-events"]["types"]}

    def raw(self, method, params):
        number = next(self.ids)
        self.transport.send({"jsonrpc": "2.0", "id": number, "method": method, "params": params})
        while True:
            message = self.transport.receive()
            if message.get("id") == number:
                return message
            self.take(message)

    def call(self, method, params):
        if self.document is not None:
            known = {param["name"]: param for param in self.methods[method]["params"]}
            for name, value in params.items():
                self.expect(value, known[name]["schema"], f"{method} {name}")
        answer = self.raw(method, params)
        if "error" in answer:
            raise Wrong(f"{method}: {answer['error']}")
        if self.document is not None:
            self.expect(answer["result"], self.methods[method]["result"]["schema"], method)
        return answer["result"]

    def refused(self, method, params):
        """The kind of the error that a call is answered with; the document must name it."""
        error = self.raw(method, params).get("error")
        if error is None:
            raise Wrong(f"{method} was not refused")
        named = self.methods[method]["errors"] + self.document["x-common-errors"]
        if {"code": error["code"], "message": error["data"]["kind"]} not in named:
            raise Wrong(f"{method}: the document does not name {error}")
        self.expect(error["data"], self.document["components"]["x-error-data"], f"error of {method}")
        return error["data"]["kind"]

    def expect(self, value, schema, what):
        wrong = self.schemas.check(value, schema)
        if wrong:
            raise Wrong(f"{what}: " + "; ".join(wrong))

    def take(self, message):
        if message.get("method") == "run_event":
            event = message["params"]
            self.expect(event, self.document["x-events"]["envelope"], "envelope")
            self.expect(event["payload"], self.payloads[event["type"]], event["type"])
            self.events.append(event)

    def until(self, run, kind):
        """Waits for an event of a run."""
        while True:
            for event in self.events:
                if event.get("runId") == run and event["type"] == kind:
                    return event
            self.take(self.transport.receive())


def converse(transport, folder):
    client = Client(transport)
    conversation = client.call("create_conversation", {"provider": "rehearsal", "metadata": {"client": "smoke"}})
    number = conversation["conversationId"]
    client.transport.subscribe(client, {"conversationId": number})
    runs = []
    for word in ("one", "two"):
        sent = client.call(
            "send_conversation_message", {"conversationId": number, "prompt": f"SAY {word}", "cwd": folder}
        )
        end = client.until(sent["runId"], "run.completed")
        record = client.call("get_run", {"runId": sent["runId"]})
        if record["finalText"] != word or record["status"] != "completed":
            raise Wrong(f"the answer is {record}")
        own = [event for event in client.events if event.get("runId") == sent["runId"]]
        if [event["seq"] for event in own] != list(range(1, end["seq"] + 1)):
            raise Wrong(f"the events have gaps: {[event['seq'] for event in own]}")
        runs.append(sent["runId"])
    found = client.call("get_conversation", {"conversationId": number})
    if [run["runId"] for run in found["runs"]] != runs:
        raise Wrong(f"the runs of the conversation are {found['runs']}")
    if found["conversation"]["title"] != "SAY one":
        raise Wrong(f"the title is {found['conversation']}")
    client.call("archive_conversation", {"conversationId": number})
    kind = client.refused("send_conversation_message", {"conversationId": number, "prompt": "SAY no", "cwd": folder})
    if kind != "CONFLICT":
        raise Wrong(f"an archived conversation answers {kind}")
    if client.refused("get_run", {"runId": "0199c0de-0000-7000-8000-000000000000"}) != "NOT_FOUND":
        raise Wrong("a run that never was")
    return len(client.events)


def unix(path):
    stream = socket.socket(socket.AF_UNIX)
    stream.settimeout(PATIENCE)
    stream.connect(path)
    return stream


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("socket")
    parser.add_argument("folder")
    parser.add_argument("--http")
    parser.add_argument("--token-file")
    parser.add_argument("--stdio", metavar="OSTLER")
    options = parser.parse_args()
    transports = {
        "unix socket": lambda: Http(lambda: unix(options.socket), "ostler"),
        "WebSocket over the unix socket": lambda: Web(unix(options.socket), "ostler"),
    }
    if options.http:
        host = options.http.removeprefix("http://")
        address, port = host.rsplit(":", 1)
        with open(options.token_file, encoding="ascii") as file:
            token = file.read().strip()

        def tcp():
            return socket.create_connection((address, int(port)), timeout=PATIENCE)

        transports["TCP"] = lambda: Http(tcp, host, token)
        transports["WebSocket over TCP"] = lambda: Web(tcp(), host, token)
    if options.stdio:
        transports["standard input and output"] = lambda: Stdio(options.stdio)
    for name, make in transports.items():
        try:
            transport = make()
            events = converse(transport, options.folder)
            if hasattr(transport, "close"):
                transport.close()
        except (Wrong, OSError, KeyError, queue.Empty) as error:
            print(f"{name}: {type(error).__name__}: {error}", file=sys.stderr)
            return 1
        print(f"{name}: a conversation of two messages, {events} events")
    return 0


if __name__ == "__main__":
    sys.exit(main())
