//! Takes from a child what no child may have: new privileges, capabilities except over files, the host's keyrings, core
//! files.

use nix::errno::Errno;
use nix::libc;
use nix::sys::resource::{Resource, getrlimit, rlim_t, setrlimit};

use super::{ResourceLimits, Setup, SetupError};

/// Capabilities that a child of a host that runs as root keeps: those over the owners and modes of files and over its
/// own processes. Without them root could not work in a folder of another user. None of them allows mounts.
const OF_ROOT: [(u32, &str); 9] = [
    (0, "CAP_CHOWN"),
    (1, "CAP_DAC_OVERRIDE"),
    (2, "CAP_DAC_READ_SEARCH"),
    (3, "CAP_FOWNER"),
    (4, "CAP_FSETID"),
    (5, "CAP_KILL"),
    (6, "CAP_SETGID"),
    (7, "CAP_SETUID"),
    (10, "CAP_NET_BIND_SERVICE"),
];

/// The highest number that a capability may have in this kernel's interface.
const HIGHEST: u32 = 63;

const KEYCTL_JOIN_SESSION_KEYRING: libc::c_int = 1;

/// Keeps other processes of the user from reading this one's memory and environment, and the system from writing it to
/// a core file. A program that is executed later starts without this protection.
pub fn be_opaque() {
    // SAFETY: takes numbers only. A refusal changes nothing.
    unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0) };
}

/// Lets other processes of the user look at this one, for as long as the keeper writes its user map.
pub(super) fn be_transparent() {
    // SAFETY: takes numbers only. A refusal changes nothing.
    unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 1, 0, 0, 0) };
}

/// Removes from this process what no child may have. Called after everything that needs privileges.
pub(in super::super) fn restrict(limits: &ResourceLimits, contained: bool) -> Setup {
    // SAFETY: takes numbers only.
    let done = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
    Errno::result(done).map_err(SetupError::at("set no_new_privs"))?;
    join_own_keyring();
    set_limits(limits)?;
    if contained { drop_capabilities() } else { Ok(()) }
}

/// Gives the process a session keyring of its own: the host's would expose the keys in it. A kernel without keyrings
/// needs no protection.
fn join_own_keyring() {
    // SAFETY: an anonymous keyring: a null name. A failure leaves the inherited keyring, which the filter of system
    // calls makes unreachable.
    unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, std::ptr::null::<libc::c_char>()) };
}

fn set_limits(limits: &ResourceLimits) -> Setup {
    let wanted = [
        ("processes", Resource::RLIMIT_NPROC, limits.processes),
        ("memory", Resource::RLIMIT_AS, limits.memory),
        ("open files", Resource::RLIMIT_NOFILE, limits.open_files),
        ("file size", Resource::RLIMIT_FSIZE, limits.file_size),
        ("core files", Resource::RLIMIT_CORE, Some(0)),
    ];
    for (name, resource, value) in wanted {
        let Some(value) = value else { continue };
        let (_, hard) = getrlimit(resource).map_err(SetupError::at(format!("read the limit of {name}")))?;
        let value = rlim_t::from(value).min(hard);
        setrlimit(resource, value, value).map_err(SetupError::at(format!("limit {name}")))?;
    }
    Ok(())
}

/// Drops every capability but those of [`OF_ROOT`], which only root has; a later program cannot get them back.
fn drop_capabilities() -> Setup {
    let root = nix::unistd::geteuid().is_root();
    let kept = |capability: u32| root && OF_ROOT.iter().any(|(of_root, _)| *of_root == capability);
    for capability in (0..=HIGHEST).filter(|capability| !kept(*capability)) {
        // SAFETY: takes numbers only. EINVAL says that this kernel does not know the capability.
        let dropped = unsafe { libc::prctl(libc::PR_CAPBSET_DROP, libc::c_ulong::from(capability), 0, 0, 0) };
        match Errno::result(dropped) {
            Ok(_) => {}
            Err(Errno::EINVAL) => break,
            // Without the right to drop capabilities, a program cannot gain any either: no_new_privs is set.
            Err(Errno::EPERM) => break,
            Err(errno) => return Err(SetupError::at("drop capabilities")(errno)),
        }
    }
    let at = |errno| SetupError::at("drop capabilities")(errno);
    let low = OF_ROOT.iter().filter(|_| root).fold(0_u32, |set, (capability, _)| set | 1 << capability);
    let had = capabilities().map_err(at)?;
    set_capabilities(low & had).map_err(at)
}

/// The names of the capabilities that root keeps.
pub(super) fn names_of_root() -> impl Iterator<Item = &'static str> {
    OF_ROOT.iter().map(|(_, name)| *name)
}

#[repr(C)]
struct CapabilityHeader {
    version: u32,
    pid: libc::c_int,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct CapabilitySet {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// `_LINUX_CAPABILITY_VERSION_3`: sets of 64 capabilities in two halves.
const CAPABILITY_VERSION: u32 = 0x2008_0522;

/// The first 32 permitted capabilities of this process.
fn capabilities() -> nix::Result<u32> {
    let header = CapabilityHeader { version: CAPABILITY_VERSION, pid: 0 };
    let mut sets = [CapabilitySet { effective: 0, permitted: 0, inheritable: 0 }; 2];
    // SAFETY: both pointers are to live structures of the layout that this version of the interface has.
    let got = unsafe { libc::syscall(libc::SYS_capget, &raw const header, sets.as_mut_ptr()) };
    Errno::result(got)?;
    Ok(sets[0].permitted)
}

fn set_capabilities(low: u32) -> nix::Result<()> {
    let header = CapabilityHeader { version: CAPABILITY_VERSION, pid: 0 };
    let half = |bits| CapabilitySet { effective: bits, permitted: bits, inheritable: 0 };
    let sets = [half(low), half(0)];
    // SAFETY: both pointers are to live structures of the layout that this version of the interface has.
    let set = unsafe { libc::syscall(libc::SYS_capset, &raw const header, sets.as_ptr()) };
    Errno::result(set).map(drop)
}
