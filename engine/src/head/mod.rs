//! The head: the rows that are in no snapshot file, in memory, and the table of the runs that are open.
//!
//! A row is linked here when it is durable, never before: what a reader sees, no crash takes back. Rows stay in the
//! bytes they had in their frame; a host has the list of its rows in LSN order, the highest LSN wins a slot.

mod host;
mod registry;
mod runs;

pub use host::{HeadRow, Host, HostState, RowsFrame, SlotRun};
pub use registry::Hosts;
pub use runs::{Placed, RunTable};
