//! What the host adds to a session: to a message, to an approval that a policy decides, and to the memory of its CLI.
//!
//! The CLI is the stand-in agent, which takes no time of its own to think. It is measured twice, in turns: behind the host,
//! and with its two-way protocol over the pipes of a child of this program.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use ostler_client::{Client, ClientConfig, EventStream, StreamItem};
use ostler_protocol::methods::SubscribeParams;
use ostler_protocol::{Event, RunId};
use serde_json::json;
use tokio::runtime::Runtime;

use crate::Scale;
use crate::client::TIMEOUT;
use crate::home::{Home, Host, folder, proportional};
use crate::report::{Report, Sample, Target, median, show};
use crate::stand_in::{StandIn, Turn, Watch};

/// Sessions at once, for their memory.
const AT_ONCE: usize = 8;
/// Pause before a message: the sessions are idle, and what came before is stored.
const PAUSE: Duration = Duration::from_millis(10);
/// How long host and sessions wait before their memory is measured.
const SETTLED: Duration = Duration::from_secs(2);

/// A message to which the stand-in answers word by word.
const MESSAGE: &str = "SAY the parser reads one line at a time and reports what it has read";

/// Settings of the policy: it judges every use of a tool, allows one command, and denies another.
const POLICY: &str = r#"
[[plugins.policy.tools.settings.rules]]
name = "tests"
decision = "allow"
commands = ["make test"]

[[plugins.policy.tools.settings.rules]]
name = "deployment"
decision = "deny"
commands = ["make deploy"]
"#;

/// The kinds of uses: what happens, what the stand-in does for each, and whether it is allowed. The first two are one question
/// each. Many CLIs show each use and then ask about it, which are two.
const USES: [(&str, &str, bool); 3] = [
    ("that is shown and allowed", "SHOW-USE shell: make test", true),
    ("that is shown and denied", "ASK shell: make deploy", false),
    ("that is shown, asked about and allowed", "ASK shell: make test", true),
];

pub(crate) fn measure(scale: Scale, report: &mut Report) {
    let cli = cli();
    // The runtime is that of a client with one thread, such as the command line.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    messages(scale, report, &cli, &runtime);
    approvals(scale, report, &cli, &runtime);
    memory(scale, report, &cli, &runtime);
}

/// A copy of the binary, as the CLI: it shares no memory with the host, as other CLIs do not.
fn cli() -> PathBuf {
    let program = folder("sessions-cli").join("stand-in");
    fs::copy(env!("CARGO_BIN_EXE_ostler"), &program).unwrap();
    program
}

/// The default configuration with the stand-in as `agent`, slots for all sessions, and further settings.
fn config(cli: &Path, more: &str) -> String {
    format!(
        r#"
[scheduler]
global = {AT_ONCE}
per_provider = {AT_ONCE}

[providers.agent]
plugin = "rehearsal"
executable = "{}"
{more}"#,
        cli.display()
    )
}

/// A message until the first piece of the answer.
fn messages(scale: Scale, report: &mut Report, cli: &Path, runtime: &Runtime) {
    let home = Home::new("sessions", &config(cli, ""));
    let host = home.start();
    let mut session = runtime.block_on(Session::start(&home, &host));
    let mut direct = StandIn::start(cli, &folder("sessions-direct"), &[]);
    let (mut ours, mut bare, mut added) = (Sample::default(), Sample::default(), Vec::new());
    direct.turn(MESSAGE, true);
    for _ in 0..scale.of(400, 20) {
        thread::sleep(PAUSE);
        let alone = direct.turn(MESSAGE, true).first_delta;
        thread::sleep(PAUSE);
        let behind = runtime.block_on(session.turn(MESSAGE)).first_delta;
        bare.push(alone);
        ours.push(behind);
        added.push(behind.as_secs_f64() - alone.as_secs_f64());
    }
    runtime.block_on(session.end());
    host.stop();
    println!("a message until the first piece of the answer:");
    println!("  the stand-in over its pipes   {}", bare.show());
    println!("  behind the host               {}", ours.show());
    let difference = ours.median().saturating_sub(bare.median());
    let late = ours.percentile(99).saturating_sub(bare.percentile(99));
    println!("  the host adds                 p50 {}, p99 {}", show(difference), show(late));
    println!("  median of the differences     {:.2} ms", median(added) * 1e3);
    let beside = format!("p99 {}; in all {}, the stand-in {}", show(late), show(ours.median()), show(bare.median()));
    report.millis("added to the first piece of an answer in a session, p50", difference, 5.0, beside);
}

/// Uses of a tool about which a policy decides. With `autoApprove`, what no policy objects to is allowed.
fn approvals(scale: Scale, report: &mut Report, cli: &Path, runtime: &Runtime) {
    let home = Home::new("approvals", &config(cli, POLICY));
    let host = home.start();
    let mut session = runtime.block_on(Session::start(&home, &host));
    let mut direct = StandIn::start(cli, &folder("approvals-direct"), &["--show-uses"]);
    direct.turn(MESSAGE, true);
    let uses = scale.of(50, 5);
    println!("turns with {uses} uses of a tool about which a policy decides, time for each use:");
    for (what, step, allow) in USES {
        let prompt = vec![step; uses].join("\n");
        let (mut ours, mut bare) = (Sample::default(), Sample::default());
        for _ in 0..scale.of(40, 3) {
            for (sample, behind_host) in [(&mut bare, false), (&mut ours, true)] {
                thread::sleep(PAUSE);
                let turn =
                    if behind_host { runtime.block_on(session.turn(&prompt)) } else { direct.turn(&prompt, allow) };
                let expected = if allow { (uses, 0) } else { (0, uses) };
                assert_eq!((turn.allowed, turn.denied), expected, "{what}");
                sample.push(turn.tools / u32::try_from(uses).unwrap());
            }
        }
        let [median, mean] =
            [Sample::median, Sample::mean].map(|of: fn(&Sample) -> Duration| of(&ours).saturating_sub(of(&bare)));
        println!("  {what}");
        println!("    the stand-in, answered at once  {}, mean {}", bare.show(), show(bare.mean()));
        println!("    behind the host                 {}, mean {}", ours.show(), show(ours.mean()));
        println!("    the host adds                   p50 {}, mean {}", show(median), show(mean));
        let name = format!("added to a tool use {what}, p50");
        report.millis(&name, median, 2.0, format!("mean {}", show(mean)));
    }
    runtime.block_on(session.end());
    host.stop();
}

