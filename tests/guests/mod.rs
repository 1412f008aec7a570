//! Test plugins in WebAssembly text. Each is a core module with the functions that the canonical ABI requires for its
//! world, wrapped in the same way as the bundled plugins.
//!
//! The tests of the plugin host call them directly; the end-to-end suites put them into the plugin folder of a host.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::panic,
    reason = "shared by several suites, none of which uses all of it; a test may panic"
)]

pub mod hostile;
pub mod tools;

use std::fmt::Write as _;
use std::path::Path;

use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

/// The interface that the host speaks.
fn wit() -> Resolve {
    let mut resolve = Resolve::default();
    // Packages in different folders use this file.
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let wit = package.ancestors().map(|folder| folder.join("plugin-api/wit")).find(|wit| wit.is_dir()).unwrap();
    resolve.push_dir(wit).unwrap();
    resolve
}

/// Wraps a core module for a world of `resolve`.
pub fn wrap(resolve: &Resolve, world: &str, module: &str) -> Vec<u8> {
    let packages: Vec<_> = resolve.packages.iter().map(|(id, _)| id).collect();
    let world = resolve.select_world(&packages, Some(world)).unwrap();
    let mut module = wat::parse_str(module).unwrap();
    embed_component_metadata(&mut module, resolve, world, StringEncoding::UTF8).unwrap();
    ComponentEncoder::default().validate(true).module(&module).unwrap().encode().unwrap()
}

/// Wraps a core module for a world of another interface.
pub fn wrap_foreign(wit: &str, world: &str, module: &str) -> Vec<u8> {
    let mut resolve = Resolve::default();
    resolve.push_str("foreign.wit", wit).unwrap();
    wrap(&resolve, world, module)
}

/// A test plugin; the bodies are instructions.
pub struct Guest<'a> {
    pub name: &'a str,
    pub version: &'a str,
    pub schema: Option<&'a str>,
    /// Body of `configure`; returns a pointer. Address 2048 contains zeros, which mean success.
    pub configure: &'a str,
    /// Body of the function that is tested: `evaluate`, `verify`, `transcript.read`.
    pub body: &'a str,
    /// Bodies of other functions, by name. Without one, a function returns zeros.
    pub others: &'a [(&'a str, &'a str)],
    /// Further definitions of the module.
    pub extra: &'a str,
    /// Pages of memory at the start.
    pub pages: u32,
}

impl Default for Guest<'_> {
    fn default() -> Self {
        Self {
            name: "test",
            version: "1.2.3",
            schema: None,
            configure: OK,
            body: OK,
            others: &[],
            extra: "",
            pages: 64,
        }
    }
}

/// A pointer to zeros: an empty list, a success, an empty step.
pub const OK: &str = "i32.const 2048";
/// A handle of a new transcript.
pub const NEW: &str = "(call $new (i32.const 7))";
pub const LOOP: &str = "(loop $l (br $l)) unreachable";
pub const TRAP: &str = "unreachable";
pub const ALLOCATE: &str = "(loop $l (drop (memory.grow (i32.const 16))) (br $l)) unreachable";
pub const FILL_TABLE: &str = "(loop $l (drop (table.grow $t (ref.null func) (i32.const 100))) (br $l)) unreachable";
pub const RECURSE: &str = "call $recurse i32.const 2048";
pub const FLOOD_LOG: &str = "(loop $l (call $log (i32.const 2) (i32.const 1024) (i32.const 4)) (br $l)) unreachable";
pub const LOG_ONCE: &str = "(call $log (i32.const 3) (i32.const 1024) (i32.const 4)) i32.const 2048";
/// A list with more items than the host accepts, all zeros.
pub const FLOOD_OUTPUT: &str =
    "(i32.store (i32.const 2048) (i32.const 8192)) (i32.store (i32.const 2052) (i32.const 90000)) i32.const 2048";
/// A pointer outside of the memory.
pub const WILD_POINTER: &str = "i32.const -8";
/// A list that is longer than the memory.
pub const WILD_LIST: &str =
    "(i32.store (i32.const 2048) (i32.const 8192)) (i32.store (i32.const 2052) (i32.const -1)) i32.const 2048";

