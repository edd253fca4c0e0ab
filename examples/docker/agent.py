"""Stands for your agent: it waits. Give it any SPIFFE library, and the environment says where to ask."""

import os
import signal

print("asking", os.environ["SPIFFE_ENDPOINT_SOCKET"], flush=True)
signal.pause()
