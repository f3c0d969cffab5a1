//! Checking all of a file, for `verify`: whatever was checked before is checked again.

use super::error::{Part, SnapshotError};
use super::read::{HostRef, Snapshot, Stripe, touch};
use crate::disk::BLOCK;
use crate::format::FormatError;
use crate::format::snapshot::{STRIPE_ALIGN, piece};
use std::iter;

impl Snapshot {
    /// Checks every byte, piece by piece, each when it is asked for, so that the caller sets the pace. An item is the
    /// length of a good piece in bytes, or what is wrong with one. Behind a bad piece the others are checked too, but
    /// for the stripes of a bad directory.
    pub fn verify(&self) -> impl Iterator<Item = Result<u64, SnapshotError>> {
        let hosts = self.hosts().flat_map(move |(_, _, host)| {
            let directory = self.verify_directory(host);
            let stripes = if directory.is_ok() { self.split_stripes(host).ok() } else { None };
            let stripes = stripes
                .into_iter()
                .flat_map(|stripes| stripes.iter())
                .map(move |stripe| self.verify_stripe(host, &stripe));
            iter::once(directory).chain(stripes)
        });
        iter::once_with(|| self.verify_shared()).chain(hosts).chain(iter::once_with(|| self.check_poison().map(|()| 0)))
    }

    /// Header, host index, column sets and names.
    fn verify_shared(&self) -> Result<u64, SnapshotError> {
        let (now, then) = (Self::open_unlisted(self.region().clone())?, self.header());
        if now.header() != then || now.header_crc() != self.header_crc() {
            let error = FormatError::Field("has changed since the file was opened");
            return Err(SnapshotError::new(Part::Header, 0, error));
        }
        self.verify_padding(then.column_sets.end().unwrap_or(0), then.names.offset)?;
        Ok((BLOCK as u64).saturating_add(then.file_len.saturating_sub(then.hosts.offset)))
    }

    fn verify_directory(&self, host: HostRef) -> Result<u64, SnapshotError> {
        let len = self.check_directory(host)?;
        if let (Some(first), Ok(begin)) = (self.split_stripes(host)?.iter().next(), self.data_begin(host)) {
            self.verify_padding(begin, first.data_range().start)?;
        }
        Ok(len)
    }

    fn verify_stripe(&self, host: HostRef, stripe: &Stripe<'_>) -> Result<u64, SnapshotError> {
        stripe.check_data()?;
        let end = stripe.data_range().end;
        let next = end.checked_next_multiple_of(STRIPE_ALIGN).unwrap_or(end);
        self.verify_padding(end, next.min(self.data_end(host).unwrap_or(end)))?;
        Ok(stripe.data_len())
    }

    /// Nobody reads padding, but what is not zero there was not written by us.
    fn verify_padding(&self, begin: u64, end: u64) -> Result<(), SnapshotError> {
        let len = end.saturating_sub(begin);
        touch(self.region(), begin, len, &Part::Padding)?;
        let bytes = piece(self.region(), begin, len).map_err(SnapshotError::at(Part::Padding, begin))?;
        if bytes.iter().all(|&byte| byte == 0) {
            return Ok(());
        }
        Err(SnapshotError::at(Part::Padding, begin)(FormatError::Field("is not zero")))
    }
}
