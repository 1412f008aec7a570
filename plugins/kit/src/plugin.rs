//! The parts of a provider plugin.

/// Defines and exports a provider plugin from modules of the calling crate: `settings` with `Settings`, its method `check`
/// and `SCHEMA`; `info::describe`; `detect` with `probes` and `detect`; `prepare::prepare`; and a transcript type with
/// `new(&RunRequest)`. If the transcript depends on the installed version as well, name a function that creates it from
/// `&RunRequest` and `&Capabilities` as the last argument.
#[macro_export]
macro_rules! agent_cli {
    ($(#[$about:meta])* $plugin:ident, $name:literal, $summary:literal, $transcript:ty) => {
        $crate::agent_cli!($(#[$about])* $plugin, $name, $summary, $transcript, |request, _| <$transcript>::new(request));
    };
    ($(#[$about:meta])* $plugin:ident, $name:literal, $summary:literal, $transcript:ty, $begin:expr) => {
        $(#[$about])*
        #[derive(Debug)]
        pub struct $plugin {
            settings: settings::Settings,
        }

        impl ::ostler_plugin::Plugin for $plugin {
            const NAME: &'static str = $name;
            const VERSION: &'static str = env!("CARGO_PKG_VERSION");
            const SUMMARY: &'static str = $summary;

            type Settings = settings::Settings;

            fn settings_schema() -> Option<String> {
                Some(settings::SCHEMA.to_owned())
            }

            fn configure(settings: settings::Settings) -> Result<Self, ::ostler_plugin::Error> {
                settings.check()?;
                Ok(Self { settings })
            }
        }

        impl ::ostler_plugin::Provider for $plugin {
            type Transcript = $transcript;

            fn describe(&self) -> ::ostler_plugin::provider::ProviderInfo {
                info::describe(&self.settings)
            }

            fn probes(&self) -> Vec<::ostler_plugin::provider::Probe> {
                detect::probes()
            }

            fn detect(
                &self,
                results: Vec<::ostler_plugin::provider::ProbeResult>,
            ) -> ::ostler_plugin::provider::Capabilities {
                detect::detect(&results)
            }

            fn prepare(
                &self,
                request: ::ostler_plugin::provider::RunRequest,
                capabilities: ::ostler_plugin::provider::Capabilities,
            ) -> Result<::ostler_plugin::provider::Launch, ::ostler_plugin::Error> {
                prepare::prepare(&self.settings, &request, &capabilities)
            }

            fn transcript(
                &self,
                request: ::ostler_plugin::provider::RunRequest,
                capabilities: ::ostler_plugin::provider::Capabilities,
            ) -> $transcript {
                let begin: fn(
                    &::ostler_plugin::provider::RunRequest,
                    &::ostler_plugin::provider::Capabilities,
                ) -> $transcript = $begin;
                begin(&request, &capabilities)
            }
        }

        ::ostler_plugin::export_provider!($plugin);
    };
}
