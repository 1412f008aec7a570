//! Connections that send data away, or that lead to the secrets of a machine.

use super::{BuiltIn, RULE};
use crate::rule::Decision::Deny;

const NETWORK: BuiltIn = BuiltIn { check: "network", ..RULE };

pub(super) const RULES: &[BuiltIn] = &[
    BuiltIn {
        decision: Deny,
        hosts: &[
            "169.254.169.254",
            "169.254.170.2",
            "metadata.google.internal",
            "metadata",
            "100.100.100.200",
            "fd00:ec2::254",
        ],
        message: "serves the access data of this machine in a cloud",
        hint: "do this step yourself",
        ..NETWORK
    },
    BuiltIn {
        commands: &["nc|ncat|netcat|socat|telnet|websocat"],
        message: "opens a connection for any data",
        hint: "use a client for the protocol, or allow this use",
        ..NETWORK
    },
    BuiltIn {
        paths: &["/dev/tcp/**", "/dev/udp/**"],
        message: "is a network connection",
        hint: "use a client for the protocol, or allow this use",
        ..NETWORK
    },
    BuiltIn {
        commands: &["ssh|autossh|mosh|scp|sftp|ftp|lftp|tftp|rclone|rsh"],
        message: "works on another machine",
        hint: "do this step yourself, or allow this use",
        ..NETWORK
    },
    BuiltIn {
        commands: &["rsync"],
        network: true,
        message: "copies files to or from another machine",
        hint: "do this step yourself, or allow this use",
        ..NETWORK
    },
    BuiltIn {
        commands: &[
            "curl -T|--upload-file",
            "curl -F=*@*|--form=*@*",
            "curl -d=@**|--data=@**|--data-binary=@**|--data-raw=@**|--data-urlencode=*@**|--json=@**",
            "wget --post-file|--body-file",
            "http|https|xh ... *@**",
        ],
        message: "sends files to another machine",
        hint: "allow this use if the files may leave this machine",
        ..NETWORK
    },
];
