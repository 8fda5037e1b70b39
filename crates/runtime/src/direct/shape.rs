//! Finds, in a component, the core module that answers, and sees that the component adds nothing to it: that each of the
//! module's imports is the function of WASI that its name says. That is so for what `wit-component` makes, which is what
//! nearly all tools use; of a component made in another way this says nothing, and it is run as what it is.

use std::collections::HashMap;
use std::ops::Range;
use wasmparser::{
    CanonicalFunction, CanonicalOption, ComponentAlias, ComponentExternalKind, ComponentOuterAliasKind,
    ComponentTypeRef, ExternalKind, Instance, InstantiationArgKind, Parser, Payload,
};

/// The module whose functions an adapter translates into those of WASI 0.2.
pub(super) const PREVIEW1: &str = "wasi_snapshot_preview1";

/// The core module of a component.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Shape<'a> {
    /// Its binary.
    pub module: &'a [u8],
    /// Its function that answers a request.
    pub handler: &'a str,
}

/// The name of an interface of WASI 0.2 without its version: which of the 0.2 it is makes no difference to the functions
/// that it has.
pub(super) fn interface(name: &str) -> Option<&str> {
    let (interface, version) = name.split_once('@')?;
    (interface.starts_with("wasi:") && version.starts_with("0.2.")).then_some(interface)
}

/// Whether a core function is the one by which a request is handled.
pub(super) fn is_handler(name: &str) -> bool {
    name.strip_suffix("#handle")
        .and_then(interface)
        .is_some_and(|interface| interface == "wasi:http/incoming-handler")
}

/// A function of an imported instance, or a type.
#[derive(Debug, Clone, Copy)]
struct Member<'a> {
    instance: u32,
    name: &'a str,
}

/// A function of the component.
#[derive(Debug, Clone, Copy)]
enum Func<'a> {
    Imported(Member<'a>),
    Lifted(u32),
    Other,
}

/// A function that core modules import.
#[derive(Debug, Clone, Copy)]
enum CoreFunc<'a> {
    Lowered(u32),
    Drop(u32),
    /// An export of a core instance.
    Of(Member<'a>),
}

/// What is in a component, each kind under its numbers.
#[derive(Default)]
struct Spaces<'a> {
    modules: Vec<Option<Range<usize>>>,
    core_instances: Vec<Instance<'a>>,
    core_funcs: Vec<CoreFunc<'a>>,
    /// The names of those that are imported.
    instances: Vec<Option<&'a str>>,
    funcs: Vec<Func<'a>>,
    types: Vec<Option<Member<'a>>>,
}

/// The module that answers, of a valid component.
pub(super) fn find(component: &[u8]) -> Option<Shape<'_>> {
    let spaces = Spaces::read(component)?;
    let handlers = spaces.funcs.iter().filter_map(|func| match func {
        Func::Lifted(core) => spaces.handler(*core),
        _ => None,
    });
    let [handler] = handlers.collect::<Vec<_>>().try_into().ok()?;
    let Instance::Instantiate { module_index, args } = spaces.core_instance(handler.instance)? else {
        return None;
    };
    let indirect = spaces.indirect()?;
    for argument in args {
        let InstantiationArgKind::Instance = argument.kind;
        let Instance::FromExports(exports) = spaces.core_instance(argument.index)? else {
            return None;
        };
        for export in exports {
            let is_func = matches!(export.kind, ExternalKind::Func | ExternalKind::FuncExact);
            if !is_func || !spaces.is(export.index, &indirect, argument.name, export.name) {
                return None;
            }
        }
    }
    if !spaces.has_no_other(handler.instance, &indirect) {
        return None;
    }
    let range = spaces.modules.get(*module_index as usize)?.clone()?;
    Some(Shape {
        module: component.get(range)?,
        handler: handler.name,
    })
}

impl<'a> Spaces<'a> {
    /// `None` when there is something that components which answer HTTP do not have.
    fn read(component: &'a [u8]) -> Option<Self> {
        let (mut spaces, mut depth) = (Self::default(), 0_u32);
        for payload in Parser::new(0).parse_all(component) {
            match payload.ok()? {
                Payload::Version { .. } => depth += 1,
                Payload::End(_) => depth = depth.checked_sub(1)?,
                payload if depth == 1 => spaces.add(payload)?,
                _ => {}
            }
        }
        Some(spaces)
    }

