//! From an artifact to an answered call: fetch, verify, compile, cache, instantiate, host capabilities.
