//! Edits as editors, tools and Kubernetes make them.

use std::fs;
use std::time::Duration;

use tokio::time::timeout;

use super::*;

/// Longer than any test needs; only a failing test waits for it.
const LONG: Duration = Duration::from_secs(20);
/// Longer than an event takes to be looked at.
const A_WHILE: Duration = Duration::from_millis(900);
const NEVER: Duration = Duration::from_secs(3600);

fn file(text: &str) -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().expect("a directory for the test");
    let path = directory.path().join("gateway.yaml");
    fs::write(&path, text).expect("the directory is ours");
    (directory, path)
}

fn watch(path: &Path, text: &str) -> Watcher {
    Watcher::polling_every(path, &hash(text.as_bytes()), NEVER)
}

async fn changes(watcher: &mut Watcher) -> bool {
    timeout(LONG, watcher.changed()).await.is_ok()
}

async fn stays(watcher: &mut Watcher) -> bool {
    timeout(A_WHILE, watcher.changed()).await.is_err()
}

#[tokio::test]
async fn a_write_in_place_is_a_change() {
    let (_directory, path) = file("one");
    let mut watcher = watch(&path, "one");
    fs::write(&path, "two").unwrap();
    assert!(changes(&mut watcher).await);
    assert!(stays(&mut watcher).await, "one write is one change");
}

#[tokio::test]
async fn s64_a_file_that_is_half_written_is_not_believed_until_its_last_line_ends() {
    let (_directory, path) = file("GET /a: $1.00\n");
    let mut watcher = watch(&path, "GET /a: $1.00\n");
    fs::write(&path, "GET /a: $1").unwrap();
    assert!(stays(&mut watcher).await, "the first half of a price was taken for a price");
    fs::write(&path, "GET /a: $1.50\n").unwrap();
    assert!(changes(&mut watcher).await);
    assert_eq!(watcher.known, hash(b"GET /a: $1.50\n"));
}

#[tokio::test]
async fn a_file_renamed_over_it_is_a_change_every_time() {
    let (directory, path) = file("one");
    let mut watcher = watch(&path, "one");
    for text in ["two", "three"] {
        let new = directory.path().join("gateway.yaml.new");
        fs::write(&new, text).unwrap();
        fs::rename(&new, &path).unwrap();
        assert!(changes(&mut watcher).await, "{text} went unnoticed");
    }
}

#[cfg(unix)]
#[tokio::test]
async fn a_configmap_swap_is_a_change_every_time() {
    use std::os::unix::fs::symlink;
    let directory = tempfile::tempdir().expect("a directory for the test");
    let at = |name: &str| directory.path().join(name);
    let post = |version: &str| {
        fs::create_dir(at(&format!("..{version}"))).unwrap();
        fs::write(at(&format!("..{version}/gateway.yaml")), version).unwrap();
        symlink(format!("..{version}"), at("..data_tmp")).unwrap();
        fs::rename(at("..data_tmp"), at("..data")).unwrap();
    };
    post("one");
    symlink("..data/gateway.yaml", at("gateway.yaml")).unwrap();
    let mut watcher = watch(&at("gateway.yaml"), "one");
    for version in ["two", "three"] {
        post(version);
        assert!(changes(&mut watcher).await, "{version} went unnoticed");
    }
}

#[tokio::test]
async fn reading_the_file_and_rewriting_the_same_content_are_no_changes() {
    let (_directory, path) = file("one");
    let mut watcher = watch(&path, "one");
    fs::read(&path).unwrap();
    fs::write(&path, "one").unwrap();
    assert!(stays(&mut watcher).await);
}

#[tokio::test]
async fn a_neighbour_in_the_directory_is_no_change() {
    let (directory, path) = file("one");
    let mut watcher = watch(&path, "one");
    fs::write(directory.path().join("tollhouse.db"), "x").unwrap();
    assert!(stays(&mut watcher).await);
    assert!(!watcher.pending);
}

