//! Configuration files.

use std::io::{Seek as _, Write as _};
use std::sync::{LazyLock, Mutex, PoisonError};
use tempfile::NamedTempFile;

/// The one file that is read again and again; in memory, where the machine has that.
static FILE: LazyLock<Mutex<NamedTempFile>> = LazyLock::new(|| {
    let file = tempfile::Builder::new().tempfile_in("/dev/shm").or_else(|_| NamedTempFile::new());
    Mutex::new(file.expect("a temporary file can be made"))
});

fn load(bytes: &[u8]) -> Result<kymo::config::Loaded, kymo::config::ConfigError> {
    let mut file = FILE.lock().unwrap_or_else(PoisonError::into_inner);
    let written = file.as_file_mut().set_len(0).and_then(|()| {
        file.as_file_mut().rewind()?;
        file.as_file_mut().write_all(bytes)
    });
    written.expect("a temporary file can be written");
    kymo::config::load(Some(file.path()))
}

/// Whether there may be a key that ends in `-file`, or in `-file-path`. A letter of one may be written as an escape.
fn may_name_files(data: &[u8]) -> bool {
    let has = |text: &[u8]| data.windows(text.len()).any(|word| word.eq_ignore_ascii_case(text));
    has(b"-file\"") || has(b"-file-path\"") || has(b"\\u")
}

/// The bytes of a configuration file.
///
/// Reading is total, and each error has a text; what is accepted and printed is accepted again, without a warning, and
/// prints the same. Files that name other files are left out: what those are is not in the bytes.
///
/// # Panics
///
/// Where one of these does not hold.
pub fn config(data: &[u8]) {
    if may_name_files(data) {
        return;
    }
    match load(data) {
        Ok(loaded) => {
            let printed = loaded.config.to_json();
            let again = load(printed.as_bytes()).unwrap_or_else(|error| panic!("is refused: {error}\n{printed}"));
            assert_eq!(again.config.to_json(), printed, "a printed configuration reads back");
        }
        Err(error) => assert!(!error.to_string().is_empty(), "an error has a text"),
    }
}

#[cfg(test)]
mod tests {
    use super::may_name_files;

    #[test]
    fn files_are_named_by_keys_alone() {
        for text in [&br#"{"nats":{"nkey-file":"a"}}"#[..], br#"{"creds-file-path":"a"}"#, br#"{"nkey-fil\u0065":"a"}"#]
        {
            assert!(may_name_files(text), "{}", text.escape_ascii());
        }
        assert!(!may_name_files(br#"{"main":{"file-format":"wal","a":"a\\b"}}"#));
    }
}
