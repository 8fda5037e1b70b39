//! Rewrites a core module so that it can be linked on its own. Its imports lose the versions of their interfaces. And
//! functions that hand it lists or strings, for which it has to provide room, get a wrapper in the module: the host
//! says how much room it needs next, the wrapper asks the module's own allocator, and tells the host where it is, until
//! all is there. (A host function cannot call the allocator itself: a call from within a call would need a stack of its
//! own, for each piece.)
//!
//! The wrapper of `f: (A…) -> ()` calls the import `f: (A…, i64) -> i64`, whose last argument is where the room is, or
//! -1 in the first call, and whose result is the alignment (upper half) and the bytes (lower half) of the room that is
//! needed next, or -1 when all is done.

use super::shape::{self, Shape};
use std::collections::{HashMap, HashSet};
use wasm_encoder::reencode::{Error, Reencode, utils};
use wasm_encoder::{BlockType, EntityType, Function, ImportSection, ValType};
use wasmparser::{ExternalKind, Parser, Payload, TypeRef};

/// What comes before the name of an interface for those of its functions that need room.
pub(super) const NEEDS_ROOM: &str = "room:";
/// The allocator, as the component model names it.
const ALLOCATOR: &str = "cabi_realloc";
/// The memory, as all tools name it.
pub(super) const MEMORY: &str = "memory";

/// Parameters and results of a function.
type Signature = (Vec<wasmparser::ValType>, Vec<wasmparser::ValType>);
/// The functions that are offered, by their interface (without version, with [`NEEDS_ROOM`] where that is so) and name.
/// Whether a module imports them as they are is seen when it is linked.
pub(super) type Offered = HashSet<(String, String)>;

/// The module, to be linked with what is offered; `None` where it needs more than that.
pub(super) fn rewrite(shape: &Shape<'_>, offered: &Offered) -> Option<Vec<u8>> {
    let plan = Plan::make(shape, offered)?;
    let mut module = wasm_encoder::Module::new();
    Rewriter { plan, imported: 0 }
        .parse_core_module(&mut module, Parser::new(0), shape.module)
        .ok()?;
    Some(module.finish())
}

/// One import, and under which name of a module.
struct Import {
    module: String,
    kind: u32,
    /// Its parameters, where it needs room.
    wrapped: Option<Vec<wasmparser::ValType>>,
}

/// What is to be changed.
struct Plan {
    imports: Vec<Import>,
    types: u32,
    funcs: u32,
    allocator: Option<u32>,
}

impl Plan {
    fn make(shape: &Shape<'_>, offered: &Offered) -> Option<Self> {
        let (mut types, mut imports, mut funcs) = (Vec::new(), Vec::new(), 0);
        let mut exports = HashMap::new();
        for payload in Parser::new(0).parse_all(shape.module) {
            match payload.ok()? {
                Payload::TypeSection(section) => {
                    for group in section {
                        types.extend(group.ok()?.into_types());
                    }
                }
                Payload::ImportSection(section) => {
                    for import in section.into_imports() {
                        imports.push(import.ok()?);
                    }
                }
                Payload::FunctionSection(section) => funcs = section.count(),
                Payload::ExportSection(section) => {
                    for export in section {
                        let export = export.ok()?;
                        exports.insert(export.name, (export.kind, export.index));
                    }
                }
                // It would run before the host knows the memory.
                Payload::StartSection { .. } => return None,
                _ => {}
            }
        }
        let of_kind = |name: &str, wanted: ExternalKind| match exports.get(name) {
            Some((kind, index)) if *kind == wanted => Some(*index),
            _ => None,
        };
        of_kind(MEMORY, ExternalKind::Memory)?;
        of_kind(shape.handler, ExternalKind::Func)?;
        let signature = |index: u32| {
            let func = match &types.get(index as usize)?.composite_type.inner {
                wasmparser::CompositeInnerType::Func(func) => func,
                _ => return None,
            };
            Some((func.params().to_vec(), func.results().to_vec()))
        };
        let imports = imports
            .iter()
            .map(|import| {
                let TypeRef::Func(kind) = import.ty else {
                    return None;
                };
                Import::choose(import.module, import.name, kind, signature(kind)?, offered)
            })
            .collect::<Option<Vec<_>>>()?;
        let allocator = of_kind(ALLOCATOR, ExternalKind::Func);
        if allocator.is_none() && imports.iter().any(|import| import.wrapped.is_some()) {
            return None;
        }
        Some(Self {
            types: u32::try_from(types.len()).ok()?,
            funcs: u32::try_from(imports.len()).ok()?.checked_add(funcs)?,
            imports,
            allocator,
        })
    }

