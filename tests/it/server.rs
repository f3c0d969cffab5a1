//! Runs `kymo serve` as a child process in a directory of its own.
//!
//! A [`Site`] is the directory: `config.json`, `data/` and what else the server makes of it; it outlives any number of
//! servers. A [`Server`] is one process. Only that process is ever signalled, and it is killed when the value is dropped.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use tempfile::TempDir;

use crate::clock::{self, PATIENCE};
use crate::http::Client;
use crate::json::Json;

/// Where the predecessor's recordings are.
pub(crate) const RECORDINGS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/ccms");

/// A configuration of the predecessor, as recorded.
pub(crate) fn recorded_config(name: &str) -> Json {
    let text = fs::read_to_string(Path::new(RECORDINGS).join(name)).expect("the recordings are part of the project");
    Json::parse(&text).expect("a recorded configuration is JSON")
}

/// A working directory for servers, removed with the value.
#[derive(Debug)]
pub(crate) struct Site {
    directory: TempDir,
}

impl Site {
    /// An empty directory on the disk of the build, where the server finds a real file system.
    pub(crate) fn empty() -> Self {
        let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("the build's directory is writable");
        Self { directory }
    }

    /// A directory with the predecessor's configuration and our `storage` section.
    pub(crate) fn new(storage: &[(&str, Json)]) -> Self {
        let site = Self::empty();
        site.configure(recorded_config("config.json"), storage);
        site
    }

    /// Writes `config.json`: `config` with a port of the kernel's choice and our `storage` section.
    pub(crate) fn configure(&self, mut config: Json, storage: &[(&str, Json)]) {
        config.get_mut("main").expect("a section `main`").set("addr", "127.0.0.1:0".into());
        let mut section = Json::Object(vec![
            ("directory".to_owned(), Json::Text(self.data().display().to_string())),
            ("late-window".to_owned(), "876000h".into()),
        ]);
        for (key, value) in storage {
            section.set(key, value.clone());
        }
        config.set("storage", section);
        self.write("config.json", config.to_string().as_bytes());
    }

    /// Writes a file of the directory.
    #[expect(clippy::disallowed_methods, reason = "a test's file need not survive a power cut")]
    pub(crate) fn write(&self, name: &str, bytes: &[u8]) {
        fs::write(self.path().join(name), bytes).expect("the test's directory is writable");
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    /// The store's directory.
    pub(crate) fn data(&self) -> PathBuf {
        self.path().join("data")
    }

    /// The program with `arguments`, to be run in this directory.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kymo"));
        command.current_dir(self.path()).env_remove("RUST_LOG").args(arguments).stdin(Stdio::null());
        command
    }

    /// Starts the server without waiting for it.
    pub(crate) fn spawn(&self) -> Server {
        Server::spawn(&mut self.command(&["serve", "--config", "config.json", "--ignore-unsupported"]))
    }

    /// Starts the server with more in its environment, without waiting for it.
    pub(crate) fn serve_with(&self, environment: &[(&str, &str)]) -> Server {
        let mut command = self.command(&["serve", "--config", "config.json", "--ignore-unsupported"]);
        Server::spawn(command.envs(environment.iter().copied()))
    }

    /// Starts the server and waits until it accepts writes.
    pub(crate) fn serve(&self) -> Server {
        let mut server = self.spawn();
        server.wait_ready();
        server
    }
}

/// The lines that a process wrote to stderr so far.
#[derive(Debug, Default)]
struct Log {
    lines: Vec<String>,
    ended: bool,
}

type SharedLog = Arc<(Mutex<Log>, Condvar)>;

/// One running server.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    log: SharedLog,
    address: Option<SocketAddr>,
}

impl Server {
    /// The same server.
    pub(crate) fn keep(self, _: &Site) -> Self {
        self
    }

