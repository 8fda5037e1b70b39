//! Cold start: what a first call costs, in Kittiwake and elsewhere.
//!
//! | row | what happens between the call and its answer |
//! |---|---|
//! | first call after deployment | the function is made of its program, which is in memory |
//! | first call after a restart | its program is loaded from the compiled form on disk |
//! | first call after unloading | as after deployment, in a process that has run for a while |
//! | new Service | pulled from a registry, compiled, routed, loaded |
//! | a process, a container | started anew |

mod deploys;
mod processes;
mod revisions;
mod table;

use crate::Paths;
use crate::report::Report;
use table::Table;

/// What to run.
#[derive(clap::Args, Clone)]
pub struct Options {
    #[command(flatten)]
    pub paths: Paths,
    /// Revisions, each with a component of its own
    #[arg(long, default_value_t = 1000)]
    pub revisions: usize,
    /// Seconds to wait until all functions have left memory (Kittiwake unloads after 60 idle ones); 0 leaves that row out
    #[arg(long, default_value_t = 75)]
    pub idle_wait: u64,
    /// New Services, processes and containers of each kind that are started
    #[arg(long, default_value_t = 20)]
    pub starts: usize,
}

/// Measures all rows and prints them.
pub async fn run(options: &Options, report: &mut Report) -> anyhow::Result<()> {
    let mut table = Table::default();
    revisions::measure(options, &mut table).await?;
    deploys::measure(options, &mut table).await?;
    processes::measure(options, &mut table).await?;
    table.print();
    table.report(report)
}

/// A Wasm binary with one more custom section at its end: another content, the same program.
fn with_custom_section(wasm: &[u8], text: &str) -> Vec<u8> {
    const NAME: &[u8] = b"bench";
    let mut bytes = wasm.to_vec();
    let length = 1 + NAME.len() + text.len();
    // Section 0, its length and the name's length: all below 128, where LEB128 is one byte.
    bytes.extend([0, length as u8, NAME.len() as u8]);
    bytes.extend(NAME);
    bytes.extend(text.as_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_custom_section_changes_only_the_content() {
        let empty_component = [0, b'a', b's', b'm', 0x0d, 0, 1, 0];
        let changed = with_custom_section(&empty_component, "7");
        assert_eq!(
            changed.get(8..),
            Some(&[0u8, 7, 5, b'b', b'e', b'n', b'c', b'h', b'7'][..])
        );
    }
}
