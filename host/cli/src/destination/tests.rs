#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io::Read;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use super::*;

fn folder() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().canonicalize().unwrap();
    (folder, path)
}

fn write(destination: Destination, text: &str) -> Result<(), ApiError> {
    let mut draft = destination.begin()?;
    draft.write_all(text.as_bytes()).map_err(|error| draft.failed(&error))?;
    draft.finish()
}

#[track_caller]
fn written(path: &Path, text: &str) {
    write(Destination::prepare(path, false).unwrap(), text).unwrap();
}

#[track_caller]
fn refused(path: &Path, reason: &str) {
    let error = Destination::prepare(path, false).unwrap_err();
    assert_eq!(error.kind, ErrorKind::InvalidParams, "{error:?}");
    assert!(error.message.ends_with(reason), "{error:?}");
}

fn mode(path: &Path) -> u32 {
    path.metadata().unwrap().mode() & 0o7777
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

fn names(folder: &Path) -> Vec<OsString> {
    let mut names: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    names
}

#[test]
fn new_file_appears_when_complete_and_respects_private_mode() {
    let (_folder, at) = folder();
    let mut draft = Destination::prepare(&at.join("new"), false).unwrap().begin().unwrap();
    draft.write_all(b"text").unwrap();
    assert!(!at.join("new").exists());
    draft.finish().unwrap();
    assert_eq!(fs::read_to_string(at.join("new")).unwrap(), "text");
    fs::write(at.join("plain"), "").unwrap();
    assert_eq!(mode(&at.join("new")), mode(&at.join("plain")), "as any other new file");
    write(Destination::prepare(&at.join("private"), false).unwrap().private(), "text").unwrap();
    assert_eq!(mode(&at.join("private")), 0o600);
}

#[test]
fn replaces_plain_file_as_a_whole_and_keeps_mode() {
    let (_folder, at) = folder();
    let path = at.join("out");
    fs::write(&path, "old and longer").unwrap();
    for wanted in [0o664, 0o640, 0o600, 0o755] {
        set_mode(&path, wanted);
        let before = path.metadata().unwrap().ino();
        written(&path, "new");
        assert_eq!(fs::read_to_string(&path).unwrap(), "new");
        assert_eq!(mode(&path), wanted);
        assert_ne!(path.metadata().unwrap().ino(), before);
    }
    drop(Destination::prepare(&path, false).unwrap().begin().unwrap());
    assert_eq!(fs::read_to_string(&path).unwrap(), "new", "an abandoned draft changes nothing");
    assert_eq!(names(&at), ["out"]);
}

#[test]
fn keeps_file_owner() {
    if !Uid::effective().is_root() {
        eprintln!("skipped: only root can give a file to somebody else");
        return;
    }
    let (_folder, at) = folder();
    let path = at.join("out");
    fs::write(&path, "old").unwrap();
    std::os::unix::fs::chown(&path, Some(1234), Some(1235)).unwrap();
    written(&path, "new");
    let metadata = path.metadata().unwrap();
    assert_eq!((metadata.uid(), metadata.gid()), (1234, 1235));
}

#[test]
fn keeps_symlink_and_writes_its_target() {
    let (_folder, at) = folder();
    fs::create_dir(at.join("far")).unwrap();
    fs::write(at.join("far/file"), "old").unwrap();
    symlink("file", at.join("far/second")).unwrap();
    symlink("far/second", at.join("first")).unwrap();
    symlink("far/none", at.join("dangling")).unwrap();
    for (link, target) in [("first", "far/file"), ("dangling", "far/none")] {
        written(&at.join(link), "new");
        assert!(at.join(link).is_symlink());
        assert_eq!(fs::read_to_string(at.join(target)).unwrap(), "new");
    }
    assert_eq!(names(&at.join("far")), ["file", "none", "second"]);
    symlink("nowhere/file", at.join("lost")).unwrap();
    refused(&at.join("lost"), "its folder does not exist");
    symlink("round", at.join("round")).unwrap();
    refused(&at.join("round"), "too many links");
    symlink("far", at.join("folder")).unwrap();
    refused(&at.join("folder"), "it is a folder");
}

#[test]
fn writes_hard_linked_file_in_place() {
    let (_folder, at) = folder();
    fs::write(at.join("one"), "old and longer").unwrap();
    fs::hard_link(at.join("one"), at.join("other")).unwrap();
    written(&at.join("one"), "new");
    assert_eq!(fs::read_to_string(at.join("other")).unwrap(), "new");
    assert_eq!(at.join("one").metadata().unwrap().nlink(), 2);
}

#[test]
fn keeps_user_attributes() {
    let (_folder, at) = folder();
    let path = at.join("out");
    fs::write(&path, "old and longer").unwrap();
    assert!(!has_attributes(&path));
    let name = CString::new(path.as_os_str().as_bytes()).unwrap();
    // SAFETY: both names end with a zero byte, and the length is that of the value.
    let set = unsafe { libc::setxattr(name.as_ptr(), c"user.note".as_ptr(), c"kept".as_ptr().cast(), 4, 0) };
    if set != 0 {
        eprintln!("skipped: the file system of {} has no attributes", at.display());
        return;
    }
    written(&path, "new");
    assert!(has_attributes(&path));
    assert_eq!(fs::read_to_string(&path).unwrap(), "new");
}

#[test]
fn rejects_read_only_file_without_force() {
    let (_folder, at) = folder();
    let path = at.join("out");
    fs::write(&path, "old").unwrap();
    set_mode(&path, 0o444);
    refused(&path, "it is read-only");
    assert_eq!(Destination::prepare(&path, false).unwrap_err().hint.as_deref(), Some("--force replaces it"));
    write(Destination::prepare(&path, true).unwrap(), "new").unwrap();
    assert_eq!((fs::read_to_string(&path).unwrap().as_str(), mode(&path)), ("new", 0o444));
}

#[test]
fn rejects_paths_that_cannot_be_files() {
    let (_folder, at) = folder();
    let _socket = UnixListener::bind(at.join("socket")).unwrap();
    fs::write(at.join("file"), "").unwrap();
    refused(&at, "it is a folder");
    refused(Path::new("/"), "it names a folder");
    refused(Path::new(""), "it names no file");
    refused(&at.join("new/"), "it names a folder");
    refused(&at.join(".."), "it is a folder");
    refused(&at.join("socket"), "it is a socket");
    refused(&at.join("none/file"), "its folder does not exist");
    refused(&at.join("file/file"), "its folder does not exist");
    refused(&at.join("x".repeat(300)), "File name too long (os error 36)");
    assert_eq!(names(&at), ["file", "socket"]);
}

#[test]
fn rejects_folder_that_takes_no_file_even_for_root() {
    let error = Destination::prepare(Path::new("/proc/sys/ostler"), false).unwrap_err();
    assert!(error.message.contains("no file can be made in its folder"), "{error:?}");
}

#[test]
fn writes_to_fifo_and_keeps_it() {
    let (_folder, at) = folder();
    let path = at.join("fifo");
    mkfifo(&path, Mode::S_IRWXU).unwrap();
    let reader = std::thread::spawn({
        let path = path.clone();
        move || {
            let mut text = String::new();
            File::open(path).unwrap().read_to_string(&mut text).unwrap();
            text
        }
    });
    // The writer and the reader wait for each other.
    written(&path, "text");
    assert_eq!(reader.join().unwrap(), "text");
    assert!(path.metadata().unwrap().file_type().is_fifo());
}

#[test]
fn closed_reader_is_not_an_error() {
    let (reader, writer) = io::pipe().unwrap();
    let mut draft = Draft {
        shown: String::new(),
        sink: Sink::Stream(File::from(OwnedFd::from(writer))),
        buffered: None,
        closed: false,
    };
    drop(reader);
    draft.write_all(b"text").unwrap();
    assert!(draft.closed());
    draft.finish().unwrap();
}

#[test]
fn rejects_private_and_closed_descriptors() {
    let (_folder, at) = folder();
    // The standard library opens files with the close-on-exec flag.
    let own = File::create(at.join("own")).unwrap();
    refused(&PathBuf::from(format!("/dev/fd/{}", own.as_raw_fd())), "there is no such descriptor");
    refused(&PathBuf::from(format!("/proc/self/fd/{}", own.as_raw_fd())), "there is no such descriptor");
    for wrong in ["/dev/fd/99999", "/dev/fd/x", "/proc/self/fd/-1"] {
        refused(Path::new(wrong), "there is no such descriptor");
    }
    assert_eq!(names(&at), ["own"]);
}

#[test]
fn recognizes_names_of_standard_output() {
    let (_folder, at) = folder();
    symlink("/dev/stdout", at.join("link")).unwrap();
    for name in [Path::new("-"), Path::new("/dev/stdout"), Path::new("/proc/self/fd/1"), &at.join("link")] {
        assert!(Destination::prepare(name, false).unwrap().is_stdout(), "{}", name.display());
    }
}

#[test]
fn does_not_follow_symlink_created_after_check() {
    let (_folder, at) = folder();
    fs::write(at.join("victim"), "mine").unwrap();
    fs::create_dir(at.join("folder")).unwrap();
    let (new, moved) = (at.join("new"), at.join("folder/new"));
    let (new, moved) = (Destination::prepare(&new, false).unwrap(), Destination::prepare(&moved, false).unwrap());
    symlink("victim", at.join("new")).unwrap();
    fs::rename(at.join("folder"), at.join("elsewhere")).unwrap();
    symlink(".", at.join("folder")).unwrap();
    write(new, "text").unwrap();
    write(moved, "text").unwrap();
    assert_eq!(fs::read_to_string(at.join("victim")).unwrap(), "mine");
    assert!(!at.join("new").is_symlink());
    assert_eq!(fs::read_to_string(at.join("elsewhere/new")).unwrap(), "text");
}

#[test]
fn full_disk_error_names_the_destination() {
    let error = write(Destination::prepare(Path::new("/dev/full"), false).unwrap(), "text").unwrap_err();
    assert_eq!(error.kind, ErrorKind::Io);
    assert_eq!(error.message, r#"failed to write to "/dev/full": No space left on device (os error 28)"#);
}
