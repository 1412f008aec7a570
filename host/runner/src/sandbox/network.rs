//! The network of a child without a route: its loopback, and the sockets on it that the host serves.

use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

use super::super::linux::errno_of;
use super::{Network, Setup, SetupError};

/// Opens the loopback of a new network namespace and listens on it: first for the proxy, then for each forwarded port.
pub(super) fn open(network: &Network) -> Setup<Vec<OwnedFd>> {
    bring_loopback_up().map_err(SetupError::at("bring loopback up"))?;
    listen(network)
}

/// Listens in a network namespace whose loopback is up already.
pub(super) fn listen(network: &Network) -> Setup<Vec<OwnedFd>> {
    let ports = std::iter::once(network.proxy_port).chain(network.forwards.iter().copied());
    ports.map(|port| listen_on(port).map_err(SetupError::at(format!("listen on loopback port {port}")))).collect()
}

fn listen_on(port: u16) -> nix::Result<OwnedFd> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port));
    listener.map(OwnedFd::from).map_err(|error| errno_of(&error))
}

fn bring_loopback_up() -> nix::Result<()> {
    let any = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    // SAFETY: all zeros is a valid value of this plain structure.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = *from as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: an open socket and a live structure of the type that this request takes.
    Errno::result(unsafe { libc::ioctl(any.as_raw_fd(), libc::SIOCSIFFLAGS, &raw mut request) }).map(drop)
}