    fn add(&mut self, payload: Payload<'a>) -> Option<()> {
        match payload {
            Payload::ComponentImportSection(section) => {
                for import in section {
                    let import = import.ok()?;
                    match import.ty {
                        ComponentTypeRef::Instance(_) => self.instances.push(Some(import.name.name)),
                        ComponentTypeRef::Type(_) => self.types.push(None),
                        ComponentTypeRef::Func(_) => self.funcs.push(Func::Other),
                        _ => return None,
                    }
                }
            }
            Payload::ComponentTypeSection(section) => {
                self.types.extend((0..section.count()).map(|_| None));
            }
            Payload::ModuleSection {
                unchecked_range: range,
                ..
            } => self.modules.push(Some(range)),
            Payload::InstanceSection(section) => {
                for instance in section {
                    self.core_instances.push(instance.ok()?);
                }
            }
            Payload::ComponentInstanceSection(section) => {
                self.instances.extend((0..section.count()).map(|_| None));
            }
            Payload::ComponentAliasSection(section) => {
                for alias in section {
                    self.add_alias(&alias.ok()?)?;
                }
            }
            Payload::ComponentCanonicalSection(section) => {
                for function in section {
                    self.add_canonical(function.ok()?)?;
                }
            }
            Payload::ComponentExportSection(section) => {
                for export in section {
                    match export.ok()?.kind {
                        ComponentExternalKind::Func => self.funcs.push(Func::Other),
                        ComponentExternalKind::Instance => self.instances.push(None),
                        ComponentExternalKind::Type => self.types.push(None),
                        _ => return None,
                    }
                }
            }
            Payload::ComponentStartSection { .. } => return None,
            // Sections of no consequence, and nested components, which have numbers of their own: what is made of one
            // that is instantiated is an instance that is not imported.
            _ => {}
        }
        Some(())
    }

    fn add_alias(&mut self, alias: &ComponentAlias<'a>) -> Option<()> {
        match *alias {
            ComponentAlias::InstanceExport {
                kind,
                instance_index: instance,
                name,
            } => match kind {
                ComponentExternalKind::Func => self.funcs.push(Func::Imported(Member { instance, name })),
                ComponentExternalKind::Type => self.types.push(Some(Member { instance, name })),
                ComponentExternalKind::Instance => self.instances.push(None),
                _ => return None,
            },
            ComponentAlias::CoreInstanceExport {
                kind: ExternalKind::Func | ExternalKind::FuncExact,
                instance_index: instance,
                name,
            } => self.core_funcs.push(CoreFunc::Of(Member { instance, name })),
            // Memories and tables, whose numbers nothing here asks for.
            ComponentAlias::CoreInstanceExport { .. } => {}
            ComponentAlias::Outer {
                kind: ComponentOuterAliasKind::Type,
                ..
            } => self.types.push(None),
            ComponentAlias::Outer { .. } => return None,
        }
        Some(())
    }

    fn add_canonical(&mut self, function: CanonicalFunction) -> Option<()> {
        match function {
            CanonicalFunction::Lift {
                core_func_index,
                options,
                ..
            } => {
                are_plain(&options)?;
                self.funcs.push(Func::Lifted(core_func_index));
            }
            CanonicalFunction::Lower { func_index, options } => {
                are_plain(&options)?;
                self.core_funcs.push(CoreFunc::Lowered(func_index));
            }
            CanonicalFunction::ResourceDrop { resource } => self.core_funcs.push(CoreFunc::Drop(resource)),
            // A component with resources of its own, or of WASI 0.3.
            _ => return None,
        }
        Some(())
    }

