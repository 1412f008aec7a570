//! A Landlock domain: what the child may change, reach and signal, whatever namespaces it makes.

use std::path::PathBuf;

use ::landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, NetPort, PathBeneath, Ruleset, RulesetAttr,
    RulesetCreated, RulesetCreatedAttr, RulesetError, Scope,
};
use nix::errno::Errno;

use super::mounts::{is_folder, open_path};
use super::{Landlock, Setup, SetupError};

/// The newest interface whose rights are known here. A kernel with an older one enforces what it knows.
const ABI_KNOWN: ABI = ABI::V7;

/// Puts this process, and everything that it becomes, into the domain.
pub(super) fn restrict(rules: &Landlock) -> Setup {
    // The crate's errors carry the number of the system in their text only.
    enter(rules)
        .map_err(|error| SetupError { step: format!("enter a Landlock domain ({error})"), errno: Errno::EINVAL })
}

fn enter(rules: &Landlock) -> Result<(), RulesetError> {
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
        created = allow(created, &rules.read, reading)?;
        created = allow(created, &rules.write, reading)?;
    }
    if rules.bound_writes {
        created = allow(created, &rules.write, writing)?;
    }
    for port in rules.connect.iter().flatten() {
        created = created.add_rule(NetPort::new(*port, AccessNet::ConnectTcp))?;
    }
    created.restrict_self()?;
    Ok(())
}

/// Allows access to those paths. A path that is missing, or behind a link, is skipped.
fn allow(
    mut created: RulesetCreated,
    paths: &[PathBuf],
    access: BitFlags<AccessFs>,
) -> Result<RulesetCreated, RulesetError> {
    for path in paths {
        let Ok(target) = open_path(path) else { continue };
        let Ok(folder) = is_folder(&target) else { continue };
        let access = if folder { access } else { access & AccessFs::from_file(ABI_KNOWN) };
        created = created.add_rule(PathBeneath::new(target, access))?;
    }
    Ok(created)
}
