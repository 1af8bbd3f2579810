//! Where a ledger file may stand: on a disk of this machine, and with real money on one that stays (S5, S66).

use std::fs::canonicalize;
use std::path::{Path, PathBuf};

use rustix::fs::statfs;

use super::OpenError;

/// File systems that are somewhere else. SQLite's locks do not hold there between machines, and two of them would each
/// believe to be alone with the file. The numbers are those of statfs(2).
const NETWORK: [(u64, &str); 9] = [
    (0x6969, "NFS"),
    (0x517b, "SMB"),
    (0xfe53_4d42, "SMB"),
    (0xff53_4d42, "CIFS"),
    (0x5346_414f, "AFS"),
    (0x00c3_6400, "Ceph"),
    (0x0bd0_0bd0, "Lustre"),
    (0x4750_4653, "GPFS"),
    (0x1983_0326, "BeeGFS"),
];
/// File systems that may be: a program decides, and its promises cannot be seen from here.
const PERHAPS_NETWORK: [(u64, &str); 3] = [(0x6573_5546, "FUSE"), (0x0102_1997, "9P"), (0x786f_4256, "VirtualBox")];
/// File systems that do not stay.
const FLEETING: [(u64, &str); 3] = [
    (0x0102_1994, "in memory (tmpfs)"),
    (0x8584_58f6, "in memory (ramfs)"),
    (0x794c_7630, "in a container (overlay) and goes with it"),
];
/// A part of the path at which kubelet makes every emptyDir.
const EMPTY_DIR: &str = "/kubernetes.io~empty-dir/";

/// Refuses a network file system.
pub(super) fn refuse_network(path: &Path) -> Result<(), OpenError> {
    match known(&NETWORK, kind_of(path)) {
        Some(system) => Err(OpenError::Network { path: path.into(), system }),
        None => Ok(()),
    }
}

/// Refuses what may be a network file system, and what does not outlast the container, the pod or the machine's next
/// start: a ledger that forgets would sell what was paid a second time.
pub(super) fn refuse_fleeting(path: &Path) -> Result<(), OpenError> {
    let kind = kind_of(path);
    if let Some(system) = known(&PERHAPS_NETWORK, kind) {
        return Err(OpenError::Network { path: path.into(), system });
    }
    let empty_dir = || {
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").ok()?;
        is_empty_dir(&mounts, &standing(path)?).then_some("in an emptyDir, which is deleted with the pod")
    };
    match known(&FLEETING, kind).or_else(empty_dir) {
        Some(place) => Err(OpenError::Fleeting { path: path.into(), place }),
        None => Ok(()),
    }
}

fn known(list: &[(u64, &'static str)], kind: Option<u64>) -> Option<&'static str> {
    list.iter().find(|(number, _)| Some(*number) == kind).map(|(_, name)| *name)
}

/// The number of the file system. A place that cannot be asked about is not judged here; opening it says why.
fn kind_of(path: &Path) -> Option<u64> {
    let kind = statfs(&standing(path)?).ok()?.f_type;
    // Some systems hold the number in 32 bits with a sign.
    u64::try_from(kind).ok().map(|kind| kind & 0xffff_ffff)
}

/// The file, or the folder it is going to stand in, without symbolic links.
fn standing(path: &Path) -> Option<PathBuf> {
    let folder = || path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    canonicalize(path).or_else(|_| canonicalize(folder())).ok()
}

/// Whether the mount that this path is on is an emptyDir, by the lines of proc_pid_mountinfo(5): the fourth word is
/// what of its file system is mounted, the fifth is where.
fn is_empty_dir(mounts: &str, path: &Path) -> bool {
    let on = mounts.lines().filter_map(|line| {
        let mut words = line.split(' ').skip(3);
        let (root, at) = (words.next()?, unescape(words.next()?));
        path.starts_with(&at).then_some((at.len(), root))
    });
    // The deepest one, and of several at one place the last: it covers the others.
    on.max_by_key(|(depth, _)| *depth).is_some_and(|(_, root)| format!("{root}/").contains(EMPTY_DIR))
}

/// Blanks, tabs, line breaks and backslashes stand there in octal.
fn unescape(word: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .iter()
        .fold(word.to_owned(), |text, (escaped, plain)| text.replace(escaped, plain))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "\
        1 0 0:50 / / rw,relatime - overlay overlay rw\n\
        2 1 8:1 /var/lib/kubelet/pods/6f1e/volumes/kubernetes.io~empty-dir/scratch /var/lib/tollhouse rw - ext4 /dev/sda1 rw\n\
        3 2 8:17 / /var/lib/tollhouse/kept rw - ext4 /dev/sdb1 rw\n\
        4 1 8:1 /pods/6f1e/volumes/kubernetes.io~empty-dir/my\\040data /my\\040data rw - ext4 /dev/sda1 rw\n";

    #[test]
    fn s5_an_empty_dir_is_recognised_by_what_is_mounted() {
        let is = |path: &str| is_empty_dir(MOUNTS, Path::new(path));
        assert!(is("/var/lib/tollhouse/ledger.db"));
        assert!(is("/my data/ledger.db"));
        assert!(!is("/var/lib/tollhouse/kept/ledger.db"), "a volume is mounted within it");
        assert!(!is("/var/lib/tollhouse-else/ledger.db"));
        assert!(!is("/srv/ledger.db"));
        assert!(!is_empty_dir("not a mount\n", Path::new("/srv")));
    }

    #[test]
    fn s66_network_file_systems_are_known_by_their_number() {
        assert_eq!(known(&NETWORK, Some(0x6969)), Some("NFS"));
        assert_eq!(known(&NETWORK, Some(0xef53)), None, "ext4 is a disk");
        assert_eq!(known(&NETWORK, None), None);
    }

    #[test]
    fn s5_memory_is_no_place_for_real_money() {
        // Linux keeps its shared memory there.
        let path = Path::new("/dev/shm/tollhouse-that-does-not-exist.db");
        assert_eq!(kind_of(path), Some(0x0102_1994));
        assert!(refuse_network(path).is_ok());
        let error = refuse_fleeting(path).expect_err("it is gone with the next start");
        assert!(matches!(error, OpenError::Fleeting { place: "in memory (tmpfs)", .. }), "{error}");
    }
}
