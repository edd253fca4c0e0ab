"""A program on the published Python package `mcp`: an agent as people write them. It reads what to do from
standard input, one JSON array a line, and prints one JSON line for each.

    client.py http SOCKET /mcp/files auto|legacy     over the gate's socket
    client.py stdio PROGRAM ARGUMENT…                through a command, as desktop programs do

["list"] lists tools; ["call", NAME, ARGUMENTS] calls one; ["fork", …] does the rest in a child,
["twice", …] in a grandchild whose parent is gone."""

import asyncio
import json
import os
import sys

import httpx2
from mcp import Client
from mcp.client.stdio import StdioServerParameters, stdio_client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPError


def say(**line):
    print(json.dumps(line), flush=True)


def connection(kind, rest):
    if kind == "stdio":
        return Client(stdio_client(StdioServerParameters(command=rest[0], args=rest[1:])), mode="legacy")
    socket, path, mode = rest
    http = httpx2.AsyncClient(transport=httpx2.AsyncHTTPTransport(uds=socket), timeout=60)
    return Client(streamable_http_client("http://gate" + path, http_client=http), mode=mode)


async def do(client, what):
    try:
        if what[0] == "list":
            listed = await client.list_tools()
            return {"tools": sorted(tool.name for tool in listed.tools)}
        result = await client.call_tool(what[1], what[2])
        text = "".join(getattr(part, "text", "") for part in result.content)
        return {"text": text, "failed": bool(result.is_error)}
    except MCPError as error:
        return {"code": error.code, "message": error.message, "data": error.data}


async def alone(kind, rest, what):
    async with connection(kind, rest) as client:
        return await do(client, what)


def descend(kind, rest, what, depth):
    """The same in a child, or in a grandchild whose parent is gone."""
    reader, writer = os.pipe()
    if os.fork() == 0:
        if depth == 2 and os.fork() != 0:
            os._exit(0)
        try:
            answer = asyncio.run(alone(kind, rest, what))
        except BaseException as error:
            answer = {"broken": repr(error)}
        os.write(writer, json.dumps(answer).encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as answer:
        text = answer.read()
    os.wait()
    return json.loads(text)


def main():
    kind, rest = sys.argv[1], sys.argv[2:]
    say(ready=os.getpid())
    for line in sys.stdin:
        what = json.loads(line)
        try:
            if what[0] in ("fork", "twice"):
                answer = descend(kind, rest, what[1:], 1 if what[0] == "fork" else 2)
            else:
                answer = asyncio.run(alone(kind, rest, what))
        except BaseException as error:
            answer = {"broken": repr(error)}
        say(**answer)


main()
