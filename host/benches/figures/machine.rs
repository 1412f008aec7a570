//! The machine of the measurement.

use std::fs;

/// Prints the machine and its load.
pub(crate) fn describe() {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let field = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    let (cpu, memory) = (read("/proc/cpuinfo"), read("/proc/meminfo"));
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    println!("== machine");
    println!("processor   {} × {}", cores, field(&cpu, "model name").unwrap_or_else(|| "unknown".to_owned()));
    println!("memory      {}", field(&memory, "MemTotal").unwrap_or_default());
    println!("kernel      {}", read("/proc/sys/kernel/osrelease").trim());
    println!("file system {}", file_system().unwrap_or_else(|| "unknown".to_owned()));
    println!("load        {}", read("/proc/loadavg").trim());
    println!("ostler      {}, release profile", env!("CARGO_PKG_VERSION"));
}

/// The type of the file system of the private homes.
fn file_system() -> Option<String> {
    let folder = fs::canonicalize(env!("CARGO_TARGET_TMPDIR")).ok()?;
    let mounts = fs::read_to_string("/proc/mounts").ok()?;
    let fields = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let containing = fields.filter(|fields| fields.get(1).is_some_and(|mount_point| folder.starts_with(mount_point)));
    containing
        .max_by_key(|fields| fields.get(1).map_or(0, |mount_point| mount_point.len()))
        .map(|fields| fields[2].to_owned())
}
