"""A client of another service, all the while: python3 neighbour.py HOST ADDRESS ROOT

One connection asks every 5 ms, and every 20 ms a new one comes, shakes hands and asks once. Every second a line says
what has been since the last: requests, errors, and how long they took, in milliseconds.
"""

import json
import socket
import ssl
import sys
import threading
import time

host, address, root = sys.argv[1:4]
context = ssl.create_default_context(cafile=root)
context.set_alpn_protocols(["http/1.1"])
REQUEST = b"GET / HTTP/1.1\r\nHost: " + host.encode() + b"\r\n\r\n"
lock = threading.Lock()
took = {"kept": [], "fresh": []}
errors = []


def connect():
    plain = socket.create_connection((address, 443), 5)
    return context.wrap_socket(plain, server_hostname=host)


def ask(stream):
    stream.sendall(REQUEST)
    answer = b""
    while b"\r\n\r\n" not in answer:
        more = stream.recv(4096)
        if not more:
            raise OSError(f"ended after {answer!r}")
        answer += more
    head, body = answer.split(b"\r\n\r\n", 1)
    lines = head.lower().split(b"\r\n")
    length = next(int(line.split(b":")[1]) for line in lines if line.startswith(b"content-length:"))
    while len(body) < length:
        body += stream.recv(4096)
    if b" 200 " not in lines[0]:
        raise OSError(f"answered {lines[0]!r}")


def again_and_again(kind, every, one):
    """At a steady pace, whatever the last one took: who waits for the slow ones measures too few of them."""
    due = time.monotonic()
    while True:
        began = time.monotonic()
        try:
            one()
            with lock:
                took[kind].append((time.monotonic() - began) * 1000)
        except (OSError, StopIteration) as error:
            with lock:
                errors.append(f"{kind}: {error!r}")
        due = max(due + every, time.monotonic() - 1)
        time.sleep(max(0, due - time.monotonic()))


kept = None


def ask_kept():
    global kept
    try:
        kept = kept or connect()
        ask(kept)
    except OSError:
        kept = None
        raise


def ask_fresh():
    with connect() as stream:
        ask(stream)


def summary(times):
    times.sort()
    at = lambda share: round(times[int(share * (len(times) - 1))], 1) if times else None
    return {"count": len(times), "p50": at(0.5), "p99": at(0.99), "max": at(1.0)}


threading.Thread(target=again_and_again, args=("kept", 0.005, ask_kept), daemon=True).start()
threading.Thread(target=again_and_again, args=("fresh", 0.02, ask_fresh), daemon=True).start()
while True:
    time.sleep(1)
    with lock:
        now, said = {kind: took[kind] for kind in took}, errors[:]
        took, errors[:] = {"kept": [], "fresh": []}, []
    line = {kind: summary(times) for kind, times in now.items()}
    print(json.dumps({**line, "times": now, "errors": said}), flush=True)
