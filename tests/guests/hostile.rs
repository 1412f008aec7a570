//! Plugins that work until they get a certain word, and then misbehave.
//!
//! The provider runs `sh` on the file `script` in the working folder. The redactor has a rule for `hostile-` and twelve
//! letters or digits, and verifies each candidate.

use super::{ALLOCATE, FLOOD_LOG, Guest, LOOP, NEW, OK, RECURSE, TRAP};
use std::fmt::Write as _;

/// The word that makes a plugin misbehave, in a prompt, in output or in settings. Guests compare exactly eight bytes.
pub const WORD: &str = "MISBEHAV";

/// How a plugin misbehaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    Loop,
    Allocate,
    Trap,
    Recurse,
    FloodLog,
    FloodOutput,
}

impl Fault {
    pub const ALL: [Self; 6] =
        [Self::Loop, Self::Allocate, Self::Trap, Self::Recurse, Self::FloodLog, Self::FloodOutput];

    /// A name in kebab case.
    pub fn name(self) -> &'static str {
        match self {
            Self::Loop => "loop",
            Self::Allocate => "allocate",
            Self::Trap => "trap",
            Self::Recurse => "recurse",
            Self::FloodLog => "flood-log",
            Self::FloodOutput => "flood-output",
        }
    }

    /// A part of the error message about this fault.
    pub fn message_part(self) -> &'static str {
        match self {
            Self::Loop | Self::FloodLog => "ran longer than",
            Self::Allocate => "bytes of memory",
            Self::Trap => "unreachable",
            Self::Recurse => "nest too deeply",
            Self::FloodOutput => "answer is larger than",
        }
    }

    /// The instructions. `flood` describes the list or text in the answer that becomes too large.
    fn body(self, flood: Flood) -> String {
        match self {
            Self::Loop => LOOP.to_owned(),
            Self::Allocate => ALLOCATE.to_owned(),
            Self::Trap => TRAP.to_owned(),
            Self::Recurse => RECURSE.to_owned(),
            Self::FloodLog => FLOOD_LOG.to_owned(),
            Self::FloodOutput => {
                let (list, length) = (2048 + flood.offset, 2052 + flood.offset);
                // If the value is an option, it is present.
                format!(
                    "(drop (memory.grow (i32.const 2500))) (i32.store (i32.const 2048) (i32.const {}))
                     (i32.store (i32.const {list}) (i32.const 8192))
                     (i32.store (i32.const {length}) (i32.const {})) i32.const 2048",
                    i32::from(flood.option),
                    flood.items
                )
            }
        }
    }
}

/// How an answer becomes too large.
#[derive(Clone, Copy)]
struct Flood {
    /// The offset of the list in the answer.
    offset: u32,
    /// Its length: more than the host accepts, but within the memory of the guest.
    items: u32,
    option: bool,
}

const RECORDS: Flood = Flood { offset: 0, items: 1_000_000, option: false };
/// Events of a step that can also be an error.
const STEP: Flood = Flood { offset: 4, items: 1_000_000, option: false };

/// A policy that allows everything, and misbehaves if a submit contains the word.
pub fn policy(name: &str, fault: Fault) -> Vec<u8> {
    guest(name, &Data::new(), OK, &[("evaluate", &on("call $marked", &fault.body(RECORDS)))]).policy()
}

/// A policy that misbehaves if a command line contains the word.
pub fn policy_at_spawn(name: &str, fault: Fault) -> Vec<u8> {
    policy_at(SPAWN, name, fault)
}

/// A policy that misbehaves if a tool use contains the word.
pub fn policy_at_tool(name: &str, fault: Fault) -> Vec<u8> {
    policy_at(TOOL, name, fault)
}

fn policy_at(action: u32, name: &str, fault: Fault) -> Vec<u8> {
    guest(name, &Data::new(), OK, &[("evaluate", &on(&marked_at(action), &fault.body(RECORDS)))]).policy()
}

/// Number of the action that starts a command line.
pub const SPAWN: u32 = 1;
/// Number of the action that reports a tool use.
pub const TOOL: u32 = 3;

/// A condition in `evaluate`: the request is about this action and contains the word.
pub(super) fn marked_at(action: u32) -> String {
    format!("i32.and (i32.eq (i32.load8_u (local.get 0)) (i32.const {action})) (call $marked)")
}

/// When a redactor misbehaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RedactorStage {
    /// When it is asked for its rules.
    Rules,
    /// When it verifies a candidate in a line with the word.
    Verify,
    /// When it scans a line with the word.
    Scan,
}

