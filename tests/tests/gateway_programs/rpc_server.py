"""A gRPC server without generated code: python3 rpc_server.py PORT

/lab.Echo/Once     the same bytes, with trailers
/lab.Echo/Stream   each message of the stream, at once
/lab.Echo/Fail     a status with details and a trailer
/lab.Echo/Never    no answer, and says in the next call's trailer that it was cancelled
"""

import sys
import threading
from concurrent import futures

import grpc

cancelled = threading.Event()


def once(request, context):
    context.set_trailing_metadata((("x-length", str(len(request))), ("x-cancelled", str(cancelled.is_set()))))
    return request


def stream(requests, context):
    count = 0
    for request in requests:
        count += 1
        yield request
    context.set_trailing_metadata((("x-count", str(count)),))


def fail(request, context):
    context.set_trailing_metadata((("x-why", "lab"), ("x-blob-bin", b"\x00\xff")))
    context.abort(grpc.StatusCode.FAILED_PRECONDITION, "the lab says no – with ünicode")


def never(request, context):
    gone = threading.Event()
    context.add_callback(gone.set)
    gone.wait(30)
    cancelled.set()
    return request


handlers = {
    "Once": grpc.unary_unary_rpc_method_handler(once),
    "Stream": grpc.stream_stream_rpc_method_handler(stream),
    "Fail": grpc.unary_unary_rpc_method_handler(fail),
    "Never": grpc.unary_unary_rpc_method_handler(never),
}
server = grpc.server(futures.ThreadPoolExecutor(8), options=[("grpc.max_receive_message_length", -1)])
server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("lab.Echo", handlers),))
server.add_insecure_port(f"[::]:{sys.argv[1]}")
server.start()
server.wait_for_termination()
