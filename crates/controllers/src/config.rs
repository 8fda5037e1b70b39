//! Settings of the controllers.

use std::time::Duration;

/// Settings of the controllers. All have defaults that suit one machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The domain under which functions are called: `name.namespace.domain`. Default `localhost`, whose names reach
    /// loopback in browsers and curl.
    pub domain: String,
    /// The port that users see in URLs; `None` for 80, which is left out. Default `None`.
    pub external_port: Option<u16>,
    /// The port that users see in URLs of hosts with a certificate; `None` where TLS is not served. Default `None`.
    pub https_external_port: Option<u16>,
    /// Revisions that are pulled and compiled at one time; more wait. Default 4.
    pub preparations_max: usize,
    /// How long the routing table waits after a change for more to come. A burst of changes then costs few rebuilds;
    /// a single one is this much later. Default 5 ms.
    pub routing_table_debounce: Duration,
    /// Time a revision has to become ready, unless its annotation says otherwise. Knative's default, 600 s.
    pub progress_deadline: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            domain: "localhost".to_owned(),
            external_port: None,
            https_external_port: None,
            preparations_max: 4,
            routing_table_debounce: Duration::from_millis(5),
            progress_deadline: Duration::from_secs(600),
        }
    }
}
