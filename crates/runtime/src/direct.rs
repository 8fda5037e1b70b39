//! Components of `wasi:http` 0.2 whose core module is run directly.
//!
//! A component as tools make it has one core module that does all, and two or three small ones around it, which
//! translate what the core module asks for into functions of WASI. Each is an instance of its own, so that making and
//! dropping them takes two thirds of a call. Here that translation is the host's ([the numbers][adr]): the core module is
//! taken out of the component ([`shape`]), changed a little ([`rewrite`]), and linked with functions that read their
//! arguments from its memory and write their results there ([`memory`]). They call the very functions of WASI that
//! components call, on the same state ([`Host`]), so that both ways behave alike.
//!
//! Whatever is not as tools make it, or asks for more than is offered here (files, sockets, resources of its own), is
//! run as the component that it is.
//!
//! [adr]: ../../../docs/adr/0010-core-modules-of-components.md

use crate::host::Host;
use interface::Links;
use wasmtime::component::Resource;
use wasmtime::{Engine, InstancePre, Linker, Module, ModuleExport, Store, TypedFunc};
use wasmtime_wasi_http::p2::types::{HostIncomingRequest, HostResponseOutparam};

mod cli;
mod error_code;
#[cfg(test)]
mod hostile;
mod http;
mod interface;
mod io;
mod memory;
mod preview1;
mod rewrite;
mod shape;

pub(crate) use memory::State;

/// Changes when a module that was rewritten before cannot be linked any more; part of the name under which compiled
/// code is kept.
pub(crate) const VERSION: u32 = 1;
/// What a module runs to set itself up, where it has that.
const INITIALIZE: &str = "_initialize";

/// The functions that core modules are linked with.
pub(crate) struct Functions(Links);

/// A core module that is ready to be instantiated.
pub(crate) struct Direct {
    pre: InstancePre<Host>,
    memory: ModuleExport,
    handler: ModuleExport,
    initialize: Option<ModuleExport>,
}

/// The function of an instance that handles a request.
pub(crate) struct Handler(TypedFunc<(u32, u32), ()>);

impl Functions {
    /// For the modules of an engine.
    pub(crate) fn new(engine: &Engine) -> wasmtime::Result<Self> {
        let mut links = Links {
            linker: Linker::new(engine),
            offered: rewrite::Offered::new(),
        };
        http::add_to_linker(&mut links)?;
        io::add_to_linker(&mut links)?;
        cli::add_to_linker(&mut links)?;
        preview1::add_to_linker(&mut links)?;
        Ok(Self(links))
    }

    /// Compiles the core module of a component; `None` where the component is to be run as one.
    pub(crate) fn compile(&self, component: &[u8]) -> Option<Vec<u8>> {
        // What is wrong with a component is said when it is compiled as one.
        wasmparser::Validator::new().validate_all(component).ok()?;
        let shape = shape::find(component)?;
        let core = rewrite::rewrite(&shape, &self.0.offered)?;
        let module = Module::new(self.0.linker.engine(), core).ok()?;
        // What does not fit is seen here.
        self.link(&module).ok()?;
        module.serialize().ok()
    }

    /// Links a module that [`Functions::compile`] made.
    pub(crate) fn link(&self, module: &Module) -> wasmtime::Result<Direct> {
        let export = |name: &str| module.get_export_index(name);
        let missing = || wasmtime::Error::msg("the core module was made by another version");
        let handler = module
            .exports()
            .map(|export| export.name())
            .find(|name| shape::is_handler(name));
        Ok(Direct {
            pre: self.0.linker.instantiate_pre(module)?,
            memory: export(rewrite::MEMORY).ok_or_else(missing)?,
            handler: handler.and_then(export).ok_or_else(missing)?,
            initialize: export(INITIALIZE),
        })
    }
}

impl Direct {
    /// Makes an instance.
    pub(crate) async fn instantiate(&self, wasm_store: &mut Store<Host>) -> wasmtime::Result<Handler> {
        let instance = self.pre.instantiate_async(&mut *wasm_store).await?;
        let func = |wasm_store: &mut Store<Host>, export: &ModuleExport| {
            let export = instance.get_module_export(&mut *wasm_store, export);
            export.and_then(wasmtime::Extern::into_func)
        };
        let missing = || wasmtime::Error::msg("the core module lacks what it was linked with");
        let handler = func(wasm_store, &self.handler).ok_or_else(missing)?;
        let initialize = self
            .initialize
            .as_ref()
            .and_then(|export| func(wasm_store, export));
        let memory = instance.get_module_export(&mut *wasm_store, &self.memory);
        let memory = memory
            .and_then(wasmtime::Extern::into_memory)
            .ok_or_else(missing)?;
        wasm_store.data_mut().direct_mut().set_memory(memory);
        if let Some(initialize) = initialize {
            let initialize = initialize.typed::<(), ()>(&*wasm_store)?;
            initialize.call_async(&mut *wasm_store, ()).await?;
        }
        Ok(Handler(handler.typed(&*wasm_store)?))
    }
}

impl Handler {
    /// Lets the instance handle a request.
    pub(crate) async fn call(
        &self,
        wasm_store: &mut Store<Host>,
        request: &Resource<HostIncomingRequest>,
        response: &Resource<HostResponseOutparam>,
    ) -> wasmtime::Result<()> {
        let handles = (memory::handle(request), memory::handle(response));
        self.0.call_async(wasm_store, handles).await
    }
}
