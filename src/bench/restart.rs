//! Starting again: the time from the exec of a server to the first `/ready` that says so, and the memory it has then.

use super::BenchError;
use super::report::percentile;
use crate::client::{Client, Target};
use crate::tools::out::{Object, size, stdout, unless_closed};
use kymo_engine::env::{Env as _, System};
use rustix::fs::{Advice, fadvise};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use std::{fs, thread};

/// What is started, and how often.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restart {
    /// The configuration of the server; it must not run.
    pub config: PathBuf,
    /// Where it will say that it is ready.
    pub url: String,
    /// The directory whose files leave the page cache before each start; without it they stay.
    pub cold: Option<PathBuf>,
    /// Starts, each of which ends with SIGKILL: the log is as long as before.
    pub rounds: u32,
    /// Whether to print JSON.
    pub json: bool,
}

/// A server that does not get ready within this time does not start.
const PATIENCE: Duration = Duration::from_mins(10);

/// Starts and kills the server and prints what it took.
pub fn run(restart: &Restart) -> Result<(), BenchError> {
    let server = |source| BenchError::Server { url: restart.url.clone(), source };
    let target = Target::parse(&restart.url, "GET", None).map_err(server)?;
    let (mut times, mut memory) = (Vec::new(), Memory::default());
    for _ in 0..restart.rounds {
        if let Some(directory) = &restart.cold {
            forget(directory)?;
        }
        let (time, now) = start(restart, &target)?;
        times.push(time);
        memory = now;
    }
    times.sort_unstable();
    print(restart, &times, memory)
}

/// Ends the server when it goes.
struct Started(Child);

impl Drop for Started {
    fn drop(&mut self) {
        // Both fail only if it has ended already.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn start(restart: &Restart, target: &Target) -> Result<(Duration, Memory), BenchError> {
    let server = |source| BenchError::Server { url: restart.url.clone(), source };
    let clock = System::default();
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["serve", "--loglevel", "err", "--config"]).arg(&restart.config).stdin(Stdio::null());
    let begun = clock.monotonic();
    let mut started = Started(command.spawn()?);
    let ready = || {
        Client::connect(target.addr()).and_then(|mut client| client.request(target, b"")).map(|answer| answer.status)
    };
    loop {
        let answer = ready();
        let elapsed = clock.monotonic().saturating_sub(begun);
        if matches!(answer, Ok(200)) {
            return Ok((elapsed, Memory::of(started.0.id())?));
        }
        if let Some(status) = started.0.try_wait()? {
            return Err(server(io::Error::other(format!("the server ended with {status}"))));
        }
        if elapsed > PATIENCE {
            return Err(server(answer.err().unwrap_or_else(|| io::Error::other("the server does not get ready"))));
        }
        // A start takes milliseconds; finer than what is to be seen, and no load of its own.
        thread::sleep(Duration::from_micros(200));
    }
}

/// Takes the files below a directory out of the page cache, as far as nothing else holds them.
fn forget(directory: &Path) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            forget(&entry.path())?;
        } else {
            let file = fs::File::open(entry.path())?;
            // Dirty pages stay in the cache.
            file.sync_all()?;
            fadvise(&file, 0, None, Advice::DontNeed)?;
        }
    }
    Ok(())
}

/// Resident memory in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Memory {
    /// Heap and stacks.
    anonymous: u64,
    /// Mapped files: page cache.
    file: u64,
}

impl Memory {
    fn of(pid: u32) -> Result<Self, BenchError> {
        let status = fs::read_to_string(format!("/proc/{pid}/status"));
        status.map(|status| Self::parse(&status)).map_err(|source| BenchError::Process { pid, source })
    }

    fn parse(status: &str) -> Self {
        let field = |name| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()
        };
        let bytes = |name| field(name).unwrap_or(0) * 1024;
        Self { anonymous: bytes("RssAnon:"), file: bytes("RssFile:") }
    }
}

fn print(restart: &Restart, times: &[Duration], memory: Memory) -> Result<(), BenchError> {
    let millis = |part| percentile(times, part).as_secs_f64() * 1e3;
    let [p50, most] = [0.5, 1.0].map(millis);
    let cache = if restart.cold.is_some() { "cold" } else { "warm" };
    let mut out = stdout();
    let written = if restart.json {
        (|| {
            let mut object = Object::begin(&mut out)?;
            object.field("name", "restart")?;
            object.field("page_cache", cache)?;
            object.field("rounds", times.len())?;
            object.field("ready_p50_ms", p50)?;
            object.field("ready_max_ms", most)?;
            object.field("rss_anonymous_bytes", memory.anonymous)?;
            object.field("rss_file_bytes", memory.file)?;
            object.end()?;
            writeln!(out)
        })()
    } else {
        let [anonymous, file] = [memory.anonymous, memory.file].map(size);
        writeln!(
            out,
            "restart, {cache}: {} rounds, ready after ms p50 {p50:.1} max {most:.1}; resident then: {anonymous} anonymous, \
             {file} of files",
            times.len()
        )
    };
    Ok(unless_closed(written.and_then(|()| out.flush()))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_from_its_two_lines() {
        let status = "VmRSS:\t  300 kB\nRssAnon:\t     100 kB\nRssFile:\t     200 kB\n";
        assert_eq!(Memory::parse(status), Memory { anonymous: 102_400, file: 204_800 });
    }
}
