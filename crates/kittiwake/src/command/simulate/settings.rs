//! The settings of a simulation, from the command line: as the platform would take them from annotations and from the
//! ConfigMap.

use crate::cli::simulate::AutoscalerArgs;
use anyhow::{Context, bail};
use kittiwake_api::autoscaling::GROUP;
use kittiwake_api::autoscaling::annotations::{self, Annotations, CLASS_KPA};
use kittiwake_api::autoscaling::settings::Settings;
use kittiwake_api::config::autoscaler::{Autoscaler, KEYS};
use kittiwake_autoscaler::simulation::Setup;
use kittiwake_controllers::kpa::rules;
use std::collections::BTreeMap;

/// What is simulated.
///
/// # Errors
/// When a key is not known, or a value is wrong.
pub fn setup(args: &AutoscalerArgs) -> anyhow::Result<Setup> {
    let config = config(&args.config)?;
    let annotations = annotations(&args.annotation)?;
    let errors = annotations::validate(&annotations, &config);
    if !errors.is_empty() {
        bail!("--annotation: {errors}");
    }
    let settings = Settings::resolve(&annotations, &config);
    if settings.class != CLASS_KPA {
        bail!("class {} cannot be simulated, only {CLASS_KPA}", settings.class);
    }
    let deadline = kittiwake_controllers::Config::default().progress_deadline;
    let rules = rules::rules(&settings, &config, args.container_concurrency, true, deadline);
    Ok(Setup {
        decider: rules.decider,
        rules: rules.scale,
        container_concurrency: args.container_concurrency,
        ready: args.ready,
        startup: args.startup,
    })
}

fn config(pairs: &[(String, String)]) -> anyhow::Result<Autoscaler> {
    if let Some((key, _)) = pairs.iter().find(|(key, _)| !KEYS.contains(&key.as_str())) {
        bail!(
            "--config {key}: config-autoscaler has no such key; it has {}",
            KEYS.join(", ")
        );
    }
    let data: BTreeMap<String, String> = pairs.iter().cloned().collect();
    Autoscaler::from_data(&data).context("--config")
}

fn annotations(pairs: &[(String, String)]) -> anyhow::Result<Annotations> {
    let prefix = format!("{GROUP}/");
    let mut annotations = Annotations::new();
    for (key, value) in pairs {
        let name = if key.contains('/') {
            key.clone()
        } else {
            format!("{prefix}{key}")
        };
        let known = annotations::ALL
            .iter()
            .any(|known| known.names().contains(&name.as_str()));
        if !known {
            let names = annotations::ALL.map(|known| known.name().trim_start_matches(&prefix));
            bail!(
                "--annotation {key}: there is no such annotation of the autoscaler; there are {}",
                names.join(", ")
            );
        }
        annotations.insert(name, value.clone());
    }
    Ok(annotations)
}

/// A simulation of which nothing was said.
#[cfg(test)]
pub(super) fn tests_setup() -> Setup {
    tests::parsed(&[]).unwrap()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Cli, Command, simulate::Simulate};
    use clap::Parser;

    pub(super) fn parsed(flags: &[&str]) -> anyhow::Result<Setup> {
        let words = ["kittiwake", "simulate", "autoscaler"].iter().chain(flags);
        match Cli::try_parse_from(words)?.command {
            Command::Simulate(Simulate::Autoscaler(args)) => setup(&args),
            _ => unreachable!(),
        }
    }

    #[test]
    fn both_spellings_and_bare_names_are_taken() {
        for annotation in ["minScale=3", "min-scale=3", "autoscaling.knative.dev/minScale=3"] {
            assert_eq!(parsed(&["-a", annotation]).unwrap().rules.min, 3);
        }
        let setup = parsed(&[
            "-a",
            "target=50",
            "-c",
            "container-concurrency-target-percentage=50",
            "--startup",
            "5ms",
        ])
        .unwrap();
        assert_eq!(
            (setup.decider.target.target, setup.startup.as_millis()),
            (25.0, 5)
        );
        let setup = parsed(&["-a", "initial-scale=0", "-c", "allow-zero-initial-scale=true"]).unwrap();
        assert_eq!(setup.rules.initial, 0);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (flags, wanted) in [
            (
                ["-a", "taget=50"],
                "--annotation taget: there is no such annotation of the autoscaler; there are class, metric, min-scale",
            ),
            (
                ["-a", "target=x"],
                "--annotation: validation failed: invalid value: x: autoscaling.knative.dev/target",
            ),
            (["-a", "initial-scale=0"], "--annotation: "),
            (
                ["-a", "class=hpa.autoscaling.knative.dev"],
                "class hpa.autoscaling.knative.dev cannot be simulated",
            ),
            (
                ["-c", "window=3s"],
                "--config window: config-autoscaler has no such key; it has pod-autoscaler-class",
            ),
            (
                ["-c", "stable-window=3s"],
                "--config: stable-window = \"3s\": must be within 6s and 1h0m0s",
            ),
            (["-a", "target"], "write KEY=VALUE"),
            (["--startup", "-1s"], ""),
            (["--startup", "2h"], "it must be within 0s and 1h"),
        ] {
            let error = format!("{:#}", parsed(&flags).unwrap_err());
            assert!(error.contains(wanted), "{error} has not {wanted}");
        }
    }
}
