"""gRPC calls through the gateway: python3 rpc_client.py HOST ROOT

Ends with 0 if every answer, status, detail and trailer is the one that the server gave.
"""

import sys
import time

import grpc

HOST, ROOT = sys.argv[1], sys.argv[2]
CALLS, MESSAGES, BURST, LARGE = 200, 1000, 5000, 3 << 20

with open(ROOT, "rb") as root:
    credentials = grpc.ssl_channel_credentials(root.read())
channel = grpc.secure_channel(f"{HOST}:443", credentials, options=[("grpc.max_receive_message_length", -1)])
once, fail, never = (channel.unary_unary(f"/lab.Echo/{name}") for name in ("Once", "Fail", "Never"))
stream = channel.stream_stream("/lab.Echo/Stream")


def call(body):
    answer, ended = once.with_call(body, timeout=20)
    assert answer == body, (len(answer), len(body))
    return dict(ended.trailing_metadata())


def refused(method, code, **options):
    try:
        method(b"x", **options)
    except grpc.RpcError as error:
        assert error.code() == code, error
        return error
    raise AssertionError(f"{code} was expected")


for number in range(CALLS):
    assert call(f"hello {number}".encode())["x-length"] == str(len(f"hello {number}"))
assert call(bytes(LARGE))["x-length"] == str(LARGE)
assert call(b"")["x-length"] == "0"

# One at a time: an answer that is kept back until more is sent would never come.
turn = iter(range(MESSAGES))
awaited = []


def messages():
    for number in turn:
        while len(awaited) < number:
            time.sleep(0.0005)
        yield f"message {number}".encode()


talk = stream(messages(), timeout=60)
for number, answer in enumerate(talk):
    assert answer == f"message {number}".encode(), answer
    awaited.append(number)
assert len(awaited) == MESSAGES and dict(talk.trailing_metadata())["x-count"] == str(MESSAGES)

# As fast as it goes: thousands of tiny frames under way.
burst = [f"burst {number}".encode() for number in range(BURST)]
assert list(stream(iter(burst), timeout=60)) == burst

error = refused(fail, grpc.StatusCode.FAILED_PRECONDITION, timeout=20)
assert error.details() == "the lab says no – with ünicode", error.details()
told = dict(error.trailing_metadata())
assert told["x-why"] == "lab" and told["x-blob-bin"] == b"\x00\xff", told

refused(never, grpc.StatusCode.DEADLINE_EXCEEDED, timeout=0.3)
end = time.monotonic() + 10
while call(b"?")["x-cancelled"] != "True":
    assert time.monotonic() < end, "the server was not told that the client had given up"
refused(channel.unary_unary("/lab.Echo/None"), grpc.StatusCode.UNIMPLEMENTED, timeout=20)
print(f"{CALLS} calls, {MESSAGES} and {BURST} messages each way, one of {LARGE} bytes")
