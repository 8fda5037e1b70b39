//! The limits of this machine that bound how many calls can be in flight, and what they have to be.
//!
//! The numbers are those of wasmtime's pool: see [`MAPPINGS_PER_CALL`] and its neighbors.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Memory mappings of one call: four of its memory (heap, image, heap, guard), two of its stack.
const MAPPINGS_PER_CALL: u64 = 6;
/// Mappings of everything else: libraries, heaps, threads, compiled code.
const MAPPINGS_OTHERS: u64 = 4_000;
/// Address space that is reserved for one call: two memories of 4 GiB with their guards, a stack.
const ADDRESS_BYTES_PER_CALL: u64 = 2 * (4 << 30) + (1 << 30);
/// What a process has of address space in one piece, on 64-bit Linux with a randomized program: two thirds of 47 bits.
const ADDRESS_BYTES_MAX: u64 = (1 << 47) / 3 * 2;
/// File descriptors of everything but connections.
const FILES_OTHERS: u64 = 256;
/// Memory that one small call keeps, for an estimate: its pages, their tables, its connection.
const MEMORY_BYTES_PER_CALL: u64 = 128 * 1024;
/// First kernel that can tell which pages were written (`PAGEMAP_SCAN`).
const SCAN_KERNEL: (u32, u32) = (6, 7);

/// What was found on this machine. `None` where it cannot be read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HostLimits {
    /// `vm.max_map_count`: memory mappings of one process.
    pub mappings: Option<u64>,
    /// `RLIMIT_NOFILE`: open files, hard limit (`up` takes all of it). `None` is no limit.
    pub files: Option<u64>,
    /// `RLIMIT_AS`: address space in bytes. `None` is no limit.
    pub address_bytes: Option<u64>,
    /// `vm.overcommit_memory`; 2 counts reserved address space as used memory.
    pub overcommit: Option<u64>,
    /// `net.core.somaxconn`: connections that may wait to be accepted.
    pub backlog: Option<u64>,
    /// Memory that can be had, in bytes.
    pub memory_bytes: Option<u64>,
    /// Whether pages may be swapped.
    pub may_swap: bool,
    /// Version of the kernel.
    pub kernel: Option<(u32, u32)>,
}

/// How good a limit is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is in nobody's way.
    Fine,
    /// All works, slower than it could.
    Slow,
    /// Calls will be refused at it.
    TooLow,
}

/// One limit, judged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// How good it is.
    pub verdict: Verdict,
    /// What was found, and what is wanted.
    pub what: String,
    /// What to set, and why.
    pub advice: Option<String>,
}

impl HostLimits {
    /// Reads them.
    #[must_use]
    pub fn read() -> Self {
        let number = |path: &str| std::fs::read_to_string(path).ok()?.trim().parse().ok();
        let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").ok();
        let memory = std::fs::read_to_string("/proc/meminfo").ok();
        Self {
            mappings: number("/proc/sys/vm/max_map_count"),
            files: getrlimit(Resource::Nofile).maximum,
            address_bytes: getrlimit(Resource::As).current,
            overcommit: number("/proc/sys/vm/overcommit_memory"),
            backlog: number("/proc/sys/net/core/somaxconn"),
            memory_bytes: memory.as_deref().and_then(available_memory),
            may_swap: !kittiwake_runtime::is_swapping_impossible(),
            kernel: kernel.as_deref().and_then(kernel_version),
        }
    }
}

/// Takes all the files that the system lets this process open, as Go's programs do: each connection is one.
pub fn raise_open_files() {
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        let all = Rlimit {
            current: limit.maximum,
            maximum: limit.maximum,
        };
        // Without it there are fewer connections, no worse.
        let _ = setrlimit(Resource::Nofile, all);
    }
}

/// Judges the limits for so many calls in flight, taken by so many worker processes (0: by one process without any).
#[must_use]
pub fn examine(host: &HostLimits, calls: u32, workers: u32) -> Vec<Finding> {
    let share = u64::from(crate::platform::calls_of_each(calls, workers));
    let calls = u64::from(calls);
    vec![
        mappings(host.mappings, share),
        files(host.files, share),
        address_space(host.address_bytes, share),
        overcommit(host.overcommit),
        memory(host.memory_bytes, calls),
        backlog(host.backlog),
        resets(host),
    ]
}

fn fine(what: String) -> Finding {
    Finding {
        verdict: Verdict::Fine,
        what,
        advice: None,
    }
}

