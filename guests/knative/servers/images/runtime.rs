//! Tells what it sees around it, as JSON: the request, the environment, files, arguments, standard input.

use kittiwake_knative_servers::info::{self, Asked};
use kittiwake_knative_servers::{Request, Response, is_probe, text};

fn main() -> std::io::Result<()> {
    kittiwake_knative_servers::main_with_http2(async |request: Request| answer(&request))
}

fn answer(request: &Request) -> Response {
    if request.uri().path() == "/healthz" {
        return text(if is_probe(request) { 200 } else { 400 }, "");
    }
    let headers = request.headers().iter();
    let headers: Vec<(&str, &str)> = headers.map(|(name, value)| (name.as_str(), value.to_str().unwrap_or_default())).collect();
    let host = request.uri().authority().map(|host| host.as_str());
    let named = || headers.iter().find(|(name, _)| *name == "host").map(|(_, host)| *host);
    // WASI's preview 1 has no other word for it.
    let folder = std::env::var("PWD").map(Into::into).or_else(|_| std::env::current_dir());
    let asked = Asked {
        uri: request.uri().path_and_query().map_or("/", |uri| uri.as_str()),
        host: host.or_else(named).unwrap_or_default(),
        method: request.method().as_str(),
        headers: &headers,
        version: if request.version() == hyper::Version::HTTP_2 { (2, 0) } else { (1, 1) },
        folder: folder.map(|folder| folder.display().to_string()).map_err(|error| error.to_string()),
    };
    let mut response = text(200, info::describe(&asked));
    response.headers_mut().insert("content-type", hyper::header::HeaderValue::from_static("application/json"));
    response
}
