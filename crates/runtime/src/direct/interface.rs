//! One interface of those that core modules are linked with.

use super::rewrite::{NEEDS_ROOM, Offered};
use crate::host::Host;
use wasmtime::{Caller, IntoFunc, Linker, Result, WasmRet, WasmTyList};

/// A linker, and what is in it.
pub(super) struct Links {
    pub linker: Linker<Host>,
    pub offered: Offered,
}

impl Links {
    fn note(&mut self, interface: &str, name: &str) {
        self.offered.insert((interface.to_owned(), name.to_owned()));
    }
}

/// An interface in a linker.
pub(super) struct Interface<'a> {
    links: &'a mut Links,
    name: &'static str,
    name_in_room: String,
}

impl<'a> Interface<'a> {
    /// The interface of this name, without its version.
    pub(super) fn new(links: &'a mut Links, name: &'static str) -> Self {
        Self {
            links,
            name,
            name_in_room: format!("{NEEDS_ROOM}{name}"),
        }
    }

    /// Adds a function.
    pub(super) fn plain<P, A>(&mut self, name: &str, func: impl IntoFunc<Host, P, A>) -> Result<()> {
        self.links.note(self.name, name);
        self.links.linker.func_wrap(self.name, name, func).map(drop)
    }

    /// Adds a function whose result needs room that the guest makes: see [`super::rewrite`].
    pub(super) fn in_room<P, A>(&mut self, name: &str, func: impl IntoFunc<Host, P, A>) -> Result<()> {
        self.links.note(&self.name_in_room, name);
        self.links
            .linker
            .func_wrap(&self.name_in_room, name, func)
            .map(drop)
    }

    /// Adds a function that may wait.
    pub(super) fn waiting<F, P: WasmTyList, A: WasmRet>(&mut self, name: &str, func: F) -> Result<()>
    where
        F: for<'b> Fn(Caller<'b, Host>, P) -> Box<dyn Future<Output = A> + Send + 'b> + Send + Sync + 'static,
    {
        self.links.note(self.name, name);
        self.links.linker.func_wrap_async(self.name, name, func).map(drop)
    }

    /// Adds a function that may wait and whose result needs room.
    pub(super) fn waiting_in_room<F, P: WasmTyList, A: WasmRet>(&mut self, name: &str, func: F) -> Result<()>
    where
        F: for<'b> Fn(Caller<'b, Host>, P) -> Box<dyn Future<Output = A> + Send + 'b> + Send + Sync + 'static,
    {
        self.links.note(&self.name_in_room, name);
        self.links
            .linker
            .func_wrap_async(&self.name_in_room, name, func)
            .map(drop)
    }
}