/// A limit that is fine when it `is_enough`, and else `otherwise`, with what to do.
fn judge(is_enough: bool, otherwise: Verdict, what: String, advice: impl Into<String>) -> Finding {
    if is_enough {
        return fine(what);
    }
    Finding {
        verdict: otherwise,
        what,
        advice: Some(advice.into()),
    }
}

fn mappings(found: Option<u64>, calls: u64) -> Finding {
    let wanted = calls * MAPPINGS_PER_CALL + MAPPINGS_OTHERS;
    let Some(found) = found else {
        return fine("memory mappings: vm.max_map_count cannot be read; is this Linux?".to_owned());
    };
    let what = format!(
        "memory mappings: vm.max_map_count is {found}; {calls} calls of a process need up to {wanted}"
    );
    let advice = format!(
        "Each call has {MAPPINGS_PER_CALL}. Set it: sysctl -w vm.max_map_count={wanted}, and in /etc/sysctl.d/ to stay. \
         Or share the calls among more processes with --workers"
    );
    judge(found >= wanted, Verdict::TooLow, what, advice)
}

fn files(found: Option<u64>, calls: u64) -> Finding {
    let wanted = calls + FILES_OTHERS;
    let Some(found) = found else {
        return fine("open files: no limit".to_owned());
    };
    let what = format!(
        "open files: at most {found} of a process; {calls} calls over as many connections need {wanted}"
    );
    let advice = format!(
        "Connections beyond it wait to be accepted. Set it: ulimit -Hn {wanted}, or LimitNOFILE={wanted} in a systemd unit. \
         Or share the calls among more processes with --workers"
    );
    judge(found >= wanted, Verdict::TooLow, what, advice)
}

fn address_space(found: Option<u64>, calls: u64) -> Finding {
    let wanted = calls * ADDRESS_BYTES_PER_CALL;
    let tib = |bytes: u64| format!("{:.1} TiB", gib(bytes) / 1024.0);
    let limit = found.map_or(ADDRESS_BYTES_MAX, |found| found.min(ADDRESS_BYTES_MAX));
    let what = format!(
        "address space: a process can have {}; {calls} calls of a process reserve {}",
        tib(limit),
        tib(wanted)
    );
    let advice = if limit < ADDRESS_BYTES_MAX {
        "Instances are then made one by one, several times slower. Set it: ulimit -v unlimited".to_owned()
    } else {
        format!(
            "No setting of the machine helps. Share the calls among more processes with --workers, each with {} at most",
            limit / ADDRESS_BYTES_PER_CALL
        )
    };
    judge(limit >= wanted, Verdict::TooLow, what, advice)
}

fn overcommit(found: Option<u64>) -> Finding {
    let what = format!(
        "overcommit: vm.overcommit_memory is {}",
        found.map_or_else(|| "unknown".to_owned(), |found| found.to_string())
    );
    let advice = "Reserved address space counts as memory then, and instances are made one by one, several times slower. \
                  Set it: sysctl -w vm.overcommit_memory=0";
    judge(found != Some(2), Verdict::Slow, what, advice)
}

fn memory(found: Option<u64>, calls: u64) -> Finding {
    let wanted = calls * MEMORY_BYTES_PER_CALL;
    let Some(found) = found else {
        return fine("memory: cannot be read".to_owned());
    };
    let what = format!(
        "memory: {:.1} GiB available; {calls} small calls take about {:.1} GiB, large ones up to their limits.memory each",
        gib(found),
        gib(wanted)
    );
    judge(
        found >= wanted,
        Verdict::TooLow,
        what,
        "Lower --max-calls, or give the machine more memory",
    )
}

fn backlog(found: Option<u64>) -> Finding {
    let wanted = u64::try_from(crate::platform::BACKLOG_CONNECTIONS).unwrap_or_default();
    let Some(found) = found else {
        return fine("connections that wait to be accepted: net.core.somaxconn cannot be read".to_owned());
    };
    let what =
        format!("connections that wait to be accepted: net.core.somaxconn is {found}; up asks for {wanted}");
    let advice = format!(
        "In a burst of new connections some are made again after a second. Set it: sysctl -w net.core.somaxconn={wanted}"
    );
    judge(found >= wanted, Verdict::Slow, what, advice)
}

