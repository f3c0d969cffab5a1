//! Manifests.

use crate::repair;
use kymo_engine::format::manifest::Manifest;

/// The bytes of a manifest, taken as they are and with their checksum repaired. What is accepted says the same after it
/// was written again, needs a segment that can exist, and frees selectors that can be asked for.
///
/// # Panics
///
/// Where it does not.
pub fn manifest(data: &[u8]) {
    let mut repaired = data.to_vec();
    repair::manifest(&mut repaired);
    for bytes in [data, &repaired] {
        if let Ok(manifest) = Manifest::check(bytes) {
            let again = Manifest::check(&manifest.to_bytes());
            assert_eq!(again.as_ref(), Ok(&manifest), "an accepted manifest reads back");
            assert!(manifest.log_floor > 0, "segments are counted from 1");
            assert!(manifest.frees.iter().all(|free| free.selector.len() <= 4), "a selector has four names at most");
        }
    }
}
