//! How distinctive a known value is: whether it can be masked everywhere, or only where it is used as a credential.

use std::collections::HashSet;
use std::sync::LazyLock;

use super::masks::MIN_KNOWN_LENGTH;
use ostler_protocol::words;

/// The shortest value that is masked, in bytes.
const MIN_LENGTH: usize = 3;
/// Longest value that can be guessed.
const MAX_GUESSABLE: usize = 28;
/// Digits of a counter behind a word that can be guessed.
const MAX_COUNTER: usize = 3;
/// Most words that can be guessed together.
const MAX_WORDS: usize = 3;
/// The most punctuation characters between and around words that can be guessed.
const MAX_SIGNS: usize = 3;
/// Longest segment of an address that could be a word.
const MAX_SEGMENT: usize = 32;
/// Longest segment of a plain address, and its longest row of digits.
const MAX_NAME: usize = 16;
const MAX_ROW: usize = 5;
/// Shortest text that can look random beyond doubt.
const MIN_RANDOM: usize = 16;

/// Where a value is masked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Weight {
    /// Everywhere, in every encoding: it does not occur by chance.
    Everywhere,
    /// Only where it is used as a credential: it is an ordinary word, or can be guessed.
    AsCredential,
    /// Nowhere: it is a switch, or shorter than 3 bytes, or shorter than 6 with blanks or letters beyond ASCII in it.
    Nowhere,
}

/// Weighs a value of one line of a secret with that name. A value that is not known to be ordinary is distinctive.
pub(super) fn weigh(name: &str, value: &str) -> Weight {
    let value = value.trim();
    let lower = value.to_ascii_lowercase();
    if value.len() < MIN_LENGTH || SWITCHES.contains(&lower.as_str()) {
        Weight::Nowhere
    } else if !value.bytes().all(|byte| byte.is_ascii_graphic()) {
        // Several words, or letters beyond ASCII.
        if value.len() < MIN_KNOWN_LENGTH { Weight::Nowhere } else { Weight::Everywhere }
    } else if value.len() < MIN_KNOWN_LENGTH || is_plain_path(name, value) || is_guessable(name, &lower) {
        Weight::AsCredential
    } else {
        Weight::Everywhere
    }
}

/// Whether a value looks randomly generated, whatever its name is.
pub(super) fn looks_random(value: &str) -> bool {
    if value.len() < MIN_RANDOM || !value.bytes().all(|byte| byte.is_ascii_graphic()) || has_words_only(value) {
        return false;
    }
    if is_uuid(value) {
        return true;
    }
    value.split(|c: char| !c.is_ascii_alphanumeric() && !matches!(c, '+' | '/' | '=')).any(|part| {
        let changes = class_changes(part.as_bytes());
        (part.len() >= MIN_RANDOM && changes * 6 >= part.len()) || consonants(part) > 6
    })
}

/// Whether a value could be the name of a person or thing.
pub(super) fn is_word_like(value: &str) -> bool {
    value.len() <= MAX_NAME
        && value.split(['-', '_', '.']).count() <= 2
        && value.split(['-', '_', '.']).all(|piece| {
            let word = without_number(piece);
            word.bytes().all(|byte| byte.is_ascii_alphabetic())
                && class_changes(word.as_bytes()) == 0
                && consonants(word) <= 4
        })
}

/// A path or an address whose segments could all be words.
pub(super) fn has_words_only(value: &str) -> bool {
    let path = value.split_once("://").map_or(value, |(_, rest)| rest);
    path.contains('/') && of_words(path, MAX_SEGMENT)
}

/// Whether each segment could be a word of at most `longest` bytes.
fn of_words(path: &str, longest: usize) -> bool {
    path.bytes().all(|b| b.is_ascii_alphanumeric() || b"/.-_:~".contains(&b))
        && path.split(SEPARATORS).filter(|segment| !segment.is_empty()).all(|segment| {
            segment.len() <= longest
                && row(segment, |byte| byte.is_ascii_digit()) <= MAX_ROW
                && class_changes(segment.as_bytes()) <= 2
                && consonants(segment) <= 6
        })
}

