//! The `ostler` binary.

fn main() -> std::process::ExitCode {
    ostler::main(std::env::args_os())
}
