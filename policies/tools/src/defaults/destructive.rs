//! Commands that destroy work: commits and changes in git, and files.

use super::{BuiltIn, RULE};
use crate::act::Access::{Delete, Write};
use crate::paths::Place::{Inside, Outside, Temporary};
use crate::rule::Decision::{Ask, Deny};

const GIT: BuiltIn = BuiltIn { check: "destructive-git", ..RULE };
const FILES: BuiltIn = BuiltIn { check: "destructive-files", ..RULE };

const RUN_YOURSELF: &str = "run it yourself if it is needed";
const COMMIT_FIRST: &str = "commit or stash the changes first, or allow this use";

pub(super) const RULES: &[BuiltIn] = &[
    // What others have fetched, or what nothing can restore.
    BuiltIn {
        decision: Deny,
        commands: &["git push -f|--force !--force-with-lease", "git push --mirror", "git push ... +*"],
        message: "overwrites commits of the remote repository",
        hint: "push to a new branch, or use --force-with-lease, which is asked about",
        ..GIT
    },
    BuiltIn {
        decision: Deny,
        commands: &["git filter-branch", "git filter-repo", "git-filter-repo", "bfg", "git fast-import -f|--force"],
        message: "rewrites the history of the repository",
        hint: RUN_YOURSELF,
        ..GIT
    },
    BuiltIn {
        decision: Deny,
        commands: &["git reflog expire|delete", "git gc --prune", "git prune", "git update-ref -d|--delete"],
        message: "removes commits that nothing else can restore",
        hint: RUN_YOURSELF,
        ..GIT
    },
    BuiltIn {
        commands: &["git push --force-with-lease*|--force-if-includes"],
        message: "replaces commits of the remote repository",
        hint: "push to a new branch, or allow this use",
        ..GIT
    },
    BuiltIn {
        commands: &[
            "git push -d|--delete|--prune",
            "git push ... :*",
            "git tag -d|--delete",
            "git branch -D",
            "git branch -d|--delete -f|--force",
        ],
        message: "deletes branches or tags",
        hint: "allow this use if they are no longer needed",
        ..GIT
    },
    BuiltIn {
        commands: &[
            "git reset --hard|--merge|--keep",
            "git checkout --|-f|--force",
            "git checkout ... .|./|:/|:",
            "git restore !--staged|-S",
            "git restore -W|--worktree",
            "git switch -f|--force|--discard-changes",
            "git clean -f|--force !-n|--dry-run",
            "git read-tree --reset",
            "git checkout-index -f|--force",
            "git submodule deinit -f|--force",
            "git worktree remove -f|--force",
        ],
        message: "discards changes that are not committed",
        hint: COMMIT_FIRST,
        ..GIT
    },
    BuiltIn {
        commands: &[
            "git branch -f|--force|-M|-C",
            "git checkout -B",
            "git switch -C|--force-create",
            "git tag -f|--force",
        ],
        message: "moves a branch or tag away from its commits",
        hint: "use a new name, or allow this use",
        ..GIT
    },
    BuiltIn {
        commands: &["git stash drop|clear"],
        message: "deletes stashed changes",
        hint: "apply the stash first, or allow this use",
        ..GIT
    },
    // Files.
    BuiltIn {
        decision: Deny,
        commands: &["rm -r|-R|--recursive|-f|--force", "find -delete", "shred", "srm", "wipe"],
        access: &[Delete],
        places: &[Outside],
        message: "is outside the workspace and would be deleted",
        hint: "delete only files in the workspace",
        ..FILES
    },
    BuiltIn {
        commands: &["rm -r|-R|--recursive", "find -delete", "shred", "srm", "wipe"],
        access: &[Delete],
        places: &[Inside, Temporary],
        message: "would be deleted with everything in it",
        hint: "delete single files, or allow this use",
        ..FILES
    },
    BuiltIn {
        decision: Deny,
        commands: &[
            "mkfs*",
            "mke2fs",
            "mkswap",
            "wipefs",
            "blkdiscard",
            "fdisk",
            "sfdisk",
            "cfdisk",
            "gdisk",
            "sgdisk",
            "parted",
            "diskutil erase*|partition*|secureErase",
            "hdparm --security-erase*",
            "nvme format",
            "cryptsetup luksFormat|erase",
            "zpool destroy",
            "zfs destroy",
            "lvremove",
            "vgremove",
            "pvremove",
        ],
        message: "erases a disk or file system",
        hint: RUN_YOURSELF,
        ..FILES
    },
    BuiltIn {
        decision: Deny,
        paths: &["/dev/**"],
        except: &["/dev/shm/**", "/dev/pts/**", "/dev/tcp/**", "/dev/udp/**", "/dev/ptmx", "/dev/full", "/dev/*random"],
        access: &[Write, Delete],
        message: "is a device and would be written",
        hint: RUN_YOURSELF,
        ..FILES
    },
    BuiltIn {
        decision: Deny,
        commands: &["chmod|chown|chgrp|chattr|setfacl -R|--recursive"],
        access: &[Write],
        places: &[Outside],
        message: "is outside the workspace, and the rights of everything in it would change",
        hint: "change only files in the workspace",
        ..FILES
    },
    BuiltIn {
        commands: &["chmod|chown|chgrp|chattr|setfacl -R|--recursive"],
        access: &[Write],
        places: &[Inside, Temporary],
        message: "and everything in it would get other rights",
        hint: "change single files, or allow this use",
        ..FILES
    },
    BuiltIn {
        commands: &["truncate", "rsync --delete*|--remove-source-files", "mv ... /dev/null", "git rm -r|-f|--force"],
        message: "empties or deletes files",
        hint: "keep a copy first, or allow this use",
        ..FILES
    },
    BuiltIn {
        commands: &[
            "crontab -r",
            "dropdb",
            "docker|podman system|volume|image|container|builder|network prune",
            "docker|podman volume rm",
            "docker|podman compose down -v|--volumes",
            "docker-compose down -v|--volumes",
            "redis-cli ... flushall|flushdb|FLUSHALL|FLUSHDB",
        ],
        message: "deletes data",
        hint: "allow this use if the data is no longer needed",
        ..FILES
    },
    BuiltIn {
        check: "outside-workspace",
        // These are connections.
        except: &["/dev/tcp/**", "/dev/udp/**"],
        access: &[Write, Delete],
        places: &[Outside],
        certain: true,
        message: "is outside the workspace and would be changed",
        hint: "change only files in the workspace and in /tmp, or allow this use",
        ..RULE
    },
    BuiltIn {
        check: "privileges",
        decision: Ask,
        commands: &["sudo|doas|su|pkexec|runuser|sudoedit"],
        message: "runs a command as another user",
        hint: "do it without other rights, or allow this use",
        ..RULE
    },
];
