//! `config-gc`: which Revisions are removed (serving `pkg/gc/config.go`).

use super::reader::{ConfigError, Reader};
use crate::duration::GoDuration;
use std::time::Duration;

/// The ConfigMap's name.
pub const NAME: &str = "config-gc";
/// The word that switches a limit off.
const DISABLED: &str = "disabled";

/// The settings. `None` is `disabled`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GarbageCollection {
    /// A Revision younger than this is kept.
    pub retain_since_create_time: Option<Duration>,
    /// A Revision that a Route led to within this time is kept.
    pub retain_since_last_active_time: Option<Duration>,
    /// So many Revisions to which no Route leads are always kept.
    pub min_non_active_revisions: usize,
    /// More than so many are never kept.
    pub max_non_active_revisions: Option<usize>,
}

impl Default for GarbageCollection {
    fn default() -> Self {
        Self {
            retain_since_create_time: Some(Duration::from_secs(48 * 3600)),
            retain_since_last_active_time: Some(Duration::from_secs(15 * 3600)),
            min_non_active_revisions: 20,
            max_non_active_revisions: Some(1000),
        }
    }
}

impl GarbageCollection {
    /// Reads the ConfigMap.
    ///
    /// # Errors
    /// The first value that cannot be used.
    pub fn read(reader: &Reader<'_>) -> Result<Self, ConfigError> {
        let defaults = Self::default();
        let min = reader.integer(&["min-non-active-revisions"], 20)?;
        let min_non_active_revisions = usize::try_from(min).map_err(|_| {
            let message = format!("min-non-active-revisions must be non-negative, was: {min}");
            ConfigError::new("min-non-active-revisions", min, message)
        })?;
        let wanted = "a number of revisions, or disabled";
        let max_non_active_revisions = reader.parse(
            &["max-non-active-revisions"],
            defaults.max_non_active_revisions,
            wanted,
            |text| match text {
                "" => Some(defaults.max_non_active_revisions),
                text if text.eq_ignore_ascii_case(DISABLED) => Some(None),
                text => text.parse().ok().map(Some),
            },
        )?;
        if let Some(max) = max_non_active_revisions.filter(|max| min_non_active_revisions > *max) {
            let message = format!(
                "min-non-active-revisions({min_non_active_revisions}) must be <= max-non-active-revisions({max})"
            );
            return Err(ConfigError::new("max-non-active-revisions", max, message));
        }
        Ok(Self {
            retain_since_create_time: retain(
                reader,
                "retain-since-create-time",
                defaults.retain_since_create_time,
            )?,
            retain_since_last_active_time: retain(
                reader,
                "retain-since-last-active-time",
                defaults.retain_since_last_active_time,
            )?,
            min_non_active_revisions,
            max_non_active_revisions,
        })
    }

    /// Whether nothing is ever removed.
    #[must_use]
    pub fn is_disabled(&self) -> bool {
        self.retain_since_create_time.is_none()
            && self.retain_since_last_active_time.is_none()
            && self.max_non_active_revisions.is_none()
    }
}

fn retain(
    reader: &Reader<'_>,
    key: &'static str,
    default: Option<Duration>,
) -> Result<Option<Duration>, ConfigError> {
    reader.parse(
        &[key],
        default,
        "a duration such as 48h, 0s or more, or disabled",
        |text| match text {
            "" => Some(default),
            text if text.eq_ignore_ascii_case(DISABLED) => Some(None),
            text => text.parse::<GoDuration>().ok()?.to_std().map(Some),
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Data;

    fn read(pairs: &[(&str, &str)]) -> Result<GarbageCollection, String> {
        let data: Data = pairs
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect();
        GarbageCollection::read(&Reader::new(&data)).map_err(|error| error.to_string())
    }

    #[test]
    fn limits_can_be_set_and_switched_off() {
        assert_eq!(read(&[]), Ok(GarbageCollection::default()));
        let set = read(&[
            ("retain-since-create-time", "1h"),
            ("min-non-active-revisions", "0"),
            ("max-non-active-revisions", "2"),
        ])
        .unwrap();
        assert_eq!(set.retain_since_create_time, Some(Duration::from_secs(3600)));
        assert_eq!(
            (set.min_non_active_revisions, set.max_non_active_revisions),
            (0, Some(2))
        );
        let off = read(&[
            ("retain-since-create-time", "disabled"),
            ("retain-since-last-active-time", "Disabled"),
            ("max-non-active-revisions", "disabled"),
        ])
        .unwrap();
        assert!(off.is_disabled());
    }

    #[test]
    fn nonsense_is_refused() {
        for (pairs, wanted) in [
            (
                &[("min-non-active-revisions", "-1")][..],
                "min-non-active-revisions must be non-negative, was: -1",
            ),
            (
                &[
                    ("min-non-active-revisions", "5"),
                    ("max-non-active-revisions", "4"),
                ],
                "min-non-active-revisions(5) must be <= max-non-active-revisions(4)",
            ),
            (
                &[("max-non-active-revisions", "-2")],
                "failed to parse \"max-non-active-revisions\": \"-2\" is not a number of revisions, or disabled",
            ),
            (
                &[("retain-since-create-time", "2 days")],
                "failed to parse \"retain-since-create-time\": \"2 days\" is not a duration such as 48h, 0s or more, or disabled",
            ),
        ] {
            assert_eq!(read(pairs), Err(wanted.to_owned()));
        }
    }
}