#[tokio::test]
async fn a_deleted_file_is_no_change_until_it_is_back_with_other_content() {
    let (_directory, path) = file("one");
    let mut watcher = watch(&path, "one");
    fs::remove_file(&path).unwrap();
    assert!(stays(&mut watcher).await);
    fs::write(&path, "one").unwrap();
    assert!(stays(&mut watcher).await, "the same content is no change");
    fs::remove_file(&path).unwrap();
    fs::write(&path, "two").unwrap();
    assert!(changes(&mut watcher).await);
}

#[tokio::test]
async fn without_events_the_file_is_still_read_now_and_then() {
    let (_directory, path) = file("one");
    let mut watcher = Watcher::polling_every(&path, &hash(b"one"), Duration::from_millis(50));
    watcher._notify = None;
    fs::write(&path, "two").unwrap();
    assert!(changes(&mut watcher).await);
}

#[tokio::test]
async fn a_dropped_wait_loses_no_event() {
    let (_directory, path) = file("one");
    let mut watcher = watch(&path, "one");
    fs::write(&path, "two").unwrap();
    for _ in 0..5 {
        let _ = timeout(Duration::from_millis(20), watcher.changed()).await;
    }
    assert!(changes(&mut watcher).await);
}

/// A file that names this list.
fn with_list(directory: &Path, list: &str) -> (Watcher, PathBuf) {
    let (path, list) = (directory.join("gateway.yaml"), directory.join(list));
    fs::write(&path, "one").unwrap();
    let mut watcher = watch(&path, "one");
    watcher.follow(&[ListFile::look(&list)]);
    (watcher, list)
}

#[tokio::test]
async fn s35_a_list_that_is_written_renamed_over_touched_or_gone_is_a_change() {
    let directory = tempfile::tempdir().expect("a directory for the test");
    let elsewhere = tempfile::tempdir_in(directory.path()).expect("a directory for the test");
    let place = elsewhere.path().join("list.txt");
    fs::write(&place, "one\n").unwrap();
    let (mut watcher, list) = with_list(directory.path(), place.to_str().expect("a plain name"));
    assert!(stays(&mut watcher).await);
    fs::write(&list, "two\n").unwrap();
    assert!(changes(&mut watcher).await, "a write went unnoticed");
    fs::write(list.with_extension("new"), "two\n").unwrap();
    fs::rename(list.with_extension("new"), &list).unwrap();
    assert!(changes(&mut watcher).await, "a replacement with the same content is a younger list");
    let file = fs::File::options().append(true).open(&list).unwrap();
    file.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
    drop(file);
    assert!(changes(&mut watcher).await, "its age went unnoticed");
    fs::remove_file(&list).unwrap();
    assert!(changes(&mut watcher).await, "nobody hears that it is gone");
    assert!(stays(&mut watcher).await, "it is gone once");
    fs::write(&list, "three\n").unwrap();
    assert!(changes(&mut watcher).await, "it is back");
}

#[tokio::test]
async fn s35_a_list_that_is_half_written_is_waited_for() {
    let directory = tempfile::tempdir().expect("a directory for the test");
    let (mut watcher, list) = with_list(directory.path(), "list.txt");
    fs::write(&list, "0x11\n0x2").unwrap();
    assert!(stays(&mut watcher).await, "the first half of an address was taken for one");
    fs::write(&list, "0x11\n0x22\n").unwrap();
    assert!(changes(&mut watcher).await);
}

#[tokio::test]
async fn s35_a_configmap_swap_of_a_list_is_a_change_every_time() {
    use std::os::unix::fs::symlink;
    let directory = tempfile::tempdir().expect("a directory for the test");
    let at = |name: &str| directory.path().join(name);
    let post = |version: &str| {
        fs::create_dir(at(&format!("..{version}"))).unwrap();
        fs::write(at(&format!("..{version}/list.txt")), "the same\n").unwrap();
        symlink(format!("..{version}"), at("..data_tmp")).unwrap();
        fs::rename(at("..data_tmp"), at("..data")).unwrap();
    };
    post("one");
    symlink("..data/list.txt", at("list.txt")).unwrap();
    let (mut watcher, _) = with_list(directory.path(), "list.txt");
    for version in ["two", "three"] {
        post(version);
        assert!(changes(&mut watcher).await, "{version} went unnoticed");
    }
}
