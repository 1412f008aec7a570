#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::os::unix::fs::PermissionsExt;

use tempfile::TempDir;

use super::*;

fn token(text: &str) -> Token {
    Token::parse(text.to_owned()).unwrap()
}

/// Checks a store with two data folders, which must not see each other's entries.
fn check_store(kind: StoreKind) {
    let (one, other) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let (store, stranger) = (TokenStore::new(one.path()), TokenStore::new(other.path()));
    assert_eq!(store.get(kind, "codex").unwrap(), None);
    assert!(!store.delete(kind, "codex").unwrap());
    store.put(kind, "codex", &token("first ünd \"quoted\"")).unwrap();
    store.put(kind, "codex", &token("second")).unwrap();
    store.put(kind, "claude", &token(&"x".repeat(MAX_TOKEN))).unwrap();
    assert_eq!(store.get(kind, "codex").unwrap(), Some(token("second")));
    assert_eq!(store.get(kind, "claude").unwrap().unwrap().reveal().len(), MAX_TOKEN);
    assert_eq!(stranger.get(kind, "codex").unwrap(), None);
    // A new object, as after a restart of the host.
    assert_eq!(TokenStore::new(one.path()).get(kind, "codex").unwrap(), Some(token("second")));
    for provider in ["codex", "claude"] {
        assert!(store.delete(kind, provider).unwrap());
        // The kernel deletes keys with a delay.
        let start = std::time::Instant::now();
        while store.get(kind, provider).unwrap().is_some() {
            assert!(start.elapsed() < Duration::from_secs(10), "{provider} is still there");
            std::thread::yield_now();
        }
    }
}

#[test]
fn file_stores_tokens() {
    check_store(StoreKind::File);
}

/// Some containers forbid the kernel's keyring; then there must be an error, and no other store may be chosen.
#[test]
fn kernel_keyring_stores_tokens_or_reports_an_error() {
    let folder = TempDir::new().unwrap();
    match kernel::check(folder.path()) {
        Ok(()) => {
            check_store(StoreKind::Keyutils);
            // The entry as any process of the user sees it.
            let store = TokenStore::new(folder.path());
            store.put(StoreKind::Keyutils, "codex", &token("plain words")).unwrap();
            let keyring = kernel::open(&folder.path().canonicalize().unwrap()).unwrap();
            let kept = keyring.entry("codex").unwrap().get_password().unwrap();
            assert!(kept.starts_with("ostler-sealed-1:") && !kept.contains("plain words"), "{kept}");
            store.delete(StoreKind::Keyutils, "codex").unwrap();
        }
        Err(refused) => {
            let store = TokenStore::new(folder.path());
            let error = store.put(StoreKind::Keyutils, "codex", &token("t")).unwrap_err();
            assert!(error.message.starts_with("failed to use the kernel's keyring"), "{refused} {error}");
            if !desktop::has_session_bus() {
                assert!(store.in_use(None).unwrap_err().hint.contains("file"));
            }
        }
    }
}

/// A keyring in memory, whose entries can be read as any process of the user can read the kernel's.
#[test]
fn keyring_stores_tokens_sealed_and_seals_older_ones() {
    let folder = TempDir::new().unwrap();
    let store = keyring_core::mock::Store::new().unwrap();
    let keyring =
        keyring::Keyring { name: "a keyring", hint: "", store, data_dir: folder.path().to_owned(), labels: false };
    keyring.put("codex", &token("plain words")).unwrap();
    let kept = || keyring.entry("codex").unwrap().get_password().unwrap();
    assert!(!kept().contains("plain words"), "{}", kept());
    assert_eq!(keyring.get("codex").unwrap(), Some(token("plain words")));
    keyring.entry("codex").unwrap().set_password("plain words").unwrap();
    assert_eq!(keyring.get("codex").unwrap(), Some(token("plain words")), "an earlier version kept it so");
    assert!(!kept().contains("plain words"), "{}", kept());
    assert_eq!(keyring.get("codex").unwrap(), Some(token("plain words")));
    // Without its key the token is lost, and the error says so.
    fs::remove_file(folder.path().join("tokens.key")).unwrap();
    let error = keyring.get("codex").unwrap_err();
    assert!(
        error.message.contains("the token of codex in a keyring") && error.hint.contains("save_provider_token"),
        "{error}"
    );
    assert!(!error.message.contains("plain words"), "{error}");
}

#[test]
fn file_is_created_private_and_rejected_if_it_is_not() {
    let folder = TempDir::new().unwrap();
    let (store, path) = (TokenStore::new(folder.path()), file::path(folder.path()));
    store.put(StoreKind::File, "codex", &token("plain words")).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let before = fs::read(&path).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    let error = store.get(StoreKind::File, "codex").unwrap_err();
    assert!(error.message.contains("chmod 600"), "{error}");
    assert!(store.put(StoreKind::File, "codex", &token("new")).is_err());
    assert_eq!(fs::read(&path).unwrap(), before, "a file that is refused is left as it is");
    for garbage in ["", "plain words", "[\"plain words\"]", "{\"codex\": \"plain words\", \"x\": 1}"] {
        fs::write(&path, garbage).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let error = store.get(StoreKind::File, "codex").unwrap_err();
        assert!(!error.message.contains("plain words"), "{error}");
    }
    fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink("/etc/hostname", &path).unwrap();
    assert!(store.get(StoreKind::File, "codex").is_err());
    let left: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["tokens.json"], "no temporary file is left");
}

#[test]
fn token_is_validated_and_not_shown() {
    for wrong in ["", "  ", "a\nb", "a\0b", &"x".repeat(MAX_TOKEN + 1)] {
        assert!(Token::parse(wrong.to_owned()).is_err(), "{wrong:?}");
    }
    assert_eq!(format!("{:?}", token("plain words")), "Token");
}

#[test]
fn hanging_store_is_called_by_one_thread_only() {
    let folder = TempDir::new().unwrap();
    let store = TokenStore::new(folder.path());
    *lock(&store.shared.waiting) = true;
    let error = store.get(StoreKind::File, "codex").unwrap_err();
    assert!(error.message.contains("does not answer"), "{error}");
    *lock(&store.shared.waiting) = false;
    assert_eq!(store.get(StoreKind::File, "codex").unwrap(), None);
}
