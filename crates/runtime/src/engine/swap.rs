//! Whether this process's memory can be written to swap.
//!
//! wasmtime 48 can find the pages that a guest has written by asking the kernel (`PAGEMAP_SCAN`), which makes giving a
//! slot back several times cheaper. It asks for pages that are present: a written page that was swapped out meanwhile
//! would be missed and left to the next guest (fixed in wasmtime 50). So it is used only where nothing can be swapped.

use std::path::{Path, PathBuf};

/// Where the kernel lists the areas that memory is swapped to (proc(5)).
const SWAP_AREAS: &str = "/proc/swaps";
/// This process's control groups (cgroups(7)).
const OWN_CGROUPS: &str = "/proc/self/cgroup";
/// Where control groups are mounted.
const CGROUPS: &str = "/sys/fs/cgroup";

/// Whether no page of this process can leave memory. What cannot be read counts as a danger.
#[must_use]
pub fn is_impossible() -> bool {
    let no_area = std::fs::read_to_string(SWAP_AREAS).is_ok_and(|areas| has_no_area(&areas));
    no_area || own_cgroup().is_some_and(|path| is_forbidden(&path))
}

/// The first line is a heading, every other one an area.
fn has_no_area(areas: &str) -> bool {
    let mut lines = areas.lines();
    lines.next().is_some() && lines.all(|line| line.trim().is_empty())
}

/// The folder of this process's control group, version 2.
fn own_cgroup() -> Option<PathBuf> {
    let groups = std::fs::read_to_string(OWN_CGROUPS).ok()?;
    let path = groups.lines().find_map(|line| line.strip_prefix("0::"))?;
    Some(Path::new(CGROUPS).join(path.trim_start_matches('/')))
}

/// Whether a control group, or one around it, may not swap (`MemorySwapMax=0` of systemd, or no swap for a pod).
fn is_forbidden(cgroup: &Path) -> bool {
    let groups = cgroup.ancestors().take_while(|path| path.starts_with(CGROUPS));
    groups
        .filter_map(|group| std::fs::read_to_string(group.join("memory.swap.max")).ok())
        .any(|limit| limit.trim() == "0")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn areas_are_told_from_the_heading() {
        let heading = "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n";
        assert!(has_no_area(heading));
        assert!(!has_no_area(&format!(
            "{heading}/dev/zram0 partition 8388604 0 100\n"
        )));
        assert!(!has_no_area(""), "an empty file tells nothing");
    }

    #[test]
    fn a_limit_that_is_not_there_forbids_nothing() {
        assert!(!is_forbidden(Path::new("/sys/fs/cgroup/no/such/group")));
        assert!(!is_forbidden(Path::new("/elsewhere")));
    }
}
