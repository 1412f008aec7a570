//! Records a run's connections as events, with a limit on their number.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::EgressSink;
use ostler_protocol::{Network, NetworkReason, NetworkVerdict};

/// The number of single events for one host and verdict; later ones are counted and reported at the run's end.
const SINGLE_EVENTS: u64 = 4;
/// The number of hosts and verdicts that are counted separately in one run; the rest is counted together.
const MAX_KEYS: usize = 200;
/// The longest detail, in bytes; the rest is cut.
const MAX_DETAIL: usize = 300;

/// Bytes of one connection.
#[derive(Debug, Default)]
pub(super) struct Meter {
    /// From the run to the host that it reached.
    pub(super) up: AtomicU64,
    /// From there to the run.
    pub(super) down: AtomicU64,
}

#[derive(PartialEq, Eq, Hash)]
struct Key {
    host: String,
    port: u16,
    verdict: NetworkVerdict,
    reason: Option<NetworkReason>,
}

#[derive(Default)]
struct Tally {
    seen: u64,
    /// Of those, the ones that no event has reported yet, with their bytes.
    unreported: u64,
    up: u64,
    down: u64,
}

#[derive(Default)]
struct Tallies {
    by_key: HashMap<Key, Tally>,
    /// Decisions about keys beyond [`MAX_KEYS`].
    others: Tally,
}

/// Turns the decisions of one run into events.
pub(super) struct Recorder {
    sink: Arc<dyn EgressSink>,
    tallies: Mutex<Tallies>,
}

impl Recorder {
    pub(super) fn new(sink: Arc<dyn EgressSink>) -> Self {
        Self { sink, tallies: Mutex::default() }
    }

    /// Records a decision: reports it at once, or counts it for a summary at the end.
    pub(super) fn record(&self, mut event: Network) {
        if let Some(detail) = &mut event.detail {
            detail.truncate(detail.floor_char_boundary(MAX_DETAIL));
        }
        {
            let mut tallies = self.tallies.lock().unwrap_or_else(PoisonError::into_inner);
            let Tallies { by_key, others } = &mut *tallies;
            let key = Key { host: event.host.clone(), port: event.port, verdict: event.verdict, reason: event.reason };
            // A repeated refusal has no new information.
            let single = if event.verdict == NetworkVerdict::Allowed { SINGLE_EVENTS } else { 1 };
            let room = by_key.len() < MAX_KEYS;
            let (tally, single) = match by_key.entry(key) {
                Entry::Occupied(found) => (found.into_mut(), single),
                Entry::Vacant(free) if room => (free.insert(Tally::default()), single),
                Entry::Vacant(_) => (others, 0),
            };
            tally.seen += 1;
            if tally.seen > single {
                tally.unreported += 1;
                tally.up += event.bytes_up;
                tally.down += event.bytes_down;
                return;
            }
        }
        self.sink.event(event);
    }

    /// Reports the decisions that were only counted. Called after the run's last connection has ended.
    pub(super) fn finish(&self) {
        let tallies = std::mem::take(&mut *self.tallies.lock().unwrap_or_else(PoisonError::into_inner));
        let mut unreported: Vec<(Key, Tally)> =
            tallies.by_key.into_iter().filter(|(_, tally)| tally.unreported > 0).collect();
        unreported.sort_by(|(left, _), (right, _)| (&left.host, left.port).cmp(&(&right.host, right.port)));
        for (key, tally) in unreported {
            self.sink.event(Network {
                host: key.host,
                port: key.port,
                verdict: key.verdict,
                reason: key.reason,
                detail: None,
                bytes_up: tally.up,
                bytes_down: tally.down,
                connections: tally.unreported,
            });
        }
        if tallies.others.unreported > 0 {
            self.sink.event(Network {
                host: "*".to_owned(),
                port: 0,
                verdict: NetworkVerdict::Refused,
                reason: None,
                detail: Some(format!("decisions about more than {MAX_KEYS} hosts are not reported one by one")),
                bytes_up: tallies.others.up,
                bytes_down: tallies.others.down,
                connections: tallies.others.unreported,
            });
        }
    }
}

/// An open connection; its end is recorded on drop.
pub(super) struct Connected {
    recorder: Arc<Recorder>,
    meter: Arc<Meter>,
    host: String,
    port: u16,
    refused: Option<(NetworkReason, Option<String>)>,
}

impl Connected {
    pub(super) fn new(recorder: Arc<Recorder>, meter: Arc<Meter>, host: String, port: u16) -> Self {
        Self { recorder, meter, host, port, refused: None }
    }

    /// The client did not send what the host is allowed for.
    pub(super) fn refuse(&mut self, reason: NetworkReason, detail: Option<String>) {
        self.refused = Some((reason, detail));
    }
}

impl Drop for Connected {
    fn drop(&mut self) {
        let (reason, detail) = self.refused.take().map_or((None, None), |(reason, detail)| (Some(reason), detail));
        self.recorder.record(Network {
            host: std::mem::take(&mut self.host),
            port: self.port,
            verdict: if reason.is_some() { NetworkVerdict::Refused } else { NetworkVerdict::Allowed },
            reason,
            detail,
            bytes_up: self.meter.up.load(Ordering::Relaxed),
            bytes_down: self.meter.down.load(Ordering::Relaxed),
            connections: 1,
        });
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    #[derive(Default)]
    struct Collected(Mutex<Vec<Network>>);

    impl EgressSink for Collected {
        fn event(&self, event: Network) {
            self.0.lock().unwrap().push(event);
        }
    }

    fn event(host: &str, verdict: NetworkVerdict) -> Network {
        Network {
            host: host.to_owned(),
            port: 443,
            verdict,
            reason: (verdict == NetworkVerdict::Refused).then_some(NetworkReason::NotAllowed),
            detail: None,
            bytes_up: 10,
            bytes_down: 100,
            connections: 1,
        }
    }

    #[test]
    fn repeated_decisions_are_counted() {
        let collected = Arc::new(Collected::default());
        let recorder = Recorder::new(Arc::clone(&collected) as Arc<dyn EgressSink>);
        for _ in 0..1000 {
            recorder.record(event("a.example", NetworkVerdict::Allowed));
            recorder.record(event("b.example", NetworkVerdict::Refused));
        }
        assert_eq!(collected.0.lock().unwrap().len(), 5);
        recorder.finish();
        recorder.finish();
        let events = collected.0.lock().unwrap();
        assert_eq!(events.len(), 7);
        assert_eq!((events[5].connections, events[5].bytes_down), (996, 99_600));
        assert_eq!((events[6].connections, events[6].reason), (999, Some(NetworkReason::NotAllowed)));
        assert_eq!(events.iter().map(|event| event.connections).sum::<u64>(), 2000);
    }

    #[test]
    fn hosts_beyond_the_limit_are_counted_together() {
        let collected = Arc::new(Collected::default());
        let recorder = Recorder::new(Arc::clone(&collected) as Arc<dyn EgressSink>);
        for number in 0..5000 {
            recorder.record(event(&format!("{number}.example"), NetworkVerdict::Refused));
        }
        assert_eq!(recorder.tallies.lock().unwrap().by_key.len(), MAX_KEYS);
        recorder.finish();
        let events = collected.0.lock().unwrap();
        assert_eq!(events.len(), MAX_KEYS + 1);
        assert_eq!(events[MAX_KEYS].connections, 4800);
    }
}