/// The memory of open sessions, without their CLIs.
fn memory(scale: Scale, report: &mut Report, cli: &Path, runtime: &Runtime) {
    let home = Home::new("sessions-memory", &config(cli, ""));
    let host = home.start();
    let settled = scale.of(SETTLED, Duration::from_millis(200));
    let measured = || {
        thread::sleep(settled);
        Memory::of(&host)
    };
    let before = measured();
    let mut rounds = Vec::new();
    println!("memory where shared pages count in parts, MiB, and processes beside the CLIs:");
    println!("  no session                    {}", before.show());
    for _ in 0..scale.of(3, 1) {
        let sessions: Vec<Session> = (0..AT_ONCE).map(|_| runtime.block_on(Session::start(&home, &host))).collect();
        let open = measured();
        assert_eq!(open.clis, AT_ONCE, "the sessions are not open");
        println!("  {AT_ONCE} sessions                    {}", open.show());
        for session in sessions {
            runtime.block_on(session.end());
        }
        let closed = measured();
        println!("  after their end               {}", closed.show());
        rounds.push((open, closed));
    }
    host.stop();
    let share = |open: &Memory, idle: &Memory| (open.total() - idle.total()) / AT_ONCE as f64;
    let (open, closed) = rounds.last().unwrap();
    let helpers = (rounds[0].0.helpers - before.helpers) / AT_ONCE as f64;
    let beside = format!(
        "{helpers:.2} MiB of it in helper processes; {:.2} MiB compared with the end of the sessions",
        share(open, closed)
    );
    let what = format!("memory of a session beside its CLI, {AT_ONCE} at once");
    report.figure(&what, share(&rounds[0].0, &before), "MiB", Target::AtMost(8.0), beside);
}

/// Memory in MiB.
struct Memory {
    host: f64,
    /// Its helper processes.
    helpers: f64,
    processes: usize,
    /// Number of CLIs, whose memory does not count.
    clis: usize,
}

impl Memory {
    fn of(host: &Host) -> Self {
        let is_cli = |pid: &u32| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            line.split(|byte| *byte == 0).any(|arg| arg == b"__rehearse")
        };
        let (clis, own): (Vec<u32>, Vec<u32>) = host.processes().into_iter().partition(is_cli);
        let helpers = own.iter().filter(|pid| **pid != host.pid()).map(|pid| proportional(*pid)).sum();
        Self { host: proportional(host.pid()), helpers, processes: own.len(), clis: clis.len() }
    }

    fn total(&self) -> f64 {
        self.host + self.helpers
    }

    fn show(&self) -> String {
        let Self { host, helpers, processes, clis } = self;
        format!("{:.2} (host {host:.2}, others {helpers:.2}), {processes} processes, {clis} CLIs", self.total())
    }
}

/// An open session, and the events of its run.
struct Session {
    client: Client,
    run: RunId,
    events: EventStream,
}

impl Session {
    /// Opens a session, and waits for the end of its first turn.
    async fn start(home: &Home, host: &Host) -> Self {
        let config = ClientConfig::new(host.socket().to_owned(), env!("CARGO_PKG_VERSION"));
        let client = Client::connect(config).await.unwrap();
        let payload = json!({
            "provider": "agent", "prompt": MESSAGE, "cwd": home.work(),
            "harness": {"permissions": {"autoApprove": true}},
        });
        let run = client.start_session(&payload).await.unwrap().run_id;
        let mut events = client.follow(SubscribeParams { run_id: Some(run), ..SubscribeParams::default() });
        follow(&mut events, Watch::start()).await;
        Self { client, run, events }
    }

    /// Sends a message, and waits for the end of the turn.
    async fn turn(&mut self, prompt: &str) -> Turn {
        let watch = Watch::start();
        let sent = self.client.send_session_input(self.run, prompt.to_owned());
        let (sent, turn) = tokio::join!(sent, follow(&mut self.events, watch));
        sent.unwrap();
        turn
    }

    async fn end(self) {
        self.client.end_session(self.run).await.unwrap();
    }
}

/// Follows events to the end of a turn.
async fn follow(events: &mut EventStream, mut watch: Watch) -> Turn {
    loop {
        let event = next(events).await;
        let (at, payload) = (Instant::now(), &event.payload);
        assert!(!event.kind.terminal(), "the session has ended: {payload}");
        match payload["kind"].as_str().unwrap_or_default() {
            "text_delta" => watch.delta(at),
            "tool_start" => watch.tool(at),
            "tool_result" => watch.result(payload["isError"] == true),
            "approval_requested" => panic!("a user is asked: {payload}"),
            "turn_complete" => {
                assert_eq!(payload["status"], "completed", "{payload}");
                return watch.end(at);
            }
            _ => {}
        }
    }
}

async fn next(events: &mut EventStream) -> Box<Event> {
    match tokio::time::timeout(TIMEOUT, events.next()).await.expect("an event").unwrap() {
        StreamItem::Event(event) => event,
        StreamItem::Interrupted(reason) => panic!("the event stream was interrupted: {reason}"),
    }
}