/// Whether a value is a file, or a public address. The path of an address, or a folder name, can be a secret itself: so
/// the path of an address must be a listed one, and a file must have an extension of secret files, or its name must say
/// that it is a path.
pub(super) fn is_plain_path(name: &str, value: &str) -> bool {
    let (path, host) = match value.split_once("://") {
        Some((scheme, rest)) if scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'+') => {
            let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
            let of_address = |segment: &str| is_listed(segment) || ADDRESSES.contains(&segment);
            if !path.split('/').filter(|segment| !segment.is_empty()).all(of_address) {
                return false;
            }
            (path, host)
        }
        Some(_) => return false,
        None if ["/", "~/", "./", "../"].iter().any(|start| value.starts_with(start)) => {
            let ending = value.rsplit_once('.').map_or("", |(_, ending)| ending);
            let is_path = words(name).last().is_some_and(|last| PATH_WORDS.contains(&last.as_str()));
            if !is_path && !EXTENSIONS.contains(&ending) {
                return false;
            }
            (value, "")
        }
        None => return false,
    };
    of_words(path, MAX_NAME) && of_words(host, MAX_NAME)
}

/// Takes the value in lower case. A few words with little punctuation and one number can be guessed.
fn is_guessable(name: &str, value: &str) -> bool {
    if value.bytes().all(|byte| byte.is_ascii_digit()) {
        return is_run(value) || is_date(value);
    }
    if is_run(value) || is_listed(value) {
        return true;
    }
    let signs = value.bytes().filter(|byte| !byte.is_ascii_alphanumeric()).count();
    if value.len() > MAX_GUESSABLE || signs > MAX_SIGNS {
        return false;
    }
    let of_name = words(name);
    let known = |word: &str| is_listed(word) || of_name.iter().any(|own| own == word);
    // With digits in place of letters, only one word can be guessed.
    let bare = without_number(value);
    if [value, bare].iter().any(|text| is_listed(&plain_letters(text))) {
        return true;
    }
    let (mut words, mut numbers) = (0, 0);
    let guessed = value.split(|c: char| !c.is_ascii_alphanumeric()).filter(|piece| !piece.is_empty()).all(|piece| {
        let letters = piece.trim_end_matches(|c: char| c.is_ascii_digit());
        let number = piece.get(letters.len()..).unwrap_or_default();
        numbers += usize::from(!number.is_empty());
        let (taken, rest) = match words_taken(piece, &known) {
            Some(taken) => (Some(taken), ""),
            None if letters.is_empty() => (Some(0), number),
            None => (words_taken(letters, &known), number),
        };
        words += taken.unwrap_or(0);
        taken.is_some() && (rest.is_empty() || is_counter(rest))
    });
    guessed && (1..=MAX_WORDS).contains(&words) && numbers <= 1
}

/// The number of `known` words of which a piece consists, one or two; None otherwise.
fn words_taken(piece: &str, known: &impl Fn(&str) -> bool) -> Option<usize> {
    if known(piece) {
        return Some(1);
    }
    (MIN_LENGTH..piece.len().saturating_sub(MIN_LENGTH - 1)).find_map(|at| {
        let (first, second) = piece.split_at_checked(at)?;
        (known(first) && known(second)).then_some(2)
    })
}

/// The word without the number and the punctuation that people add: `test1234`, `admin!`, `password2026`.
fn without_number(piece: &str) -> &str {
    let bare = piece.trim_end_matches(['!', '$', '@']);
    let word = bare.trim_end_matches(|c: char| c.is_ascii_digit());
    match bare.get(word.len()..) {
        Some(number) if is_counter(number) => word,
        _ => piece,
    }
}

/// A number that people add to a word: a few digits, a year, a date, a sequence.
fn is_counter(digits: &str) -> bool {
    let year = digits.len() == 4 && (digits.starts_with("19") || digits.starts_with("20"));
    digits.len() <= MAX_COUNTER || year || is_run(digits) || is_date(digits)
}

