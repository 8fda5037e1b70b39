//! A CGI program (RFC 3875), as WAGI runs them: it is started for each request, finds it in its variables and on standard
//! input, and prints the answer: header fields, an empty line, the body.

use std::env::var;
use std::io::{self, Read};

fn main() -> io::Result<()> {
    let variable = |name| var(name).unwrap_or_default();
    let mut body = String::new();
    if let Err(error) = io::stdin().read_to_string(&mut body) {
        println!("Status: 400\nContent-Type: text/plain\n");
        println!("the body is no text: {error}");
        return Ok(());
    }
    println!("Content-Type: text/plain\n");
    println!("Hello {}!", var("TARGET").as_deref().unwrap_or("World"));
    println!("{} {}", variable("REQUEST_METHOD"), variable("PATH_INFO"));
    for pair in variable("QUERY_STRING").split('&').filter(|pair| !pair.is_empty()) {
        println!("? {pair}");
    }
    if !body.is_empty() {
        println!("{} bytes: {body}", body.len());
    }
    eprintln!("answered {}", variable("REMOTE_ADDR"));
    Ok(())
}
