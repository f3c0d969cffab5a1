//! The settings of the cold tier: `metric-store.cleanup`, and `storage.archive` for what the predecessor has no key.

use kymo_engine::paths::ArchiveLayout;

/// The cold tier.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Archive {
    /// Whether days that pass the retention are archived; otherwise they are deleted, and what was archived earlier is
    /// only read.
    pub is_fed: bool,
    /// Where the files are.
    pub location: Option<String>,
    /// How new files are named.
    pub layout: ArchiveLayout,
}

/// The name of a layout in the file.
pub(super) const fn layout_name(layout: ArchiveLayout) -> &'static str {
    match layout {
        ArchiveLayout::Hive => "hive",
        ArchiveLayout::Flat => "flat",
    }
}
