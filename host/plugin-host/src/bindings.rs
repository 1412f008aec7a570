//! The bindings that wasmtime generates from `plugin-api/wit`: the host's side of the three worlds, with shared common
//! types.
#![allow(
    missing_docs,
    unreachable_pub,
    rust_2018_idioms,
    clippy::all,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::undocumented_unsafe_blocks,
    clippy::semicolon_if_nothing_returned,
    clippy::needless_pass_by_value,
    clippy::uninlined_format_args,
    clippy::redundant_closure_for_method_calls,
    reason = "generated code; its documentation is that of the WIT"
)]

pub mod provider {
    wasmtime::component::bindgen!({
        path: "../../plugin-api/wit",
        world: "ostler:plugin/provider-plugin",
        additional_derives: [PartialEq, serde::Serialize, serde::Deserialize],
    });
}

pub mod redactor {
    wasmtime::component::bindgen!({
        path: "../../plugin-api/wit",
        world: "ostler:plugin/redactor-plugin",
        with: {
            "ostler:plugin/types@0.1.0": crate::bindings::provider::ostler::plugin::types,
            "ostler:plugin/log@0.1.0": crate::bindings::provider::ostler::plugin::log,
        },
        additional_derives: [PartialEq, serde::Serialize, serde::Deserialize],
    });
}

pub mod policy {
    wasmtime::component::bindgen!({
        path: "../../plugin-api/wit",
        world: "ostler:plugin/policy-plugin",
        with: {
            "ostler:plugin/types@0.1.0": crate::bindings::provider::ostler::plugin::types,
            "ostler:plugin/log@0.1.0": crate::bindings::provider::ostler::plugin::log,
        },
        additional_derives: [PartialEq, serde::Serialize, serde::Deserialize],
    });
}
