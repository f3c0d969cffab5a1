//! Where the files of an archive are: a small blocking trait, so that a directory and a bucket look alike.

use std::fmt::Debug;
use std::io;
use std::ops::Range;

/// A place that keeps whole objects under keys of the form `a/b/c`. All methods block and may be called from any
/// thread.
pub trait ArchiveStore: Debug + Send + Sync {
    /// What the operator calls it, for messages.
    fn location(&self) -> String;

    /// Begins an object that is written front to back; it appears, whole, when it is finished.
    fn create(&self, key: &str) -> io::Result<Box<dyn NewObject>>;

    /// Gives an object its final name in the same folder, durably, in place of whatever has that name.
    fn publish(&self, aside: &str, key: &str) -> io::Result<()>;

    /// Puts a small object, durably, if what is there is what the writer believes: nothing, or exactly `expected`.
    /// False where something else is there: then nothing was changed.
    fn put_if(&self, key: &str, expected: Option<&[u8]>, content: &[u8]) -> io::Result<bool>;

    /// A whole small object; `None` where there is none.
    fn get(&self, key: &str) -> io::Result<Option<Vec<u8>>>;

    /// The bytes of a range of an object. Fewer than asked for is an error.
    fn read(&self, key: &str, range: Range<u64>) -> io::Result<Vec<u8>>;

    /// The keys in a folder, without those in folders below; none where there is no such folder.
    fn list(&self, folder: &str) -> io::Result<Vec<String>>;

    /// Removes an object; one that is not there is no error.
    fn delete(&self, key: &str) -> io::Result<()>;
}

/// An object in the making. Dropping it gives it up.
pub trait NewObject: Debug + Send {
    /// Appends bytes. After an error the object is of no use.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Makes it appear, durably.
    fn finish(self: Box<Self>) -> io::Result<()>;
}
