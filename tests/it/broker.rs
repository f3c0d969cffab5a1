//! A real nats-server with JetStream, in a directory of its own, which outlives the process.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use crate::clock::{self, PATIENCE};

/// How plain subjects of collectors become subjects with the number of a partition.
const CONFIGURATION: &str =
    "mappings = { \"hpc.*.*\": \"ingest.{{partition(4,1,2)}}.{{wildcard(1)}}.{{wildcard(2)}}\" }\n";

/// One broker; it is killed when the value is dropped.
#[derive(Debug)]
pub(crate) struct Broker {
    directory: TempDir,
    program: String,
    child: Option<Child>,
    port: u16,
}

impl Broker {
    /// Starts a broker with a stream store, on a port of its choice, which it keeps from then on.
    pub(crate) fn start() -> Self {
        let settings = format!("{CONFIGURATION}jetstream = {{ store_dir = \"data\" }}\n");
        Self::with(&settings, &[])
    }

    /// Starts a broker with these settings, beside these files.
    #[expect(clippy::disallowed_methods, reason = "a test's file need not survive a power cut")]
    pub(crate) fn with(settings: &str, files: &[(&str, &str)]) -> Self {
        let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("the build's directory is writable");
        for (name, text) in files {
            fs::write(directory.path().join(name), text).expect("the directory is writable");
        }
        let mut broker = Self { directory, program: program(), child: None, port: 0 };
        broker.configure(settings);
        broker.run_again();
        broker
    }

    /// Gives it other settings, for its next start.
    #[expect(clippy::disallowed_methods, reason = "a test's file need not survive a power cut")]
    pub(crate) fn configure(&self, settings: &str) {
        fs::write(self.path("nats.conf"), settings).expect("the directory is writable");
    }

    /// The path of one of its files.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Starts the process, on the port it had before.
    pub(crate) fn run_again(&mut self) {
        let directory = self.directory.path();
        let port = if self.port == 0 { "-1".to_owned() } else { self.port.to_string() };
        let mut child = Command::new(&self.program)
            .args(["-c", "nats.conf", "-a", "127.0.0.1", "-p", &port, "--ports_file_dir", "."])
            .current_dir(directory)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("nats-server starts");
        let ports = directory.join(format!("nats-server_{}.ports", child.id()));
        let port = clock::poll(PATIENCE, || {
            assert!(child.try_wait().expect("a child can be waited for").is_none(), "nats-server has ended");
            port_in(&ports)
        });
        self.port = port.expect("nats-server tells its port");
        self.child = Some(child);
    }

    /// Where it listens, or will again.
    pub(crate) fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("a child can be killed until it is waited for");
            child.wait().expect("a child can be waited for");
        }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The path of the program, fetched if the machine has none.
fn program() -> String {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join(".ci/tools");
    let output = Command::new(script).arg("nats-server").stderr(Stdio::inherit()).output().expect(".ci/tools runs");
    assert!(output.status.success(), ".ci/tools finds no nats-server");
    String::from_utf8(output.stdout).expect("a path").trim().to_owned()
}

/// The port in a file like `{"nats":["nats://127.0.0.1:4222"]}`, once it is whole.
fn port_in(path: &Path) -> Option<u16> {
    let text = fs::read_to_string(path).ok()?;
    let (_, rest) = text.split_once("127.0.0.1:")?;
    rest.split_once('"')?.0.parse().ok()
}
