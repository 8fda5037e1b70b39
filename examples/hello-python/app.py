"""Answers every request with `Hello World!`, or with whatever the variable TARGET names."""

from componentize_py_types import Ok
from wit_world import exports
from wit_world.imports import environment
from wit_world.imports.types import Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam


class IncomingHandler(exports.IncomingHandler):
    def handle(self, request: IncomingRequest, response_out: ResponseOutparam) -> None:
        headers = Fields()
        headers.append("content-type", b"text/plain; charset=utf-8")
        response = OutgoingResponse(headers)
        body = response.body()
        ResponseOutparam.set(response_out, Ok(response))

        target = dict(environment.get_environment()).get("TARGET", "World")
        with body.write() as stream:
            stream.blocking_write_and_flush(f"Hello {target[:1000]}!\n".encode())
        OutgoingBody.finish(body, None)
