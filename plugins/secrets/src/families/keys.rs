//! Key material.

use crate::spec::{Spec, named, shape, token};

/// Lines of an armored key. A short last line must look like base64: otherwise, any word after a truncated key would match.
const BODY: &str = concat!(
    r"[A-Za-z0-9+/]{24,}={0,2}|[A-Za-z0-9+/]{2,}={1,2}|=[A-Za-z0-9+/]{4}",
    r"|[A-Za-z0-9+/]*[a-z0-9+/][A-Z][A-Za-z0-9+/]*|[A-Za-z0-9+/]*[A-Za-z][0-9][A-Za-z0-9+/]*|[A-Za-z0-9+/]*[0-9][A-Za-z][A-Za-z0-9+/]*",
    r"|(?:Proc-Type|DEK-Info|Version|Comment|Hash|Charset|MessageID): .*",
);

pub(super) fn rules() -> Vec<Spec> {
    vec![
        token(
            "private-key",
            "private key in PEM or PGP armour",
            r"-----BEGIN[ A-Z0-9]{0,40}PRIVATE KEY(?: BLOCK)?-----",
            &["-----begin"],
        )
        .inside_words()
        .up_to(96)
        .block(BODY, r"-----END[ A-Z0-9]{0,40}PRIVATE KEY(?: BLOCK)?-----", 512),
        token(
            "private-key-base64",
            "private key in armour, base64-encoded once more",
            r"LS0tLS1CRUdJTi[A-Za-z0-9+/]{6,40}(?:UFJJVkFURSBLRVkt|BSSVZBVEUgS0VZL|QUklWQVRFIEtFWS)[A-Za-z0-9+/]*={0,2}",
            &["ls0tls1crudjti"],
        )
        .inside_words()
        .up_to(16 * 1024)
        .block(r"[A-Za-z0-9+/]{40,}={0,2}|[A-Za-z0-9+/]{2,}={1,2}", r"[A-Za-z0-9+/]+(?:LS0tLQo|LS0tLS0K|tLS0tLQ)={0,2}", 256),
        token("age-secret-key", "age secret key", r"AGE-SECRET-KEY-1[0-9A-Za-z]{40,70}", &["age-secret-key-1"]),
        token("age-secret-key", "age post-quantum secret key", r"AGE-SECRET-KEY-PQ-1[0-9A-Za-z]{40,}", &["age-secret-key-pq-1"]),
        shape(
            "ethereum-private-key",
            "raw secp256k1 private key",
            r#"(?i:priv(?:ate)?[ _-]?key)[ \t\w.\-]{0,24}[\\"'`\])]{0,4}[ \t]{0,8}(?:=>|:=|[=:>,(]|[ \t])[\\"'`\s=(]{0,8}((?:0x)?[0-9a-fA-F]{64})(?:[^\w]|$)"#,
            &["priv"],
        ),
        named(
            "ethereum-private-key",
            "raw secp256k1 private key",
            "eth(?:ereum)?|wallet|deployer|signer|account|mnemonic",
            &["eth", "wallet", "deployer", "signer", "account", "mnemonic"],
            "0x[0-9a-fA-F]{64}",
        )
        .judged(),
    ]
}
