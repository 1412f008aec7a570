//! Which limits hold for a run: those of the narrowest scope that states them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use ostler_config::Config;
use ostler_protocol::Origin;
use ostler_protocol::{RetentionLimit, RetentionOrigin};
use ostler_storage::{RetentionRow, RetentionScope};

/// Every scope that has a policy; the first is the global one, which states both limits.
#[derive(Debug)]
pub(super) struct Policies {
    pub(super) scopes: Vec<ScopePolicy>,
    providers: BTreeMap<String, usize>,
    workspaces: BTreeMap<PathBuf, usize>,
}

/// The policy of one scope. A limit that it does not state is the wider scope's.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct ScopePolicy {
    pub(super) scope: RetentionScope,
    pub(super) days: Option<RetentionLimit>,
    pub(super) megabytes: Option<RetentionLimit>,
}

/// A limit that holds for a run, and the scope that states it. None is without limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) scope: usize,
    pub(super) value: Option<u64>,
}

/// The limits that hold for a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Holding {
    pub(super) days: Held,
    pub(super) megabytes: Held,
}

/// The scope of everything that no narrower one is about.
const GLOBAL: usize = 0;

impl Policies {
    /// The configuration's limits, and over them, limit by limit, those that the user has set.
    pub(super) fn new(config: &Config, rows: &[RetentionRow]) -> Self {
        let limit = |value, origin| Some(RetentionLimit { value, origin });
        let origin = |key| match config.sources().origin(key) {
            Origin::Default => RetentionOrigin::Default,
            Origin::File => RetentionOrigin::File,
            Origin::Override => RetentionOrigin::Override,
        };
        let stated = &config.retention;
        let mut policies = Self {
            scopes: vec![ScopePolicy {
                scope: RetentionScope::Global,
                days: limit(stated.days.into(), origin("/retention/days")),
                megabytes: limit(stated.megabytes, origin("/retention/megabytes")),
            }],
            providers: BTreeMap::new(),
            workspaces: BTreeMap::new(),
        };
        let providers = stated.providers.iter().map(|(name, own)| (RetentionScope::Provider(name.clone()), own));
        // Runs work in folders whose links were resolved.
        let resolved = |path: &PathBuf| path.canonicalize().unwrap_or_else(|_| path.clone());
        let folders = stated.workspaces.iter().map(|(path, own)| (RetentionScope::Workspace(resolved(path)), own));
        for (scope, own) in providers.chain(folders) {
            policies.state(&scope, RetentionOrigin::File, own.days, own.megabytes);
        }
        for row in rows {
            policies.state(&row.scope, RetentionOrigin::Override, row.days, row.megabytes);
        }
        policies
    }

    /// Sets what is said about a scope over what was said before.
    fn state(&mut self, scope: &RetentionScope, origin: RetentionOrigin, days: Option<u32>, megabytes: Option<u64>) {
        let next = self.scopes.len();
        let index = match scope {
            RetentionScope::Global => GLOBAL,
            RetentionScope::Provider(name) => *self.providers.entry(name.clone()).or_insert(next),
            RetentionScope::Workspace(path) => *self.workspaces.entry(path.clone()).or_insert(next),
        };
        if index == next {
            self.scopes.push(ScopePolicy { scope: scope.clone(), days: None, megabytes: None });
        }
        if let Some(policy) = self.scopes.get_mut(index) {
            let limit = |value| RetentionLimit { value, origin };
            policy.days = days.map(|days| limit(days.into())).or(policy.days);
            policy.megabytes = megabytes.map(limit).or(policy.megabytes);
        }
    }

    /// The limits for what belongs to no run.
    pub(super) fn global(&self) -> Holding {
        self.first(&[GLOBAL])
    }

    /// The limits of a run of this provider instance in this folder.
    pub(super) fn of(&self, provider: &str, cwd: &Path) -> Holding {
        let folders = cwd.ancestors().filter_map(|folder| self.workspaces.get(folder));
        let narrowest_first: Vec<usize> =
            folders.chain(self.providers.get(provider)).copied().chain([GLOBAL]).collect();
        self.first(&narrowest_first)
    }

