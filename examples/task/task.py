"""Begins a task for this process, shows what it is by a transaction token, and ends it.

Needs the Python packages grpcio and protobuf; the messages are those of proto/writ/task/v1."""

import contextlib
import json
import os
import sys

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

TEXT, BYTES, SECONDS, MESSAGE = 9, 12, 13, 11


def messages(**kinds):
    file = descriptor_pb2.FileDescriptorProto(name="task.proto", package="writ.task.v1", syntax="proto3")
    for kind, fields in kinds.items():
        message = file.message_type.add(name=kind)
        for number, (name, type, of) in enumerate(fields, 1):
            message.field.add(name=name, number=number, type=type, label=1, **({"type_name": of} if of else {}))
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return [message_factory.GetMessageClass(pool.FindMessageTypeByName("writ.task.v1." + kind)) for kind in kinds]


Task, Begin, Begun, One, Token = messages(
    Task=[("id", TEXT, ""), ("spiffe_id", TEXT, ""), ("json", BYTES, "")],
    Begin=[("mandate", TEXT, ""), ("params", BYTES, ""), ("scope", BYTES, ""), ("ttl", SECONDS, "")],
    Begun=[("task", MESSAGE, ".writ.task.v1.Task")],
    One=[("id", TEXT, "")],
    Token=[("token", TEXT, "")],
)


@contextlib.contextmanager
def task(agent, mandate, **params):
    def ask(method, request, answer):
        call = agent.unary_unary(f"/writ.task.v1.Tasks/{method}", type(request).SerializeToString, answer.FromString)
        return call(request, timeout=10)

    begun = ask("Begin", Begin(mandate=mandate, params=json.dumps(params).encode()), Begun).task
    try:
        yield begun, lambda: ask("Token", One(id=begun.id), Token).token
    finally:
        ask("End", One(id=begun.id), One)  # when this returns, no call of the task is permitted any more


if __name__ == "__main__":
    with grpc.insecure_channel(os.environ["SPIFFE_ENDPOINT_SOCKET"]) as agent:
        with task(agent, sys.argv[1], **dict(pair.split("=", 1) for pair in sys.argv[2:])) as (begun, token):
            print(json.dumps({"task": begun.id, "spiffe_id": begun.spiffe_id, "token": token()}), flush=True)
