//! From root to the user that the configuration names.
//!
//! Called after the address is bound, which may take root, and before anything is created, so that all files belong to
//! the user. Promises that what is given up cannot be taken back: groups first, then the user, and then it is tried.

use std::ffi::CString;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use kymo_engine::paths::Paths;
use nix::unistd::{Gid, Group, Uid, User, getegid, geteuid, getresgid, getresuid};
use nix::unistd::{initgroups, setgid, setgroups, setuid};

/// Why the process does not become the user.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PrivilegeError {
    /// There is no such name.
    #[error("cannot become {kind} '{name}': there is none of this name; see 'main.{kind}'")]
    Unknown {
        /// `user` or `group`.
        kind: &'static str,
        /// What the configuration says.
        name: String,
    },
    /// Only root may change.
    #[error(
        "cannot become {who}: only root can; start kymo as root, or as that user and without 'main.user' and 'main.group'"
    )]
    NotRoot {
        /// Whom it should become.
        who: String,
    },
    /// Root would leave files in a store that is somebody else's.
    #[error(
        "{} belongs to {owner}, who could not read what root writes there: run this as that user, with \
         `sudo -u {owner} kymo ...`",
        directory.display()
    )]
    Foreign {
        /// The data directory.
        directory: PathBuf,
        /// Whose it is, as `sudo` takes it.
        owner: String,
    },
    /// The system refused a step.
    #[error("cannot {what}: {source}")]
    System {
        /// What was tried.
        what: String,
        /// What the system says.
        source: io::Error,
    },
    /// The system said yes and did no.
    #[error("the privileges of root could be taken back: kymo does not run like this")]
    NotGone,
}

fn system(what: impl Into<String>) -> impl FnOnce(nix::errno::Errno) -> PrivilegeError {
    let what = what.into();
    move |errno| PrivilegeError::System { what, source: errno.into() }
}

/// Refuses if this is root and the store in the directory, or else the directory, is there and somebody else's.
pub(crate) fn spare(directory: &Path) -> Result<(), PrivilegeError> {
    let of_store = std::fs::metadata(Paths::new(directory).manifest());
    let Ok(known) = of_store.or_else(|_| std::fs::metadata(directory)) else { return Ok(()) };
    let owner = Uid::from_raw(known.uid());
    if !intrudes(geteuid(), owner) {
        return Ok(());
    }
    let user = User::from_uid(owner).ok().flatten();
    let owner = user.map_or_else(|| format!("'#{owner}'"), |user| user.name);
    Err(PrivilegeError::Foreign { directory: directory.to_owned(), owner })
}

/// Whether files of one user are in the way of the other: those of root are.
fn intrudes(user: Uid, owner: Uid) -> bool {
    user.is_root() && !owner.is_root()
}

/// Whom to become. The user's own group is taken where none is named.
#[derive(Debug)]
pub(crate) struct Identity {
    user: Option<User>,
    gid: Gid,
    name: String,
}

impl Identity {
    /// Looks the names up; `None` where there is nobody to become.
    pub(crate) fn find(user: Option<&str>, group: Option<&str>) -> Result<Option<Self>, PrivilegeError> {
        let unknown = |kind, name: &str| PrivilegeError::Unknown { kind, name: name.to_owned() };
        let look_up = |kind: &str, name: &str| system(format!("look up {kind} '{name}'"));
        let user = match user {
            None => None,
            Some(name) => {
                let found = User::from_name(name).map_err(look_up("user", name))?;
                Some(found.ok_or_else(|| unknown("user", name))?)
            }
        };
        let gid = match (group, &user) {
            (None, None) => return Ok(None),
            (None, Some(user)) => user.gid,
            (Some(name), _) => {
                let found = Group::from_name(name).map_err(look_up("group", name))?;
                found.ok_or_else(|| unknown("group", name))?.gid
            }
        };
        let name = match (&user, group) {
            (Some(user), Some(group)) => format!("user '{}' with group '{group}'", user.name),
            (Some(user), None) => format!("user '{}'", user.name),
            (None, group) => format!("group '{}'", group.unwrap_or_default()),
        };
        Ok(Some(Self { user, gid, name }))
    }

    fn uid(&self) -> Uid {
        self.user.as_ref().map_or_else(geteuid, |user| user.uid)
    }

    /// Becomes it, for good, and makes the data directory theirs if it does not exist yet.
    pub(crate) fn assume(&self, directory: &Path) -> Result<(), PrivilegeError> {
        if !geteuid().is_root() {
            // As a unit of systemd may have arranged it already.
            let is_it = self.uid() == geteuid() && self.gid == getegid();
            return if is_it { Ok(()) } else { Err(PrivilegeError::NotRoot { who: self.name.clone() }) };
        }
        self.give(directory).map_err(|source| {
            let what = format!("create {} for {}", directory.display(), self.name);
            PrivilegeError::System { what, source }
        })?;
        // Groups while they can still be set: those of the user, or none.
        match &self.user {
            Some(user) => {
                let name = CString::new(user.name.as_str()).unwrap_or_default();
                initgroups(&name, self.gid).map_err(system("set the groups of the user"))?;
            }
            None => setgroups(&[self.gid]).map_err(system("leave the groups of root"))?,
        }
        setgid(self.gid).map_err(system(format!("become {}", self.name)))?;
        setuid(self.uid()).map_err(system(format!("become {}", self.name)))?;
        self.verify()
    }

    fn give(&self, directory: &Path) -> io::Result<()> {
        if directory.exists() {
            return Ok(());
        }
        std::fs::create_dir_all(directory)?;
        std::os::unix::fs::chown(directory, Some(self.uid().as_raw()), Some(self.gid.as_raw()))
    }

    fn verify(&self) -> Result<(), PrivilegeError> {
        let users = getresuid().map_err(system("ask for the user"))?;
        let groups = getresgid().map_err(system("ask for the group"))?;
        let (uid, gid) = (self.uid(), self.gid);
        let all = [users.real, users.effective, users.saved] == [uid; 3]
            && [groups.real, groups.effective, groups.saved] == [gid; 3];
        if all && (uid.is_root() || setuid(Uid::from_raw(0)).is_err()) { Ok(()) } else { Err(PrivilegeError::NotGone) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_root_is_in_the_way_and_only_of_others() {
        for (user, owner, is_in_the_way) in [(0, 0, false), (0, 1000, true), (1000, 1000, false), (1000, 0, false)] {
            assert_eq!(intrudes(Uid::from_raw(user), Uid::from_raw(owner)), is_in_the_way, "{user} and {owner}");
        }
        spare(Path::new("/no/such/directory")).expect("a directory that is made belongs to who makes it");
    }
}
