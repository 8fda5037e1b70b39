//! `kittiwake doctor`: what this machine's limits mean for `up`, and what to set where they are in the way.

use crate::cli::DoctorArgs;
use crate::host_limits::{self, Finding, HostLimits, Verdict};
use std::process::ExitCode;

/// Runs the command: one line for each limit, with what to do under those that are in the way. Fails when one of them
/// will make calls fail.
///
/// # Errors
/// Never; what cannot be read is a finding.
pub fn run(args: &DoctorArgs) -> anyhow::Result<ExitCode> {
    let findings = host_limits::examine(&HostLimits::read(), args.max_calls, args.workers);
    for Finding {
        verdict,
        what,
        advice,
    } in &findings
    {
        let sign = match verdict {
            Verdict::Fine => "ok  ",
            Verdict::Slow => "slow",
            Verdict::TooLow => "LOW ",
        };
        crate::outln!("{sign}  {what}");
        if let Some(advice) = advice {
            crate::outln!("      {advice}");
        }
    }
    let too_low = findings.iter().any(|finding| finding.verdict == Verdict::TooLow);
    if too_low {
        crate::outln!(
            "\nWith --max-calls {} some calls will be answered 503 on this machine.",
            args.max_calls
        );
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}
