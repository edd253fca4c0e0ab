"""Opens connections with the task's SVID, says so, and tells when each has ended.

client.py WRIT FOLDER NGINX_PORT PSQL POSTGRES_PORT"""

import json
import socket
import ssl
import subprocess
import sys
import time

writ, folder, nginx, psql, postgres = sys.argv[1:]
subprocess.run([writ, "fetch", "x509", "--write", folder], check=True, stdout=subprocess.DEVNULL)


def say(**what):
    print(json.dumps(what), flush=True)


# The servers' own identity is not what this is about.
context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
context.load_cert_chain(f"{folder}/svid.pem", f"{folder}/key.pem")
web = context.wrap_socket(socket.create_connection(("127.0.0.1", int(nginx))))


def get():
    web.sendall(b"GET / HTTP/1.1\r\nHost: box\r\n\r\n")
    return web.recv(65536).split(b"\r\n")[0].decode()


where = f"host=127.0.0.1 port={postgres} user=writ dbname=postgres sslmode=require"
database = subprocess.Popen(
    [psql, "-qtAX", f"{where} sslcert={folder}/svid.pem sslkey={folder}/key.pem"],
    stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, bufsize=1,
)


def select(number):
    try:
        print(f"select {number};", file=database.stdin, flush=True)
    except BrokenPipeError:
        pass
    return database.stdout.readline().strip()


say(web=get(), database=select(41))
say(web=get(), database=select(42))
try:
    rest = web.recv(1)
except OSError as error:
    rest = b""
say(web_ended=rest == b"")
# Connections are cut one after the other: an answer may still come while this one's turn does.
end = time.monotonic() + 1
while (answer := select(43)) == "43" and time.monotonic() < end:
    time.sleep(0.005)
say(database_ended=answer)