    /// Those that get a wrapper, in order: the number of each among the imports, and its parameters.
    fn wrapped(&self) -> impl Iterator<Item = (u32, &Import, &[wasmparser::ValType])> {
        (0..)
            .zip(&self.imports)
            .filter_map(|(index, import)| Some((index, import, import.wrapped.as_deref()?)))
    }

    /// Where a function is that the original numbers so.
    fn place(&self, index: u32) -> u32 {
        if index as usize >= self.imports.len() {
            return index;
        }
        let wrapper = (0..)
            .zip(self.wrapped())
            .find(|(_, (import, ..))| *import == index);
        wrapper.map_or(index, |(nth, _): (u32, _)| self.funcs.saturating_add(nth))
    }
}

impl Import {
    fn choose(module: &str, name: &str, kind: u32, signature: Signature, offered: &Offered) -> Option<Self> {
        let module = match module {
            shape::PREVIEW1 => module,
            other => shape::interface(other)?,
        };
        let is_offered = |module: &str| offered.contains(&(module.to_owned(), name.to_owned()));
        if is_offered(module) {
            return Some(Self {
                module: module.to_owned(),
                kind,
                wrapped: None,
            });
        }
        let module = format!("{NEEDS_ROOM}{module}");
        let (params, results) = signature;
        (is_offered(&module) && results.is_empty()).then_some(Self {
            module,
            kind,
            wrapped: Some(params),
        })
    }
}

struct Rewriter {
    plan: Plan,
    /// Imports that were written.
    imported: usize,
}

/// A type that the plan cannot deal with; it was made from the same module, so there is none.
#[derive(Debug, thiserror::Error)]
#[error("not as planned")]
struct NotAsPlanned;

type Rewritten = Result<(), Error<NotAsPlanned>>;

impl Rewriter {
    fn val_types(&mut self, types: &[wasmparser::ValType]) -> Result<Vec<ValType>, Error<NotAsPlanned>> {
        types.iter().map(|kind| self.val_type(*kind)).collect()
    }
}

impl Reencode for Rewriter {
    type Error = NotAsPlanned;

    fn function_index(&mut self, func: u32) -> Result<u32, Error<NotAsPlanned>> {
        Ok(self.plan.place(func))
    }

    fn parse_type_section(
        &mut self,
        types: &mut wasm_encoder::TypeSection,
        section: wasmparser::TypeSectionReader<'_>,
    ) -> Rewritten {
        utils::parse_type_section(self, types, section)?;
        let wrapped: Vec<_> = self
            .plan
            .wrapped()
            .map(|(_, _, params)| params.to_vec())
            .collect();
        for params in wrapped {
            let mut params = self.val_types(&params)?;
            params.push(ValType::I64);
            types.ty().function(params, [ValType::I64]);
        }
        Ok(())
    }

    fn parse_import_section(
        &mut self,
        imports: &mut ImportSection,
        section: wasmparser::ImportSectionReader<'_>,
    ) -> Rewritten {
        for import in section.into_imports() {
            self.parse_import(imports, import?)?;
        }
        Ok(())
    }

