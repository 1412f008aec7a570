//! A Landlock domain: what the child may change, reach and signal, whatever namespaces it makes.

use ::landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, NetPort, Ruleset, RulesetAttr, RulesetCreatedAttr,
    RulesetError, Scope, path_beneath_rules,
};
use nix::errno::Errno;

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
        // On an older kernel the domain would bound nothing of that: then the child must not start.
        ruleset = ruleset.set_compatibility(CompatLevel::HardRequirement).handle_access(AccessNet::ConnectTcp)?;
        ruleset = ruleset.set_compatibility(CompatLevel::BestEffort);
    }
    let mut created = ruleset.create()?;
    if !rules.read.is_empty() {
        created = created.add_rules(path_beneath_rules(&rules.read, reading))?;
        created = created.add_rules(path_beneath_rules(&rules.write, reading))?;
    }
    if rules.bound_writes {
        created = created.add_rules(path_beneath_rules(&rules.write, writing))?;
    }
    for port in rules.connect.iter().flatten() {
        created = created.add_rule(NetPort::new(*port, AccessNet::ConnectTcp))?;
    }
    created.restrict_self()?;
    Ok(())
}
