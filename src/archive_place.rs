//! The place of the archive, from what the configuration says.

use crate::bucket::Bucket;
use crate::config::Config;
use kymo_engine::archive::{ArchiveStore, LocalDirectory};
use kymo_engine::disk::Disk;
use kymo_engine::store::Archive;
use std::io;
use std::sync::Arc;

/// The cold tier that a configuration names, if it names one.
pub(crate) fn open(config: &Config, disk: &Arc<dyn Disk>) -> io::Result<Option<Archive>> {
    let Some(location) = &config.archive.location else { return Ok(None) };
    let place: Arc<dyn ArchiveStore> = if location.contains("://") {
        Arc::new(Bucket::open(location, &config.archive.s3)?)
    } else {
        Arc::new(LocalDirectory::new(Arc::clone(disk), location))
    };
    Ok(Some(Archive { place, layout: config.archive.layout, is_fed: config.archive.is_fed }))
}
