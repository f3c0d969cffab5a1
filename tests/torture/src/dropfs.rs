//! The file system of `volatile.rs` behind a mount point.
//!
//! The kernel keeps pages of files until they are forgotten on purpose, as it does above a real disk: after a failed
//! sync it goes on reading what is not there.

use crate::faces::{self, errno, place};
use crate::fleet::wait;
use crate::mounts::unmount;
use crate::random::Random;
use crate::server::Setup;
use crate::volatile::{Node, ROOT, Trouble, Volatile};
use crate::{Failure, Run};
use fuser::{
    BackgroundSession, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo, LockOwner,
    OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyOpen,
    ReplyStatfs, ReplyWrite, Request, WriteFlags,
};
use rustix::fs::OFlags;
use serde_json::Value;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Nothing but pages is kept in the kernel.
const TTL: Duration = Duration::ZERO;

/// A mounted file system, unmounted with the value.
#[derive(Debug)]
pub(crate) struct DropFs {
    disk: Arc<Mutex<Volatile>>,
    at: PathBuf,
    session: BackgroundSession,
}

impl Drop for DropFs {
    fn drop(&mut self) {
        unmount(&self.at);
    }
}

impl DropFs {
    pub(crate) fn mount(at: &Path) -> Result<Self, Failure> {
        let disk = Arc::new(Mutex::new(Volatile::new()));
        let session = faces::mount(Face(Arc::clone(&disk)), at, "kymo-dropfs")?;
        Ok(Self { disk, at: at.to_owned(), session })
    }

    pub(crate) fn disk(&self) -> MutexGuard<'_, Volatile> {
        self.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Cuts the power of a file system that nobody uses any more: the process was killed before.
    pub(crate) fn cut_power(&self, random: &mut Random) -> Result<(), Failure> {
        wait("files stay open after their process was killed", || self.disk().open == 0)?;
        self.forget_pages();
        self.disk().cut_power(random);
        Ok(())
    }

    /// Makes the kernel forget what it has read and written.
    pub(crate) fn forget_pages(&self) {
        let numbers = self.disk().numbers();
        let notifier = self.session.notifier();
        for number in numbers {
            // The kernel need not know the file.
            notifier.inval_inode(INodeNo(number), 0, 0).ok();
        }
    }

    /// Makes this trouble from now on.
    pub(crate) fn order(&self, troubles: Vec<Trouble>) {
        self.disk().order(troubles);
    }
}

/// A disk, and a server's setup on it.
#[derive(Debug)]
pub(crate) struct Site {
    pub(crate) disk: DropFs,
    pub(crate) setup: Setup,
    _work: tempfile::TempDir,
}

impl Site {
    /// With these keys in the section `storage` of the server.
    pub(crate) fn new(run: &Run, storage: &Value) -> Result<Self, Failure> {
        let work = tempfile::tempdir_in(&run.work)?;
        let mount = work.path().join("mount");
        fs::create_dir(&mount)?;
        let disk = DropFs::mount(&mount)?;
        let setup = Setup::new(&run.program, work.path(), &mount.join("data"), storage)?;
        Ok(Self { disk, setup, _work: work })
    }
}

#[derive(Debug)]
struct Face(Arc<Mutex<Volatile>>);

impl Face {
    fn disk(&self) -> MutexGuard<'_, Volatile> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn attributes(number: u64, node: &Node) -> FileAttr {
    match node {
        Node::File(file) => faces::attributes(INodeNo(number), FileType::RegularFile, file.len() as u64),
        Node::Directory(_) => faces::attributes(INodeNo(number), FileType::Directory, 0),
    }
}

fn done(result: Result<(), rustix::io::Errno>, reply: ReplyEmpty) {
    match result {
        Ok(()) => reply.ok(),
        Err(error) => reply.error(errno(error)),
    }
}

