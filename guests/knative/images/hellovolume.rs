//! Answers with the file at `/hello` that the path names, or with `/hello/world`.

use kittiwake_knative_images::{Answer, Request, image};

image!(handle);

fn handle(request: &Request, answer: Answer) {
    let path = match request.path() {
        "" | "/" => "/hello/world".to_owned(),
        path if path.split('/').any(|part| part == "..") => {
            return answer.text(400, "there is no escape\n");
        }
        path => format!("/hello{path}"),
    };
    match std::fs::read_to_string(&path) {
        Ok(content) => answer.text(200, &format!("{content}\n")),
        Err(error) => answer.text(500, &format!("{path}: {error}\n")),
    }
}
