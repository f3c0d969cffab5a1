//! The settings of the cold tier: `metric-store.cleanup`, and `storage.archive` for what the predecessor has no key.

use kymo_engine::paths::ArchiveLayout;

/// The cold tier.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Archive {
    /// Whether days that pass the retention are archived; otherwise they are deleted, and what was archived earlier is
    /// only read.
    pub is_fed: bool,
    /// Where the files are: a directory, or `s3://bucket/prefix`.
    pub location: Option<String>,
    /// How a bucket is reached.
    pub s3: S3,
    /// How new files are named.
    pub layout: ArchiveLayout,
}

/// How a bucket is reached; what is not said here, the environment says as it does for the tools of Amazon.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct S3 {
    /// The address of the server, `https://...` or `http://...`; without one, Amazon's.
    pub endpoint: Option<String>,
    /// The region.
    pub region: Option<String>,
    /// The profile of the credentials file that is used in place of the environment.
    pub profile: Option<String>,
}

/// The name of a layout in the file.
pub(super) const fn layout_name(layout: ArchiveLayout) -> &'static str {
    match layout {
        ArchiveLayout::Hive => "hive",
        ArchiveLayout::Flat => "flat",
    }
}
