//! Answers every request with `Hello World!`, or with whatever the variable `TARGET` names, as Knative's own
//! first sample does. The platform makes a fresh instance of this component for every call.

use wasip2::cli::environment::get_environment;
use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::types::{Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam};

struct Hello;

wasip2::http::proxy::export!(Hello);

impl Guest for Hello {
    fn handle(_request: IncomingRequest, response_out: ResponseOutparam) {
        let headers = Fields::new();
        let _ = headers.set("content-type", &[b"text/plain; charset=utf-8".to_vec()]);
        let response = OutgoingResponse::new(headers);
        let Ok(body) = response.body() else { return };
        ResponseOutparam::set(response_out, Ok(response));

        // From here on the caller may go away at any time; there is nobody left to tell, so errors end the work.
        let Ok(stream) = body.write() else { return };
        let written = stream.blocking_write_and_flush(greeting().as_bytes());
        drop(stream);
        if written.is_ok() {
            let _ = OutgoingBody::finish(body, None);
        }
    }
}

fn greeting() -> String {
    let target = get_environment().into_iter().find(|(name, _)| name == "TARGET");
    let target = target.map_or_else(|| "World".to_owned(), |(_, value)| value);
    // One write takes at most 4096 bytes.
    let target: String = target.chars().take(1000).collect();
    format!("Hello {target}!\n")
}
