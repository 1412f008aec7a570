//! Classifies variables: those that change the program that is started, and those that do not.
//!
//! An allow list decides: a name that no list allows is refused. The list of protected names is a second check. It prevents
//! a pattern of the allow list that is too wide (`*_KEY`) from allowing names that load code, choose a configuration or
//! redirect requests.

/// Variables that every request may set: language, time zone, appearance, and the author of commits.
const HARMLESS: &[&str] = &[
    "CI",
    "CLICOLOR",
    "CLICOLOR_FORCE",
    "COLORTERM",
    "COLUMNS",
    "FORCE_COLOR",
    "GIT_AUTHOR_*",
    "GIT_COMMITTER_*",
    "GIT_TERMINAL_PROMPT",
    "LANG",
    "LANGUAGE",
    "LC_*",
    "LINES",
    "NODE_ENV",
    "NO_COLOR",
    "RUST_BACKTRACE",
    "RUST_LOG",
    "SOURCE_DATE_EPOCH",
    "TERM",
    "TZ",
];

/// Variables with which a loader, an interpreter, a shell or a tool that CLIs start by themselves finds code or
/// configuration. A request may set them only if the operator lists the full name.
const CODE: &[&str] = &[
    // The loader and the C library.
    "DYLD_*",
    "GCONV_PATH",
    "GETCONF_DIR",
    "GLIBC_TUNABLES",
    "LD_*",
    "LOCPATH",
    "MALLOC_*",
    "NLSPATH",
    // Interpreters and run times.
    "BUN_*",
    "CLASSPATH",
    "COREPACK_*",
    "CORECLR_*",
    "COR_*",
    "DENO_*",
    "DOTNET_*",
    "JAVA_*",
    "JDK_*",
    "_JAVA_OPTIONS",
    "LUA_*",
    "NODE_*",
    "NPM_*",
    "npm_*",
    "PERL*",
    "PHP*",
    "PIP_*",
    "PYTHON*",
    "RUBY*",
    "GEM_*",
    "UV_*",
    // Shells.
    "BASHOPTS",
    "BASH_ENV",
    "BASH_FUNC_*",
    "BASH_LOADABLES_PATH",
    "BASH_XTRACEFD",
    "CDPATH",
    "ENV",
    "FPATH",
    "IFS",
    "INPUTRC",
    "PROMPT_COMMAND",
    "PS4",
    "SHELL",
    "SHELLOPTS",
    "SHLVL",
    "ZDOTDIR",
    // Folders of programs and their configuration.
    "HOME",
    "LOGNAME",
    "PATH",
    "PWD",
    "TEMP",
    "TERMCAP",
    "TERMINFO*",
    "TMP",
    "TMPDIR",
    "USER",
    "XDG_*",
    // Tools that CLIs start by themselves.
    "*_ASKPASS",
    "*_PAGER",
    "BROWSER",
    "DBUS_*",
    "EDITOR",
    "GIT_*",
    "GNUPGHOME",
    "LESS*",
    "MANPAGER",
    "PAGER",
    "RIPGREP_CONFIG_PATH",
    "SSH_*",
    "VISUAL",
    // Ostler itself.
    "OSTLER_*",
];

/// Variables of any CLI that determine the proxy, the trusted certificates and the destination of requests.
const NETWORK: &[&str] = &[
    "*_API_BASE",
    "*_API_HOST",
    "*_API_URL",
    "*_BASE_URL",
    "*_CAFILE",
    "*_CA_BUNDLE",
    "*_CA_CERTIFICATE",
    "*_CA_CERTS",
    "*_ENDPOINT",
    "*_ENDPOINT_URL",
    "*_PROXY",
    "*_proxy",
    "AWS_CONFIG_FILE",
    "AWS_CONTAINER_*",
    "AWS_ENDPOINT_*",
    "AWS_SHARED_CREDENTIALS_FILE",
    "CLOUDSDK_CONFIG",
    "CURL_*",
    "GCE_METADATA_*",
    "GOOGLE_APPLICATION_CREDENTIALS",
    "GOOGLE_EXTERNAL_*",
    "GRPC_*",
    "HOSTALIASES",
    "LOCALDOMAIN",
    "OPENSSL_*",
    "RES_OPTIONS",
    "SSLKEYLOGFILE",
    "SSL_*",
];

