#!/usr/bin/env python3
"""A server of the Model Context Protocol on pipes, with one tool.

`ping` answers "pong" and the value of PROBE_WORD, which shows whether the server got its environment.
"""

import json
import os
import sys

TOOL = {
    "name": "ping",
    "description": "Answers pong.",
    "inputSchema": {"type": "object", "properties": {"note": {"type": "string"}}},
}


def answer(method, params):
    """The result of a request; None for a method that this server does not support."""
    if method == "initialize":
        return {
            "protocolVersion": params.get("protocolVersion", "2025-06-18"),
            "capabilities": {"tools": {}},
            "serverInfo": {"name": "probe", "version": "1.0.0"},
        }
    if method == "tools/list":
        return {"tools": [TOOL]}
    if method == "tools/call":
        word = os.environ.get("PROBE_WORD", "nothing")
        return {"content": [{"type": "text", "text": f"pong {word}"}], "isError": False}
    if method == "ping":
        return {}
    return None


def main():
    for line in sys.stdin:
        message = json.loads(line)
        if "id" not in message:
            continue
        result = answer(message.get("method"), message.get("params") or {})
        reply = {"jsonrpc": "2.0", "id": message["id"]}
        if result is None:
            reply["error"] = {"code": -32601, "message": "there is no such method"}
        else:
            reply["result"] = result
        print(json.dumps(reply), flush=True)


main()
