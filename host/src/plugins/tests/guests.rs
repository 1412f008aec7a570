//! Guests as text. Each is a core module with the functions that the canonical ABI asks of its world, wrapped as the build
//! script wraps the bundled plugins.

use std::fmt::Write as _;
use std::path::Path;

use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

/// The interface that the host speaks.
fn wit() -> Resolve {
    let mut resolve = Resolve::default();
    resolve.push_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../plugin-api/wit")).unwrap();
    resolve
}

/// Wraps a core module for a world of `resolve`.
pub(super) fn wrap(resolve: &Resolve, world: &str, module: &str) -> Vec<u8> {
    let packages: Vec<_> = resolve.packages.iter().map(|(id, _)| id).collect();
    let world = resolve.select_world(&packages, Some(world)).unwrap();
    let mut module = wat::parse_str(module).unwrap();
    embed_component_metadata(&mut module, resolve, world, StringEncoding::UTF8).unwrap();
    ComponentEncoder::default().validate(true).module(&module).unwrap().encode().unwrap()
}

/// Wraps a core module for a world in an interface of another make.
pub(super) fn wrap_foreign(wit: &str, world: &str, module: &str) -> Vec<u8> {
    let mut resolve = Resolve::default();
    resolve.push_str("foreign.wit", wit).unwrap();
    wrap(&resolve, world, module)
}

/// What a guest does; the bodies are instructions.
pub(super) struct Guest<'a> {
    pub(super) name: &'a str,
    pub(super) version: &'a str,
    pub(super) schema: Option<&'a str>,
    /// Body of `configure`; answers with a pointer. Memory is zero at 2048: success.
    pub(super) configure: &'a str,
    /// Body of the function that is tested: `evaluate`, `verify`, `transcript.read`.
    pub(super) body: &'a str,
    /// Further definitions of the module.
    pub(super) extra: &'a str,
    /// Pages of memory at the start.
    pub(super) pages: u32,
}

impl Default for Guest<'_> {
    fn default() -> Self {
        Self { name: "test", version: "1.2.3", schema: None, configure: OK, body: OK, extra: "", pages: 64 }
    }
}

/// A pointer to zeros: an empty list, a success, an empty step.
pub(super) const OK: &str = "i32.const 2048";
pub(super) const LOOP: &str = "(loop $l (br $l)) unreachable";
pub(super) const TRAP: &str = "unreachable";
pub(super) const ALLOCATE: &str = "(loop $l (drop (memory.grow (i32.const 16))) (br $l)) unreachable";
pub(super) const FILL_TABLE: &str =
    "(loop $l (drop (table.grow $t (ref.null func) (i32.const 100))) (br $l)) unreachable";
pub(super) const RECURSE: &str = "call $recurse i32.const 2048";
pub(super) const FLOOD_LOG: &str =
    "(loop $l (call $log (i32.const 2) (i32.const 1024) (i32.const 4)) (br $l)) unreachable";
pub(super) const LOG_ONCE: &str = "(call $log (i32.const 3) (i32.const 1024) (i32.const 4)) i32.const 2048";
/// A list at address 0 with more items than the host would hold: all of them zeros.
pub(super) const FLOOD_OUTPUT: &str =
    "(i32.store (i32.const 2048) (i32.const 8192)) (i32.store (i32.const 2052) (i32.const 90000)) i32.const 2048";
/// One string that is longer than the answer may be.
pub(super) const WILD_POINTER: &str = "i32.const -8";
pub(super) const WILD_LIST: &str =
    "(i32.store (i32.const 2048) (i32.const 8192)) (i32.store (i32.const 2052) (i32.const -1)) i32.const 2048";

impl Guest<'_> {
    pub(super) fn policy(&self) -> Vec<u8> {
        let functions = format!(
            r#"(func (export "ostler:plugin/policy@0.1.0#wants") (result i32) i32.const 2048)
               (func (export "ostler:plugin/policy@0.1.0#evaluate") (param i32) (result i32) {})"#,
            self.body
        );
        wrap(&wit(), "ostler:plugin/policy-plugin", &self.module("", &functions))
    }

    pub(super) fn redactor(&self) -> Vec<u8> {
        let functions = format!(
            r#"(func (export "ostler:plugin/redactor@0.1.0#rules") (result i32) i32.const 2048)
               (func (export "ostler:plugin/redactor@0.1.0#verify") (param i32 i32) (result i32) {})
               (func (export "ostler:plugin/redactor@0.1.0#scan") (param i32 i32) (result i32) i32.const 2048)"#,
            self.body
        );
        wrap(&wit(), "ostler:plugin/redactor-plugin", &self.module("", &functions))
    }

    pub(super) fn provider(&self) -> Vec<u8> {
        let mut functions = String::new();
        let mut function = |name: &str, params: &str, body: &str| {
            let _ = writeln!(
                functions,
                r#"(func (export "ostler:plugin/provider@0.1.0#{name}") {params} (result i32) {body})"#
            );
        };
        let empty = "i32.const 2048";
        function("describe", "", empty);
        function("probes", "", empty);
        function("detect", "(param i32 i32)", empty);
        function("prepare", "(param i32)", empty);
        function("[constructor]transcript", "(param i32)", "(call $new (i32.const 7))");
        function("[method]transcript.open", "(param i32)", empty);
        function("[method]transcript.read", "(param i32 i32 i32)", self.body);
        function("[method]transcript.input", "(param i32 i32 i32)", empty);
        function("[method]transcript.decide", "(param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32)", empty);
        function("[method]transcript.interrupt", "(param i32)", empty);
        function("[method]transcript.finish", "(param i32 i32 i32 i32 i32 i32 i32 i32 i32)", empty);
        let new = r#"(import "[export]ostler:plugin/provider@0.1.0" "[resource-new]transcript" (func $new (param i32) (result i32)))"#;
        wrap(&wit(), "ostler:plugin/provider-plugin", &self.module(new, &functions))
    }

    /// Strings lie at 256 (name), 320 (version), 384 (summary), 1024 (a log message) and 4096 (the schema); the record that
    /// `identify` answers with at 512; zeros at 2048 and from 8192 on.
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
