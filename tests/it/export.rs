//! `kymo export`: what it writes comes back, as checkpoints through `kymo import` and as lines through `/api/write`, with
//! the same values in the same slots.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Output;

use crate::server::{RECORDINGS, Site};

/// The middle of a UTC day.
const NOON: i64 = 1_700_049_600;

/// A site with all that makes it hard: two days, gaps, grids that change within a day, levels, odd names, doubles that
/// are no floats of 32 bits, and a host that was imported.
fn site() -> Site {
    let site = Site::new(&[]);
    let two = Path::new(RECORDINGS).join("checkpoints/two").display().to_string();
    run(&site, &["import", "--from", &two]);
    let server = site.serve();
    let mut body = String::new();
    for at in 0..1500_i64 {
        let time = NOON + at * 60 + i64::from(at > 700) * 100_017;
        let value = 0.5 + f64::from(u32::try_from(at).expect("it is small"));
        if at % 17 != 3 {
            _ = writeln!(body, "cpu_load,cluster=alpha,hostname=e1 value={value} {time}");
            _ = writeln!(body, "mem_bw,cluster=alpha,hostname=e1,type=socket,type-id=0 value={value:e} {time}");
            _ = writeln!(body, "cpu_load,cluster=be\\ ta,hostname=e\\,2,type=node0,stype=a\\=b value=-{value} {time}");
        }
    }
    // A grid of its own before and behind those of the others, in one day.
    for time in [NOON - 40_000, NOON - 39_940, NOON + 31] {
        _ = writeln!(body, "cpu_load,cluster=alpha,hostname=e3 value=3.25 {time}");
    }
    _ = writeln!(body, "cpu_load,cluster=alpha,hostname=e4 value=0.1 {NOON}");
    let mut client = server.client();
    assert_eq!(client.post("/api/write", body.as_bytes()).expect("an answer").status, 200);
    // One run is freed, the next one is not.
    for (at, free) in [(0, true), (100_000, false)] {
        let line = format!("cpu_load,cluster=alpha,hostname=e5 value=5.5 {}\n", NOON + at);
        assert_eq!(client.post("/api/write", line.as_bytes()).expect("an answer").status, 200);
        if free {
            let path = format!("/api/free?to={}", NOON + 1000);
            assert_eq!(client.post(&path, br#"[["alpha","e5"]]"#).expect("an answer").status, 200);
        }
    }
    server.stop();
    site
}

fn run(site: &Site, arguments: &[&str]) -> Output {
    let output = site.command(arguments).args(["--config", "config.json"]).output().expect("the program runs");
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

fn csv(site: &Site, more: &[&str]) -> String {
    let arguments = [&["export", "--format", "csv", "--to", "-"], more].concat();
    String::from_utf8(run(site, &arguments).stdout).expect("names are text")
}

/// The samples of a CSV, values rounded to 32 bits.
fn rounded(csv: &str) -> Vec<(&str, f32)> {
    csv.lines()
        .skip(1)
        .map(|line| line.rsplit_once(',').expect("fields"))
        .map(|(name, value)| (name, value.parse().expect("a number")))
        .collect()
}

fn answers(site: &Site) -> Vec<String> {
    let server = site.serve();
    let mut client = server.client();
    let hosts = [("alpha", "e1"), ("alpha", "e3"), ("alpha", "c1"), ("be ta", "e,2")];
    let answers = hosts.map(|(cluster, host)| {
        let body = format!(
            r#"{{"cluster":"{cluster}","from":{},"to":{},"with-data":true,"with-stats":false,"queries":[
            {{"metric":"cpu_load","host":"{host}"}},{{"metric":"mem_bw","host":"{host}","type":"socket","type-ids":["0"]}}]}}"#,
            NOON - 50_000,
            NOON + 250_000
        );
        let answer = client.get("/api/query", body.as_bytes()).expect("an answer");
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.text()
    });
    server.stop();
    answers.into()
}

