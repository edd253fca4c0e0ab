"""Stands for your agent: it says who it is asked to be and waits until it is ended."""

import os
import signal

print("asking", os.environ.get("SPIFFE_ENDPOINT_SOCKET", "nobody"), flush=True)
signal.pause()