/// Replaces digits and punctuation that represent letters: `p@ssw0rd`.
fn plain_letters(text: &str) -> String {
    let letter = |c: char| match c {
        '0' => 'o',
        '1' | '!' => 'i',
        '3' => 'e',
        '4' | '@' => 'a',
        '5' | '$' => 's',
        '7' => 't',
        other => other,
    };
    text.chars().map(letter).collect()
}

/// Year, month and day.
fn is_date(digits: &str) -> bool {
    let part = |range: std::ops::Range<usize>| digits.get(range).and_then(|part| part.parse::<u32>().ok());
    digits.len() == 8
        && (digits.starts_with("19") || digits.starts_with("20"))
        && part(4..6).is_some_and(|month| (1..=12).contains(&month))
        && part(6..8).is_some_and(|day| (1..=31).contains(&day))
}

/// One repeated character, or consecutive characters: `aaaaaaaa`, `12345678`, `abcdefgh`, `87654321`.
fn is_run(value: &str) -> bool {
    let steps = |step: fn(u8, u8) -> bool| {
        value.as_bytes().windows(2).filter(|pair| matches!(pair, [a, b] if step(*a, *b))).count()
    };
    let most = |count: usize| value.len() > 2 && count * 4 >= (value.len() - 1) * 3;
    most(steps(|a, b| a == b))
        || most(steps(|a, b| b == a.wrapping_add(1) || (a == b'9' && matches!(b, b'0' | b'a'))))
        || most(steps(|a, b| a == b.wrapping_add(1)))
}

fn is_uuid(value: &str) -> bool {
    value.split('-').map(str::len).eq([8, 4, 4, 4, 12]) && value.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-')
}

/// How often text changes between small letters, capitals and digits. A capital at the start of a word does not count.
fn class_changes(text: &[u8]) -> usize {
    let class = |byte: u8| match byte {
        b'a'..=b'z' => 0,
        b'A'..=b'Z' => 1,
        b'0'..=b'9' => 2,
        _ => 3,
    };
    text.windows(2)
        .enumerate()
        .filter(|(at, pair)| {
            matches!(pair, [a, b] if class(*a) != class(*b) && !(*at == 0 && class(*a) == 1 && class(*b) == 0))
        })
        .count()
}

/// The longest sequence of consonants: in words it is short.
fn consonants(text: &str) -> usize {
    row(text, |byte| byte.is_ascii_alphabetic() && !b"aeiouyAEIOUY".contains(&byte))
}

/// The longest sequence of bytes of a kind.
fn row(text: &str, kind: impl Fn(u8) -> bool) -> usize {
    let (mut row, mut longest) = (0, 0);
    for byte in text.bytes() {
        row = if kind(byte) { row + 1 } else { 0 };
        longest = longest.max(row);
    }
    longest
}

fn is_listed(word: &str) -> bool {
    static LISTED: LazyLock<HashSet<&str>> = LazyLock::new(|| GUESSABLE.split_ascii_whitespace().collect());
    LISTED.contains(word)
}

/// Between the segments of a path or of a host.
const SEPARATORS: [char; 6] = ['/', '.', '-', '_', ':', '~'];

/// Path segments of public addresses, in addition to the words of [`GUESSABLE`].
const ADDRESSES: &[&str] = &[
    "authorize",
    "callback",
    "certs",
    "jwks",
    "jwks.json",
    "keys",
    "oauth",
    "oauth2",
    "openid",
    "v1",
    "v2",
    "v3",
    "v4",
];

/// Last words of names whose values are files, folders and sockets.
const PATH_WORDS: &[&str] = &["credentials", "dir", "file", "folder", "path", "sock", "socket"];

/// Extensions of files that contain secrets.
const EXTENSIONS: &[&str] = &[
    "cer", "cfg", "conf", "crt", "env", "ini", "json", "jks", "kdbx", "key", "netrc", "p12", "pem", "pfx", "pub",
    "sock", "toml", "txt", "yaml", "yml",
];