#[test]
fn checkpoints_import_into_a_new_store_with_the_same_values_in_the_same_slots() {
    let site = site();
    let whole = csv(&site, &[]);
    for format in ["bin", "json"] {
        run(&site, &["export", "--format", format, "--to", format]);
        let other = Site::new(&[]);
        run(&other, &["import", "--from", &site.path().join(format).display().to_string()]);
        let back = csv(&other, &[]);
        assert_eq!(back.contains(",0.1\n"), format == "json", "one is rounded to 32 bits, the other exact");
        let (whole, back) = (rounded(&whole), rounded(&back));
        let first = whole.iter().zip(&back).find(|(whole, back)| whole != back);
        assert!(whole.len() > 4000 && whole == back, "{format}: {} and {}, {first:?}", whole.len(), back.len());
        assert!(answers(&other) == answers(&site), "{format}");
    }
}

#[test]
fn lines_written_to_a_new_server_give_the_same_samples_in_the_same_slots() {
    let site = site();
    run(&site, &["export", "--format", "lines", "--to", "all.lines"]);
    let lines = std::fs::read(site.path().join("all.lines")).expect("a file");
    let other = Site::new(&[]);
    let server = other.serve();
    assert_eq!(server.client().post("/api/write", &lines).expect("an answer").status, 200);
    server.stop();
    let (whole, back) = (csv(&site, &[]), csv(&other, &[]));
    let first = whole.lines().zip(back.lines()).find(|(whole, back)| whole != back);
    assert!(whole == back && whole.contains(",0.1\n"), "{first:?}");
    assert!(answers(&other) == answers(&site));
}

#[test]
fn csv_has_a_field_a_column_and_days_and_clusters_can_be_chosen() {
    let site = site();
    let whole = csv(&site, &[]);
    assert_eq!(whole.lines().next(), Some("cluster,host,metric,component,subcomponent,time,value"));
    assert!(whole.contains(&format!("\nalpha,e1,mem_bw,socket0,,{NOON},0.5\n")), "{}", &whole[..400]);
    assert!(whole.contains(&format!("\nbe ta,\"e,2\",cpu_load,node0,a=b,{NOON},-0.5\n")));
    assert_eq!(whole.matches("\nalpha,e5,").count(), 1, "what was freed is gone");
    let chosen = csv(&site, &["--cluster", "be ta", "--from", "2023-11-15", "--before", "2023-11-16"]);
    let is_chosen = |line: &&str| {
        let time = line.split(',').rev().nth(1).and_then(|time| time.parse().ok()).unwrap_or(0);
        line.starts_with("be ta,") && (NOON - 43_200..NOON + 43_200).contains(&time)
    };
    let wanted: Vec<&str> = whole.lines().filter(is_chosen).collect();
    assert!(wanted.len() > 100);
    assert_eq!(chosen.lines().skip(1).collect::<Vec<_>>(), wanted);
}

#[test]
fn what_is_there_is_not_replaced_and_no_store_is_made() {
    let site = Site::new(&[]);
    let export = |format: &str| {
        let arguments = ["export", "--format", format, "--to", "there", "--config", "config.json"];
        let output = site.command(&arguments).output().expect("the program runs");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (code, said) = export("csv");
    assert!(code == Some(1) && said.contains("MANIFEST"), "{said}");
    assert!(!site.data().exists() && !site.path().join("there").exists());
    let server = site.serve();
    assert_eq!(export("csv").0, Some(3));
    assert!(!site.path().join("there").exists());
    server.stop();
    site.write("there", b"mine");
    let (code, said) = export("csv");
    assert!(code == Some(1) && said.contains("there: "), "{said}");
    let (code, said) = export("bin");
    assert!(code == Some(1) && said.contains("there: "), "{said}");
    assert_eq!(std::fs::read(site.path().join("there")).expect("a file"), b"mine");
}