fn resets(host: &HostLimits) -> Finding {
    let kernel = host
        .kernel
        .map_or_else(|| "of unknown version".to_owned(), |(a, b)| format!("{a}.{b}"));
    let swap = if host.may_swap { "may" } else { "cannot" };
    let what = format!("reset of instances: kernel {kernel}, memory {swap} be swapped");
    if host.kernel.is_none_or(|kernel| kernel < SCAN_KERNEL) {
        let (major, minor) = SCAN_KERNEL;
        let advice = format!(
            "Only Linux {major}.{minor} can tell which pages a guest wrote; each call costs about twice as much without"
        );
        return judge(false, Verdict::Slow, what, advice);
    }
    let advice = "Instances are reset as a whole then, so that nothing of a guest can be left in swap; each call costs \
                  about twice as much. Switch swap off (swapoff -a), or for this process only: MemorySwapMax=0 in its \
                  systemd unit";
    judge(!host.may_swap, Verdict::Slow, what, advice)
}

#[expect(clippy::cast_precision_loss, reason = "shown with one digit after the point")]
fn gib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 30)
}

/// `MemAvailable` of /proc/meminfo, in bytes.
fn available_memory(meminfo: &str) -> Option<u64> {
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().trim_end_matches("kB").trim().parse().ok()?;
    kib.checked_mul(1024)
}

/// Major and minor version of a release such as `6.18.44-generic`.
fn kernel_version(release: &str) -> Option<(u32, u32)> {
    let mut parts = release.trim().split(['.', '-']);
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> HostLimits {
        HostLimits {
            mappings: Some(65_530),
            files: Some(1 << 20),
            address_bytes: None,
            overcommit: Some(0),
            backlog: Some(4096),
            memory_bytes: Some(24 << 30),
            may_swap: false,
            kernel: Some((6, 18)),
        }
    }

    fn verdicts(host: &HostLimits, calls: u32) -> Vec<Verdict> {
        examine(host, calls, 0)
            .iter()
            .map(|finding| finding.verdict)
            .collect()
    }

    #[test]
    fn a_good_machine_is_fine_for_the_default_and_short_of_mappings_for_more() {
        assert!(
            examine(&good(), 1000, 0)
                .iter()
                .all(|f| f.verdict == Verdict::Fine && f.advice.is_none())
        );
        let findings = examine(&good(), 20_000, 0);
        let low: Vec<_> = findings.iter().filter(|f| f.verdict == Verdict::TooLow).collect();
        assert!(
            low[0]
                .advice
                .as_deref()
                .unwrap()
                .contains("vm.max_map_count=124000")
        );
        assert!(low[1].advice.as_deref().unwrap().contains("--workers"), "{low:?}");
    }

    #[test]
    fn workers_share_what_each_process_has_but_not_the_memory() {
        let low = |workers| {
            let findings = examine(&good(), 100_000, workers);
            findings
                .iter()
                .filter(|finding| finding.verdict == Verdict::TooLow)
                .count()
        };
        assert_eq!((low(0), low(10), low(14)), (2, 2, 0));
        let small = HostLimits {
            memory_bytes: Some(4 << 30),
            ..good()
        };
        assert_eq!(examine(&small, 100_000, 14)[4].verdict, Verdict::TooLow);
    }

    #[test]
    fn each_limit_is_found() {
        use Verdict::{Slow, TooLow};
        let change = |change: fn(&mut HostLimits)| {
            let mut host = good();
            change(&mut host);
            verdicts(&host, 1000)
        };
        assert_eq!(change(|h| h.mappings = Some(9_999))[0], TooLow);
        assert_eq!(change(|h| h.files = Some(1024))[1], TooLow);
        assert_eq!(change(|h| h.address_bytes = Some(1 << 36))[2], TooLow);
        assert_eq!(change(|h| h.overcommit = Some(2))[3], Slow);
        assert_eq!(change(|h| h.memory_bytes = Some(64 << 20))[4], TooLow);
        assert_eq!(change(|h| h.backlog = Some(128))[5], Slow);
        assert_eq!(change(|h| h.may_swap = true)[6], Slow);
        assert_eq!(change(|h| h.kernel = Some((6, 6)))[6], Slow);
        // What cannot be read is said, not guessed.
        let unknown = verdicts(&HostLimits::default(), 1000);
        assert!(!unknown.contains(&TooLow), "{unknown:?}");
    }

    #[test]
    fn files_of_the_system_are_read() {
        assert_eq!(kernel_version("6.18.44-fc-v657\n"), Some((6, 18)));
        assert_eq!(kernel_version("5.4-rc1"), Some((5, 4)));
        assert_eq!(kernel_version("plan9"), None);
        assert_eq!(
            available_memory("MemTotal: 9 kB\nMemAvailable:    2048 kB\n"),
            Some(2 << 20)
        );
        assert_eq!(available_memory(""), None);
        assert!(HostLimits::read().mappings.is_some());
    }
}
