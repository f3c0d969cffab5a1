//! The log: what makes an acknowledged sample durable.
//!
//! Rows are encoded once into the *open* frame, which gives them their LSN. The commit step closes it, writes and syncs
//! it, and hands it on to be published; what came meanwhile is the next frame: a group commit without a timer. Frames
//! of one segment follow each other without a hole, one in flight, and a synced block is never written again.

mod commit;
mod open;
mod prepare;
mod recover;
mod replay;

pub use commit::{Committer, Durability, Step};
pub use open::{Link, Log, LogOptions, PendingFrame, Pulse};
pub use prepare::Preparer;
pub use recover::{Chain, Floor, Found, Problem, Recovered, SegmentFile, recover};
pub use replay::{End, Replay, Tail, replay};

/// Values in one row at most: a longer one is split, so that rows and frames stay small against a segment.
pub const ROW_VALUES_MAX: usize = 4096;
/// The shortest segment: a few of the longest frames.
pub const SEGMENT_LEN_MIN: u64 = 512 << 10;
/// The usual length of a segment.
pub const SEGMENT_LEN: u64 = 16 << 20;