/// Whether `name` matches `pattern`; a `*` at its beginning or its end matches any text.
pub(super) fn matches(pattern: &str, name: &str) -> bool {
    match (pattern.strip_prefix('*'), pattern.strip_suffix('*')) {
        (Some(suffix), _) => name.ends_with(suffix),
        (None, Some(prefix)) => name.starts_with(prefix),
        (None, None) => pattern == name,
    }
}

/// How closely the patterns match the name: a whole name is closer than any pattern, a long pattern closer than a short one.
/// `None` if no pattern matches.
fn closest<'p>(patterns: impl IntoIterator<Item = &'p str>, name: &str) -> Option<(bool, usize)> {
    let fitting = patterns.into_iter().filter(|pattern| matches(pattern, name));
    fitting.map(|pattern| (!pattern.contains('*'), pattern.len())).max()
}

/// Whether the host protects the name, independent of the plugin.
pub(super) fn host_protects(name: &str) -> bool {
    outweighs(CODE.iter().chain(NETWORK).copied(), HARMLESS.iter().copied(), name)
}

/// Whether every request may set the name.
pub(super) fn is_harmless(name: &str) -> bool {
    closest(HARMLESS.iter().copied(), name).is_some() && !host_protects(name)
}

/// Whether `against` matches the name at least as closely as `for_it`.
pub(super) fn outweighs<'p>(
    against: impl IntoIterator<Item = &'p str>,
    for_it: impl IntoIterator<Item = &'p str>,
    name: &str,
) -> bool {
    let against = closest(against, name);
    against.is_some() && against >= closest(for_it, name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pattern_matches_prefix_suffix_or_whole_name() {
        assert!(matches("A_*", "A_B") && matches("*_B", "A_B") && matches("A_B", "A_B"));
        assert!(!matches("A_*", "B_A") && !matches("*_B", "B_A") && !matches("A", "A_B"));
    }

    #[test]
    fn closer_pattern_wins_and_a_tie_protects() {
        assert!(host_protects("GIT_SSH_COMMAND") && host_protects("GIT_CONFIG_COUNT") && host_protects("NODE_OPTIONS"));
        assert!(is_harmless("GIT_AUTHOR_NAME") && is_harmless("NODE_ENV") && is_harmless("LC_ALL"));
        assert!(!is_harmless("GIT_EXEC_PATH") && !is_harmless("NOVEL"));
        assert!(outweighs(["A_*"], ["A_*"], "A_B") && outweighs(["A_B"], ["A_*"], "A_B"));
        assert!(!outweighs(["A_*"], ["A_B*"], "A_B") && !outweighs([], ["A"], "A"));
    }

    #[test]
    fn protects_every_name_that_is_known_to_run_code_or_redirect_requests() {
        for name in [
            "LD_PRELOAD",
            "LD_AUDIT",
            "LD_LIBRARY_PATH",
            "DYLD_INSERT_LIBRARIES",
            "GCONV_PATH",
            "NODE_OPTIONS",
            "NODE_PATH",
            "BUN_OPTIONS",
            "PYTHONPATH",
            "PYTHONSTARTUP",
            "PERL5LIB",
            "PERL5OPT",
            "RUBYOPT",
            "RUBYLIB",
            "BASH_ENV",
            "ENV",
            "ZDOTDIR",
            "SHELL",
            "PATH",
            "HOME",
            "GIT_SSH",
            "GIT_SSH_COMMAND",
            "GIT_EXEC_PATH",
            "GIT_CONFIG_GLOBAL",
            "SSL_CERT_FILE",
            "SSL_CERT_DIR",
            "NODE_EXTRA_CA_CERTS",
            "HTTPS_PROXY",
            "https_proxy",
            "ALL_PROXY",
            "NO_PROXY",
            "XDG_CONFIG_HOME",
            "npm_config_script_shell",
            "NPM_TOKEN",
            "GIT_KEY",
            "SSH_ASKPASS",
            "RIPGREP_CONFIG_PATH",
        ] {
            assert!(host_protects(name), "{name}");
        }
    }
}
