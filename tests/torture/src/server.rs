//! The real program as a child process. Only this child is ever signalled, and it is gone when the value is dropped.

use crate::Failure;
use crate::client::Client;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// How long a start or a stop may take: much longer than any that is well.
const PATIENCE: Duration = Duration::from_mins(1);

/// How servers are started: the program, its configuration, the directory of the data.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    program: PathBuf,
    /// Where the configuration lies: never on the disk under test.
    work: PathBuf,
    /// Bytes that a file may have, where that is limited.
    pub(crate) file_limit: Option<u64>,
}

impl Setup {
    /// Writes a configuration with these keys in the section `storage`.
    pub(crate) fn new(program: &Path, work: &Path, data: &Path, storage: &Value) -> Result<Self, Failure> {
        let metric = |frequency: u64| json!({"frequency": frequency, "aggregation": "avg"});
        let metrics = json!({"cpu_load": metric(60), "mem_used": metric(60), "mem_bw": metric(60)});
        let mut section = json!({"directory": data, "late-window": "876000h", "log-bound": 1 << 16});
        for (key, value) in storage.as_object().into_iter().flatten() {
            section[key] = value.clone();
        }
        let store = json!({"checkpoints": {"directory": "./checkpoints"}, "retention-in-memory": "876000h"});
        let main = json!({"addr": "127.0.0.1:0"});
        let config = json!({"main": main, "metric-store": store, "metrics": metrics, "storage": section});
        Self::of(program, work, &config)
    }

    /// Writes that configuration, in place of one that is there.
    pub(crate) fn of(program: &Path, work: &Path, config: &Value) -> Result<Self, Failure> {
        File::create(work.join("config.json"))?.write_all(config.to_string().as_bytes())?;
        Ok(Self { program: program.to_owned(), work: work.to_owned(), file_limit: None })
    }

    /// Starts a server and does not wait for it.
    pub(crate) fn spawn(&self) -> Result<Server, Failure> {
        let mut command = match self.file_limit {
            None => Command::new(&self.program),
            Some(limit) => {
                // A write beyond the limit is to be an error, as on a full disk, and not the end of the process.
                let mut shell = Command::new("bash");
                let script = format!("trap '' XFSZ; ulimit -f {}; exec \"$0\" \"$@\"", limit / 1024);
                shell.args(["-c", &script]).arg(&self.program);
                shell
            }
        };
        command.args(["serve", "--config", "config.json"]).current_dir(&self.work).env_remove("RUST_LOG");
        let begun = Instant::now();
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
        let stderr = child.stderr.take().ok_or("stderr is a pipe")?;
        let said = Arc::new(Mutex::new(Vec::new()));
        let lines = Arc::clone(&said);
        let listener = thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                lines.lock().unwrap_or_else(PoisonError::into_inner).push(line);
            }
        });
        Ok(Server { child, said, listener: Some(listener), begun, address: None })
    }

    /// Starts a server and waits until it takes writes; gives the time from the start of the process to that too.
    pub(crate) fn serve(&self) -> Result<(Server, Duration), Failure> {
        let mut server = self.spawn()?;
        server.wait_listening()?;
        let client = server.client();
        loop {
            match client.get("/ready") {
                Ok(answer) if answer.status == 200 => break,
                other => server.check_patience(&format!("is not ready: {other:?}"))?,
            }
        }
        let took = server.begun.elapsed();
        Ok((server, took))
    }
}

/// One process.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    said: Arc<Mutex<Vec<String>>>,
    /// Reads what it says, to the last word.
    listener: Option<JoinHandle<()>>,
    begun: Instant,
    address: Option<SocketAddr>,
}

impl Server {
    /// Waits for the line that names the address.
    pub(crate) fn wait_listening(&mut self) -> Result<(), Failure> {
        loop {
            let address = |line: &String| line.split_once("listening on ")?.1.split_whitespace().next()?.parse().ok();
            self.address = self.said.lock().unwrap_or_else(PoisonError::into_inner).iter().find_map(address);
            if self.address.is_some() {
                return Ok(());
            }
            self.check_patience("does not listen")?;
        }
    }

    /// A short pause; an error if the process has ended, or has been waited for too long.
    fn check_patience(&mut self, what: &str) -> Result<(), Failure> {
        if let Some(status) = self.child.try_wait()? {
            // Its last words may still be on their way.
            self.listener.take().map(JoinHandle::join);
            return Err(format!("kymo has ended with {status}; it said:\n{}", self.said()).into());
        }
        if self.begun.elapsed() > PATIENCE {
            return Err(format!("kymo {what}; it said:\n{}", self.said()).into());
        }
        thread::sleep(Duration::from_millis(1));
        Ok(())
    }

    /// Where it listens; a server that was not waited for has no address yet.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address.unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 0)))
    }

    pub(crate) fn client(&self) -> Client {
        Client::new(self.address())
    }

    /// Bytes of its memory that are no mapped file.
    pub(crate) fn anonymous_memory(&self) -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"))?;
        Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
    }

    /// What it wrote to stderr so far.
    pub(crate) fn said(&self) -> String {
        self.said.lock().unwrap_or_else(PoisonError::into_inner).join("\n")
    }

    /// SIGKILL, and the wait until the process is gone.
    pub(crate) fn kill(&mut self) {
        // Both fail only if it is gone already.
        self.child.kill().ok();
        self.child.wait().ok();
    }

    /// SIGTERM, and the wait for a clean end.
    pub(crate) fn stop(mut self) -> Result<(), Failure> {
        let id = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).ok_or("a process has an id")?;
        kill_process(id, Signal::TERM)?;
        self.begun = Instant::now();
        while self.begun.elapsed() < PATIENCE {
            if let Some(status) = self.child.try_wait()? {
                return if status.success() {
                    Ok(())
                } else {
                    Err(format!("kymo did not stop cleanly, with {status}; it said:\n{}", self.said()).into())
                };
            }
            thread::sleep(Duration::from_millis(1));
        }
        Err(format!("kymo does not stop; it said:\n{}", self.said()).into())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}