    /// Starts `command` and reads its stderr from then on.
    pub(crate) fn spawn(command: &mut Command) -> Self {
        let mut child = command.stderr(Stdio::piped()).spawn().expect("the program starts");
        let stderr = child.stderr.take().expect("stderr is a pipe");
        let log = SharedLog::default();
        let writer = Arc::clone(&log);
        thread::spawn(move || {
            let (log, changed) = &*writer;
            for line in BufReader::new(stderr).split(b'\n').map_while(Result::ok) {
                let line = String::from_utf8_lossy(&line).into_owned();
                log.lock().unwrap_or_else(PoisonError::into_inner).lines.push(line);
                changed.notify_all();
            }
            log.lock().unwrap_or_else(PoisonError::into_inner).ended = true;
            changed.notify_all();
        });
        Self { child, log, address: None }
    }

    /// Waits for the line that names the address, then for `GET /ready` to answer 200.
    pub(crate) fn wait_ready(&mut self) {
        if let Err(said) = self.wait_listening() {
            panic!("the server did not start; it said:\n{said}");
        }
        let mut client = self.client();
        let ready = clock::poll(PATIENCE, || {
            let answer = client.get("/ready", b"");
            if answer.is_err() {
                client = self.client();
            }
            answer.ok().filter(|answer| answer.status == 200)
        });
        assert!(ready.is_some(), "the server did not get ready; it said:\n{}", self.said());
    }

    /// Waits for the line that names the address; gives what the server said instead if it ends or does not say it.
    pub(crate) fn wait_listening(&mut self) -> Result<(), String> {
        let deadline = clock::deadline(PATIENCE);
        let (log, changed) = &*self.log;
        let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            self.address = log.lines.iter().find_map(|line| listening_address(line));
            if self.address.is_some() {
                return Ok(());
            }
            let left = clock::remaining(deadline).filter(|_| !log.ended).ok_or_else(|| log.lines.join("\n"))?;
            log = changed.wait_timeout(log, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Where the server listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address.expect("the server was waited for")
    }

    /// A new client of the server.
    pub(crate) fn client(&self) -> Client {
        Client::new(self.address())
    }

    /// The child itself, for its id and its stdout.
    pub(crate) fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// What the server wrote to stderr so far.
    pub(crate) fn said(&self) -> String {
        self.log.0.lock().unwrap_or_else(PoisonError::into_inner).lines.join("\n")
    }

    /// SIGKILL, and the wait until the process is gone.
    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("a child can be killed until it is waited for");
        self.child.wait().expect("a child can be waited for");
    }

    /// SIGTERM; the process must end by itself with exit code 0. Gives what it wrote to stderr.
    pub(crate) fn stop(mut self) -> String {
        // The standard library sends no signal but SIGKILL; the shell has `kill` built in.
        let signal = Command::new("sh").args(["-c", "kill -TERM \"$0\"", &self.child.id().to_string()]).status();
        assert!(signal.is_ok_and(|status| status.success()), "SIGTERM was not sent");
        let status = self.wait_exit();
        let said = self.said();
        assert_eq!(status.code(), Some(0), "the server did not stop cleanly; it said:\n{said}");
        said
    }

    /// Waits for the process to end by itself and for its last words.
    pub(crate) fn wait_exit(&mut self) -> ExitStatus {
        let status = clock::poll(PATIENCE, || self.child.try_wait().expect("a child can be waited for"));
        let Some(status) = status else { panic!("the process does not end; it said:\n{}", self.said()) };
        let (log, changed) = &*self.log;
        let log = log.lock().unwrap_or_else(PoisonError::into_inner);
        let last_words = Duration::from_secs(1);
        drop(changed.wait_timeout_while(log, last_words, |log| !log.ended).unwrap_or_else(PoisonError::into_inner));
        status
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Both fail only if the process is gone already, which is what is wanted.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// The address in a line that contains `listening on ADDRESS`.
fn listening_address(line: &str) -> Option<SocketAddr> {
    let (_, rest) = line.split_once("listening on ")?;
    let rest = rest.strip_prefix("http://").unwrap_or(rest);
    let end = rest.find(|character: char| !character.is_ascii_hexdigit() && !".:[]".contains(character));
    let end = end.unwrap_or(rest.len());
    rest[..end].trim_end_matches(['.', ':']).parse().ok()
}
