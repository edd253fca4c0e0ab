"""A program on the published Python package `mcp`: an agent as people write them. It reads what to do from
standard input, one JSON array a line, and prints one JSON line for each.

    client.py http SOCKET               over the gate's socket
    client.py stdio PROGRAM ARGUMENT…   through a command, as desktop programs do; the resource is added, before any --

["begin", MANDATE, PARAMETERS, SCOPE] begins a task, ["swarm", MANDATE, N] tries to begin N; ["end", ID] ends one,
["token", ID] asks for a token;
["list", RESOURCE] lists tools; ["call", RESOURCE, NAME, ARGUMENTS] calls one, ["again", N, RESOURCE, NAME, ARGUMENTS] until
it is refused; ["raw", PATH, HEADERS, TEXT] sends what no client would; ["fork", WHAT…] does each in a child, ["twice", WHAT…] in a grandchild whose parent is gone, and
["run", COMMAND, WHAT…] in a command that speaks like this one."""

import asyncio
import json
import os
import subprocess
import sys

os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "1"

import grpc
import httpx2
import task as tasks  # examples/task/task.py, which is put beside this
from mcp import Client
from mcp.client.stdio import StdioServerParameters, stdio_client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPError

KIND, REST = sys.argv[1], sys.argv[2:]


def say(line):
    print(json.dumps(line), flush=True)


def ask_agent(method, request, answer):
    """One question to the node's agent, over a connection of its own."""
    with grpc.insecure_channel(os.environ["SPIFFE_ENDPOINT_SOCKET"]) as agent:
        call = agent.unary_unary(
            f"/writ.task.v1.Tasks/{method}", type(request).SerializeToString, answer.FromString
        )
        try:
            return call(request, timeout=20)
        except grpc.RpcError as error:
            return {"refused": error.code().name, "why": error.details()}


def begin(mandate, params={}, scope=None):
    wish = tasks.Begin(mandate=mandate, params=json.dumps(params).encode())
    if scope is not None:
        wish.scope = json.dumps(scope).encode()
    begun = ask_agent("Begin", wish, tasks.Begun)
    return begun if isinstance(begun, dict) else {"task": begun.task.id, "spiffe_id": begun.task.spiffe_id}


def swarm(mandate, count):
    """Begins as many as it gets, and says how many these are and why there are no more."""
    begun = [begin(mandate) for _ in range(count)]
    refused = [one for one in begun if "refused" in one]
    return {"begun": len(begun) - len(refused), "refused": refused[0] if refused else None}


def end(task=""):
    ended = ask_agent("End", tasks.One(id=task), tasks.One)
    return ended if isinstance(ended, dict) else {"ended": True}


def token(task=""):
    token = ask_agent("Token", tasks.One(id=task), tasks.Token)
    return token if isinstance(token, dict) else {"token": token.token}


def over_socket():
    return httpx2.AsyncClient(transport=httpx2.AsyncHTTPTransport(uds=REST[0]), timeout=60)


def connection(resource):
    if KIND == "stdio":
        end = REST.index("--") if "--" in REST else len(REST)
        command = [*REST[:end], "--resource", resource, *REST[end:]]
        return Client(stdio_client(StdioServerParameters(command=command[0], args=command[1:])), mode="legacy")
    return Client(streamable_http_client(f"http://gate/mcp/{resource}", http_client=over_socket()))


async def raw(path, headers, text):
    async with over_socket() as http:
        answer = await http.post("http://gate" + path, headers=headers, content=text.encode())
        return {"status": answer.status_code, "body": answer.text}


async def again(most, resource, name, arguments):
    """Over one connection, without the library's greetings: at most so often, until something else than a result comes."""
    call = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": name, "arguments": arguments}}
    async with over_socket() as http:
        for done in range(most):
            answer = (await http.post(f"http://gate/mcp/{resource}", json=call)).json()
            if "error" in answer:
                return {"done": done, **answer["error"]}
    return {"done": most}


async def speak(what):
    if what[0] == "again":
        return await again(*what[1:])
    if what[0] == "raw":
        return await raw(*what[1:])
    try:
        async with connection(what[1]) as client:
            try:
                if what[0] == "list":
                    listed = await client.list_tools()
                    return {"tools": sorted(tool.name for tool in listed.tools)}
                result = await client.call_tool(what[2], what[3])
            except MCPError as error:
                # Not further out: there the library makes a group of it.
                return {"code": error.code, "message": error.message, "data": error.data}
            text = "".join(getattr(part, "text", "") for part in result.content)
            return {"text": text, "failed": bool(result.is_error)}
    except BaseException as error:
        return {"broken": repr(error)}


def do(what):
    own = {"begin": begin, "swarm": swarm, "end": end, "token": token, "run": run, "fork": fork, "twice": twice}
    return own[what[0]](*what[1:]) if what[0] in own else asyncio.run(speak(what))


def fork(*all):
    return descend(all, 1)


def twice(*all):
    return descend(all, 2)


def descend(all, depth):
    """The same in a child, or in a grandchild whose parent is gone."""
    reader, writer = os.pipe()
    first = os.fork()
    if first == 0:
        middle = os.getpid()
        if depth == 2 and os.fork() != 0:
            os._exit(0)
        while depth == 2 and os.getppid() == middle:
            os.sched_yield()
        try:
            answer = [do(what) for what in all]
        except BaseException as error:
            answer = [{"broken": repr(error)}]
        os.write(writer, json.dumps(answer).encode())
        os._exit(0)
    os.close(writer)
    if depth == 2:
        os.waitpid(first, 0)
    with os.fdopen(reader) as answer:
        did = json.loads(answer.read())
    if depth == 1:
        os.waitpid(first, 0)
    return {"did": did}


def run(command, *all):
    """The same in a command, which says first that it is ready."""
    lines = "".join(json.dumps(what) + "\n" for what in all)
    done = subprocess.run(command, input=lines, capture_output=True, text=True, timeout=60)
    said = [json.loads(line) for line in done.stdout.splitlines()]
    return {"did": said[1:], "errors": done.stderr}


def main():
    say({"ready": os.getpid()})
    for line in sys.stdin:
        try:
            say(do(json.loads(line)))
        except BaseException as error:
            say({"broken": repr(error)})


main()
