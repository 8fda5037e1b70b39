//! `config-observability`: what is told of calls (knative/pkg `metrics/config_observability.go`).

use super::reader::{ConfigError, Reader};
use kittiwake_core::request_log::RequestLog;
use std::sync::Arc;

/// The ConfigMap's name.
pub const NAME: &str = "config-observability";

/// The line of a call where nobody said what it should be (`DefaultRequestLogTemplate`).
pub const REQUEST_LOG_TEMPLATE: &str = r#"{"httpRequest": {"requestMethod": "{{.Request.Method}}", "requestUrl": "{{js .Request.RequestURI}}", "requestSize": "{{.Request.ContentLength}}", "status": {{.Response.Code}}, "responseSize": "{{.Response.Size}}", "userAgent": "{{js .Request.UserAgent}}", "remoteIp": "{{js .Request.RemoteAddr}}", "serverIp": "{{.Revision.PodIP}}", "referer": "{{js .Request.Referer}}", "latency": "{{.Response.Latency}}s", "protocol": "{{.Request.Proto}}"}, "traceId": "{{index .Request.Header "X-B3-Traceid"}}"}"#;

const TEMPLATE: &str = "logging.request-log-template";
const ENABLE: &str = "logging.enable-request-log";
const ENABLE_PROBES: &str = "logging.enable-probe-request-log";
const URL_TEMPLATE: &str = "logging.revision-url-template";
/// What stands for the Revision in [`URL_TEMPLATE`].
const REVISION_UID: &str = "${REVISION_UID}";

/// Where metrics may go, by Knative; here they are always there for Prometheus to fetch.
const BACKENDS: [(&str, bool); 3] = [("prometheus", true), ("opencensus", false), ("none", false)];
const BACKEND_KEYS: [&str; 2] = [
    "metrics.backend-destination",
    "metrics.request-metrics-backend-destination",
];
const PERIOD_KEYS: [&str; 2] = [
    "metrics.reporting-period-seconds",
    "metrics.request-metrics-reporting-period-seconds",
];
/// What is nothing here but when it is off.
const SWITCHES_OFF: [&str; 2] = ["logging.enable-var-log-collection", "profiling.enable"];

/// The settings.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Observability {
    /// The line that is written for each call; none where that is off, the default.
    pub request_log: Option<Arc<RequestLog>>,
    /// Where the logs of a Revision are shown, with [`REVISION_UID`] for its uid. Empty for nowhere, the default.
    pub revision_url_template: String,
}

impl Observability {
    /// Reads the ConfigMap. Gives the keys whose value changes nothing here.
    ///
    /// # Errors
    /// The first value that cannot be used.
    pub fn read(reader: &Reader<'_>) -> Result<(Self, Vec<String>), ConfigError> {
        let mut ignored = Vec::new();
        for key in BACKEND_KEYS {
            if !reader.word(&[key], true, &BACKENDS)? {
                ignored.push(key.to_owned());
            }
        }
        for key in SWITCHES_OFF {
            if reader.boolean(&[key], false)? {
                ignored.push(key.to_owned());
            }
        }
        for key in PERIOD_KEYS {
            reader.integer(&[key], 0)?;
            if reader.find(&[key]).is_some() {
                ignored.push(key.to_owned());
            }
        }
        let template = reader.text(&[TEMPLATE], REQUEST_LOG_TEMPLATE);
        let (enabled, probes) = (
            reader.boolean(&[ENABLE], false)?,
            reader.boolean(&[ENABLE_PROBES], false)?,
        );
        if enabled && template.is_empty() {
            let message = format!("{ENABLE:?} was set to true, but no {TEMPLATE:?} was specified");
            return Err(ConfigError::new(TEMPLATE, template, message));
        }
        // Looked at also while it is off: nonsense is found when it is written.
        let log = RequestLog::parse(&template, probes)
            .map_err(|why| ConfigError::new(TEMPLATE, &template, format!("{TEMPLATE:?}: {why}")))?;
        let settings = Self {
            request_log: enabled.then(|| Arc::new(log)),
            revision_url_template: reader.text(&[URL_TEMPLATE], ""),
        };
        ignored.extend(reader.unknown());
        Ok((settings, ignored))
    }

    /// Where the logs of a Revision are shown.
    #[must_use]
    pub fn log_url(&self, revision_uid: &str) -> Option<String> {
        let template = &self.revision_url_template;
        (!template.is_empty()).then(|| template.replace(REVISION_UID, revision_uid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Data;

    fn read(pairs: &[(&str, &str)]) -> Result<(Observability, Vec<String>), ConfigError> {
        let data: Data = pairs
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect();
        Observability::read(&Reader::new(&data))
    }

    #[test]
    fn a_line_is_written_where_that_is_switched_on() {
        assert_eq!(read(&[]).unwrap().0, Observability::default());
        assert_eq!(
            read(&[(TEMPLATE, "{{.Response.Code}}")]).unwrap().0.request_log,
            None
        );
        let on = read(&[(ENABLE, "true")]).unwrap().0.request_log.unwrap();
        assert_eq!(*on, RequestLog::parse(REQUEST_LOG_TEMPLATE, false).unwrap());
        let probes = [
            (ENABLE, "true"),
            (ENABLE_PROBES, "true"),
            (TEMPLATE, "{{.Response.Code}}"),
        ];
        assert!(read(&probes).unwrap().0.request_log.unwrap().probes);
    }

    #[test]
    fn the_address_of_logs_names_the_revision() {
        let settings = read(&[(URL_TEMPLATE, "http://logs/?uid=${REVISION_UID}")])
            .unwrap()
            .0;
        assert_eq!(settings.log_url("u-1").as_deref(), Some("http://logs/?uid=u-1"));
        assert_eq!(Observability::default().log_url("u-1"), None);
    }

    #[test]
    fn nonsense_is_refused() {
        for (pairs, message) in [
            (
                &[(ENABLE, "true"), (TEMPLATE, "")][..],
                "\"logging.enable-request-log\" was set to true, but no \"logging.request-log-template\" was specified",
            ),
            (
                &[(TEMPLATE, "{{.Request.Method")],
                "\"logging.request-log-template\": \"{{.Request.Method\" has no \"}}\"",
            ),
            (
                &[(BACKEND_KEYS[0], "file")],
                "failed to parse \"metrics.backend-destination\": \"file\" is not one of prometheus, opencensus, none",
            ),
            (
                &[(PERIOD_KEYS[0], "often")],
                "failed to parse \"metrics.reporting-period-seconds\": \"often\" is not a whole number",
            ),
        ] {
            assert_eq!(read(pairs).unwrap_err().message, message);
        }
    }

    #[test]
    fn what_changes_nothing_is_told() {
        let (_, ignored) = read(&[
            (BACKEND_KEYS[0], "opencensus"),
            (BACKEND_KEYS[1], "prometheus"),
            (PERIOD_KEYS[0], "5"),
            ("profiling.enable", "true"),
            ("logging.enable-var-log-collection", "false"),
            ("metrics.opencensus-address", "collector:55678"),
        ])
        .unwrap();
        assert_eq!(
            ignored,
            [
                BACKEND_KEYS[0],
                "profiling.enable",
                PERIOD_KEYS[0],
                "metrics.opencensus-address"
            ]
        );
    }
}
