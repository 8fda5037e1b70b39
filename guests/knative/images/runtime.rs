//! Tells what it sees around it, as JSON: the request, the environment, files, arguments, standard input.

use kittiwake_knative_images::info::{self, Asked};
use kittiwake_knative_images::wasip2::cli::environment::initial_cwd;
use kittiwake_knative_images::{Answer, Request, image};

image!(handle);

fn handle(request: &Request, answer: Answer) {
    if request.path() == "/healthz" {
        let probe = request
            .headers
            .iter()
            .any(|(name, value)| name.eq_ignore_ascii_case("user-agent") && value.starts_with("kube-probe/"));
        return answer.text(if probe { 200 } else { 400 }, "");
    }
    let headers: Vec<(&str, &str)> = request
        .headers
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    let folder = initial_cwd().map_or_else(
        || {
            std::env::current_dir()
                .map(|folder| folder.display().to_string())
                .map_err(|error| error.to_string())
        },
        Ok,
    );
    let asked = Asked {
        uri: &request.uri,
        host: &request.host,
        method: &request.method,
        headers: &headers,
        // wasi:http does not tell the version that a request came with; 1.1 is what the contract has as the default.
        version: (1, 1),
        folder,
    };
    let Some(mut body) = answer.begin(200, "application/json") else {
        return;
    };
    body.write(info::describe(&asked).as_bytes());
    body.finish();
}