    fn parse_import(&mut self, imports: &mut ImportSection, import: wasmparser::Import<'_>) -> Rewritten {
        let planned = self.plan.imports.get(self.imported);
        let planned = planned.ok_or(Error::UserError(NotAsPlanned))?;
        let before = self
            .plan
            .wrapped()
            .filter(|(index, ..)| (*index as usize) < self.imported);
        let kind = match planned.wrapped {
            Some(_) => u32::try_from(before.count()).map(|before| self.plan.types.saturating_add(before)),
            None => Ok(planned.kind),
        };
        let kind = kind.map_err(|_| Error::UserError(NotAsPlanned))?;
        imports.import(&planned.module, import.name, EntityType::Function(kind));
        self.imported += 1;
        Ok(())
    }

    fn parse_function_section(
        &mut self,
        functions: &mut wasm_encoder::FunctionSection,
        section: wasmparser::FunctionSectionReader<'_>,
    ) -> Rewritten {
        utils::parse_function_section(self, functions, section)?;
        for (_, import, _) in self.plan.wrapped() {
            functions.function(import.kind);
        }
        Ok(())
    }

    fn parse_code_section(
        &mut self,
        code: &mut wasm_encoder::CodeSection,
        section: wasmparser::CodeSectionReader<'_>,
    ) -> Rewritten {
        utils::parse_code_section(self, code, section)?;
        for (import, _, params) in self.plan.wrapped() {
            let allocator = self.plan.allocator.ok_or(Error::UserError(NotAsPlanned))?;
            let params = u32::try_from(params.len()).map_err(|_| Error::UserError(NotAsPlanned))?;
            code.function(&wrapper(import, params, self.plan.place(allocator)));
        }
        Ok(())
    }

    /// What debuggers read speaks of places in the code that are others now.
    fn parse_custom_section(
        &mut self,
        module: &mut wasm_encoder::Module,
        section: wasmparser::CustomSectionReader<'_>,
    ) -> Rewritten {
        if section.name().starts_with(".debug") {
            return Ok(());
        }
        utils::parse_custom_section(self, module, section)
    }
}

/// See the module's documentation.
fn wrapper(import: u32, params: u32, allocator: u32) -> Function {
    let (room, wanted) = (params, params + 1);
    let mut body = Function::new([(2, ValType::I64)]);
    let mut code = body.instructions();
    code.i64_const(-1).local_set(room).loop_(BlockType::Empty);
    for param in 0..params {
        code.local_get(param);
    }
    code.local_get(room)
        .call(import)
        .local_tee(wanted)
        .i64_const(0)
        .i64_ge_s()
        .if_(BlockType::Empty)
        .i32_const(0)
        .i32_const(0)
        .local_get(wanted)
        .i64_const(32)
        .i64_shr_u()
        .i32_wrap_i64()
        .local_get(wanted)
        .i32_wrap_i64()
        .call(allocator)
        .i64_extend_i32_u()
        .local_set(room)
        .br(1)
        .end()
        .end()
        .end();
    body
}

#[cfg(test)]
mod tests {
    use super::*;
    use wasmtime::{Engine, Instance, Linker, Module, Store};

    const HANDLER: &str = "wasi:http/incoming-handler@0.2.0#handle";

    fn offered(functions: &[(&str, &str)]) -> Offered {
        let owned = |(module, name): &(&str, &str)| ((*module).to_owned(), (*name).to_owned());
        functions.iter().map(owned).collect()
    }

    fn rewritten(text: &str, functions: &[(&str, &str)]) -> Option<Vec<u8>> {
        let module = &wat::parse_str(text).unwrap();
        let handler = HANDLER;
        rewrite(&Shape { module, handler }, &offered(functions))
    }

