//! The gateway over real sockets, with a function that the tests script.

mod ending;
mod observing;
mod routing;
mod streaming;
mod support;
