//! Names: metrics, and the layouts that hosts share.
//!
//! A *layout* is the ordered list of the series that a host has below it. Hosts that are alike share one, so names
//! cost memory once a kind of host, not once a host. A layout never changes: a host that sends something new moves to
//! a longer layout with the same beginning, and ordinals stay what they are.
//!
//! A *template* is how senders spell the series of a layout, a cache for those who read lines.

mod layout;
mod template;
mod templates;

pub use layout::{Key, KeyName, Layout, Layouts, MetricName};
pub use template::{Entry, Learned, Spelling, Template, is_plain};
pub use templates::{Sender, Templates};
