//! What the image `runtime` tells about itself and a request.
//!
//! The shape is `RuntimeInfo` of knative/serving's `test/types/runtime.go`. What WASI does not have (users, mounts,
//! control groups, permission bits) is told as the error or the absence that it is.

use std::fmt::Write as _;
use std::io::Read as _;
use std::time::{SystemTime, UNIX_EPOCH};

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

/// What only the program itself knows.
pub struct Asked<'a> {
    /// Path with query, as sent.
    pub uri: &'a str,
    /// The host that was called.
    pub host: &'a str,
    /// Such as `GET`.
    pub method: &'a str,
    /// The headers, in order.
    pub headers: &'a [(&'a str, &'a str)],
    /// The version of HTTP.
    pub version: (u8, u8),
    /// The folder that the program runs in, or why it has none.
    pub folder: Result<String, String>,
}

/// All of it, as JSON.
#[must_use]
pub fn describe(asked: &Asked<'_>) -> String {
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
        ("user", user(&asked.folder)),
        ("args", list(std::env::args().map(|argument| string(&argument)))),
    ]);
    object([("request", request_info(asked)), ("host", host)])
}

fn request_info(asked: &Asked<'_>) -> String {
    // By name, as Go's http.Header has them.
    let mut headers: Vec<(String, Vec<&str>)> = Vec::new();
    for (name, value) in asked.headers {
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
        ("uri", string(asked.uri)),
        ("host", string(asked.host)),
        ("method", string(asked.method)),
        ("headers", object(headers)),
        ("protoMajor", asked.version.0.to_string()),
        ("protoMinor", asked.version.1.to_string()),
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

fn user(folder: &Result<String, String>) -> String {
    let (directory, error) = match folder {
        Ok(folder) => (folder.as_str(), ""),
        Err(error) => ("", error.as_str()),
    };
    let cwd = object([("directory", string(directory)), ("error", string(error))]);
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
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
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
