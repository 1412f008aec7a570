//! The code that the export macros expand to. Not for authors.

use std::any::Any;
use std::cell::{OnceCell, RefCell};
use std::marker::PhantomData;
use std::rc::Rc;

use crate::bindings::common::exports::ostler::plugin::plugin::{Guest as PluginGuest, Identity};
use crate::bindings::policy::exports::ostler::plugin::policy::Guest as PolicyGuest;
use crate::bindings::provider::exports::ostler::plugin::provider::{Guest as ProviderGuest, GuestTranscript};
use crate::bindings::redactor::exports::ostler::plugin::redactor::Guest as RedactorGuest;
use crate::plugin::{Plugin, Policy, Provider, Redactor, Transcript};
use crate::policy::{Action, Context, Finding};
use crate::provider::{
    Capabilities, CollectedFile, Decision, ExitStatus, Launch, Line, Outcome, Probe, ProbeResult, ProviderInfo,
    RunRequest, Step,
};
use crate::redactor::{Candidate, Find, RuleSet};
use crate::types::{Error, Problem};

/// The component of the plugin `P`.
pub struct Component<P>(PhantomData<P>);

thread_local! {
    /// The configured instance. A component contains one plugin, so its type is known.
    static INSTANCE: RefCell<Option<Rc<dyn Any>>> = const { RefCell::new(None) };
    static HOOK_INSTALLED: OnceCell<()> = const { OnceCell::new() };
}

/// The configured instance. Aborts if the host has not called `configure` before.
fn instance<P: Plugin>() -> Rc<P> {
    let configured = INSTANCE.with_borrow(Clone::clone).and_then(|instance| instance.downcast::<P>().ok());
    match configured {
        Some(instance) => instance,
        None => {
            crate::write_log(crate::Level::Error, "called before `configure`");
            std::process::abort()
        }
    }
}

/// Writes panic messages to the host's log: the trap that follows only reports `unreachable`.
fn report_panics() {
    HOOK_INSTALLED.with(|installed| {
        installed.get_or_init(|| {
            if cfg!(target_arch = "wasm32") {
                std::panic::set_hook(Box::new(|info| crate::write_log(crate::Level::Error, &info.to_string())));
            }
        });
    });
}

/// Deserializes the settings and creates an instance.
pub(crate) fn configure<P: Plugin>(settings: &str) -> Result<P, Error> {
    let settings = match settings.trim() {
        "" | "null" => P::Settings::default(),
        text => serde_json::from_str(text).map_err(|error| {
            Error::Invalid(vec![Problem {
                pointer: String::new(),
                message: format!("failed to read the settings: {error}"),
            }])
        })?,
    };
    P::configure(settings)
}

impl<P: Plugin> PluginGuest for Component<P> {
    fn identify() -> Identity {
        report_panics();
        Identity {
            name: P::NAME.to_owned(),
            version: P::VERSION.to_owned(),
            summary: P::SUMMARY.to_owned(),
            settings_schema: P::settings_schema(),
        }
    }

    fn configure(settings: String) -> Result<(), Error> {
        report_panics();
        let plugin = configure::<P>(&settings)?;
        INSTANCE.set(Some(Rc::new(plugin)));
        Ok(())
    }
}

impl<P: Provider> ProviderGuest for Component<P> {
    type Transcript = TranscriptResource<P>;

    fn describe() -> ProviderInfo {
        instance::<P>().describe()
    }

    fn probes() -> Vec<Probe> {
        instance::<P>().probes()
    }

    fn detect(results: Vec<ProbeResult>) -> Capabilities {
        instance::<P>().detect(results)
    }

    fn prepare(request: RunRequest, capabilities: Capabilities) -> Result<Launch, Error> {
        instance::<P>().prepare(request, capabilities)
    }
}

/// A transcript of the provider `P` as a resource, whose methods take `&self`.
pub struct TranscriptResource<P: Provider>(RefCell<P::Transcript>);

impl<P: Provider> GuestTranscript for TranscriptResource<P> {
    fn new(request: RunRequest, capabilities: Capabilities) -> Self {
        Self(RefCell::new(instance::<P>().transcript(request, capabilities)))
    }

    fn open(&self) -> Step {
        self.0.borrow_mut().open()
    }

    fn read(&self, lines: Vec<Line>) -> Step {
        self.0.borrow_mut().read(lines)
    }

    fn input(&self, message: String) -> Result<Step, Error> {
        self.0.borrow_mut().input(message)
    }

    fn decide(&self, request_id: String, decision: Decision) -> Result<Step, Error> {
        self.0.borrow_mut().decide(request_id, decision)
    }

    fn interrupt(&self) -> Result<Step, Error> {
        self.0.borrow_mut().interrupt()
    }

    fn finish(&self, exit: ExitStatus, files: Vec<CollectedFile>) -> Outcome {
        self.0.borrow_mut().finish(exit, files)
    }
}

impl<P: Redactor> RedactorGuest for Component<P> {
    fn rules() -> RuleSet {
        instance::<P>().rules()
    }

    fn verify(candidates: Vec<Candidate>) -> Vec<bool> {
        instance::<P>().verify(candidates)
    }

    fn scan(text: String) -> Vec<Find> {
        instance::<P>().scan(text)
    }
}

impl<P: Policy> PolicyGuest for Component<P> {
    fn wants() -> Vec<String> {
        instance::<P>().wants()
    }

    fn evaluate(action: Action, context: Context) -> Vec<Finding> {
        instance::<P>().evaluate(action, context)
    }
}
