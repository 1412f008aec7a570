//! Made-up secrets, shaped like the real ones, for showing what redaction does.
//!
//! They are generated from a seed, so that no file contains anything that looks like a credential, and every reader of
//! the same seed knows what to look for. None of them is a real credential.

/// One made-up secret and the text in which an agent might show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Secret {
    /// The kind of secret that it imitates.
    pub(super) name: &'static str,
    /// The parts that must not be seen: one string, or the body lines of a key.
    pub(super) parts: Vec<String>,
    /// The text around them, the parts included.
    pub(super) shown: String,
}

const ALNUM: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
const UPPER: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
const HEX: &str = "0123456789abcdef";
const URL_SAFE: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// Fixed prefix, alphabet of the rest, its length, fixed ending.
type Shape = (&'static str, &'static [&'static str], &'static str, usize, &'static str);

/// Secrets that are recognized by their prefix. The prefixes are split, so that this file contains no finding.
const SHAPES: [Shape; 16] = [
    ("github-pat", &["gh", "p_"], ALNUM, 36, ""),
    ("github-fine-grained-pat", &["github", "_pat_"], ALNUM, 82, ""),
    ("gitlab-pat", &["gl", "pat-"], ALNUM, 20, ""),
    ("aws-access-token", &["AK", "IA"], UPPER, 16, ""),
    ("gcp-api-key", &["AI", "za"], ALNUM, 35, ""),
    ("anthropic-api-key", &["sk-", "ant-api03-"], ALNUM, 93, "AA"),
    ("openai-api-key", &["sk-", "proj-"], ALNUM, 74, ""),
    ("huggingface-access-token", &["h", "f_"], ALNUM, 34, ""),
    ("npm-access-token", &["np", "m_"], ALNUM, 36, ""),
    ("pypi-upload-token", &["pypi-", "AgEIcHlwaS5vcmc"], URL_SAFE, 120, "A"),
    ("slack-bot-token", &["xo", "xb-"], "", 0, ""),
    ("stripe-access-token", &["sk", "_live_"], ALNUM, 24, ""),
    ("sendgrid-api-token", &["S", "G."], "", 0, ""),
    ("vault-service-token", &["hv", "s."], ALNUM, 90, ""),
    ("digitalocean-pat", &["dop", "_v1_"], HEX, 64, ""),
    ("jwt", &["ey", "JhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9."], "", 0, ""),
];

/// All secrets for one seed, always in the same order.
pub(super) fn secrets(seed: u64) -> Vec<Secret> {
    let mut random = SplitMix(seed ^ 0x9e37_79b9_7f4a_7c15);
    let mut all: Vec<Secret> = SHAPES.iter().map(|shape| prefixed(shape, &mut random)).collect();

    let password = random.text(ALNUM, 22);
    all.push(Secret {
        name: "url-credentials",
        shown: format!("postgres://reporting:{password}@db.example.net:5432/sales"),
        parts: vec![password],
    });
    let bearer = random.text(ALNUM, 43);
    all.push(Secret {
        name: "http-bearer-opaque",
        shown: format!("Authorization: Bearer {bearer}"),
        parts: vec![bearer],
    });
    let client = random.text(ALNUM, 32);
    all.push(Secret {
        name: "generic-client-secret",
        shown: format!("export PAYMENTS_CLIENT_SECRET=\"{client}\""),
        parts: vec![client],
    });
    let key = random.text(ALNUM, 40);
    all.push(Secret {
        name: "aws-secret-access-key",
        shown: format!("aws_secret_access_key = {key}"),
        parts: vec![key],
    });
    all.push(pem(&mut random));
    all
}

fn prefixed((name, prefix, alphabet, length, ending): &Shape, random: &mut SplitMix) -> Secret {
    let start = prefix.concat();
    let body = match *name {
        "slack-bot-token" => {
            format!("{}-{}-{}", random.text("123456789", 12), random.text("123456789", 12), random.text(ALNUM, 24))
        }
        "sendgrid-api-token" => format!("{}.{}", random.text(ALNUM, 22), random.text(ALNUM, 43)),
        "jwt" => format!("ey{}.{}", random.text(ALNUM, 60), random.text(ALNUM, 43)),
        _ => random.text(alphabet, *length),
    };
    let secret = format!("{start}{body}{ending}");
    Secret { name, shown: format!("{name}: {secret}"), parts: vec![secret] }
}

fn pem(random: &mut SplitMix) -> Secret {
    let mut body: Vec<String> = (0..12).map(|_| random.text(ALNUM, 64)).collect();
    body.push(format!("{}==", random.text(ALNUM, 38)));
    let edge = |word: &str| format!("-----{word} RSA {} KEY-----", "PRIVATE");
    let shown = format!("{}\n{}\n{}", edge("BEGIN"), body.join("\n"), edge("END"));
    Secret { name: "private-key", shown, parts: body }
}

/// A small pseudo-random generator (SplitMix64): deterministic, and not for real secrets.
struct SplitMix(u64);

impl SplitMix {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn text(&mut self, alphabet: &str, length: usize) -> String {
        let letters = alphabet.as_bytes();
        (0..length)
            .filter_map(|_| {
                let index = usize::try_from(self.next() % letters.len().max(1) as u64).ok()?;
                letters.get(index).map(|byte| char::from(*byte))
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn secrets_depend_only_on_the_seed() {
        assert_eq!(secrets(7), secrets(7));
        let (one, two) = (secrets(1), secrets(2));
        assert_eq!(one.len(), 21);
        for (left, right) in one.iter().zip(&two) {
            assert_ne!(left.parts, right.parts, "{}", left.name);
            assert!(left.parts.iter().all(|part| left.shown.contains(part) && part.len() >= 16), "{}", left.name);
        }
    }
}
