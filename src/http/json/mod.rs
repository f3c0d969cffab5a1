//! The JSON of the wire.
//!
//! Owns how documents are read and written, with the habits that clients of the predecessor rely on: keys match in any
//! case, the last of two equal keys wins, `null` leaves a default alone, what follows the first value is not looked at,
//! and the texts of the common errors. Knows nothing of HTTP.

mod health;
mod request;
mod text;
mod value;

pub(super) use health::HealthRequest;
pub(super) use request::{decode_query, selectors};
pub use text::write_numbers;
pub(super) use text::{quote, write_number, write_string, write_strings};
pub(super) use value::JsonError;
