//! The `ostler` binary, which assembles the parts.
//!
//! For most commands it is a client, see `ostler-cli`. `ostler serve` is the host ([`serve`]): it owns a data folder,
//! opens the storage and the plugins, creates the engine, and serves its API. With hidden commands, the binary is
//! started as a process with a single task: the zygote, process 1 of a namespace, the probe of the sandbox, the
//! compiler of the bundled plugins, the stand-in agent, and shell completion.

mod log;
mod log_files;
mod names;
mod serve;
mod watch;

use std::ffi::OsString;
use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().collect();
    match args.get(1).and_then(|verb| verb.to_str()) {
        Some(ostler_rehearsal::VERB) => ostler_rehearsal::main(args.into_iter().skip(2)),
        Some(ostler_runner::INIT_VERB) => ostler_runner::serve_as_init(args.into_iter().skip(2)),
        Some(serve::ZYGOTE_VERB) => ostler_runner::serve_zygote(),
        Some(ostler_engine::PROBE_VERB) => ostler_engine::probe_sandbox(args.into_iter().skip(2)),
        Some(serve::COMPILE_VERB) => serve::compile(args.into_iter().skip(2)),
        Some(ostler_cli::COMPLETE_VERB) => ostler_cli::complete(args.into_iter().skip(2), &serve::Local),
        _ => ostler_cli::main(args, &serve::Local),
    }
}