/// A redactor.
pub fn redactor(name: &str, stage: RedactorStage, fault: Fault) -> Vec<u8> {
    let mut data = Data::new();
    let rules = rules(&mut data, stage == RedactorStage::Scan);
    let answer = format!("i32.const {rules}");
    // One answer for each candidate: it is not a secret.
    let deny =
        "(i32.store (i32.const 2048) (i32.const 8192)) (i32.store (i32.const 2052) (local.get 1)) i32.const 2048";
    let body = fault.body(RECORDS);
    match stage {
        RedactorStage::Rules => guest(name, &data, OK, &[("rules", &body)]),
        RedactorStage::Verify => {
            guest(name, &data, OK, &[("rules", &answer), ("verify", &either("call $marked", &body, deny))])
        }
        RedactorStage::Scan => {
            guest(name, &data, OK, &[("rules", &answer), ("verify", deny), ("scan", &on("call $marked", &body))])
        }
    }
    .redactor()
}

/// A redactor that writes each candidate that it verifies into the log.
pub fn redactor_that_logs(name: &str, candidate: &str) -> Vec<u8> {
    let mut data = Data::new();
    let rules = rules(&mut data, false);
    let (at, length) = data.text(candidate);
    let answer = format!("i32.const {rules}");
    let verify = format!(
        "(call $log (i32.const 3) (i32.const {at}) (i32.const {length}))
         (i32.store (i32.const 2048) (i32.const 8192)) (i32.store (i32.const 2052) (local.get 1)) i32.const 2048"
    );
    guest(name, &data, OK, &[("rules", &answer), ("verify", &verify)]).redactor()
}

/// `rule-set` with the one rule; gives its address.
fn rules(data: &mut Data, scan: bool) -> u32 {
    let (id, id_length) = data.text("hostile-token");
    let (pattern, pattern_length) = data.text("hostile-[0-9a-z]{12}");
    let (keyword, keyword_length) = data.text("hostile-");
    let keywords = data.words(&[keyword, keyword_length]);
    // id, description, pattern, groups, keywords; whole-word; min-entropy; max-length; block; decoded and verify; extra
    let mut rule = [0_u32; 24];
    rule[..10].copy_from_slice(&[id, id_length, id, id_length, pattern, pattern_length, 0, 0, keywords, 1]);
    rule[13] = 64;
    rule[20] = 1 << 8;
    let rule = data.words(&rule);
    // rules, allow, scan-overlap, extra
    data.words(&[rule, 1, 0, 0, u32::from(scan), 64, 0, 0, 0])
}

/// When a provider misbehaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProviderStage {
    /// When its settings contain the word.
    Configure,
    /// When it is asked what the installed CLI can do.
    Detect,
    /// When the prompt contains the word.
    Prepare,
    /// When a second attempt is prepared. The first one fails and is retried.
    PrepareAgain,
    /// When a transcript begins and the prompt contains the word.
    Begin,
    /// When the output contains the word.
    Read,
    /// When the child has ended.
    Finish,
}

impl ProviderStage {
    /// A name in kebab case.
    pub fn name(self) -> &'static str {
        match self {
            Self::Configure => "configure",
            Self::Detect => "detect",
            Self::Prepare => "prepare",
            Self::PrepareAgain => "prepare-again",
            Self::Begin => "begin",
            Self::Read => "read",
            Self::Finish => "finish",
        }
    }
}

/// Addresses of the answers of a working provider, whose CLI is `sh` with the file `script`.
pub(super) struct Sound {
    pub(super) info: u32,
    pub(super) capabilities: u32,
    pub(super) launch: u32,
}

/// What distinguishes a working provider from others.
#[derive(Default)]
struct Traits<'a> {
    /// Variables that its launch sets.
    environment: &'a [(&'a str, &'a str)],
    /// Patterns of the variables that it inherits.
    inherits: &'a [&'a str],
    /// Features that it detects.
    features: &'a [&'a str],
    channel: Channel,
}

/// The channel of a launch, in the order of the interface.
#[derive(Clone, Copy, Default)]
enum Channel {
    #[default]
    Pipes,
    Duplex,
    Pty,
}

/// Stores the answers of a working provider, whose launch sets these variables.
pub(super) fn sound(name: &str, data: &mut Data, environment: &[(&str, &str)]) -> Sound {
    sound_with(name, data, &Traits { environment, ..Traits::default() })
}

