//! Loop devices and file systems on them, given back with the value.

use crate::Failure;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

/// A file system that can be made here.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kind {
    pub(crate) name: &'static str,
    mkfs: &'static [&'static str],
    /// The smallest disk that it takes, in bytes.
    pub(crate) len: usize,
}

pub(crate) const EXT4: Kind = Kind { name: "ext4", mkfs: &["mkfs.ext4", "-q", "-F"], len: 64 << 20 };
pub(crate) const XFS: Kind = Kind { name: "xfs", mkfs: &["mkfs.xfs", "-q", "-f"], len: 300 << 20 };
pub(crate) const BTRFS: Kind = Kind { name: "btrfs", mkfs: &["mkfs.btrfs", "-q", "-f"], len: 256 << 20 };

/// Runs a program to its end and gives what it printed.
fn run(program: &str, arguments: &[&str]) -> Result<String, Failure> {
    let output = Command::new(program).args(arguments).output().map_err(|error| format!("{program}: {error}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned());
    }
    Err(format!("{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr).trim()).into())
}

/// A loop device.
#[derive(Debug)]
pub(crate) struct Loop(String);

impl Loop {
    pub(crate) fn new(file: &Path) -> Result<Self, Failure> {
        // Another process may take the device that was found free.
        let mut result = Err("no loop device".into());
        for _ in 0..20 {
            result = run("losetup", &["-f", "--show", &file.display().to_string()]).map(Self);
            if result.is_ok() {
                break;
            }
            thread::sleep(Duration::from_millis(50));
        }
        result
    }

    pub(crate) fn make(&self, kind: Kind) -> Result<(), Failure> {
        run(kind.mkfs[0], &[&kind.mkfs[1..], &[&self.0]].concat()).map(drop)
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        if let Err(error) = run("losetup", &["-d", &self.0]) {
            eprintln!("{error}");
        }
    }
}

/// A mounted file system.
#[derive(Debug)]
pub(crate) struct Mounted {
    at: PathBuf,
    _device: Loop,
}

impl Mounted {
    pub(crate) fn new(device: Loop, kind: Kind, at: &Path) -> Result<Self, Failure> {
        run("mount", &["-t", kind.name, &device.0, &at.display().to_string()])?;
        Ok(Self { at: at.to_owned(), _device: device })
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        unmount(&self.at);
    }
}

/// Unmounts; what a killed process had in flight may hold the file system for a moment.
pub(crate) fn unmount(at: &Path) {
    let at = at.display().to_string();
    for _ in 0..100 {
        if run("umount", &[&at]).is_ok() {
            return;
        }
        thread::sleep(Duration::from_millis(20));
    }
    if let Err(error) = run("umount", &["-l", &at]) {
        eprintln!("{error}");
    }
}
