//! Reads the imports and exports of a component before it is compiled, which takes a second.

use wasmparser::{ComponentExternalKind, Encoding, Parser, Payload};

use super::error::Kind;

/// Version of the WIT package that this host supports.
pub const PACKAGE_VERSION: &str = "0.1.0";

const PACKAGE: &str = "ostler:plugin";

/// What a plugin may import: the log, and the interface that only names types.
const IMPORTABLE: [&str; 2] = ["log", "types"];

/// The kind of the plugin in these bytes.
///
/// # Errors
/// Why the bytes are not a plugin for this host: not a component, imports other than the log (all are named), no plugin
/// interface, several, or one of another version.
pub(super) fn kind_of(bytes: &[u8]) -> Result<Kind, String> {
    let outline = Outline::read(bytes)?;
    let allowed = IMPORTABLE.map(|interface| format!("{PACKAGE}/{interface}@{PACKAGE_VERSION}"));
    let foreign: Vec<_> =
        outline.imports.iter().filter(|import| !allowed.contains(import)).map(String::as_str).collect();
    if !foreign.is_empty() {
        return Err(format!(
            "it imports {}; a plugin may import nothing but {PACKAGE}/log@{PACKAGE_VERSION}. Build it without WASI (see the plugin guide)",
            foreign.join(", ")
        ));
    }
    let mut kinds = Vec::new();
    let mut others = Vec::new();
    for kind in Kind::ALL {
        let prefix = format!("{PACKAGE}/{kind}@");
        for export in &outline.exports {
            match export.strip_prefix(&prefix) {
                Some(PACKAGE_VERSION) => kinds.push(kind),
                Some(version) => others.push(format!("{kind} of version {version}")),
                None => {}
            }
        }
    }
    match kinds.as_slice() {
        [kind] if outline.exports.iter().any(|export| *export == format!("{PACKAGE}/plugin@{PACKAGE_VERSION}")) => {
            Ok(*kind)
        }
        [kind] => Err(format!("it is a {kind} but does not export {PACKAGE}/plugin@{PACKAGE_VERSION}")),
        [] if !others.is_empty() => Err(format!(
            "it is made for another version of the plugin interface ({}); this host speaks {PACKAGE_VERSION}",
            others.join(", ")
        )),
        [] => {
            Err(format!("it exports no plugin interface: {PACKAGE}/provider, /redactor or /policy, @{PACKAGE_VERSION}"))
        }
        several => Err(format!(
            "it is of several kinds ({}); a plugin is of one",
            several.iter().map(|kind| kind.as_str()).collect::<Vec<_>>().join(", ")
        )),
    }
}

#[derive(Default)]
struct Outline {
    imports: Vec<String>,
    exports: Vec<String>,
}

impl Outline {
    fn read(bytes: &[u8]) -> Result<Self, String> {
        if !bytes.starts_with(b"\0asm") {
            return Err("it is not a valid WebAssembly file".to_owned());
        }
        let mut outline = Self::default();
        // Sections of nested modules and components are skipped: their imports come from this component.
        let mut depth = 0_u32;
        for payload in Parser::new(0).parse_all(bytes) {
            let damaged = |error: &dyn std::fmt::Display| format!("it is damaged: {error}");
            match payload.map_err(|error| damaged(&error))? {
                Payload::Version { encoding: Encoding::Module, .. } if depth == 0 => {
                    return Err("it is a WebAssembly module, not a component; wrap it with `wasm-tools component new`"
                        .to_owned());
                }
                Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
                Payload::End(_) => depth = depth.saturating_sub(1),
                Payload::ComponentImportSection(section) if depth == 0 => {
                    for import in section {
                        outline.imports.push(import.map_err(|error| damaged(&error))?.name.name.to_owned());
                    }
                }
                Payload::ComponentExportSection(section) if depth == 0 => {
                    for export in section {
                        let export = export.map_err(|error| damaged(&error))?;
                        if export.kind == ComponentExternalKind::Instance {
                            outline.exports.push(export.name.name.to_owned());
                        }
                    }
                }
                _ => {}
            }
        }
        Ok(outline)
    }
}
