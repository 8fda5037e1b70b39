//! What the program of an image is called. An image of WebAssembly holds exactly one, and no file system that others could
//! lie in, so a command that is to be run in it means this program or nothing.

/// The name of a program that was given no other: what stands before its arguments.
pub const PROGRAM: &str = "function.wasm";

/// Extensions that people leave out when they speak of a program.
const EXTENSIONS: [&str; 2] = [".wasm", ".wat"];

/// Whether `word`, the first of a command, means the program of `image`: by the last element of its path, with or without
/// `.wasm`. The program is called what the container's `command` says, what the image says (`names`: its entrypoint, the
/// path of its file), and what the image itself is called, as with those that ko builds (`/ko-app/NAME`).
#[must_use]
pub fn is_meant(word: &str, image: &str, command: &[String], names: &[String]) -> bool {
    let wanted = last(word);
    let told = command.first().into_iter().chain(names).map(String::as_str);
    !wanted.is_empty()
        && told
            .chain([name_of(image), PROGRAM])
            .any(|name| last(name) == wanted)
}

/// What an image is called: the last element of its name, without tag and digest.
#[must_use]
pub fn name_of(image: &str) -> &str {
    let unpinned = image.split_once("@sha256:").map_or(image, |(name, _)| name);
    let name = unpinned.rsplit('/').next().unwrap_or_default();
    if image.starts_with("file://") {
        return last(name);
    }
    name.split(':').next().unwrap_or_default()
}

fn last(path: &str) -> &str {
    let name = path.rsplit('/').next().unwrap_or_default();
    let bare = EXTENSIONS
        .iter()
        .find_map(|extension| name.strip_suffix(extension));
    bare.unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_have_names() {
        for (image, name) in [
            ("file:///a/readiness.wasm@sha256:00", "readiness"),
            ("file:///a/b:c.wat", "b:c"),
            ("localhost:5000/me/readiness:v1", "readiness"),
            ("localhost:5000/me/readiness@sha256:00", "readiness"),
            ("oci-layout:///srv/readiness:v1", "readiness"),
            ("readiness", "readiness"),
        ] {
            assert_eq!(name_of(image), name, "{image}");
        }
    }

    #[test]
    fn a_command_means_the_one_program_or_nothing() {
        let (image, command) = ("ghcr.io/me/readiness:v1", ["/app/server".to_owned()]);
        let names = ["/ko-app/probe.wasm".to_owned()];
        for word in [
            "/ko-app/readiness",
            "readiness.wasm",
            "server",
            "/app/server",
            "/ko-app/probe.wasm",
            "probe",
            "function.wasm",
        ] {
            assert!(is_meant(word, image, &command, &names), "{word}");
        }
        for word in ["", "/", "cat", "/bin/sh", "readiness-2", "/readiness/cat"] {
            assert!(!is_meant(word, image, &command, &names), "{word}");
        }
        assert!(!is_meant("server", image, &[], &[]));
    }
}
