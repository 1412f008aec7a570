//! Tables of programs: their options, and what they are.

/// What is known about the options of a program.
#[derive(Clone, Copy, Debug)]
pub(super) struct Options {
    /// Options whose value is the next argument.
    pub(super) valued: &'static [&'static str],
    /// Options without a value.
    pub(super) flags: &'static [&'static str],
    /// `-delete` is one option and not a cluster.
    pub(super) long_with_one_dash: bool,
}

const NONE: Options = Options { valued: &[], flags: &[], long_with_one_dash: false };

const fn valued(valued: &'static [&'static str]) -> Options {
    Options { valued, ..NONE }
}

/// Options of programs for which it matters: those with subcommands or destructive options.
const TABLE: &[(&[&str], Options)] = &[
    (
        &["git"],
        Options {
            valued: &[
                "-C",
                "-c",
                "--git-dir",
                "--work-tree",
                "--namespace",
                "--config-env",
                "-m",
                "-F",
                "--author",
                "--date",
            ],
            flags: &[
                "--no-pager",
                "-p",
                "-P",
                "--paginate",
                "--bare",
                "--no-replace-objects",
                "--literal-pathspecs",
                "--no-optional-locks",
            ],
            ..NONE
        },
    ),
    (&["env"], valued(&["-u", "--unset", "-C", "--chdir", "-S", "--split-string"])),
    (&["sudo"], valued(&["-u", "--user", "-g", "--group", "-D", "--chdir"])),
    (&["find"], Options { long_with_one_dash: true, ..NONE }),
    (&["terraform", "tofu"], Options { long_with_one_dash: true, ..NONE }),
    (
        &["kubectl", "oc", "k3s"],
        valued(&[
            "-n",
            "--namespace",
            "--context",
            "--cluster",
            "--user",
            "--kubeconfig",
            "-f",
            "--filename",
            "-l",
            "--selector",
            "-o",
            "--output",
            "-s",
            "--server",
            "--token",
            "--as",
            "-k",
            "-c",
        ]),
    ),
    (
        &["helm"],
        valued(&["-n", "--namespace", "--kube-context", "--kubeconfig", "-f", "--values", "--set", "--version"]),
    ),
    (
        &["docker", "podman", "nerdctl"],
        valued(&[
            "-H",
            "--host",
            "--context",
            "--config",
            "-l",
            "--log-level",
            "-f",
            "--file",
            "-t",
            "--tag",
            "-u",
            "-w",
        ]),
    ),
    (
        &["gh", "glab"],
        valued(&[
            "-R",
            "--repo",
            "--hostname",
            "-t",
            "--title",
            "-b",
            "--body",
            "-F",
            "-X",
            "--method",
            "-f",
            "--field",
            "--raw-field",
            "--input",
            "-H",
            "--header",
            "-q",
            "--jq",
        ]),
    ),
    (&["npm"], valued(&["--prefix", "--registry", "-w", "--workspace", "-C", "--tag", "--otp", "--access"])),
    (&["pnpm"], valued(&["-C", "--dir", "--filter", "-F"])),
    (&["yarn"], valued(&["--cwd"])),
    (
        &["cargo"],
        valued(&[
            "-C",
            "--config",
            "-Z",
            "--manifest-path",
            "--color",
            "-p",
            "--package",
            "--features",
            "-F",
            "--target",
            "-j",
        ]),
    ),
    (&["aws"], valued(&["--profile", "--region", "--output", "--endpoint-url", "--query"])),
    (&["gcloud"], valued(&["--project", "--account", "--configuration", "--format", "--zone", "--region"])),
    (&["az"], valued(&["--subscription", "-g", "--resource-group", "-o", "--output"])),
    (&["systemctl"], valued(&["-H", "-M", "--host", "--machine"])),
    (&["make", "gmake"], valued(&["-C", "-f", "-I", "--directory", "--file"])),
    (
        &["curl"],
        Options {
            valued: &[
                "-d",
                "--data",
                "--data-raw",
                "--data-binary",
                "--data-urlencode",
                "-F",
                "--form",
                "-H",
                "--header",
                "-o",
                "--output",
                "-T",
                "--upload-file",
                "-u",
                "--user",
                "-x",
                "--proxy",
                "-X",
                "--request",
                "-A",
                "-b",
                "--cookie",
                "-c",
                "--cookie-jar",
                "-e",
                "-K",
                "--config",
                "-m",
                "--max-time",
                "-w",
                "--write-out",
                "--cacert",
                "--cert",
                "-E",
                "--key",
                "--connect-timeout",
                "--retry",
                "--resolve",
                "--json",
                "--url",
                "-r",
                "-C",
                "-D",
                "--output-dir",
                "--netrc-file",
            ],
            flags: &[
                "-s", "-S", "-f", "-L", "-k", "-i", "-I", "-v", "-g", "-O", "-G", "-N", "-fsSL", "-sSL", "-sL",
                "--fail",
            ],
            ..NONE
        },
    ),
    (
        &["wget"],
        valued(&[
            "-O",
            "--output-document",
            "-P",
            "--directory-prefix",
            "-o",
            "--post-file",
            "--post-data",
            "--header",
            "-i",
            "--body-file",
            "--body-data",
            "--method",
            "-U",
            "-t",
            "-T",
        ]),
    ),
    (
        &["ssh", "autossh"],
        valued(&[
            "-b", "-c", "-D", "-E", "-e", "-F", "-I", "-i", "-J", "-L", "-l", "-m", "-O", "-o", "-p", "-Q", "-R", "-S",
            "-W", "-w",
        ]),
    ),
    (&["scp", "sftp"], valued(&["-c", "-F", "-i", "-J", "-l", "-o", "-P", "-S", "-b", "-D"])),
    (
        &["rsync"],
        valued(&["-e", "--rsh", "--exclude", "--include", "--exclude-from", "--files-from", "-f", "--password-file"]),
    ),
    (&["tar", "bsdtar"], valued(&["-f", "--file", "-C", "--directory", "--exclude", "-T", "-X"])),
    (&["unzip"], valued(&["-d", "-x"])),
    (&["sed"], valued(&["-e", "--expression", "-f", "--file"])),
    (
        &["grep", "egrep", "fgrep", "rg", "ag"],
        valued(&["-e", "--regexp", "-f", "--file", "-A", "-B", "-C", "-m", "-g", "--glob", "-t"]),
    ),
    (&["truncate"], valued(&["-s", "--size", "-r", "--reference"])),
    (&["chmod", "chown", "chgrp"], valued(&["--reference", "--from"])),
    (
        &["gpg", "gpg2"],
        valued(&["--homedir", "-o", "--output", "-u", "--local-user", "-r", "--recipient", "--passphrase"]),
    ),
    (&["cp", "mv", "ln", "install"], valued(&["-t", "--target-directory", "-S", "--suffix", "-m", "-o", "-g"])),
    (
        &["sh", "bash", "dash", "zsh", "ksh", "ash", "mksh", "fish", "yash"],
        valued(&["-o", "+o", "-O", "+O", "--rcfile", "--init-file"]),
    ),
];

pub(super) fn options(program: &str) -> Options {
    TABLE.iter().find(|(names, _)| names.contains(&program)).map_or(NONE, |(_, options)| *options)
}

/// Shells whose scripts are understood.
pub(crate) const SHELLS: &[&str] = &["sh", "bash", "dash", "zsh", "ksh", "ash", "mksh", "fish", "yash"];

/// Programs that run a program text from their standard input.
pub(super) const INTERPRETERS: &[&str] = &[
    "python",
    "python2",
    "python3",
    "perl",
    "ruby",
    "node",
    "nodejs",
    "deno",
    "bun",
    "php",
    "lua",
    "osascript",
    "pwsh",
    "powershell",
    "tclsh",
    "Rscript",
];
