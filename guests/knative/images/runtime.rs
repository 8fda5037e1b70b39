//! Tells what it sees around it, as JSON: the request, the environment, files, arguments, standard input.
//!
//! The shape is `RuntimeInfo` of knative/serving's `test/types/runtime.go`. What WASI does not have (users, mounts,
//! control groups, permission bits, the version of HTTP) is told as the error or the absence that it is.

use kittiwake_knative_images::wasip2::cli::environment::initial_cwd;
use kittiwake_knative_images::wasip2::clocks::wall_clock;
use kittiwake_knative_images::{Answer, Request, image};
use std::fmt::Write as _;
use std::io::Read as _;

image!(handle);

/// The files that the runtime contract names (MUST and SHOULD).
const FILES: [&str; 18] = [
    "/dev/fd",
    "/dev/full",
    "/dev/null",
    "/dev/ptmx",
    "/dev/random",
    "/dev/stdin",
    "/dev/stdout",
    "/dev/stderr",
    "/dev/tty",
    "/dev/urandom",
    "/dev/zero",
    "/proc/self/fd",
    "/proc/self/fd/0",
    "/proc/self/fd/1",
    "/proc/self/fd/2",
    "/tmp",
    "/etc/resolv.conf",
    "/dev/console",
];
/// What no one may even try to open.
const UNTOUCHED: [&str; 2] = ["/dev/tty", "/dev/console"];

fn handle(request: &Request, answer: Answer) {
    if request.path() == "/healthz" {
        let probe = request
            .headers
            .iter()
            .any(|(name, value)| name.eq_ignore_ascii_case("user-agent") && value.starts_with("kube-probe/"));
        return answer.text(if probe { 200 } else { 400 }, "");
    }
    let Some(mut body) = answer.begin(200, "application/json") else {
        return;
    };
    body.write(describe(request).as_bytes());
    body.finish();
}

fn describe(request: &Request) -> String {
    let files = object(FILES.map(|path| (path, file_info(path))));
    let access = FILES.iter().filter(|path| !UNTOUCHED.contains(path));
    let access = object(access.map(|path| (*path, file_access(path))));
    let env = object(std::env::vars().map(|(name, value)| (name, string(&value))));
    let host = object([
        ("files", files),
        ("envs", env),
        ("fileaccess", access),
        (
            "cgroups",
            list([object([
                ("name", string("/sys/fs/cgroup")),
                ("error", string("there are no control groups in WASI")),
            ])]),
        ),
        (
            "mounts",
            list([object([("error", string("there is no /proc/mounts in WASI"))])]),
        ),
        ("stdin", stdin()),
        ("user", user()),
        ("args", list(std::env::args().map(|argument| string(&argument)))),
    ]);
    object([("request", request_info(request)), ("host", host)])
}

fn request_info(request: &Request) -> String {
    // By name, as Go's http.Header has them.
    let mut headers: Vec<(String, Vec<&str>)> = Vec::new();
    for (name, value) in &request.headers {
        let name = canonical(name);
        if name == "Host" {
            continue;
        }
        match headers.iter_mut().find(|(known, _)| *known == name) {
            Some((_, values)) => values.push(value),
            None => headers.push((name, vec![value])),
        }
    }
    let headers = headers
        .iter()
        .map(|(name, values)| (name, list(values.iter().map(|value| string(value)))));
    object([
        ("ts", string(&now())),
        ("uri", string(&request.uri)),
        ("host", string(&request.host)),
        ("method", string(&request.method)),
        ("headers", object(headers)),
        // wasi:http does not tell the version that a request came with; 1.1 is what the contract has as the default.
        ("protoMajor", "1".to_owned()),
        ("protoMinor", "1".to_owned()),
    ])
}

/// The name of a header as Go's `http.CanonicalHeaderKey` writes it.
fn canonical(name: &str) -> String {
    let mut upper = true;
    name.chars()
        .map(|c| {
            let c = if upper {
                c.to_ascii_uppercase()
            } else {
                c.to_ascii_lowercase()
            };
            upper = c == '-';
            c
        })
        .collect()
}

