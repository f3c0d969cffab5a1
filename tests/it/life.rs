//! A server in service: it takes new settings while it runs, all or none; it tells the service manager how it goes; it
//! becomes the user it should, for good.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use crate::clock::{self, PATIENCE};
use crate::json::Json;
use crate::server::{Server, Site, recorded_config};

/// Sends a signal to the server's process, and to no other.
fn signal(server: &mut Server, name: &str) {
    let (kill, process) = (format!("kill -{name} \"$0\""), server.child().id().to_string());
    let sent = Command::new("sh").args(["-c", &kill, &process]).status();
    assert!(sent.is_ok_and(|status| status.success()), "SIG{name} was not sent");
}

/// The recorded configuration with more metrics and other limits.
fn configure(site: &Site, metrics: &[(&str, &str)], storage: &[(&str, Json)]) {
    let mut config = recorded_config("config.json");
    let list = config.get_mut("metrics").expect("a section `metrics`");
    for (name, settings) in metrics {
        list.set(name, Json::parse(settings).expect("a metric is JSON"));
    }
    site.configure(config, storage);
}

fn limits(text: &str) -> (&'static str, Json) {
    ("limits", Json::parse(text).expect("limits are JSON"))
}

/// How many of these lines the server refuses, and why.
fn refused(server: &Server, body: &str) -> Option<String> {
    let answer = server.client().post("/api/write", body.as_bytes()).expect("the server answers a write");
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.header("Kymo-Lines-Refused")
}

fn line(metric: &str, host: &str) -> String {
    format!("{metric},cluster=alpha,hostname={host},type=node value=1 {}\n", clock::unix_seconds())
}

