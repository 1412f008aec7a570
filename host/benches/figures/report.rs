//! Samples, and the table at the end.

use std::time::Duration;

/// Durations of repeated measurements.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sample(Vec<Duration>);

impl Sample {
    pub(crate) fn push(&mut self, duration: Duration) {
        self.0.push(duration);
    }

    /// The smallest duration that is not below this percentage of all.
    pub(crate) fn percentile(&self, percent: usize) -> Duration {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let index = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
        sorted.get(index).copied().unwrap_or_default()
    }

    pub(crate) fn median(&self) -> Duration {
        self.percentile(50)
    }

    pub(crate) fn mean(&self) -> Duration {
        let count = u32::try_from(self.0.len().max(1)).unwrap_or(u32::MAX);
        self.0.iter().sum::<Duration>() / count
    }

    /// `p50 1.23 ms, p99 4.56 ms of 200`.
    pub(crate) fn show(&self) -> String {
        format!("p50 {}, p99 {} of {}", show(self.median()), show(self.percentile(99)), self.0.len())
    }
}

impl FromIterator<Duration> for Sample {
    fn from_iter<T: IntoIterator<Item = Duration>>(durations: T) -> Self {
        Self(durations.into_iter().collect())
    }
}

/// The median of some numbers.
pub(crate) fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_unstable_by(f64::total_cmp);
    numbers.get(numbers.len() / 2).copied().unwrap_or(f64::NAN)
}

/// A duration in the unit that fits it.
pub(crate) fn show(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    match seconds {
        _ if seconds >= 1.0 => format!("{seconds:.2} s"),
        _ if seconds >= 1e-3 => format!("{:.2} ms", seconds * 1e3),
        _ if seconds >= 1e-6 => format!("{:.2} µs", seconds * 1e6),
        _ => format!("{:.0} ns", seconds * 1e9),
    }
}

/// The processor time that this thread has used. Work of a single thread is measured with it, so that other load on the
/// machine does not count.
pub(crate) fn thread_time() -> Duration {
    let time = nix::time::clock_gettime(nix::time::ClockId::CLOCK_THREAD_CPUTIME_ID).unwrap();
    Duration::from(time)
}

/// Megabytes per second.
pub(crate) fn rate(bytes: usize, time: Duration) -> f64 {
    bytes as f64 / 1e6 / time.as_secs_f64()
}

/// The target of a figure.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Target {
    /// This or less.
    AtMost(f64),
    /// This or more.
    AtLeast(f64),
}

/// All figures.
#[derive(Debug, Default)]
pub(crate) struct Report {
    rows: Vec<[String; 5]>,
}

impl Report {
    /// Adds a figure and its target in the same unit; `beside` describes the limit that was measured with it.
    pub(crate) fn figure(&mut self, what: &str, value: f64, unit: &str, target: Target, beside: impl Into<String>) {
        let (target, met) = match target {
            Target::AtMost(most) => (format!("≤ {most} {unit}"), value <= most),
            Target::AtLeast(least) => (format!("≥ {least} {unit}"), value >= least),
        };
        let verdict = if met { "met" } else { "MISSED" };
        self.rows.push([what.to_owned(), number(value, unit), target, verdict.to_owned(), beside.into()]);
    }

    /// Adds a time and its maximum in milliseconds.
    pub(crate) fn millis(&mut self, what: &str, value: Duration, most: f64, beside: impl Into<String>) {
        self.figure(what, value.as_secs_f64() * 1e3, "ms", Target::AtMost(most), beside);
    }

    /// Prints the table.
    pub(crate) fn print(&self) {
        println!("\n== figures");
        let head = ["figure", "measured", "target", "", "beside it"].map(str::to_owned);
        let width = |column: usize| {
            self.rows.iter().chain([&head]).map(|row| row[column].chars().count()).max().unwrap_or_default()
        };
        let widths = [0, 1, 2, 3].map(width);
        for row in [&head].into_iter().chain(&self.rows) {
            let [what, value, target, verdict, beside] = row;
            let [a, b, c, d] = widths;
            println!("{}", format!("{what:a$}  {value:>b$}  {target:c$}  {verdict:d$}  {beside}").trim_end());
        }
    }
}

fn number(value: f64, unit: &str) -> String {
    let digits = match value {
        _ if value >= 100.0 => 0,
        _ if value >= 10.0 => 1,
        _ => 2,
    };
    format!("{value:.digits$} {unit}")
}
