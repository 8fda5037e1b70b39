//! A call of a `wasi:http` 0.3 service: handed to one of the function's instances, which may be in other calls too.

use super::request_body::RequestBody;
use super::response_body::{Guest, Taken};
use super::{Call, Held, name_host, trap_message};
use crate::prepare::{is_guests_fault, is_out_of_room};
use crate::service::{Failure, Seated};
use http_body_util::BodyExt;
use kittiwake_core::body::Body;
use kittiwake_core::invoke::InvokeError;
use std::sync::Arc;
use tokio::time::{sleep_until, timeout_at};
use wasmtime_wasi_http::WasiBody;

impl Call {
    /// The response, and whether its instance had served a call before.
    pub(super) async fn answer_as_service(
        &self,
        request: http::Request<Body>,
        held: Held,
    ) -> Result<(http::Response<Body>, bool), InvokeError> {
        let function = &self.function;
        let version = function.service.version(&self.revision, function, &self.shared);
        let (answer, mut seated) = version.call(self.service_request(request), &self.state, self.deadline);
        let answer = tokio::select! {
            biased;
            () = self.state.body_too_large() => {
                self.shared.metrics.failed("body_too_large");
                return Err(InvokeError::BodyTooLarge);
            }
            answer = timeout_at(self.head_deadline(), answer) => answer,
        };
        match answer {
            Ok(Ok(Ok(response))) => {
                let reused = seated.is_reused();
                Ok((self.respond_as_service(response, seated, held), reused))
            }
            Ok(Ok(Err(failure))) => {
                // The guest has come to an end with this call, in one way or another.
                seated.set_whole();
                Err(self.not_answered(failure))
            }
            Ok(Err(_)) => Err(self.not_answered(Failure::Ended)),
            Err(_) => {
                self.timed_out();
                Err(InvokeError::TimedOut)
            }
        }
    }

    /// The request in absolute form, as the interface has it.
    fn service_request(&self, request: http::Request<Body>) -> http::Request<WasiBody> {
        let (mut parts, body) = request.into_parts();
        name_host(&mut parts);
        let host = parts.headers.get(http::header::HOST);
        let authority = host.and_then(|host| http::uri::Authority::try_from(host.as_bytes()).ok());
        let mut uri = parts.uri.clone().into_parts();
        uri.authority = uri.authority.or(authority);
        uri.scheme.get_or_insert(http::uri::Scheme::HTTP);
        uri.path_and_query
            .get_or_insert_with(|| http::uri::PathAndQuery::from_static("/"));
        // It can only not be put together when the host is none; then it goes on as it came.
        parts.uri = http::Uri::from_parts(uri).unwrap_or(parts.uri);
        let body = RequestBody::new(body, self.limits().request_body.0, Arc::clone(&self.state));
        http::Request::from_parts(parts, body.boxed_unsync())
    }

    fn respond_as_service(
        &self,
        response: http::Response<WasiBody>,
        mut seated: Seated,
        held: Held,
    ) -> http::Response<Body> {
        seated.set_head();
        self.function
            .succeeded(&self.revision, &self.shared.reporter, &self.shared.answered);
        let (parts, body) = response.into_parts();
        let guest = Guest::Seated {
            seated,
            deadline: Box::pin(sleep_until(self.deadline)),
            held,
        };
        self.stream(parts, Taken::new(), body, Some(guest))
    }

    /// The instance has said in the log why it failed.
    fn not_answered(&self, failure: Failure) -> InvokeError {
        match failure {
            Failure::NoSlot(refused) => self.refused(refused),
            Failure::NotInstantiated(error) if is_out_of_room(&error) => self.out_of_room(&error),
            Failure::NotInstantiated(error) | Failure::Trapped(error) => match trap_message(&error) {
                Some(message) => {
                    self.blame(&error, &message);
                    InvokeError::Trapped(message)
                }
                None => self.no_response("it exited with code 0"),
            },
            Failure::Code(code) => self.answered_with_error(&code),
            Failure::TimedOut => {
                self.timed_out();
                InvokeError::TimedOut
            }
            Failure::Ended => self.no_response("its instance ended"),
        }
    }

    fn blame(&self, error: &wasmtime::Error, message: &str) {
        self.shared.metrics.failed("trap");
        if is_guests_fault(error) {
            self.function
                .trapped(&self.revision, &self.shared.reporter, message);
        }
    }
}
