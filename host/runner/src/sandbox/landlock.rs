//! A Landlock domain: what the child may change, reach and signal, whatever namespaces it makes.

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use ::landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, NetPort, PathBeneath, Ruleset, RulesetAttr,
    RulesetCreated, RulesetCreatedAttr, RulesetError, Scope,
};
use nix::errno::Errno;

use super::mounts::{is_folder, open_path};
use super::{Landlock, Setup, SetupError};

/// The newest interface whose rights are known here. A kernel with an older one enforces what it knows.
const ABI_KNOWN: ABI = ABI::V7;

/// The terminals of everyone who shares this `/dev`.
const TERMINALS: &str = "/dev/pts";

/// Puts this process, and everything that it becomes, into the domain. A rule for a folder above [`TERMINALS`] does not
/// apply to them if they are `shared` with others. `terminal` says whether standard input is a terminal of this process,
/// which is open to it in any case.
pub(super) fn restrict(rules: &Landlock, shared: bool, terminal: bool) -> Setup {
    // The crate's errors carry the number of the system in their text only.
    enter(rules, shared, terminal)
        .map_err(|error| SetupError { step: format!("enter a Landlock domain ({error})"), errno: Errno::EINVAL })
}

fn enter(rules: &Landlock, shared: bool, terminal: bool) -> Result<(), RulesetError> {
    let (reading, writing) = (AccessFs::from_read(ABI_KNOWN), AccessFs::from_write(ABI_KNOWN));
    let mut ruleset = Ruleset::default().scope(Scope::from_all(ABI_KNOWN))?;
    if rules.bound_writes {
        ruleset = ruleset.handle_access(writing)?;
    }
    if !rules.read.is_empty() {
        ruleset = ruleset.handle_access(reading)?;
    }
    if rules.connect.is_some() {
        // An older kernel would not restrict connections at all: then the child must not start. Listening is restricted,
        // too, because it would also allow communication.
        ruleset =
            ruleset.set_compatibility(CompatLevel::HardRequirement).handle_access(AccessNet::from_all(ABI_KNOWN))?;
        ruleset = ruleset.set_compatibility(CompatLevel::BestEffort);
    }
    let mut created = ruleset.create()?;
    if !rules.read.is_empty() {
        created = allow(created, &rules.read, reading, shared)?;
        created = allow(created, &rules.write, reading, shared)?;
    }
    if rules.bound_writes {
        created = allow(created, &rules.write, writing, shared)?;
    }
    if terminal {
        let handled = |handles: bool, access| if handles { access } else { BitFlags::EMPTY };
        let access = handled(!rules.read.is_empty(), reading) | handled(rules.bound_writes, writing);
        let access = access & AccessFs::from_file(ABI_KNOWN);
        if !access.is_empty() {
            created = created.add_rule(PathBeneath::new(std::io::stdin().as_fd(), access))?;
        }
    }
    for port in rules.connect.iter().flatten() {
        created = created.add_rule(NetPort::new(*port, AccessNet::ConnectTcp))?;
    }
    created.restrict_self()?;
    Ok(())
}

/// Allows access to those paths, without [`TERMINALS`] below them if those are shared. A path that is missing, or behind
/// a link, is skipped.
fn allow(
    mut created: RulesetCreated,
    paths: &[PathBuf],
    access: BitFlags<AccessFs>,
    shared: bool,
) -> Result<RulesetCreated, RulesetError> {
    for path in paths {
        if shared && is_above_terminals(path) {
            created = allow_around_terminals(created, path, access)?;
            continue;
        }
        let Ok(target) = open_path(path) else { continue };
        let Ok(folder) = is_folder(&target) else { continue };
        let access = if folder { access } else { access & AccessFs::from_file(ABI_KNOWN) };
        created = created.add_rule(PathBeneath::new(target, access))?;
    }
    Ok(created)
}

/// Whether a device is the system console, a virtual one (`tty1`), or the screen of one (`vcs1`).
fn is_console(path: &Path) -> bool {
    let name = path.strip_prefix("/dev").ok().and_then(Path::to_str).unwrap_or_default();
    let virtual_console =
        name.strip_prefix("tty").is_some_and(|number| number.starts_with(|c: char| c.is_ascii_digit()));
    name == "console" || virtual_console || name.starts_with("vcs")
}

fn is_above_terminals(path: &Path) -> bool {
    Path::new(TERMINALS).starts_with(path) && path != Path::new(TERMINALS)
}

/// Allows access to the entries of a folder above [`TERMINALS`], as they are now, but for the terminals and the consoles of
/// the machine. The names of all entries may be read.
fn allow_around_terminals(
    mut created: RulesetCreated,
    folder: &Path,
    access: BitFlags<AccessFs>,
) -> Result<RulesetCreated, RulesetError> {
    let names = access & AccessFs::ReadDir;
    if let Ok(target) = open_path(folder)
        && !names.is_empty()
    {
        created = created.add_rule(PathBeneath::new(target, names))?;
    }
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let around = entries.map(|entry| entry.path()).filter(|path| path != Path::new(TERMINALS) && !is_console(path));
    allow(created, &around.collect::<Vec<_>>(), access, true)
}
