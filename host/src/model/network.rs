//! What a run reached over the network, and what it was refused.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::record::names;

names! {
    /// What became of a connection.
    NetworkVerdict {
        /// It was allowed and made.
        Allowed = "allowed",
        /// It was not allowed.
        Refused = "refused",
        /// It was allowed and could not be made.
        Failed = "failed",
    }
}

names! {
    /// Why a connection was refused or failed.
    NetworkReason {
        /// No rule of the run's allow list names the host and port.
        NotAllowed = "not_allowed",
        /// The name leads to this machine.
        LoopbackAddress = "loopback_address",
        /// The name leads to a private network, and no rule of the configuration names it.
        PrivateAddress = "private_address",
        /// The name leads to a link-local address.
        LinkLocalAddress = "link_local_address",
        /// The name leads to a cloud's metadata service.
        MetadataAddress = "metadata_address",
        /// The name leads to an address that no host on the internet has.
        ReservedAddress = "reserved_address",
        /// Something else than TLS, or TLS that cannot be read, where the host is allowed for TLS alone.
        NotTls = "not_tls",
        /// The TLS handshake asks for no name.
        NameMissing = "name_missing",
        /// The TLS handshake asks for another host.
        OtherName = "other_name",
        /// The name has no address.
        Unresolvable = "unresolvable",
        /// The host takes no connection.
        Unreachable = "unreachable",
        /// The look-up or the connection took too long.
        TimedOut = "timed_out",
    }
}

/// `run.network`
///
/// Repeated decisions about the same host are counted and told in one event at the end of the run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Network {
    /// The host that the run asked for; `*` for those that are not told one by one. An IPv6 address stands in brackets.
    pub host: String,
    /// The port; 0 for several.
    pub port: u16,
    /// What became of it.
    pub verdict: NetworkVerdict,
    /// Why it was refused or failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<NetworkReason>,
    /// More about the reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// Bytes that the run sent.
    pub bytes_up: u64,
    /// Bytes that it got.
    pub bytes_down: u64,
    /// Connections or requests that the event stands for.
    pub connections: u64,
}
