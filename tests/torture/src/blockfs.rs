//! The disk of `tape.rs` as files: `disk`, which is recorded, and `image`, what the last power cut left of it.

use crate::Failure;
use crate::mounts::unmount;
use crate::tape::Tape;
use fuser::{
    BackgroundSession, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo,
    LockOwner, MountOption, OpenFlags, ReplyAttr, ReplyData, ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyOpen,
    ReplyWrite, Request, WriteFlags,
};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

const TTL: Duration = Duration::from_secs(1);
const ROOT: INodeNo = INodeNo(1);
const DISK: INodeNo = INodeNo(2);
const IMAGE: INodeNo = INodeNo(3);

/// A mounted disk, unmounted with the value.
#[derive(Debug)]
pub(crate) struct BlockFs {
    tape: Arc<Mutex<Tape>>,
    at: PathBuf,
    _session: BackgroundSession,
}

impl Drop for BlockFs {
    fn drop(&mut self) {
        unmount(&self.at);
    }
}

impl BlockFs {
    pub(crate) fn mount(at: &Path, len: usize) -> Result<Self, Failure> {
        let tape = Arc::new(Mutex::new(Tape::new(len)));
        let mut config = Config::default();
        config.mount_options = vec![MountOption::FSName("kymo-blocks".to_owned())];
        let session = fuser::spawn_mount(Face(Arc::clone(&tape)), at, &config)?;
        Ok(Self { tape, at: at.to_owned(), _session: session })
    }

    pub(crate) fn tape(&self) -> MutexGuard<'_, Tape> {
        self.tape.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn disk(&self) -> PathBuf {
        self.at.join("disk")
    }

    pub(crate) fn image(&self) -> PathBuf {
        self.at.join("image")
    }
}

#[derive(Debug)]
struct Face(Arc<Mutex<Tape>>);

impl Face {
    fn tape(&self) -> MutexGuard<'_, Tape> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn attributes(&self, number: INodeNo) -> FileAttr {
        let (kind, size) =
            if number == ROOT { (FileType::Directory, 0) } else { (FileType::RegularFile, self.tape().len() as u64) };
        FileAttr {
            ino: number,
            size,
            blocks: size / 512,
            atime: UNIX_EPOCH,
            mtime: UNIX_EPOCH,
            ctime: UNIX_EPOCH,
            crtime: UNIX_EPOCH,
            kind,
            perm: 0o700,
            nlink: 1,
            uid: 0,
            gid: 0,
            rdev: 0,
            blksize: 4096,
            flags: 0,
        }
    }
}

fn place(offset: u64) -> usize {
    usize::try_from(offset).unwrap_or(usize::MAX)
}

fn errno(errno: rustix::io::Errno) -> Errno {
    Errno::from_i32(errno.raw_os_error())
}

impl Filesystem for Face {
    fn lookup(&self, _: &Request, _: INodeNo, name: &OsStr, reply: ReplyEntry) {
        match name.to_str() {
            Some("disk") => reply.entry(&TTL, &self.attributes(DISK), Generation(0)),
            Some("image") => reply.entry(&TTL, &self.attributes(IMAGE), Generation(0)),
            _ => reply.error(Errno::ENOENT),
        }
    }

    fn getattr(&self, _: &Request, number: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        reply.attr(&TTL, &self.attributes(number));
    }

    fn open(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        // Pages of an earlier image are not kept.
        reply.opened(FileHandle(0), FopenFlags::empty());
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }

    fn read(
        &self,
        _: &Request,
        number: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let mut tape = self.tape();
        let (at, len) = (place(offset), place(size.into()));
        if number == IMAGE {
            return reply.data(&tape.read_image(at, len));
        }
        match tape.read(at, len) {
            Ok(bytes) => reply.data(bytes),
            Err(error) => reply.error(errno(error)),
        }
    }

    fn write(
        &self,
        _: &Request,
        number: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let mut tape = self.tape();
        let len = u32::try_from(data.len()).unwrap_or_default();
        if number == IMAGE {
            tape.write_image(place(offset), data);
            return reply.written(len);
        }
        match tape.write(place(offset), data) {
            Ok(()) => reply.written(len),
            Err(error) => reply.error(errno(error)),
        }
    }

    fn fsync(&self, _: &Request, number: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        if number == IMAGE {
            return reply.ok();
        }
        match self.tape().flush() {
            Ok(()) => reply.ok(),
            Err(error) => reply.error(errno(error)),
        }
    }

    fn readdir(&self, _: &Request, _: INodeNo, _: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let files = [(DISK, "disk"), (IMAGE, "image")];
        for (index, (number, name)) in (1..).zip(files).skip(place(offset)) {
            if reply.add(number, index, FileType::RegularFile, name) {
                break;
            }
        }
        reply.ok();
    }
}
