//! Which addresses a name may resolve to.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ostler_protocol::NetworkReason;

/// Which addresses are permitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum AddressScope {
    /// Public addresses.
    Public,
    /// Also addresses of private networks: for hosts that the operator named, for example a company's gateway.
    Internal,
}

/// Addresses of cloud metadata services outside of the link-local ranges. They return credentials to any caller.
const METADATA: &[IpAddr] = &[
    // Azure; a public address that is answered by the machine's own host.
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
    // Alibaba Cloud.
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    // Oracle Cloud.
    IpAddr::V4(Ipv4Addr::new(192, 0, 0, 192)),
    // AWS: instance metadata, ECS and EKS.
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23)),
    // Google Cloud.
    IpAddr::V6(Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254)),
];

/// Checks an address to which a name resolved.
///
/// # Errors
/// The class of the address, if the scope does not include it. Loopback, link-local, metadata and reserved addresses
/// are refused in each scope.
pub fn check_address(address: IpAddr, scope: AddressScope) -> Result<(), NetworkReason> {
    match classify(address.to_canonical()) {
        None => Ok(()),
        Some(NetworkReason::PrivateAddress) if scope == AddressScope::Internal => Ok(()),
        Some(class) => Err(class),
    }
}

/// The class of an address that is not public.
pub(super) fn classify(address: IpAddr) -> Option<NetworkReason> {
    if METADATA.contains(&address) {
        return Some(NetworkReason::MetadataAddress);
    }
    match address {
        IpAddr::V4(address) => classify_v4(address),
        IpAddr::V6(address) => classify_v6(address),
    }
}

fn classify_v4(address: Ipv4Addr) -> Option<NetworkReason> {
    let [a, b, c, d] = address.octets();
    match (a, b, c, d) {
        (127, ..) => Some(NetworkReason::LoopbackAddress),
        // AWS and most others; ECS.
        (169, 254, 169, 254) | (169, 254, 170, 2) => Some(NetworkReason::MetadataAddress),
        (169, 254, ..) => Some(NetworkReason::LinkLocalAddress),
        // Private use, carrier-grade NAT, and the benchmark range that some VPN clients answer names with.
        (10, ..) | (172, 16..=31, ..) | (192, 168, ..) | (100, 64..=127, ..) | (198, 18..=19, ..) => {
            Some(NetworkReason::PrivateAddress)
        }
        // This network; protocol assignments; documentation; 6to4 relays; multicast; reserved and broadcast.
        (0, ..) | (192, 0, 0 | 2, _) | (198, 51, 100, _) | (203, 0, 113, _) | (192, 88, 99, _) | (224..=255, ..) => {
            Some(NetworkReason::ReservedAddress)
        }
        _ => None,
    }
}

