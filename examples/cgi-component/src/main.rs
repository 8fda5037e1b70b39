//! A program of the command line as a component of WASI 0.2: `fn main`, built for wasm32-wasip2. It is started for each
//! request, finds it in its variables, its arguments and on standard input, and prints the answer.

use std::env::{args, var};
use std::io::{self, BufRead, Write};
use std::process::ExitCode;

fn main() -> io::Result<ExitCode> {
    let path = var("PATH_INFO").unwrap_or_default();
    match path.strip_prefix('/').unwrap_or(&path) {
        "count" => count().map(|()| ExitCode::SUCCESS),
        "file" => file().map(|()| ExitCode::SUCCESS),
        "fail" => {
            eprintln!("asked to fail");
            Ok(ExitCode::FAILURE)
        }
        "" => {
            println!("Content-Type: text/plain\n");
            println!("Hello {}!", var("TARGET").as_deref().unwrap_or("World"));
            for argument in args().skip(1) {
                println!("? {argument}");
            }
            Ok(ExitCode::SUCCESS)
        }
        other => {
            println!("Status: 404 Not Found\nContent-Type: text/plain\n");
            println!("there is no {other:?} here");
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// Counts the lines of the body as they come, and their bytes.
fn count() -> io::Result<()> {
    println!("Content-Type: text/plain\n");
    let mut output = io::stdout();
    let (mut lines, mut bytes) = (0, 0);
    for line in io::stdin().lock().split(b'\n') {
        lines += 1;
        bytes += line?.len();
    }
    writeln!(output, "{lines} lines, {bytes} bytes without their ends")
}

/// Keeps what it is sent in a file of its own, and prints that.
fn file() -> io::Result<()> {
    let mut file = std::fs::File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .open("/tmp/kept")?;
    io::copy(&mut io::stdin().lock(), &mut file)?;
    println!("Content-Type: application/octet-stream\n");
    io::copy(&mut std::fs::File::open("/tmp/kept")?, &mut io::stdout())?;
    Ok(())
}
