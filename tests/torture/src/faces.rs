//! What the two file systems of this package have in common.

use crate::Failure;
use fuser::{BackgroundSession, Config, Errno, FileAttr, FileType, Filesystem, INodeNo, MountOption};
use std::path::Path;
use std::time::UNIX_EPOCH;

/// Mounts a file system, for as long as the session lives.
pub(crate) fn mount(face: impl Filesystem + 'static, at: &Path, name: &str) -> Result<BackgroundSession, Failure> {
    let mut config = Config::default();
    config.mount_options = vec![MountOption::FSName(name.to_owned())];
    Ok(fuser::spawn_mount(face, at, &config)?)
}

/// The attributes of a file or directory of the user.
pub(crate) fn attributes(ino: INodeNo, kind: FileType, size: u64) -> FileAttr {
    FileAttr {
        ino,
        size,
        blocks: size.div_ceil(512),
        atime: UNIX_EPOCH,
        mtime: UNIX_EPOCH,
        ctime: UNIX_EPOCH,
        crtime: UNIX_EPOCH,
        kind,
        perm: 0o755,
        nlink: 1,
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: 4096,
        flags: 0,
    }
}

pub(crate) fn place(offset: u64) -> usize {
    usize::try_from(offset).unwrap_or(usize::MAX)
}

pub(crate) fn errno(errno: rustix::io::Errno) -> Errno {
    Errno::from_i32(errno.raw_os_error())
}