impl Guest<'_> {
    pub fn policy(&self) -> Vec<u8> {
        let functions = self.functions("policy", &[("wants", 0, OK), ("evaluate", 1, self.body)]);
        wrap(&wit(), "ostler:plugin/policy-plugin", &self.module("", &functions))
    }

    pub fn redactor(&self) -> Vec<u8> {
        let functions = self.functions("redactor", &[("rules", 0, OK), ("verify", 2, self.body), ("scan", 2, OK)]);
        wrap(&wit(), "ostler:plugin/redactor-plugin", &self.module("", &functions))
    }

    pub fn provider(&self) -> Vec<u8> {
        let functions = [
            ("describe", 0, OK),
            ("probes", 0, OK),
            ("detect", 2, OK),
            ("prepare", 1, OK),
            ("[constructor]transcript", 1, NEW),
            ("[method]transcript.open", 1, OK),
            ("[method]transcript.read", 3, self.body),
            ("[method]transcript.input", 3, OK),
            ("[method]transcript.decide", 11, OK),
            ("[method]transcript.interrupt", 1, OK),
            ("[method]transcript.finish", 9, OK),
        ];
        let new = r#"(import "[export]ostler:plugin/provider@0.1.0" "[resource-new]transcript" (func $new (param i32) (result i32)))"#;
        wrap(&wit(), "ostler:plugin/provider-plugin", &self.module(new, &self.functions("provider", &functions)))
    }

    /// The functions of an interface: name, number of parameters, body.
    fn functions(&self, interface: &str, functions: &[(&str, usize, &str)]) -> String {
        let known = |name: &str| functions.iter().any(|(known, ..)| *known == name);
        assert!(self.others.iter().all(|(name, _)| known(name)), "{:?}", self.others);
        functions.iter().fold(String::new(), |mut text, (name, parameters, body)| {
            let other = self.others.iter().find(|(other, _)| other == name).map(|(_, body)| *body);
            let (parameters, body) = (" i32".repeat(*parameters), other.unwrap_or(body));
            let export = format!("ostler:plugin/{interface}@0.1.0#{name}");
            let _ = writeln!(text, r#"(func (export "{export}") (param{parameters}) (result i32) {body})"#);
            text
        })
    }

    /// Strings are at 256 (name), 320 (version), 384 (summary), 1024 (a log message) and 4096 (schema). The record that
    /// `identify` returns is at 512. Zeros are at 2048 and from 8192 on.
    fn module(&self, imports: &str, functions: &str) -> String {
        let schema = self.schema.unwrap_or_default();
        assert!(schema.len() < 4096);
        let words = [
            256,
            self.name.len(),
            320,
            self.version.len(),
            384,
            7,
            usize::from(self.schema.is_some()),
            4096,
            schema.len(),
        ];
        let identity: String = words.iter().flat_map(|word| u32::try_from(*word).unwrap().to_le_bytes()).fold(
            String::new(),
            |mut text, byte| {
                let _ = write!(text, "\\{byte:02x}");
                text
            },
        );
        let text = |text: &str| {
            text.bytes().fold(String::new(), |mut all, byte| {
                let _ = write!(all, "\\{byte:02x}");
                all
            })
        };
        format!(
            r#"(module
                (import "ostler:plugin/log@0.1.0" "write" (func $log (param i32 i32 i32)))
                {imports}
                (memory (export "memory") {pages})
                (table $t 1 funcref)
                (data (i32.const 256) "{name}")
                (data (i32.const 320) "{version}")
                (data (i32.const 384) "summary")
                (data (i32.const 512) "{identity}")
                (data (i32.const 1024) "\1b[3m")
                (data (i32.const 4096) "{schema}")
                (global $next (mut i32) (i32.const 65536))
                (func $recurse (call $recurse))
                (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)
                    (local $at i32)
                    (local.set $at (i32.and (i32.add (global.get $next) (i32.const 7)) (i32.const -8)))
                    (global.set $next (i32.add (local.get $at) (local.get 3)))
                    (local.get $at))
                (func (export "ostler:plugin/plugin@0.1.0#identify") (result i32) i32.const 512)
                (func (export "ostler:plugin/plugin@0.1.0#configure") (param i32 i32) (result i32) {configure})
                {functions}
                {extra})"#,
            pages = self.pages,
            name = text(self.name),
            version = text(self.version),
            schema = text(schema),
            configure = self.configure,
            extra = self.extra,
        )
    }
}
