//! Printing to standard output, which a reader such as `head` may close at any time.

use std::fmt::Arguments;
use std::io::Write;

/// Prints for a command whose whole purpose is its output: when nobody reads any more, the command ends quietly.
pub fn print(text: Arguments<'_>) {
    if write(text).is_err() {
        std::process::exit(0);
    }
}

/// [`print`] for what may be no text.
pub fn bytes(bytes: &[u8]) {
    let mut out = std::io::stdout().lock();
    if out.write_all(bytes).and_then(|()| out.flush()).is_err() {
        std::process::exit(0);
    }
}

/// Prints for a server: that nobody reads must not end it.
pub fn say(text: Arguments<'_>) {
    let _ = write(text);
}

fn write(text: Arguments<'_>) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_fmt(text)?;
    out.flush()
}

/// [`print`] in the form of `println!`.
#[macro_export]
macro_rules! outln {
    () => { $crate::output::print(format_args!("\n")) };
    ($($text:tt)*) => { $crate::output::print(format_args!("{}\n", format_args!($($text)*))) };
}

/// [`print`] in the form of `print!`.
#[macro_export]
macro_rules! out {
    ($($text:tt)*) => { $crate::output::print(format_args!($($text)*)) };
}

/// [`say`] in the form of `println!`.
#[macro_export]
macro_rules! sayln {
    () => { $crate::output::say(format_args!("\n")) };
    ($($text:tt)*) => { $crate::output::say(format_args!("{}\n", format_args!($($text)*))) };
}
