//! The first command of the README, taken from the README, does what it says there.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Stdio;
use std::sync::mpsc;
use std::thread;

use crate::clock::{self, PATIENCE};
use crate::server::{Server, Site};

#[test]
fn the_first_command_shows_an_address_two_curl_lines_and_an_answered_query() {
    let readme =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).expect("there is a README");
    let command = readme.lines().map(str::trim).find(|line| line.starts_with("cargo run ")).expect("a first command");
    let (_, arguments) = command.split_once(" -- ").expect("arguments for kymo");
    // The port of the documentation may be taken on this machine.
    let arguments: Vec<&str> = arguments.split_whitespace().chain(["--addr", "127.0.0.1:0"]).collect();
    assert_eq!(arguments[..2], ["serve", "--demo"], "{command}");

    let site = Site::empty();
    let mut server = Server::spawn(site.command(&arguments).stdout(Stdio::piped()));
    let stdout = server.child().stdout.take().expect("stdout is a pipe");
    let (line, lines) = mpsc::channel();
    thread::spawn(move || {
        // The test may have seen enough; the rest is read so that the demo never waits for us.
        BufReader::new(stdout).lines().map_while(Result::ok).for_each(|text| drop(line.send(text)));
    });
    server.wait_ready();

    let address = server.address().to_string();
    let deadline = clock::deadline(2 * PATIENCE);
    let mut shown = String::new();
    let complete = |shown: &str| {
        let commands = shown.lines().filter(|line| line.contains("curl ") && line.contains(&address)).count();
        commands >= 2 && shown.contains("\"results\"")
    };
    while !complete(&shown) {
        let next = clock::remaining(deadline).and_then(|left| lines.recv_timeout(left).ok());
        let Some(next) = next else { panic!("the demo is not complete:\n{shown}\nit said:\n{}", server.said()) };
        shown.push_str(&next);
        shown.push('\n');
    }
    assert!(site.path().join("kymo-demo").is_dir(), "the demo's data are not in ./kymo-demo");
    server.stop();
}
