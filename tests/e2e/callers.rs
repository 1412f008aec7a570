//! One host, started by its first caller, and other callers with a different shell and environment.

use std::process::Command;

use crate::support::TestHost;
use nix::sys::resource::{Resource, getrlimit};

const CONFIG: &str = r#"
[sandbox]
backends = []
mode = "full-access"
[providers.sh]
plugin = "command"
executable = "sh"
[providers.sh.settings]
args = ["-c", "{prompt}"]
"#;

/// The same command from a shell with unusual attributes.
fn from_odd_shell(host: &TestHost, args: &[&str]) -> Command {
    let inner = host.command(args);
    let mut outer = Command::new("sh");
    outer.args(["-c", "umask 0777; ulimit -Sn 200; exec nice -n 7 \"$0\" \"$@\""]);
    outer.arg(inner.get_program()).args(inner.get_args()).current_dir(host.work()).env_clear();
    outer.envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))));
    outer
}

#[test]
fn shell_attributes_of_the_first_caller_do_not_reach_runs() {
    let host = TestHost::with_config(CONFIG);
    host.finish(from_odd_shell(&host, &["grants", "add", host.work().to_str().unwrap()])).ok();
    let prompt = "umask; ulimit -Sn; ulimit -Hn; nice";
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    for provider in ["sh", "rehearsal"] {
        let prompt = if provider == "sh" { prompt.to_owned() } else { format!("RUN {prompt}") };
        let output = host.run(&["run", provider, &prompt]).ok().stdout;
        let words: Vec<&str> = output.split_whitespace().collect();
        let limits = [hard.min(65_536).to_string(), hard.to_string()];
        let [umask, soft, hard, nice] = words[..] else { panic!("{output}") };
        assert_eq!((umask, [soft, hard]), ("0022", [&*limits[0], &*limits[1]]), "{provider}");
        // Only root can lower the nice value again.
        let expected = if nix::unistd::geteuid().is_root() { "0" } else { "7" };
        assert_eq!(nice, expected, "{provider}");
    }
}

#[test]
fn runs_get_language_time_zone_and_proxies_of_their_caller() {
    let mut host = TestHost::with_config(CONFIG);
    let names = ["LANG", "LC_TIME", "TZ", "https_proxy", "NO_PROXY"];
    let all = |host: &TestHost, provider: &str| {
        let prompt = names.map(|name| format!("echo {name}=${{{name}-none}}")).join("; ");
        let prompt = if provider == "sh" { prompt } else { format!("RUN {prompt}") };
        host.run(&["run", provider, &prompt]).ok().stdout
    };
    host.set("TZ", "America/Lima");
    host.set("LC_TIME", "de_DE.UTF-8");
    host.set("https_proxy", "http://first.example:3128");
    host.run(&["grants", "add", host.work().to_str().unwrap()]).ok();
    for provider in ["sh", "rehearsal"] {
        let output = all(&host, provider);
        assert!(output.contains("TZ=America/Lima\nhttps_proxy=http://first.example:3128"), "{provider}: {output}");
    }
    for name in ["TZ", "LC_TIME", "https_proxy"] {
        host.unset(name);
    }
    host.set("LANG", "C");
    host.set("TZ", "Asia/Tokyo");
    host.set("NO_PROXY", "localhost");
    for provider in ["sh", "rehearsal"] {
        let output = all(&host, provider);
        let expected = "LANG=C\nLC_TIME=none\nTZ=Asia/Tokyo\nhttps_proxy=none\nNO_PROXY=localhost";
        assert!(output.contains(expected), "{provider}: {output}");
    }
}
