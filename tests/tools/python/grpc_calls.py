"""Calls of a gRPC server that repeats what it gets: python-web grpc_calls.py ADDRESS HOST."""

import sys

import grpc

address, host = sys.argv[1], sys.argv[2]


def channel(authority):
    return grpc.insecure_channel(address, options=[("grpc.default_authority", authority)])


def refused(authority, method):
    """The status of a call that fails."""
    with channel(authority) as to:
        try:
            to.unary_unary(method)(b"x", timeout=60)
        except grpc.RpcError as error:
            return error.code(), error.details()
    raise AssertionError(f"{method} of {authority} did not fail")


with channel(host) as to:
    assert to.unary_unary("/grpc.Echo/Call")(b"one", timeout=60) == b"one"
    call = to.stream_stream("/grpc.Echo/Call")(iter([b"a", b"b", b"c"]), timeout=60)
    assert list(call) == [b"a", b"b", b"c"]
    assert call.code() == grpc.StatusCode.OK
    assert ("x-sum", "42") in [(entry.key, entry.value) for entry in call.trailing_metadata()]

code, details = refused(host, "/busy")
assert code == grpc.StatusCode.UNAVAILABLE and "all instances are busy" in details, (code, details)
code, details = refused("nobody.default.localhost", "/grpc.Echo/Call")
assert code == grpc.StatusCode.UNIMPLEMENTED and "no route for host" in details, (code, details)
print("ok")