    fn first(&self, scopes: &[usize]) -> Holding {
        let held = |limit: fn(&ScopePolicy) -> Option<RetentionLimit>| {
            let stated = |scope: &usize| Some((*scope, limit(self.scopes.get(*scope)?)?));
            let (scope, value) =
                scopes.iter().find_map(stated).map_or((GLOBAL, 0), |(scope, limit)| (scope, limit.value));
            Held { scope, value: Some(value).filter(|value| *value > 0) }
        };
        Holding { days: held(|policy| policy.days), megabytes: held(|policy| policy.megabytes) }
    }

    /// The shortest time that any scope keeps a run, in days; None where all keep them for ever.
    pub(super) fn shortest_days(&self) -> Option<u64> {
        self.scopes.iter().filter_map(|policy| policy.days).map(|days| days.value).filter(|days| *days > 0).min()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use jiff::Timestamp;

    use super::*;

    fn row(scope: RetentionScope, days: Option<u32>, megabytes: Option<u64>) -> RetentionRow {
        RetentionRow { scope, days, megabytes, updated_at: Timestamp::UNIX_EPOCH }
    }

    fn values(policies: &Policies, provider: &str, cwd: &str) -> (Option<u64>, Option<u64>) {
        let holding = policies.of(provider, Path::new(cwd));
        (holding.days.value, holding.megabytes.value)
    }

    const FILE: &str = r#"
        [retention]
        days = 60
        [retention.providers.codex]
        days = 30
        [retention.workspaces."/secret"]
        days = 1
        megabytes = 5
        [retention.workspaces."/secret/deep"]
        megabytes = 7
    "#;

    #[test]
    fn each_limit_is_the_one_of_the_narrowest_scope_that_states_it() {
        let policies = Policies::new(&Config::parse(FILE).unwrap(), &[]);
        assert_eq!(values(&policies, "claude", "/work"), (Some(60), Some(1024)));
        assert_eq!(values(&policies, "codex", "/work"), (Some(30), Some(1024)));
        assert_eq!(values(&policies, "codex", "/secret/shallow"), (Some(1), Some(5)));
        assert_eq!(values(&policies, "claude", "/secret/deep/er"), (Some(1), Some(7)));
        assert_eq!(values(&policies, "claude", "/secretary"), (Some(60), Some(1024)), "another folder");
    }

    #[test]
    fn what_the_user_sets_goes_before_the_file_limit_by_limit() {
        let rows = [
            row(RetentionScope::Global, None, Some(0)),
            row(RetentionScope::Provider("codex".to_owned()), None, Some(10)),
            row(RetentionScope::Workspace(PathBuf::from("/secret")), Some(0), None),
            row(RetentionScope::Workspace(PathBuf::from("/other")), Some(2), None),
        ];
        let policies = Policies::new(&Config::parse(FILE).unwrap(), &rows);
        assert_eq!(values(&policies, "claude", "/work"), (Some(60), None), "0 is without limit");
        assert_eq!(values(&policies, "codex", "/work"), (Some(30), Some(10)));
        assert_eq!(values(&policies, "claude", "/secret"), (None, Some(5)));
        assert_eq!(values(&policies, "codex", "/other"), (Some(2), Some(10)));
        let origins = |policy: &ScopePolicy| (policy.days.map(|l| l.origin), policy.megabytes.map(|l| l.origin));
        use RetentionOrigin::{File, Override};
        assert_eq!(origins(&policies.scopes[0]), (Some(File), Some(Override)));
        assert_eq!(policies.shortest_days(), Some(2));
    }

    #[test]
    fn the_built_in_limits_are_the_contracts() {
        let policies = Policies::new(&Config::builtin().unwrap(), &[]);
        assert_eq!(values(&policies, "codex", "/"), (Some(90), Some(1024)));
        assert_eq!(policies.scopes[0].days.unwrap().origin, RetentionOrigin::Default);
    }

    #[test]
    fn a_folder_of_the_file_is_meant_where_its_links_lead() {
        let folder = tempfile::tempdir().unwrap();
        let real = folder.path().canonicalize().unwrap().join("real");
        let link = folder.path().join("link");
        std::fs::create_dir(&real).unwrap();
        std::os::unix::fs::symlink(&real, &link).unwrap();
        let text = format!("[retention.workspaces.{:?}]\ndays = 3\n", link.display().to_string());
        let policies = Policies::new(&Config::parse(&text).unwrap(), &[]);
        assert_eq!(policies.of("codex", &real).days.value, Some(3));
    }
}
