//! From tags to the place of a sample: cluster, host, component, subcomponent.

use super::cursor::{Cursor, Token};
use super::error::{At, Fault, Quoted};
use super::{Context, Limits};

/// Room for names that do not stand in the body as they are: unescaped or put together. Reuse it across calls.
#[derive(Debug, Default)]
pub struct Scratch {
    pub(super) metric: String,
    pub(super) names: NameScratch,
}

#[derive(Debug, Default)]
pub(super) struct NameScratch {
    cluster: String,
    host: String,
    component: String,
    subcomponent: String,
    part: String,
}

/// The names a line has a sample for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Names<'a> {
    pub(super) cluster: &'a str,
    pub(super) host: &'a str,
    pub(super) component: &'a str,
    pub(super) subcomponent: &'a str,
    /// Where the name of the host ends in the line, if it stands there as it is.
    pub(super) host_end: Option<usize>,
    /// Whether there is a tag with the cluster.
    pub(super) has_cluster: bool,
}

impl<'a> Names<'a> {
    /// Reads all tags. Does not look at the names.
    pub(super) fn read(
        cursor: &mut Cursor<'a>,
        default_cluster: &'a str,
        scratch: &'a mut NameScratch,
    ) -> Result<Self, At<'a>> {
        let NameScratch { cluster, host, component, subcomponent, part } = scratch;
        component.clear();
        subcomponent.clear();
        let (mut cluster_tag, mut host_tag, mut host_end) = (None, None, 0);
        let (mut is_node, mut has_type) = (false, false);
        while let Some((key, value)) = cursor.tag()? {
            match key {
                "cluster" => cluster_tag = Some(value),
                "hostname" | "host" => {
                    host_tag = Some(value);
                    host_end = cursor.pos();
                }
                "type" if value.text == "node" => is_node = true,
                // The type is put in front wherever it stands, a second one in front of the first.
                "type" => {
                    component.insert_str(0, value.unescape(part));
                    has_type = true;
                }
                "type-id" => component.push_str(value.unescape(part)),
                "stype" | "subtype" => subcomponent.insert_str(0, value.unescape(part)),
                "stype-id" | "subtype-id" => subcomponent.push_str(value.unescape(part)),
                _ => {}
            }
        }
        if is_node && !has_type {
            component.clear();
        }
        if component.is_empty() {
            subcomponent.clear();
        }
        let host_end = host_tag.filter(|tag| !tag.is_escaped()).map(|_| host_end);
        let has_cluster = cluster_tag.is_some();
        Ok(Self {
            cluster: cluster_tag.map_or(default_cluster, |tag: Token<'a>| tag.unescape(cluster)),
            host: host_tag.map_or("", |tag: Token<'a>| tag.unescape(host)),
            component,
            subcomponent,
            host_end,
            has_cluster,
        })
    }

    /// Says what is wrong with the names, if anything.
    pub(super) fn check(&self, context: &Context<'_>) -> Result<(), Fault<'a>> {
        let Limits { name_bytes, component_bytes, .. } = *context.limits;
        if self.cluster.is_empty() {
            return Err(Fault::NoCluster);
        }
        if self.host.is_empty() {
            return Err(Fault::NoHost);
        }
        if let Some(problem) = problem(self.cluster, name_bytes) {
            return Err(Fault::ClusterName { name: Quoted(self.cluster.as_bytes()), problem });
        }
        if let Some(problem) = problem(self.host, name_bytes) {
            return Err(Fault::HostName { name: Quoted(self.host.as_bytes()), problem });
        }
        for name in [self.component, self.subcomponent] {
            if name.len() > component_bytes {
                return Err(Fault::ComponentName { name: Quoted(name.as_bytes()) });
            }
        }
        Ok(())
    }

    /// Whether the predecessor refuses the names as well, which it does before it looks at the fields.
    pub(super) fn leave_their_directory(&self) -> bool {
        [self.cluster, self.host].into_iter().any(leaves_its_directory)
    }
}

/// Whether a name would lead out of its directory.
fn leaves_its_directory(name: &str) -> bool {
    name.contains("..") || name.contains(['/', '\\'])
}

/// What is wrong with the name of a cluster or host. It must be good for a file name, as the predecessor needs it.
fn problem(name: &str, max_bytes: usize) -> Option<&'static str> {
    let is_bad = |byte: &u8| matches!(byte, b'/' | b'\\' | 0..=0x1f | 0x7f);
    let bytes = name.as_bytes();
    if bytes.len() > max_bytes {
        Some("it is too long")
    } else if !bytes.iter().any(|byte| *byte == b'.' || is_bad(byte)) {
        None
    } else if bytes.iter().any(is_bad) {
        Some("it has a slash, a backslash or a control character")
    } else if name == "." || name.contains("..") {
        Some("it is '.' or has '..'")
    } else {
        None
    }
}
