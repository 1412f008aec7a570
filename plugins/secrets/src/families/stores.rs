//! Credential files and command lines.

use crate::spec::{Spec, shape};

pub(super) fn rules() -> Vec<Spec> {
    vec![
        shape("netrc-password", "password in a netrc file", r"(?:login|account)[ \t]{1,4}[^\s]{1,}[ \t]{1,8}password[ \t]{1,4}([^\s\x22\\]{3,})", &["login", "account"]).up_to(600).judged(),
        shape("netrc-password", "password in a netrc file", r"password[ \t]{1,4}([^\s\x22\\]{4,})(?:[ \t]*$|\\)", &["password"]).judged(),
        shape("pgpass-password", "line of a pgpass file", r"(?:localhost:[0-9]{2,5}|:(?:5432|5433|5434|5435|5439|6432|25060|26257|\*)):[A-Za-z0-9_*\-]{1,64}:[A-Za-z0-9_*.\-]{1,64}:([^\s:\x22'\\]{4,})(?:[ \t\x22'\\]|$)", &["localhost:", ":5432", ":5433", ":5434", ":5435", ":5439", ":6432", ":25060", ":26257", ":*:"]).judged(),
        shape("cli-password-flag", "password for openssl or keytool", r#"-(?:pass(?:in|out)?[ \t=]{1,4}pass:|(?:store|key|dest|src)pass[ \t]{1,4})([^\s"'\\;|&<>]{4,})"#, &["-pass", "-storepass", "-keypass", "-destpass", "-srcpass"]).judged(),
        shape(
            "connection-string-password",
            "password in a connection string",
            r#"(?i:password|pwd)[ \t]{0,2}=[ \t]{0,2}(?:'((?:[^'\\]|''){4,})'|\\{0,3}"((?:[^"\\]|""){4,})\\{0,3}"|\{((?:[^}\\]|\}\}){4,})\}|([^\s;"'\\{}<>]{4,}))[ \t]{0,2}(?:[; \t"']|$)"#,
            &["password", "pwd"],
        )
        .groups(&[1, 2, 3, 4])
        .judged(),
        shape(
            "connection-string-password",
            "password of an Oracle login",
            r#"(?:jdbc:oracle:[a-z0-9]{2,8}:|(?:sqlplus|sqlldr|expdp|impdp)[ \t](?:[^\n|;]{0,60}?[ \t])?)\\{0,3}["']?[A-Za-z][\w$#.\-]{0,63}/(\\{0,3}"[^"\\\n]{1,}\\{0,3}"|[^\s"'\\/]{1,})@[A-Za-z0-9/(\[_$\x22'\\]"#,
            &["jdbc:oracle:", "sqlplus", "sqlldr", "expdp", "impdp"],
        )
        .judged(),
        shape(
            "cli-password-flag",
            "secret given as a flag",
            r#"--(?i:[a-z0-9.\-_]{0,24}(?:pass|pwd|secret|token|key|auth|cred|phrase)[a-z0-9\-_]{0,12})[ \t]{1,4}(?:\\{0,3}"([^"\\]{4,})|'([^'\\]{4,})|([^\s"'\\;|&<>(){}]{4,}))"#,
            &["--"],
        )
        .groups(&[1, 2, 3])
        .up_to(640)
        .judged(),
        shape(
            "cli-password-flag",
            "password given as a short flag",
            r#"(?:sshpass|mariadb|mysql|mysqldump|mysqladmin|mongo|mongosh|docker login|podman login|az login|helm registry login|redis-cli|smbclient|ldapsearch|unzip|7z|zip|rabbitmqadmin|influx)[ \t](?:[^\n|;]{0,}?[ \t])?(?:-p|-a|-w|-P|-U [^%\s]{1,64}%)[ \t]{0,2}(?:\\{0,3}"([^"\\]{4,})|'([^'\\]{4,})|([^\s"'\\;|&<>(){}\-][^\s"'\\;|&<>(){}]{3,}))"#,
            &["sshpass", "mariadb", "mysql", "mongo", "docker", "podman", "az", "helm", "redis-cli", "smbclient", "ldapsearch", "unzip", "7z", "zip", "rabbitmqadmin", "influx"],
        )
        .groups(&[1, 2, 3])
        .up_to(640)
        .judged(),
    ]
}
