//! Groups `templates.gatekeeper.sh` and `constraints.gatekeeper.sh`: policies of Gatekeeper. A ConstraintTemplate makes
//! a kind; objects of that kind, constraints, say where the policy holds.

pub mod constraint;
pub mod constraint_template;
mod legacy_schema;

pub use constraint_template::ConstraintTemplate;

/// The group of ConstraintTemplates.
pub const TEMPLATES_GROUP: &str = "templates.gatekeeper.sh";
/// The group of the kinds that they make.
pub const CONSTRAINTS_GROUP: &str = "constraints.gatekeeper.sh";