fn classify_v6(address: Ipv6Addr) -> Option<NetworkReason> {
    let [a, b, c, d, e, f, g, h] = address.segments();
    let embedded = |high: u16, low: u16| classify(IpAddr::V4(Ipv4Addr::from((u32::from(high) << 16) | u32::from(low))));
    match (a, b) {
        _ if address == Ipv6Addr::LOCALHOST => Some(NetworkReason::LoopbackAddress),
        (0xfe80..=0xfebf, _) => Some(NetworkReason::LinkLocalAddress),
        // Unique local; site local, which is long out of use.
        (0xfc00..=0xfdff | 0xfec0..=0xfeff, _) => Some(NetworkReason::PrivateAddress),
        // NAT64 (well-known prefix) and 6to4 contain an IPv4 address.
        (0x64, 0xff9b) if [c, d, e, f] == [0; 4] => embedded(g, h),
        (0x2002, _) => embedded(b, c),
        // Protocol assignments (Teredo among them) and documentation.
        (0x2001, 0..=0x1ff | 0xdb8) | (0x3fff, 0..=0xfff) => Some(NetworkReason::ReservedAddress),
        // The only range of global unicast addresses; what is outside of it is unspecified, multicast or not assigned.
        (0x2000..=0x3fff, _) => None,
        _ => Some(NetworkReason::ReservedAddress),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use proptest::prelude::*;

    use super::*;

    fn class(text: &str) -> Option<NetworkReason> {
        let address: IpAddr = text.parse().unwrap();
        let public = check_address(address, AddressScope::Public).err();
        let internal = check_address(address, AddressScope::Internal).err();
        // The wider scope differs in private addresses alone.
        assert_eq!(internal, public.filter(|class| *class != NetworkReason::PrivateAddress), "{text}");
        public
    }

    #[test]
    fn public_addresses_are_permitted() {
        for text in [
            "1.1.1.1",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "126.255.255.255",
            "128.0.0.0",
            "169.253.255.255",
            "169.255.0.0",
            "172.15.255.255",
            "172.32.0.0",
            "192.0.1.0",
            "192.0.3.0",
            "192.167.255.255",
            "192.169.0.0",
            "198.17.255.255",
            "198.20.0.0",
            "223.255.255.255",
            "2606:4700::1111",
            "2000::1",
            "2001:200::1",
            "2001:db7::1",
            "2001:db9::1",
            "64:ff9b::1.1.1.1",
            "2002:101:101::1",
            "::ffff:1.1.1.1",
        ] {
            assert_eq!(class(text), None, "{text}");
        }
    }

    #[test]
    fn other_addresses_are_refused_by_class() {
        use NetworkReason::{LinkLocalAddress, LoopbackAddress, MetadataAddress, PrivateAddress, ReservedAddress};
        let table: [(NetworkReason, &[&str]); 5] = [
            (
                LoopbackAddress,
                &["127.0.0.1", "127.255.255.255", "::1", "::ffff:127.0.0.1", "64:ff9b::127.0.0.1", "2002:7f00:1::"],
            ),
            (LinkLocalAddress, &["169.254.0.0", "169.254.255.255", "fe80::1", "febf::1", "::ffff:169.254.1.1"]),
            (
                MetadataAddress,
                &[
                    "169.254.169.254",
                    "::ffff:169.254.169.254",
                    "64:ff9b::169.254.169.254",
                    "2002:a9fe:a9fe::1",
                    "169.254.170.2",
                    "168.63.129.16",
                    "100.100.100.200",
                    "192.0.0.192",
                    "fd00:ec2::254",
                    "fd00:ec2::23",
                    "fd20:ce::254",
                ],
            ),
            (
                PrivateAddress,
                &[
                    "10.0.0.0",
                    "10.255.255.255",
                    "172.16.0.0",
                    "172.31.255.255",
                    "192.168.0.0",
                    "192.168.255.255",
                    "100.64.0.0",
                    "100.127.255.255",
                    "198.18.0.0",
                    "198.19.255.255",
                    "fc00::1",
                    "fdff::1",
                    "fec0::1",
                    "::ffff:10.0.0.1",
                    "64:ff9b::10.0.0.1",
                    "2002:a00:1::",
                ],
            ),
            (
                ReservedAddress,
                &[
                    "0.0.0.0",
                    "0.255.255.255",
                    "192.0.0.1",
                    "192.0.2.1",
                    "198.51.100.1",
                    "203.0.113.1",
                    "192.88.99.1",
                    "224.0.0.1",
                    "239.255.255.255",
                    "240.0.0.1",
                    "255.255.255.255",
                    "::",
                    "::2",
                    "::127.0.0.1",
                    "64:ff9b:1::1",
                    "100::1",
                    "2001::1",
                    "2001:1ff::1",
                    "2001:db8::1",
                    "3fff::1",
                    "3fff:fff::1",
                    "4000::1",
                    "5f00::1",
                    "ff02::1",
                ],
            ),
        ];
        for (expected, texts) in table {
            for text in texts {
                assert_eq!(class(text), Some(expected), "{text}");
            }
        }
    }

    proptest! {
        #[test]
        fn every_form_of_an_ipv4_address_has_the_same_class(value: u32) {
            let plain = Ipv4Addr::from(value);
            let [a, b, c, d] = plain.octets().map(u16::from);
            let (high, low) = ((a << 8) | b, (c << 8) | d);
            let expected = classify(plain.into());
            let mapped = check_address(plain.to_ipv6_mapped().into(), AddressScope::Public).err();
            prop_assert_eq!(mapped, expected);
            prop_assert_eq!(classify(Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, high, low).into()), expected);
            prop_assert_eq!(classify(Ipv6Addr::new(0x2002, high, low, 0, 0, 0, 0, 1).into()), expected);
        }

        #[test]
        fn addresses_that_the_library_calls_special_are_refused(value: u32) {
            let address = Ipv4Addr::from(value);
            let special = address.is_private() || address.is_loopback() || address.is_link_local()
                || address.is_multicast() || address.is_broadcast() || address.is_documentation()
                || address.is_unspecified();
            prop_assert!(!special || classify(address.into()).is_some());
        }
    }
}
