//! Guest components for tests.