impl Filesystem for Face {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let disk = self.disk();
        let found = disk.lookup(parent.into(), name);
        match found.and_then(|number| Some((number, disk.node(number)?))) {
            Some((number, node)) => reply.entry(&TTL, &attributes(number, node), Generation(0)),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn getattr(&self, _: &Request, number: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match self.disk().node(number.into()) {
            Some(node) => reply.attr(&TTL, &attributes(number.into(), node)),
            None => reply.error(Errno::ESTALE),
        }
    }

    fn setattr(
        &self,
        _: &Request,
        number: INodeNo,
        _: Option<u32>,
        _: Option<u32>,
        _: Option<u32>,
        size: Option<u64>,
        _: Option<fuser::TimeOrNow>,
        _: Option<fuser::TimeOrNow>,
        _: Option<std::time::SystemTime>,
        _: Option<FileHandle>,
        _: Option<std::time::SystemTime>,
        _: Option<std::time::SystemTime>,
        _: Option<std::time::SystemTime>,
        _: Option<fuser::BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let mut disk = self.disk();
        if let Some(size) = size
            && let Err(error) = disk.set_len(number.into(), place(size))
        {
            return reply.error(errno(error));
        }
        match disk.node(number.into()) {
            Some(node) => reply.attr(&TTL, &attributes(number.into(), node)),
            None => reply.error(Errno::ESTALE),
        }
    }

    fn create(&self, _: &Request, parent: INodeNo, name: &OsStr, _: u32, _: u32, _: i32, reply: ReplyCreate) {
        let mut disk = self.disk();
        match disk.make(parent.into(), name, false) {
            Ok(number) => {
                disk.open += 1;
                let node = Node::File(crate::volatile::File::default());
                let attributes = attributes(number, &node);
                reply.created(&TTL, &attributes, Generation(0), FileHandle(0), FopenFlags::FOPEN_KEEP_CACHE);
            }
            Err(error) => reply.error(errno(error)),
        }
    }

    fn mkdir(&self, _: &Request, parent: INodeNo, name: &OsStr, _: u32, _: u32, reply: ReplyEntry) {
        let mut disk = self.disk();
        match disk.make(parent.into(), name, true) {
            Ok(number) => match disk.node(number) {
                Some(node) => reply.entry(&TTL, &attributes(number, node), Generation(0)),
                None => reply.error(Errno::ESTALE),
            },
            Err(error) => reply.error(errno(error)),
        }
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        done(self.disk().unlink(parent.into(), name), reply);
    }

    fn rename(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        new_parent: INodeNo,
        new_name: &OsStr,
        _: RenameFlags,
        reply: ReplyEmpty,
    ) {
        if parent != new_parent {
            return reply.error(Errno::EXDEV);
        }
        done(self.disk().rename(parent.into(), name, new_name), reply);
    }

    fn open(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        self.disk().open += 1;
        reply.opened(FileHandle(0), FopenFlags::FOPEN_KEEP_CACHE);
    }

    fn release(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        _: OpenFlags,
        _: Option<LockOwner>,
        _: bool,
        reply: ReplyEmpty,
    ) {
        let mut disk = self.disk();
        disk.open = disk.open.saturating_sub(1);
        reply.ok();
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
        match self.disk().read(number.into(), place(offset), place(size.into())) {
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
        flags: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        // The kernel hands on here what a write asks for beyond what its file does.
        let durable = OFlags::from_bits_retain(flags.0.cast_unsigned()).contains(OFlags::DSYNC);
        match self.disk().write(number.into(), place(offset), data, durable) {
            Ok(()) => reply.written(u32::try_from(data.len()).unwrap_or_default()),
            Err(error) => reply.error(errno(error)),
        }
    }

    fn fsync(&self, _: &Request, number: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        done(self.disk().sync(number.into()), reply);
    }

    fn fsyncdir(&self, _: &Request, number: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        done(self.disk().sync_directory(number.into()), reply);
    }

    fn readdir(&self, _: &Request, number: INodeNo, _: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let disk = self.disk();
        for (index, (name, entry)) in (1..).zip(disk.list(number.into())).skip(place(offset)) {
            let kind = match disk.node(entry) {
                Some(Node::Directory(_)) => FileType::Directory,
                _ => FileType::RegularFile,
            };
            if reply.add(INodeNo(entry), index, kind, name) {
                break;
            }
        }
        reply.ok();
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        let blocks = 1 << 20;
        reply.statfs(blocks, blocks, blocks, ROOT << 20, ROOT << 20, 4096, 255, 4096);
    }
}