fn sound_with(name: &str, data: &mut Data, traits: &Traits<'_>) -> Sound {
    let Traits { environment, inherits, features, channel } = *traits;
    let (id, id_length) = data.text(name);
    let (sh, sh_length) = data.text("sh");
    let executables = data.words(&[sh, sh_length]);
    let (script, script_length) = data.text("script");
    let args = data.words(&[script, script_length]);
    // Two bytes: non-interactive, interactive.
    let modes = data.words(&[0x0100]);
    // id, display-name, executables, install-hint, default-model, token-variable, inherit-environment, extra
    let mut info = [0_u32; 19];
    info[..6].copy_from_slice(&[id, id_length, id, id_length, executables, 1]);
    let (patterns, count) = texts(data, inherits);
    info[14..16].copy_from_slice(&[patterns, count]);
    let info = data.words(&info);
    // support; cli-version; features; modes; …
    let mut capabilities = [0_u32; 15];
    let (features, count) = texts(data, features);
    capabilities[4..6].copy_from_slice(&[features, count]);
    capabilities[6..8].copy_from_slice(&[modes, if matches!(channel, Channel::Pipes) { 1 } else { 2 }]);
    let capabilities = data.words(&capabilities);
    // ok: args, environment, stdin, files, collect, channel; …
    let mut launch = [0_u32; 18];
    launch[1..3].copy_from_slice(&[args, 1]);
    let (variables, count) = named_values(data, environment);
    launch[3..5].copy_from_slice(&[variables, count]);
    launch[12] = channel as u32;
    let launch = data.words(&launch);
    Sound { info, capabilities, launch }
}

/// Address and length of a list of texts.
pub(super) fn texts(data: &mut Data, texts: &[&str]) -> (u32, u32) {
    let words: Vec<u32> = texts.iter().map(|text| data.text(text)).flat_map(|(at, length)| [at, length]).collect();
    (data.words(&words), u32::try_from(texts.len()).unwrap())
}

/// Address and length of a list of variables.
fn named_values(data: &mut Data, variables: &[(&str, &str)]) -> (u32, u32) {
    let texts = variables.iter().flat_map(|(name, value)| [data.text(name), data.text(value)]);
    let texts: Vec<u32> = texts.flat_map(|(at, length)| [at, length]).collect();
    (data.words(&texts), u32::try_from(variables.len()).unwrap())
}

/// A provider whose launch sets a variable.
pub fn provider_that_sets(name: &str, variable: &str, value: &str) -> Vec<u8> {
    let traits = Traits { environment: &[(variable, value)], ..Traits::default() };
    provider_with(name, Data::new(), &traits, &[])
}

/// A provider that inherits the variables that match a pattern.
pub fn provider_that_inherits(name: &str, pattern: &str) -> Vec<u8> {
    provider_with(name, Data::new(), &Traits { inherits: &[pattern], ..Traits::default() }, &[])
}

/// A provider.
pub fn provider(name: &str, stage: ProviderStage, fault: Fault) -> Vec<u8> {
    let mut data = Data::new();
    let Sound { info, capabilities, launch } = sound(name, &mut data, &[]);
    // final-text; structured-output; failure: kind (transient), code, message, hint, retry; extra
    let (message, message_length) = data.text("not this time");
    let mut failed = [0_u32; 28];
    (failed[6], failed[8]) = (1, 2);
    failed[12..14].copy_from_slice(&[message, message_length]);
    let failed = data.words(&failed);

    let at = |address: u32| format!("i32.const {address}");
    let mut functions = vec![("describe", at(info)), ("detect", at(capabilities)), ("prepare", at(launch))];
    let texts = |offset| Flood { offset, items: 3_000_000, option: false };
    let instead = |condition: &str, flood, otherwise: &str| either(condition, &fault.body(flood), otherwise);
    let mut configure = OK.to_owned();
    match stage {
        ProviderStage::Configure => configure = on("call $marked", &fault.body(RECORDS)),
        ProviderStage::Detect => functions[1].1 = fault.body(texts(16)),
        ProviderStage::Prepare => functions[2].1 = instead("call $marked", texts(4), &at(launch)),
        ProviderStage::PrepareAgain => {
            let second = "i32.ge_u (i32.load offset=8 (local.get 0)) (i32.const 2)";
            functions[2].1 = instead(second, texts(4), &at(launch));
            functions.push(("[method]transcript.finish", at(failed)));
        }
        ProviderStage::Begin => {
            functions.push(("[constructor]transcript", instead("call $marked", RECORDS, NEW)));
        }
        ProviderStage::Read => functions.push(("[method]transcript.read", on("call $marked", &fault.body(RECORDS)))),
        ProviderStage::Finish => {
            let flood = Flood { offset: 4, items: 100_000_000, option: true };
            functions.push(("[method]transcript.finish", fault.body(flood)));
        }
    }
    let functions: Vec<(&str, &str)> = functions.iter().map(|(name, body)| (*name, body.as_str())).collect();
    guest(name, &data, &configure, &functions).provider()
}

