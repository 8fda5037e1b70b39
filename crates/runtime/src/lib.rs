//! From an artifact to an answered call: fetch, verify, compile, cache, instantiate, host capabilities.
//!
//! The way of one image: [`artifact`] finds and verifies its WebAssembly, [`cache`] keeps it and its compiled form on
//! disk by digest, [`component`] loads and links it ([`module`] where it is a core module), [`function`] holds what one
//! revision needs to answer, and [`invoke`] answers one call with one fresh instance, or one of [`instance`] or
//! [`service`]. Functions that listen on a port by themselves are a [`server`]'s instances, with [`preview1`] and
//! [`network`] as their world. Guests of all kinds run in [`turns`]. [`outside`] is what functions reach by HTTP.
//!
//! Architecture invariant: wasmtime stops here. Nothing of it is visible outside this crate, and the only `unsafe` of
//! the project is in `precompiled`.

#![deny(missing_docs)]

mod artifact;
mod cache;
mod command;
mod component;
mod config;
mod digest;
mod direct;
mod engine;
mod error;
mod files;
mod function;
mod gate;
mod host;
mod instance;
mod invoke;
mod metrics;
mod module;
mod network;
mod outside;
mod precompiled;
mod prepare;
mod preview1;
mod runtime;
mod server;
mod service;
mod single_flight;
mod turns;

pub use config::{Config, PROGRAMS_BYTES_DEFAULT, Resets};
pub use engine::swap::is_impossible as is_swapping_impossible;
pub use error::BuildError;
pub use runtime::{Inputs, Runtime, THIS_PROCESS, Task, build};