fn file_info(path: &str) -> String {
    match std::fs::metadata(path) {
        Ok(found) => {
            let mut fields = vec![
                ("size", found.len().to_string()),
                ("isDir", found.is_dir().to_string()),
                ("modTime", string("1970-01-01T00:00:00Z")),
            ];
            // WASI has no permission bits; a folder that takes a new file is one that all may write to.
            if found.is_dir() && write_error(path).is_none() {
                fields.push(("mode", string("rwxrwxrwx")));
            }
            object(fields)
        }
        Err(_) => object([(
            "error",
            string(&format!("stat {path}: no such file or directory")),
        )]),
    }
}

fn file_access(path: &str) -> String {
    let read = match std::fs::metadata(path) {
        Ok(found) if found.is_dir() => std::fs::read_dir(path).err(),
        Ok(_) => std::fs::File::open(path).err(),
        Err(error) => Some(error),
    };
    let read = read.map(|error| ("read_error", string(&error.to_string())));
    let write = write_error(path).map(|error| ("write_error", string(&error.to_string())));
    object(read.into_iter().chain(write))
}

fn write_error(path: &str) -> Option<std::io::Error> {
    match std::fs::metadata(path) {
        Ok(found) if found.is_dir() => {
            let file = format!("{path}/kittiwake-write-test");
            let made = std::fs::File::create(&file).err();
            let _ = std::fs::remove_file(&file);
            made
        }
        Ok(_) => std::fs::OpenOptions::new().append(true).open(path).err(),
        Err(error) => Some(error),
    }
}

fn stdin() -> String {
    match std::io::stdin().read(&mut [0]) {
        Ok(0) => object([("eof", "true".to_owned())]),
        Ok(_) => object([("eof", "false".to_owned())]),
        Err(error) => object([("error", string(&error.to_string()))]),
    }
}

fn user() -> String {
    let cwd = match initial_cwd() {
        Some(folder) => object([("directory", string(&folder)), ("error", string(""))]),
        None => match std::env::current_dir() {
            Ok(folder) => object([
                ("directory", string(&folder.display().to_string())),
                ("error", string("")),
            ]),
            Err(error) => object([("directory", string("")), ("error", string(&error.to_string()))]),
        },
    };
    // There are no users in WASI.
    let none = || "-1".to_owned();
    object([
        ("uid", none()),
        ("euid", none()),
        ("gid", none()),
        ("egid", none()),
        ("cwd", cwd),
    ])
}

/// The time as RFC 3339 writes it.
fn now() -> String {
    let seconds = wall_clock::now().seconds;
    let (day, second) = (seconds / 86_400, seconds % 86_400);
    // Days since 1970 as a date of the Gregorian calendar: eras of 400 years, counted from March of the year 0.
    let shifted = day + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let month = if from_march < 10 {
        from_march + 3
    } else {
        from_march - 9
    };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!(
        "{year:04}-{month:02}-{:02}T{:02}:{:02}:{:02}Z",
        of_year - (153 * from_march + 2) / 5 + 1,
        second / 3600,
        second / 60 % 60,
        second % 60
    )
}

/// A JSON string.
fn string(text: &str) -> String {
    let mut json = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => json.extend(['\\', c]),
            c if c < ' ' => {
                let _ = write!(json, "\\u{:04x}", c as u32);
            }
            c => json.push(c),
        }
    }
    json + "\""
}

/// A JSON object of values that are JSON already.
fn object<K: AsRef<str>>(fields: impl IntoIterator<Item = (K, String)>) -> String {
    let fields: Vec<String> = fields
        .into_iter()
        .map(|(name, value)| format!("{}:{value}", string(name.as_ref())))
        .collect();
    format!("{{{}}}", fields.join(","))
}

/// A JSON list of values that are JSON already.
fn list(items: impl IntoIterator<Item = String>) -> String {
    format!("[{}]", items.into_iter().collect::<Vec<_>>().join(","))
}
