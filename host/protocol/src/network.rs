//! Network connections of a run, and refused ones.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::record::names;

names! {
    /// The result of a connection.
    NetworkVerdict {
        /// It was allowed and established.
        Allowed = "allowed",
        /// It was not allowed.
        Refused = "refused",
        /// It was allowed but could not be established.
        Failed = "failed",
    }
}

names! {
    /// Why a connection was refused or failed.
    NetworkReason {
        /// No rule of the run's allow list names the host and port.
        NotAllowed = "not_allowed",
        /// The name resolves to this machine.
        LoopbackAddress = "loopback_address",
        /// The name resolves to a private network, and no rule of the configuration names it.
        PrivateAddress = "private_address",
        /// The name resolves to a link-local address.
        LinkLocalAddress = "link_local_address",
        /// The name resolves to a cloud's metadata service.
        MetadataAddress = "metadata_address",
        /// The name resolves to an address that is not used on the internet.
        ReservedAddress = "reserved_address",
        /// Not TLS, or TLS that cannot be parsed, although the host is allowed for TLS only.
        NotTls = "not_tls",
        /// The TLS handshake contains no name.
        NameMissing = "name_missing",
        /// The TLS handshake names another host.
        OtherName = "other_name",
        /// The name has no address.
        Unresolvable = "unresolvable",
        /// The host accepts no connection.
        Unreachable = "unreachable",
        /// The look-up or the connection took too long.
        TimedOut = "timed_out",
    }
}

/// `run.network`
///
/// Repeated decisions about the same host are counted and reported in one event at the end of the run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Network {
    /// The host that the run requested; `*` for several hosts that are not reported individually. An IPv6 address is in
    /// brackets.
    pub host: String,
    /// The port; 0 for several.
    pub port: u16,
    /// The result.
    pub verdict: NetworkVerdict,
    /// Why it was refused or failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<NetworkReason>,
    /// More about the reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// Bytes that the run sent.
    pub bytes_up: u64,
    /// Bytes that it received.
    pub bytes_down: u64,
    /// Number of connections or requests that the event covers.
    pub connections: u64,
}