    fn core_instance(&self, index: u32) -> Option<&Instance<'a>> {
        self.core_instances.get(index as usize)
    }

    /// The export of a core instance that a core function is, if it is the one that handles requests.
    fn handler(&self, core: u32) -> Option<Member<'a>> {
        match self.core_funcs.get(core as usize)? {
            CoreFunc::Of(member) if is_handler(member.name) => Some(*member),
            _ => None,
        }
    }

    /// What is behind the functions of the module that calls through a table: functions that need the memory of the
    /// module that imports them, and so are made after it. By their numbers, under which the module that fills the
    /// table gets them (wit-component's fixup module; in its older versions together with the table).
    fn indirect(&self) -> Option<HashMap<&'a str, u32>> {
        let is_number = |name: &str| !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_digit());
        let mut found = HashMap::new();
        for instance in &self.core_instances {
            let Instance::FromExports(exports) = instance else {
                continue;
            };
            let numbered = exports.iter().filter(|export| is_number(export.name));
            let numbered: HashMap<_, _> = numbered.map(|export| (export.name, export.index)).collect();
            if !numbered.is_empty() && !found.is_empty() {
                return None;
            }
            found.extend(numbered);
        }
        Some(found)
    }

    /// Whether a core function is `name` of the module `module` as far as the module that imports it can tell.
    fn is(&self, core: u32, indirect: &HashMap<&'a str, u32>, module: &str, name: &str) -> bool {
        let Some(func) = self.core_funcs.get(core as usize) else {
            return false;
        };
        let func = match func {
            CoreFunc::Of(member) => match indirect.get(member.name) {
                Some(behind) => match self.core_funcs.get(*behind as usize) {
                    Some(behind) => behind,
                    None => return false,
                },
                None => func,
            },
            CoreFunc::Lowered(_) | CoreFunc::Drop(_) => func,
        };
        match *func {
            // An adapter's: there is no other module left that it could be of.
            CoreFunc::Of(member) => module == PREVIEW1 && member.name == name,
            CoreFunc::Lowered(index) => match self.funcs.get(index as usize) {
                Some(Func::Imported(member)) => {
                    member.name == name
                        && self.interface_of(*member).is_some()
                        && self.interface_of(*member) == interface(module)
                }
                _ => false,
            },
            // A type may come by way of another interface that uses it.
            CoreFunc::Drop(index) => match self.types.get(index as usize) {
                Some(Some(member)) => {
                    name.strip_prefix("[resource-drop]") == Some(member.name)
                        && self.interface_of(*member).is_some()
                }
                _ => false,
            },
        }
    }

    /// Whether every module that is instantiated is known: the one that answers, the one that calls through a table and the
    /// one that fills it, and adapters, which are known by the functions that are taken from them. Another might do
    /// anything when it starts.
    fn has_no_other(&self, main: u32, indirect: &HashMap<&'a str, u32>) -> bool {
        let gives = |instance: u32| {
            self.core_funcs.iter().any(|func| match func {
                CoreFunc::Of(member) => member.instance == instance,
                CoreFunc::Lowered(_) | CoreFunc::Drop(_) => false,
            })
        };
        let is_filled_with = |argument: u32| match self.core_instance(argument) {
            Some(Instance::FromExports(exports)) => {
                exports.iter().any(|export| indirect.contains_key(export.name))
            }
            _ => false,
        };
        (0..)
            .zip(&self.core_instances)
            .all(|(index, instance)| match instance {
                Instance::FromExports(_) => true,
                Instance::Instantiate { args, .. } => {
                    index == main
                        || gives(index)
                        || args.iter().any(|argument| is_filled_with(argument.index))
                }
            })
    }

    fn interface_of(&self, member: Member<'a>) -> Option<&'a str> {
        interface((*self.instances.get(member.instance as usize)?)?)
    }
}