/// A provider of sessions in a terminal, which misbehaves if a message contains the word.
pub fn provider_in_terminal(name: &str, fault: Fault) -> Vec<u8> {
    let traits = Traits { features: &["terminal-only"], channel: Channel::Pty, ..Traits::default() };
    let input = on("call $marked", &fault.body(STEP));
    provider_with(name, Data::new(), &traits, &[("[method]transcript.input", &input)])
}

/// A provider of sessions with a protocol. If the output contains the word, it reports that the CLI asks about a command, and
/// it misbehaves when it gets the decision.
pub fn provider_that_asks(name: &str, fault: Fault) -> Vec<u8> {
    let mut data = Data::new();
    let (id, id_length) = data.text("session-1");
    let mut session = [0_u32; EVENT_WORDS];
    session[2..4].copy_from_slice(&[id, id_length]);
    let opened = step(&mut data, &session);
    let [use_id, kind, tool, input] =
        ["use-1", "shell", "Bash", r#"{"command":"ls"}"#].map(|text| data.text(text)).map(|(at, length)| [at, length]);
    let (commands, count) = texts(&mut data, &["ls"]);
    let mut asked = [0_u32; EVENT_WORDS];
    asked[0] = APPROVAL_REQUESTED;
    // The id of the request; id, kind, name, input, commands of the tool use.
    let request = [use_id, use_id, kind, tool, input, [commands, count]].concat();
    asked[2..14].copy_from_slice(&request);
    let asked = step(&mut data, &asked);
    let traits = Traits { channel: Channel::Duplex, ..Traits::default() };
    let open = format!("i32.const {opened}");
    let read = on("call $marked", &format!("i32.const {asked}"));
    let others = [
        ("[method]transcript.open", open.as_str()),
        ("[method]transcript.read", &read),
        ("[method]transcript.decide", &fault.body(STEP)),
    ];
    provider_with(name, data, &traits, &others)
}

/// A provider with these traits; `others` are further functions.
fn provider_with(name: &str, mut data: Data, traits: &Traits<'_>, others: &[(&str, &str)]) -> Vec<u8> {
    let Sound { info, capabilities, launch } = sound_with(name, &mut data, traits);
    let [info, capabilities, launch] = [info, capabilities, launch].map(|address| format!("i32.const {address}"));
    let mut functions = vec![("describe", info.as_str()), ("detect", &capabilities), ("prepare", &launch)];
    functions.push(("[constructor]transcript", NEW));
    functions.extend(others);
    guest(name, &data, OK, &functions).provider()
}

/// Words of a `semantic`, whose longest case is `approval-requested`, with a tool use in it.
pub(super) const EVENT_WORDS: usize = 38;
/// Number of the case `approval-requested`.
const APPROVAL_REQUESTED: u32 = 8;

/// Stores a `step` with events. Gives its address.
pub(super) fn step(data: &mut Data, events: &[u32]) -> u32 {
    let count = u32::try_from(events.len() / EVENT_WORDS).unwrap();
    let events = data.words(events);
    // events, covered, write, end-input
    data.words(&[events, count, 0, 0, 0, 0, 0])
}

/// A provider that runs a program with these arguments as its probe, and reports support.
pub fn prober(name: &str, executable: &str, args: &[&str]) -> Vec<u8> {
    probing(name, executable, args, &[], 5000, 0)
}

/// The same, with a variable for the program.
pub fn prober_that_sets(name: &str, executable: &str, args: &[&str], variable: (&str, &str)) -> Vec<u8> {
    probing(name, executable, args, &[variable], 5000, 0)
}

/// The same with a time limit for the program, and without support.
pub fn refuser(name: &str, executable: &str, args: &[&str], timeout_ms: u32) -> Vec<u8> {
    probing(name, executable, args, &[], timeout_ms, 2)
}

fn probing(
    name: &str,
    executable: &str,
    args: &[&str],
    environment: &[(&str, &str)],
    timeout_ms: u32,
    support: u32,
) -> Vec<u8> {
    let mut data = Data::new();
    let (id, id_length) = data.text(name);
    let (program, program_length) = data.text(executable);
    let executables = data.words(&[program, program_length]);
    // id; args; environment; timeout-ms
    let (args, count) = texts(&mut data, args);
    let (variables, set) = named_values(&mut data, environment);
    let probe = data.words(&[id, id_length, args, count, variables, set, timeout_ms]);
    let probes = data.words(&[probe, 1]);
    let mut info = [0_u32; 19];
    info[..6].copy_from_slice(&[id, id_length, id, id_length, executables, 1]);
    let info = data.words(&info);
    let mode = data.words(&[0]);
    let mut capabilities = [0_u32; 15];
    capabilities[0] = support;
    capabilities[6..8].copy_from_slice(&[mode, 1]);
    let capabilities = data.words(&capabilities);
    let at = |address: u32| format!("i32.const {address}");
    let (info, probes, capabilities) = (at(info), at(probes), at(capabilities));
    guest(name, &data, OK, &[("describe", &info), ("probes", &probes), ("detect", &capabilities)]).provider()
}

/// Instructions for a condition: `if` and `else`.
fn either(condition: &str, body: &str, otherwise: &str) -> String {
    format!("(if (result i32) ({condition}) (then {body}) (else {otherwise}))")
}

/// The same with an answer of zeros as `else`.
pub(super) fn on(condition: &str, body: &str) -> String {
    either(condition, body, OK)
}

/// A guest with its data and with a function that searches for the word in the arguments of a call.
fn guest(name: &str, data: &Data, configure: &str, functions: &[(&str, &str)]) -> Built {
    guest_that_knows(WORD, name, data, configure, functions)
}

/// The same with another word of eight bytes.
pub(super) fn guest_that_knows(
    word: &str,
    name: &str,
    data: &Data,
    configure: &str,
    functions: &[(&str, &str)],
) -> Built {
    let word = u64::from_le_bytes(word.as_bytes().try_into().unwrap());
    let extra = format!(
        r#"{data}
        (func $marked (result i32)
            (local $at i32)
            (local.set $at (i32.const 65536))
            (block $none
                (loop $next_byte
                    (br_if $none (i32.gt_u (i32.add (local.get $at) (i32.const 8)) (global.get $next)))
                    (if (i64.eq (i64.load align=1 (local.get $at)) (i64.const {word})) (then (return (i32.const 1))))
                    (local.set $at (i32.add (local.get $at) (i32.const 1)))
                    (br $next_byte)))
            (global.set $next (i32.const 65536))
            (i32.const 0))"#,
        data = data.segment()
    );
    let own = |(name, body): &(&str, &str)| ((*name).to_owned(), (*body).to_owned());
    Built {
        name: name.to_owned(),
        configure: configure.to_owned(),
        functions: functions.iter().map(own).collect(),
        extra,
    }
}

/// A guest that owns its strings.
pub(super) struct Built {
    name: String,
    configure: String,
    functions: Vec<(String, String)>,
    extra: String,
}

impl Built {
    pub(super) fn policy(&self) -> Vec<u8> {
        self.guest(&self.others()).policy()
    }

    fn redactor(&self) -> Vec<u8> {
        self.guest(&self.others()).redactor()
    }

    pub(super) fn provider(&self) -> Vec<u8> {
        self.guest(&self.others()).provider()
    }

    fn others(&self) -> Vec<(&str, &str)> {
        self.functions.iter().map(|(name, body)| (name.as_str(), body.as_str())).collect()
    }

    fn guest<'a>(&'a self, others: &'a [(&'a str, &'a str)]) -> Guest<'a> {
        Guest { name: &self.name, configure: &self.configure, others, extra: &self.extra, ..Guest::default() }
    }
}

/// Data in the memory of a guest, stored instead of its schema.
pub(super) struct Data(Vec<u8>);

impl Data {
    const BASE: u32 = 4096;

    pub(super) fn new() -> Self {
        Self(Vec::new())
    }

    fn end(&self) -> u32 {
        Self::BASE + u32::try_from(self.0.len()).unwrap()
    }

    /// Address and length.
    pub(super) fn text(&mut self, text: &str) -> (u32, u32) {
        let at = self.end();
        self.0.extend_from_slice(text.as_bytes());
        (at, self.end() - at)
    }

    /// The address, which is a multiple of eight.
    pub(super) fn words(&mut self, words: &[u32]) -> u32 {
        self.0.resize(self.0.len().next_multiple_of(8), 0);
        let at = self.end();
        self.0.extend(words.iter().flat_map(|word| word.to_le_bytes()));
        assert!(self.end() < 8192, "the guest's data is too long");
        at
    }

    fn segment(&self) -> String {
        let bytes = self.0.iter().fold(String::new(), |mut text, byte| {
            let _ = write!(text, "\\{byte:02x}");
            text
        });
        format!("(data (i32.const {}) \"{bytes}\")", Self::BASE)
    }
}
