//! The bindings that wit-bindgen generates from `wit/`, with one set of the common types for all three kinds.
//!
//! Each kind consists of two worlds, `common` and its own. wit-component merges the worlds of a module, so that the component
//! exports what the kind's world in `wit/` specifies. (Three invocations with `plugin` in each would define its macro three
//! times.)
//!
//! Authors use the re-exports in the crate's root; the paths in this module follow the names of the WIT package.
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
    reason = "generated code, documented in the WIT package"
)]

/// The part that all kinds have: the common types, the log, and `plugin`.
pub mod common {
    wit_bindgen::generate!({
        inline: "
            package ostler:sdk-common;
            world common {
                import ostler:plugin/types@0.1.0;
                import ostler:plugin/log@0.1.0;
                export ostler:plugin/plugin@0.1.0;
            }
        ",
        path: "wit",
        generate_all,
        generate_unused_types: true,
        additional_derives: [PartialEq],
        export_macro_name: "export_plugin_world",
        pub_export_macro: true,
        default_bindings_module: "ostler_plugin::bindings::common",
    });
}

/// The `provider` interface.
pub mod provider {
    wit_bindgen::generate!({
        inline: "
            package ostler:sdk-provider;
            world provider {
                export ostler:plugin/provider@0.1.0;
            }
        ",
        path: "wit",
        with: {
            "ostler:plugin/types@0.1.0": crate::bindings::common::ostler::plugin::types,
            "ostler:plugin/provider@0.1.0": generate,
        },
        additional_derives: [PartialEq],
        export_macro_name: "export_provider_world",
        pub_export_macro: true,
        default_bindings_module: "ostler_plugin::bindings::provider",
    });
}

/// The `redactor` interface.
pub mod redactor {
    wit_bindgen::generate!({
        inline: "
            package ostler:sdk-redactor;
            world redactor {
                export ostler:plugin/redactor@0.1.0;
            }
        ",
        path: "wit",
        with: {
            "ostler:plugin/types@0.1.0": crate::bindings::common::ostler::plugin::types,
            "ostler:plugin/redactor@0.1.0": generate,
        },
        additional_derives: [PartialEq],
        export_macro_name: "export_redactor_world",
        pub_export_macro: true,
        default_bindings_module: "ostler_plugin::bindings::redactor",
    });
}

/// The `policy` interface.
pub mod policy {
    wit_bindgen::generate!({
        inline: "
            package ostler:sdk-policy;
            world policy {
                export ostler:plugin/policy@0.1.0;
            }
        ",
        path: "wit",
        with: {
            "ostler:plugin/types@0.1.0": crate::bindings::common::ostler::plugin::types,
            "ostler:plugin/policy@0.1.0": generate,
        },
        additional_derives: [PartialEq],
        export_macro_name: "export_policy_world",
        pub_export_macro: true,
        default_bindings_module: "ostler_plugin::bindings::policy",
    });
}