#[test]
fn metrics_and_limits_change_without_a_restart_and_the_rest_is_told_to_wait() {
    let site = Site::empty();
    configure(&site, &[], &[]);
    let mut server = site.serve();
    assert_eq!(refused(&server, &line("brand_new", "h1")).as_deref(), Some("1; unknown-metric=1"));
    let reload = |server: &Server| server.client().post("/api/reload", b"").expect("the server answers");

    let new = ("brand_new", r#"{"frequency":60,"aggregation":"sum"}"#);
    configure(&site, &[new], &[limits(r#"{"hosts":1,"body":1000}"#), ("log-bound", Json::Number("131072".to_owned()))]);
    let answer = reload(&server);
    assert_eq!(answer.status, 200, "{}", answer.text());
    let changed = "changed: metrics.brand_new.aggregation, metrics.brand_new.frequency, storage.limits.body, \
                   storage.limits.hosts\nwaits for a restart: storage.log-bound\n";
    assert!(answer.text().starts_with(changed), "{}", answer.text());
    assert_eq!(refused(&server, &line("brand_new", "h1")), None);
    assert_eq!(refused(&server, &line("brand_new", "h2")).as_deref(), Some("1; limit-hosts=1"));
    let long = server.client().post("/api/write", &[b'\n'; 1001]).expect("the server answers a write");
    assert_eq!(long.status, 413);

    // A mistake changes nothing, not even what is right beside it.
    configure(&site, &[new, ("newer", r#"{"frequency":0,"aggregation":null}"#)], &[limits(r#"{"hosts":5}"#)]);
    let answer = reload(&server);
    assert_eq!(answer.status, 422, "{}", answer.text());
    assert!(answer.text().contains("metrics.newer.frequency"), "{}", answer.text());
    let address = format!("http://{}", server.address());
    let ask = || {
        let output = site.command(&["reload", "--server", &address]).output().expect("it runs");
        (output.status.code(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
    };
    let (code, said) = ask();
    assert!(code == Some(2) && said.contains("metrics.newer.frequency"), "{code:?}: {said}");
    assert_eq!(refused(&server, &line("brand_new", "h2")).as_deref(), Some("1; limit-hosts=1"));

    // The same by signal; a metric that is gone stays until the restart.
    configure(&site, &[], &[limits(r#"{"hosts":5}"#)]);
    signal(&mut server, "HUP");
    let done = clock::poll(PATIENCE, || refused(&server, &line("brand_new", "h2")).is_none().then_some(()));
    assert!(done.is_some(), "SIGHUP has no effect; the server said:\n{}", server.said());
    configure(&site, &[], &[limits(r#"{"hosts":6}"#)]);
    let (code, said) = ask();
    assert!(code == Some(0) && said.starts_with("changed: storage.limits.hosts\nwaits for"), "{code:?}: {said}");
    let answer = reload(&server);
    assert!(
        answer.text().starts_with(
            "changed: nothing\nwaits for a restart: metrics.brand_new.aggregation, metrics.brand_new.frequency\n"
        ),
        "{}",
        answer.text()
    );
    server.stop();
    let server = site.serve();
    assert_eq!(refused(&server, &line("brand_new", "h1")).as_deref(), Some("1; unknown-metric=1"));
    server.stop();
}

#[test]
fn the_service_manager_is_told_how_it_goes() {
    let site = Site::empty();
    configure(&site, &[], &[]);
    let path = site.path().join("notify");
    let socket = UnixDatagram::bind(&path).expect("a socket");
    socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let mut command = site.command(&["serve", "--config", "config.json"]);
    command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "300000").env_remove("WATCHDOG_PID");
    let mut server = Server::spawn(&mut command);
    let await_told = |wanted: &str| {
        let mut buffer = [0; 4096];
        loop {
            let length = socket.recv(&mut buffer).unwrap_or_else(|error| panic!("{wanted} is not told: {error}"));
            let told = String::from_utf8_lossy(&buffer[..length]).into_owned();
            if told.contains(wanted) {
                return told;
            }
        }
    };
    await_told("STATUS=opening the store");
    assert!(await_told("READY=1").contains("STATUS=taking writes"));
    server.wait_ready();
    for _ in 0..3 {
        await_told("WATCHDOG=1");
    }
    signal(&mut server, "HUP");
    assert!(await_told("RELOADING=1").contains("MONOTONIC_USEC="));
    await_told("READY=1");
    signal(&mut server, "TERM");
    await_told("STOPPING=1");
    assert_eq!(server.wait_exit().code(), Some(0), "{}", server.said());
}

/// The four ids and the groups of a process, as the kernel tells.
fn identity(process: u32) -> String {
    let status = fs::read_to_string(format!("/proc/{process}/status")).expect("the process is there");
    let lines = status.lines().filter(|line| ["Uid:", "Gid:", "Groups:"].iter().any(|name| line.starts_with(name)));
    lines.map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect::<Vec<_>>().join("; ")
}

fn owners_below(path: &Path) -> Vec<(String, u32, u32)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(path).expect("a directory").map(|entry| entry.expect("an entry")) {
        let meta = entry.metadata().expect("an entry");
        found.push((entry.path().display().to_string(), meta.uid(), meta.gid()));
        if meta.is_dir() {
            found.extend(owners_below(&entry.path()));
        }
    }
    found
}

#[test]
fn root_becomes_the_user_before_anything_is_created() {
    // Where the user can go too; the directory of the build may be private.
    let place = TempDir::new().expect("a directory");
    fs::set_permissions(place.path(), fs::Permissions::from_mode(0o755)).expect("the directory is ours");
    let site = Site::empty();
    let mut config = recorded_config("config.json");
    config.get_mut("metric-store").expect("a section `metric-store`").remove("cleanup");
    config.get_mut("main").expect("a section `main`").set("user", "nobody".into());
    let data = place.path().join("data");
    site.configure(config, &[("directory", data.display().to_string().as_str().into())]);
    let mut server = site.spawn();

    let root = fs::metadata("/proc/self").expect("this process").uid() == 0;
    if !root {
        // Only root can become somebody: the start fails, says so and leaves nothing.
        assert_eq!(server.wait_exit().code(), Some(1), "{}", server.said());
        assert!(server.said().contains("cannot become user 'nobody': only root can"), "{}", server.said());
        assert!(!data.exists());
        return;
    }
    server.wait_ready();
    assert_eq!(refused(&server, &line("cpu_load", "h1")), None);
    let passwd = fs::read_to_string("/etc/passwd").expect("there are users");
    let nobody: Vec<&str> =
        passwd.lines().find(|line| line.starts_with("nobody:")).expect("nobody").split(':').collect();
    let (user, group): (u32, u32) = (nobody[2].parse().expect("an id"), nobody[3].parse().expect("an id"));
    let wanted = format!("Uid: {user} {user} {user} {user}; Gid: {group} {group} {group} {group}; Groups: {group}");
    assert_eq!(identity(server.child().id()), wanted);
    let meta = fs::metadata(&data).expect("the store is there");
    let mut owners = owners_below(&data);
    assert!(owners.len() >= 3, "{owners:?}");
    owners.push((data.display().to_string(), meta.uid(), meta.gid()));
    assert!(owners.iter().all(|(_, uid, gid)| (*uid, *gid) == (user, group)), "{owners:?}");
    server.stop();
    // The files are the user's, so it can go on with them.
    let mut server = site.spawn();
    server.wait_ready();
    server.stop();
}