    /// A module that reaches an import by a call, by its table and by an export, and one that is as it was.
    const MODULE: &str = r#"(module
        (import "wasi:a/b@0.2.3" "list" (func $list (param i32)))
        (import "wasi:a/b@0.2.3" "number" (func $number (result i32)))
        (memory (export "memory") 1)
        (table 1 funcref)
        (elem (i32.const 0) func $list)
        (global $free (mut i32) (i32.const 1024))
        (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)
            (global.set $free (i32.add (global.get $free) (local.get 3)))
            (i32.sub (global.get $free) (local.get 3)))
        (func (export "called") (call $list (i32.const 8)))
        (func (export "indirect") (call_indirect (param i32) (i32.const 8) (i32.const 0)))
        (export "exported" (func $list))
        (func (export "number") (result i32) (call $number))
        (func (export "wasi:http/incoming-handler@0.2.0#handle") (param i32 i32)))"#;

    #[test]
    fn a_wrapper_makes_all_the_room_that_is_wanted() {
        let module = rewritten(MODULE, &[("room:wasi:a/b", "list"), ("wasi:a/b", "number")]).unwrap();
        let engine = Engine::default();
        let module = Module::new(&engine, module).unwrap();
        let mut linker: Linker<Vec<(i32, i64)>> = Linker::new(&engine);
        // Two rooms, of 3 and of 5 bytes, then the end.
        let list = |mut caller: wasmtime::Caller<'_, Vec<(i32, i64)>>, to: i32, room: i64| -> i64 {
            let told = caller.data_mut();
            told.push((to, room));
            match told.len() {
                1 => (4 << 32) | 3,
                2 => (1 << 32) | 5,
                _ => -1,
            }
        };
        linker.func_wrap("room:wasi:a/b", "list", list).unwrap();
        linker.func_wrap("wasi:a/b", "number", || 7_i32).unwrap();
        for way in ["called", "indirect", "exported"] {
            let mut wasm_store = Store::new(&engine, Vec::new());
            let instance: Instance = linker.instantiate(&mut wasm_store, &module).unwrap();
            if way == "exported" {
                let list = instance.get_typed_func::<i32, ()>(&mut wasm_store, way).unwrap();
                list.call(&mut wasm_store, 8).unwrap();
            } else {
                let run = instance.get_typed_func::<(), ()>(&mut wasm_store, way).unwrap();
                run.call(&mut wasm_store, ()).unwrap();
            }
            assert_eq!(*wasm_store.data(), [(8, -1), (8, 1024), (8, 1027)], "{way}");
            let number = instance
                .get_typed_func::<(), i32>(&mut wasm_store, "number")
                .unwrap();
            assert_eq!(number.call(&mut wasm_store, ()).unwrap(), 7);
        }
    }

    #[test]
    fn what_cannot_be_linked_alone_is_left() {
        let all = [("room:wasi:a/b", "list"), ("wasi:a/b", "number")];
        assert!(rewritten(MODULE, &all).is_some());
        assert_eq!(
            rewritten(MODULE, &all[..1]),
            None,
            "a function that is not offered"
        );
        for (from, to) in [
            (r#"(memory (export "memory") 1)"#, "(memory 1)"),
            ("cabi_realloc", "my_realloc"),
            ("wasi:a/b@0.2.3", "wasi:a/b@0.3.0"),
            (
                r#"(func $number (result i32))"#,
                "(global $g i32) (func $number (result i32) (i32.const 0))",
            ),
            ("(table 1 funcref)", "(func $s) (start $s) (table 1 funcref)"),
            (HANDLER, "handle"),
            (
                r#""list" (func $list (param i32))"#,
                r#""list" (func $list (param i32) (result i32))"#,
            ),
        ] {
            let text = MODULE.replace(from, to);
            assert_ne!(text, MODULE, "{from}");
            let Ok(binary) = wat::parse_str(&text) else {
                continue;
            };
            let shape = Shape {
                module: &binary,
                handler: HANDLER,
            };
            assert_eq!(rewrite(&shape, &offered(&all)), None, "{from}");
        }
    }
}