/// Whether values are passed in the usual way.
fn are_plain(options: &[CanonicalOption]) -> Option<()> {
    let plain = |option: &CanonicalOption| {
        matches!(
            option,
            CanonicalOption::UTF8
                | CanonicalOption::Memory(_)
                | CanonicalOption::Realloc(_)
                | CanonicalOption::PostReturn(_)
        )
    };
    options.iter().all(plain).then_some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use kittiwake_testkit::guest;
    use proptest::prelude::*;

    /// A component in the shape that tools make, with one import of each way: bound at once, through the table, and a
    /// resource that is dropped. What stands in its places can be replaced.
    fn component(replace: &[(&str, &str)]) -> Vec<u8> {
        let mut text = r#"(component
            (import "wasi:http/types@0.2.4" (instance $types
                (export "fields" (type $fields (sub resource)))
                (export "[constructor]fields" (func (result (own $fields))))
                (export "[method]fields.clone" (func (param "self" (borrow $fields)) (result (own $fields))))))
            (core module $main
                (import "wasi:http/types@0.2.1" "[constructor]fields" (func (result i32)))
                (import "wasi:http/types@0.2.1" "[method]fields.clone" (func (param i32) (result i32)))
                (import "wasi:http/types@0.2.1" "[resource-drop]fields" (func (param i32)))
                (memory (export "memory") 1)
                (func (export "wasi:http/incoming-handler@0.2.1#handle") (param i32 i32)))
            (core module $shim
                (table (export "$imports") 1 1 funcref)
                (func (export "0") (param i32) (result i32) unreachable))
            (core instance $shim (instantiate $shim))
            (alias export $types "fields" (type $fields))
            (alias export $types "[constructor]fields" (func $new))
            (core func $new (canon lower (func $new)))
            (alias core export $shim "0" (core func $later))
            (core func $drop (canon resource.drop $fields))
            (core instance $imports
                (export "[constructor]fields" (func $new))
                (export "[method]fields.clone" (func $later))
                (export "[resource-drop]fields" (func $drop)))
            (core instance $main (instantiate $main (with "wasi:http/types@0.2.1" (instance $imports))))
            (alias core export $shim "$imports" (core table $table))
            (alias export $types "[method]fields.clone" (func $clone))
            (core func $clone (canon lower (func $clone)))
            (core instance $fixup (export "$imports" (table $table)) (export "0" (func $clone)))
            (alias core export $main "wasi:http/incoming-handler@0.2.1#handle" (core func $handle))
            (func $handle (param "a" u32) (param "b" u32) (canon lift (core func $handle)))
            (instance $handler (export "handle" (func $handle)))
            (export "wasi:http/incoming-handler@0.2.1" (instance $handler)))"#
            .to_owned();
        for (from, to) in replace {
            assert!(text.contains(from), "{from}");
            text = text.replace(from, to);
        }
        wat::parse_str(&text).unwrap()
    }

    #[test]
    fn the_module_that_answers_is_found() {
        let component = component(&[]);
        let shape = find(&component).unwrap();
        assert_eq!(shape.handler, "wasi:http/incoming-handler@0.2.1#handle");
        let exports = format!("{:?}", String::from_utf8_lossy(shape.module));
        assert!(exports.contains("incoming-handler@0.2.1#handle"), "{exports}");
    }

    #[test]
    fn a_component_that_adds_something_is_not_taken_apart() {
        for replace in [
            // Another function under the name, at once and through the table.
            (
                "(export \"[constructor]fields\" (func $new))\n",
                "(export \"[constructor]fields\" (func $drop))\n",
            ),
            ("(export \"0\" (func $clone))", "(export \"0\" (func $drop))"),
            // A later WASI, and an interface that is none of WASI's.
            ("wasi:http/types@0.2.4", "wasi:http/types@0.3.0"),
            ("wasi:http/types@0.2.4", "acme:http/types@0.2.4"),
            // Strings of another kind.
            (
                "(canon lower (func $clone))",
                "(canon lower (func $clone) string-encoding=utf16)",
            ),
            // A module of which nothing is known.
            (
                "(core instance $fixup ",
                "(core module $other) (core instance $other (instantiate $other)) (core instance $fixup ",
            ),
            // It answers in another way.
            ("wasi:http/incoming-handler@0.2.1#handle", "handle"),
        ] {
            assert_eq!(find(&component(&[replace])), None, "{replace:?}");
        }
    }

    #[test]
    fn what_tools_make_is_taken_apart() {
        for (name, guest) in [
            ("hello", guest::hello()),
            ("echo", guest::echo()),
            ("fetch", guest::fetch()),
        ] {
            assert!(find(&guest).is_some(), "{name}");
        }
        for guest in [guest::not_http(), guest::missing_import(), guest::core_module()] {
            assert_eq!(find(&guest), None);
        }
    }

    #[test]
    fn versions_of_interfaces_are_told_apart() {
        assert_eq!(interface("wasi:io/poll@0.2.6"), Some("wasi:io/poll"));
        for other in [
            "wasi:io/poll@0.3.0",
            "wasi:io/poll",
            "acme:io/poll@0.2.6",
            "wasi_snapshot_preview1",
        ] {
            assert_eq!(interface(other), None, "{other}");
        }
        assert!(is_handler("wasi:http/incoming-handler@0.2.12#handle"));
        assert!(!is_handler("wasi:http/handler@0.3.0#handle"));
    }

    proptest! {
        /// What a stranger may push: a component that was damaged, or cut.
        #[test]
        fn a_damaged_component_is_read_or_refused(at in 8_usize..1500, byte in any::<u8>(), cut in 8_usize..1500) {
            let mut component = component(&[]);
            if let Some(place) = component.get_mut(at) {
                *place = byte;
            }
            let _ = find(&component);
            component.truncate(cut);
            let _ = find(&component);
        }
    }
}
