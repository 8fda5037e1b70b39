//! A whole platform in a test: guest components and (feature `platform`) the services in one process on port 0.

pub mod guest;
