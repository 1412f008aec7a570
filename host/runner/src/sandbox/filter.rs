//! System calls that a child is refused, by seccomp.

use std::collections::BTreeMap;

use nix::errno::Errno;
use nix::libc;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen as Len, SeccompCmpOp as Op, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch, apply_filter,
};

use super::{Filter, Setup, SetupError};

/// Calls that no child needs: they change the kernel, or access the keyrings of the host's user.
const BASIC: [libc::c_long; 12] = [
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    libc::SYS_bpf,
    libc::SYS_kexec_load,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_open_by_handle_at,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_quotactl,
];

/// Calls that change mounts and namespaces.
const MOUNTS: [libc::c_long; 11] = [
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    libc::SYS_setns,
];

/// `S_ISUID`.
const SET_USER: u64 = 0o4000;

/// Calls that set the mode of a file, each with the position of that argument.
const SETTING_MODES: [(libc::c_long, u8); 4] =
    [(libc::SYS_fchmod, 1), (libc::SYS_fchmodat, 2), (libc::SYS_fchmodat2, 2), (libc::SYS_mknodat, 2)];

/// Requests of `ioctl` that put input into a terminal.
const TERMINAL_INPUT: [u64; 2] = [0x5412, 0x541C];

/// `MSG_FASTOPEN`: connects and sends in one call.
const FAST_OPEN: u64 = 0x2000_0000;

/// Types of sockets other than streams.
const NON_STREAM_TYPES: [u64; 6] = [2, 3, 4, 5, 6, 10];

/// Why a filter could not be made or applied.
type FilterError = Box<dyn std::error::Error>;

/// Applies the filter to this process and everything that it becomes.
pub(super) fn apply(filter: Filter) -> Setup {
    // The crate's errors carry the number of the system in their text only.
    programs(filter)
        .and_then(|programs| programs.iter().try_for_each(|program| apply_filter(program).map_err(FilterError::from)))
        .map_err(|error| SetupError { step: format!("filter system calls ({error})"), errno: Errno::EINVAL })
}

fn programs(filter: Filter) -> Result<Vec<BpfProgram>, FilterError> {
    let mut refused: BTreeMap<i64, Vec<SeccompRule>> = BASIC.iter().map(|call| (*call, Vec::new())).collect();
    let input = TERMINAL_INPUT.iter().map(|request| rule(&[(1, Len::Dword, Op::Eq, *request)]));
    refused.insert(libc::SYS_ioctl, input.collect::<Result<_, _>>()?);
    let mut programs = Vec::new();
    if filter != Filter::Basic {
        refused.extend(MOUNTS.iter().map(|call| (*call, Vec::new())));
        let user = u64::from(libc::CLONE_NEWUSER.unsigned_abs());
        let makes_users = || rule(&[(0, Len::Qword, Op::MaskedEq(user), user)]);
        refused.insert(libc::SYS_unshare, vec![makes_users()?]);
        refused.insert(libc::SYS_clone, vec![makes_users()?]);
        // The flags of `clone3` lie in memory, which a filter cannot read; with ENOSYS the C library calls `clone`.
        // Requests in an io_uring are not filtered at all.
        let missing = [libc::SYS_clone3, libc::SYS_io_uring_setup].map(|call| (call, Vec::new())).into();
        programs.push(program(missing, Errno::ENOSYS)?);
        // Any other user who can reach a set-user-id file could become this user.
        for (call, mode) in SETTING_MODES {
            refused.insert(call, vec![rule(&[(mode, Len::Dword, Op::MaskedEq(SET_USER), SET_USER)])?]);
        }
    }
    if matches!(filter, Filter::StrictWithoutUnix | Filter::StrictWithoutSockets) {
        // Without a PID namespace this reaches processes outside.
        refused.insert(libc::SYS_prlimit64, vec![rule(&[(0, Len::Dword, Op::Ne, 0)])?]);
    }
    match filter {
        Filter::Basic | Filter::Strict => {}
        Filter::StrictWithoutUnix => _ = refused.insert(libc::SYS_socket, vec![unix_sockets()?]),
        Filter::StrictWithoutSockets => {
            refused.insert(libc::SYS_socket, socket_rules()?);
            // These connect without `connect`, the only call that Landlock checks.
            for (call, flags) in [(libc::SYS_sendto, 3), (libc::SYS_sendmsg, 2), (libc::SYS_sendmmsg, 3)] {
                refused.insert(call, vec![rule(&[(flags, Len::Dword, Op::MaskedEq(FAST_OPEN), FAST_OPEN)])?]);
            }
        }
    }
    programs.push(program(refused, Errno::EPERM)?);
    Ok(programs)
}

fn unix_sockets() -> Result<SeccompRule, FilterError> {
    rule(&[(0, Len::Dword, Op::Eq, u64::from(libc::AF_UNIX.unsigned_abs()))])
}

/// Sockets other than TCP, and other than those by which programs look at the interfaces.
fn socket_rules() -> Result<Vec<SeccompRule>, FilterError> {
    let family = |op, value: libc::c_int| (0_u8, Len::Dword, op, u64::from(value.unsigned_abs()));
    let mut rules = vec![
        unix_sockets()?,
        rule(&[family(Op::Gt, libc::AF_INET), family(Op::Lt, libc::AF_INET6)])?,
        rule(&[family(Op::Gt, libc::AF_INET6), family(Op::Lt, libc::AF_NETLINK)])?,
        rule(&[family(Op::Gt, libc::AF_NETLINK)])?,
    ];
    for internet in [libc::AF_INET, libc::AF_INET6] {
        // Multipath TCP is another protocol, which Landlock does not check.
        let protocol = |value: libc::c_int| (2_u8, Len::Dword, Op::Ne, u64::from(value.unsigned_abs()));
        rules.push(rule(&[family(Op::Eq, internet), protocol(0), protocol(libc::IPPROTO_TCP)])?);
    }
    for kind in NON_STREAM_TYPES {
        for internet in [libc::AF_INET, libc::AF_INET6] {
            rules.push(rule(&[family(Op::Eq, internet), (1, Len::Dword, Op::MaskedEq(0xf), kind)])?);
        }
    }
    Ok(rules)
}

fn rule(conditions: &[(u8, Len, Op, u64)]) -> Result<SeccompRule, FilterError> {
    let conditions = conditions
        .iter()
        .map(|(argument, length, op, value)| SeccompCondition::new(*argument, length.clone(), op.clone(), *value));
    Ok(SeccompRule::new(conditions.collect::<Result<_, _>>()?)?)
}

fn program(refused: BTreeMap<i64, Vec<SeccompRule>>, answer: Errno) -> Result<BpfProgram, FilterError> {
    let arch = TargetArch::try_from(std::env::consts::ARCH)?;
    let errno = SeccompAction::Errno((answer as i32).unsigned_abs());
    Ok(SeccompFilter::new(refused, SeccompAction::Allow, errno, arch)?.try_into()?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    #[test]
    fn every_filter_compiles_for_this_machine() {
        for (filter, count) in [(Filter::Basic, 1), (Filter::Strict, 2), (Filter::StrictWithoutSockets, 2)] {
            let programs = programs(filter).unwrap();
            assert_eq!(programs.len(), count, "{filter:?}");
            assert!(programs.iter().all(|program| !program.is_empty() && program.len() < 4096));
        }
    }
}
