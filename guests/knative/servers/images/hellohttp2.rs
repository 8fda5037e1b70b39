//! Greets who speaks HTTP/2, and tells others to.

use kittiwake_knative_servers::{Request, Response, text};

fn main() -> std::io::Result<()> {
    kittiwake_knative_servers::main_with_http2(async |request: Request| answer(&request))
}

fn answer(request: &Request) -> Response {
    if request.version() == hyper::Version::HTTP_2 {
        text(200, "Hello, New World! How about donuts and coffee?\n")
    } else {
        text(426, "")
    }
}
