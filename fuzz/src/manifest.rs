//! Manifests.

use crate::repair;
use kymo_engine::format::manifest::Manifest;

/// The bytes of a manifest. What is accepted says the same after it was written again, needs a segment that can exist,
/// and frees selectors that can be asked for.
///
/// # Panics
///
/// Where it does not.
pub fn manifest(data: &[u8]) {
    if let Ok(manifest) = Manifest::check(data) {
        let again = Manifest::check(&manifest.to_bytes());
        assert_eq!(again.as_ref(), Ok(&manifest), "an accepted manifest reads back");
        assert!(manifest.log_floor > 0, "segments are counted from 1");
        assert!(manifest.frees.iter().all(|free| free.selector.len() <= 4), "a selector has four names at most");
    }
}

/// [`manifest`] once the checksum was repaired, so that what is behind it is reached.
///
/// # Panics
///
/// As [`manifest`].
pub fn manifest_repaired(data: &[u8]) {
    let mut repaired = data.to_vec();
    repair::manifest(&mut repaired);
    manifest(&repaired);
}