/// Values of variables that turn something on or off, or are empty.
const SWITCHES: &[&str] =
    &["true", "false", "yes", "none", "null", "nil", "off", "undefined", "enabled", "disabled", "auto", "[]", "{}"];

/// Words in passwords of examples and local services, and the most common passwords.
const GUESSABLE: &str = "\
    abc abc123 abcd access account adm admin administrator adminadmin agent alpine amqp anonymous apache api apikey app \
    application artemis asdf asdfgh asdfghjkl auth azure backend backup bar baseball basic batman baz beta bitbucket bitnami \
    bootstrap bot build cache camunda cassandra ceph change changeit changeme changethis charlie ci cisco clickhouse client \
    cloud cockroach code common config confluence consul container couchbase couchdb credential credentials cred creds cron \
    data database db dba dbo debug default demo deploy deployer dev developer development devops directus docker dragon \
    dragonfly druid dummy dynamo dynamodb elastic elasticsearch email empty enter etcd example fake fixme flink flower foo \
    foobar football forgejo freedom ftp gateway ghost git gitea github gitlab google grafana graphql graylog guest hadoop \
    harbor hasura hello helloworld hidden hive host hydra iloveyou influx influxdb insecure integration internal \
    invalid jdoe jenkins jetty jira joomla jupyter jwt kafka keycloak key kibana kong kube kubernetes laravel ldap letmein \
    local localdev localhost localstack logstash login magento mail mailhog main manager mariadb mask master mastodon \
    mattermost memcached metabase michael minio minioadmin mock mongo mongodb monkey moodle mqtt mssql mustang mypass \
    mypassword mysecret mysql mysqlpassword nagios nats neo4j nextcloud nexus nginx nobody node nopass nopassword nosecret \
    nothing odoo ollama openldap openpgp opensearch operator oracle owner pass passcode passphrase passwd password payload \
    pgadmin pgpass pgpassword php ping placeholder planka portainer postgis postgres postgresql princess private prod \
    production project prometheus proxy public pulsar pwd pw qwer qwerty qwertyui qwertyuiop qwertz rabbit rabbitmq \
    rails readonly readwrite redacted redash redis redmine registry reader replica replicator replace replaceme repo \
    required root rootpass rootpassword rootroot rstudio ruby sample sandbox scott scram secret secretkey secrets secure security \
    selenium sentry server service session setme shadow shared signing site smtp solr some something sonar sonarqube spark spring \
    sql sqlserver ssh staging standard starwars static strapi string strong stub sunshine super supersecret \
    superset superuser supabase surreal surrealdb svc sys sysadm sysadmin sysdba system teamcity temp temporal temporary \
    test tester testing testpass testpassword testtest testuser tiger timescale tmp todo token tomcat toor trustno1 \
    typesense ubuntu unknown unsafe unset unused user username users vagrant value vault vertica viewer virtuoso weak web \
    webapp webhook welcome whatever wiki wildfly wordpress work worker writer xxx xxxx your yourpassword yoursecret zabbix \
    zaq12wsx zookeeper zxcvbn zxcvbnm 1q2w3e 1q2w3e4r 1qaz2wsx q1w2e3r4 my not the for this that and only use here it me";

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn words_and_their_variations_are_masked_only_as_credentials() {
        for value in [
            "postgres",
            "Postgres",
            "password",
            "secret",
            "changeme",
            "change-me",
            "admin",
            "localhost",
            "root",
            "minioadmin",
            "test1234",
            "Password1!",
            "P@ssw0rd",
            "passw0rd",
            "admin123456",
            "password2026",
            "test-password",
            "dev_secret_key",
            "postgrespassword",
            "rootroot",
            "qwertz123",
            "aaaaaaaa",
            "12345678",
            "87654321",
            "abcdefgh",
            "20261129",
            "dev",
            "/home/alice/key.json",
            "~/.config/app/credentials.json",
            "https://login.example.com/oauth/token",
        ] {
            assert_eq!(weigh("X_PASSWORD", value), Weight::AsCredential, "{value}");
        }
        for (name, value) in
            [("KITTENS_PASSWORD", "kittens"), ("ORDERS_DB_PASSWORD", "orders-db"), ("ordersDbPassword", "orders123")]
        {
            assert_eq!(weigh(name, value), Weight::AsCredential, "{name}={value}");
            assert_eq!(weigh("X", value), Weight::Everywhere, "{value}");
        }
        assert_eq!(weigh("KETTLE_ORBIT_SECRET", "kettle-orbit-7391"), Weight::Everywhere);
        assert_eq!(weigh("SSH_AUTH_SOCK", "/run/user/1000/agent.17"), Weight::AsCredential);
        for value in ["true", "FALSE", "1", "no", "", " ", "null", "{}"] {
            assert_eq!(weigh("USE_TOKEN", value), Weight::Nowhere, "{value}");
        }
    }

    #[test]
    fn value_that_is_not_ordinary_is_masked_everywhere() {
        for value in [
            "correct horse battery staple",
            "correct-horse-battery-staple",
            "swordfish",
            "hunter2-kettle",
            "x7Qm2k",
            "xkqvzjwp",
            "83920175",
            "admin-x7Qm2k",
            "postgres93847562",
            "Tr0ub4dor&3",
            "839201",
            "20391847",
            "test-4829-1937-5520-8812",
            "token-4829-1937-5520",
            "Admin#4821%Root^7739",
            "dragon-4821-sunshine-7739-monkey-1934",
            "!#%^&*()_admin_+{}|<>~",
            "T0k3n7e57",
            "admin4821",
            "https://meet.example.com/j/83920175482",
            "https://ntfy.example.com/kettle-orbit-seven-mango",
            "/unwulitesamoparekoni/bale",
            "p'a\"s$ w",
            "größenwahn",
            "/9j/4AAQSkZJRgABAQAAAQABAAD",
            "/bPxRfiCYzEXAmPLEKEYa1b2c3",
            "https://hooks.example.com/services/T0AB12CD/B0x7Qm2kV9tR4w",
            "https://user:x7Qm2kV9tR4w@example.com/",
            "https://example.com/?sig=abcdefgh",
            "admin-user-token-reader-backup",
        ] {
            assert_eq!(weigh("X_PASSWORD", value), Weight::Everywhere, "{value}");
        }
    }

    #[test]
    fn names_are_word_like_and_random_text_is_not() {
        for value in ["alexander", "Alice", "app_user", "orders-db2", "web.frontend", "USER"] {
            assert!(is_word_like(value), "{value}");
        }
        for value in ["x7Qm2kV9tR4w", "xkqvzjwp", "two words", "a/b", "6bfb0826-5d56-4568-a766-4beb22f4ba40", "aBcDeF"]
        {
            assert!(!is_word_like(value), "{value}");
        }
    }

    #[test]
    fn generated_value_looks_random() {
        for value in [
            "5ac717f7bf0387a3153397df6dae75db5c12ea26",
            "6bfb0826-5d56-4568-a766-4beb22f4ba40",
            "GOCSPX-x7Qm2kV9tR4wB8nL1cW6",
            "LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0tCk1J",
            "aB3xYz9QaB3xYz9Q",
        ] {
            assert!(looks_random(value), "{value}");
        }
        for value in [
            "service_account",
            "my-project-123456",
            "robot@my-project-123456.iam.gserviceaccount.com",
            "108234567890123456789",
            "https://accounts.google.com/o/oauth2/auth",
            "googleapis.com",
            "https://10.0.0.1:6443",
            "kubernetes-admin@kubernetes",
            "client.authentication.k8s.io/v1beta1",
        ] {
            assert!(!looks_random(value), "{value}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 4000, rng_seed: proptest::test_runner::RngSeed::Fixed(10), failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn eight_random_characters_are_masked_everywhere(value in prop_oneof!["[a-zA-Z0-9]{8,40}", "[a-z]{8,20}", "[a-z0-9]{8,20}", "[!-~]{8,40}", "[A-Za-z0-9+/]{20,60}"]) {
            prop_assert_eq!(weigh("SERVICE_PASSWORD", &value), Weight::Everywhere);
        }
    }
}
