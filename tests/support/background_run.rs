//! A run in the background that must not be affected by faults of others.

use super::{TestHost, end_of, of_type, tool_outputs};
use serde_json::Value;
use std::{
    fs,
    path::PathBuf,
    sync::atomic::{AtomicU32, Ordering},
};

/// A run that counts until it is stopped.
pub struct BackgroundRun {
    run: String,
    gate: PathBuf,
}

impl BackgroundRun {
    /// Starts a run, and waits until it counts.
    #[track_caller]
    pub fn start(host: &TestHost) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let gate = host.work().join(format!("gate-{}", COUNT.fetch_add(1, Ordering::Relaxed)));
        let count = "i=0; while [ ! -e GATE ]; do i=$((i+1)); echo tick $i; sleep 0.02; done; echo $i ticks";
        let prompt = format!("RUN {}", count.replace("GATE", gate.to_str().unwrap()));
        let mut follower = host.follow(&["run", "--json", "rehearsal", &prompt]);
        follower.wait_for("a run that counts", |event| event["payload"]["kind"] == "tool_delta");
        let run = follower.run_id();
        follower.kill();
        Self { run, gate }
    }

    /// Stops the run, and checks that it has counted without a gap. Gives its events.
    ///
    /// # Panics
    /// If it was affected.
    #[track_caller]
    pub fn finish(self, host: &TestHost) -> Vec<Value> {
        fs::write(&self.gate, "").unwrap();
        let events = host.wait_for_end(&self.run);
        super::check_run_events(&events);
        assert_eq!(end_of(&events).unwrap()["type"], "run.completed", "{:#}", end_of(&events).unwrap());
        assert_eq!(of_type(&events, "run.warning"), Vec::<&Value>::new());
        let output = tool_outputs(&events);
        let ticks = output.lines().filter(|line| line.starts_with("tick ")).count();
        let expected: String = (1..=ticks).map(|tick| format!("tick {tick}\n")).collect();
        assert_eq!(output, format!("{expected}{ticks} ticks\n"));
        fs::remove_file(&self.gate).unwrap();
        events
    }
}
