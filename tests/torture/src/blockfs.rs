//! The disk of `tape.rs` as files: `disk`, which is recorded, and `image`, what the last power cut left of it.

use crate::faces::{self, errno, place};
use crate::mounts::{Kind, Loop, Mounted, unmount};
use crate::server::Setup;
use crate::tape::Tape;
use crate::{Failure, Run};
use fuser::{
    BackgroundSession, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo, LockOwner,
    OpenFlags, ReplyAttr, ReplyData, ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyWrite, Request,
    WriteFlags,
};
use serde_json::Value;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

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
        let session = faces::mount(Face(Arc::clone(&tape)), at, "kymo-blocks")?;
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

/// A recorded disk, a real file system on it, and a server's setup on that.
#[derive(Debug)]
pub(crate) struct Site {
    pub(crate) disk: BlockFs,
    pub(crate) setup: Setup,
    kind: Kind,
    /// Where the file system is mounted.
    pub(crate) mount: PathBuf,
    _work: tempfile::TempDir,
}

impl Site {
    /// With these keys in the section `storage` of the server. Nothing is mounted yet.
    pub(crate) fn new(run: &Run, kind: Kind, storage: &Value) -> Result<Self, Failure> {
        let work = tempfile::tempdir_in(&run.work)?;
        let [blocks, mount] = ["blocks", "mount"].map(|name| work.path().join(name));
        for directory in [&blocks, &mount] {
            fs::create_dir(directory)?;
        }
        let disk = BlockFs::mount(&blocks, kind.len)?;
        let setup = Setup::new(&run.program, work.path(), &mount.join("data"), storage)?;
        Ok(Self { disk, setup, kind, mount, _work: work })
    }

    /// Makes the file system and mounts it.
    pub(crate) fn make(&self) -> Result<Mounted, Failure> {
        let device = Loop::new(&self.disk.disk())?;
        device.make(self.kind)?;
        Mounted::new(device, self.kind, &self.mount)
    }

    /// Mounts what a file of the disk holds.
    pub(crate) fn mount(&self, file: &Path) -> Result<Mounted, Failure> {
        Mounted::new(Loop::new(file)?, self.kind, &self.mount)
    }
}

#[derive(Debug)]
struct Face(Arc<Mutex<Tape>>);

impl Face {
    fn tape(&self) -> MutexGuard<'_, Tape> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn attributes(&self, number: INodeNo) -> FileAttr {
        match number {
            ROOT => faces::attributes(number, FileType::Directory, 0),
            _ => faces::attributes(number, FileType::RegularFile, self.tape().len() as u64),
        }
    }
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
