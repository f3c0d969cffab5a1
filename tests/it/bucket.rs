//! An archive in a bucket: against a server of the S3 protocol on loopback, which the test starts and ends.

use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::archive::{archive, ask, fill, samples, tool, tool_on};
use crate::clock;
use crate::http::Client;
use crate::json::Json;
use crate::server::Site;

const BUCKET: &str = "s3://metrics/below/here";
const CREDENTIALS: [(&str, &str); 3] =
    [("AWS_ACCESS_KEY_ID", "test"), ("AWS_SECRET_ACCESS_KEY", "test"), ("AWS_REGION", "us-east-1")];

/// A server with an empty bucket `metrics`; ends with the value.
struct S3 {
    process: Child,
    address: SocketAddr,
}

impl S3 {
    fn start() -> Self {
        let mut command = Command::new(tool("python"));
        command.args(["-m", "moto.server", "-H", "127.0.0.1", "-p", "0"]).stdin(Stdio::null()).stderr(Stdio::piped());
        let mut process = command.spawn().expect("the server of the bucket starts");
        let mut lines = BufReader::new(process.stderr.take().expect("stderr is a pipe")).lines().map_while(Result::ok);
        let address = lines.find_map(|line| line.split_once("Running on http://")?.1.trim().parse().ok());
        // What it says later is of no interest, but must be read.
        std::thread::spawn(move || lines.for_each(drop));
        let server = Self { process, address: address.expect("the server of the bucket says where it listens") };
        let reached = clock::poll(Duration::from_secs(20), || TcpStream::connect(server.address).ok());
        assert!(reached.is_some(), "the server of the bucket does not listen");
        assert_eq!(Client::new(server.address).request("PUT", "/metrics", &[], b"").expect("a bucket").status, 200);
        server
    }

    /// Our settings for it.
    fn settings(&self) -> [(&'static str, Json); 1] {
        let endpoint = Json::Text(format!("http://{}", self.address));
        [("archive", Json::Object(vec![("endpoint".to_owned(), endpoint)]))]
    }

    /// The keys in the bucket.
    fn keys(&self) -> Vec<String> {
        let listing = Client::new(self.address).get("/metrics?list-type=2", b"").expect("a listing").text();
        listing.split("<Key>").skip(1).filter_map(|rest| Some(rest.split_once("</Key>")?.0.to_owned())).collect()
    }
}

impl Drop for S3 {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

fn of_alpha() -> Vec<f64> {
    let of_host =
        samples().into_iter().filter(|&(cluster, host, path, ..)| (cluster, host, path) == ("alpha", "n1", ""));
    of_host.map(|(.., value)| value).collect()
}

#[test]
fn days_go_into_a_bucket_and_are_answered_from_it() {
    let (s3, site) = (S3::start(), Site::empty());
    fill(&site, BUCKET, &s3.settings(), &CREDENTIALS);
    let output = archive(&site, &CREDENTIALS);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let keys = s3.keys();
    let folder = "below/here/cluster=alpha/date=2023-11-15";
    for name in ["_manifest.json", "part-0-0.parquet"] {
        assert!(keys.contains(&format!("{folder}/{name}")), "{name} in {keys:?}");
    }
    assert!(!keys.iter().any(|key| is_aside(key)), "{keys:?}");
    assert_eq!(ask(&site, "n1", &CREDENTIALS), Ok(of_alpha()));
}

/// Whether a key is that of a file that is written and compared before it gets its name.
fn is_aside(key: &str) -> bool {
    key.contains("/_") && key.ends_with(".parquet")
}

#[test]
fn another_store_cannot_take_a_place_in_the_bucket() {
    let s3 = S3::start();
    let (first, second) = (Site::empty(), Site::empty());
    for site in [&first, &second] {
        fill(site, BUCKET, &s3.settings(), &CREDENTIALS);
    }
    assert!(archive(&first, &CREDENTIALS).status.success());
    let before = s3.keys();
    let output = archive(&second, &CREDENTIALS);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("belongs to the store"), "{said}");
    let visible = |keys: Vec<String>| keys.into_iter().filter(|key| !is_aside(key)).collect::<Vec<_>>();
    assert_eq!(visible(s3.keys()), visible(before));
    assert_eq!(ask(&first, "n1", &CREDENTIALS), Ok(of_alpha()));
    assert_eq!(ask(&second, "n1", &CREDENTIALS), Ok(of_alpha()));
}

#[test]
fn a_bucket_that_cannot_be_reached_keeps_the_days_hot() {
    let (s3, site) = (S3::start(), Site::empty());
    fill(&site, BUCKET, &s3.settings(), &CREDENTIALS);
    drop(s3);
    let output = archive(&site, &CREDENTIALS);
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(ask(&site, "n1", &CREDENTIALS), Ok(of_alpha()));
}

#[test]
fn verify_reads_a_bucket_and_a_backup_says_that_it_does_not_have_it() {
    let (s3, site) = (S3::start(), Site::empty());
    fill(&site, BUCKET, &s3.settings(), &CREDENTIALS);
    assert!(archive(&site, &CREDENTIALS).status.success());
    let verify = || tool_on(&site, &["verify", "data", "--config", "config.json"], &CREDENTIALS);
    let (code, said) = verify();
    assert!(code == Some(0) && said.contains("4 archived parts"), "{said}");
    let (code, said) = tool_on(&site, &["backup", "data", "copy", "--config", "config.json"], &CREDENTIALS);
    let says = "4 parts of the archive are not in the backup: they are in s3://metrics/below/here";
    assert!(code == Some(0) && said.contains(says), "{said}");
    let path = "/metrics/below/here/cluster%3Dalpha/date%3D2023-11-15/part-0-0.parquet";
    // The server of the test does not look at signatures, but wants to know who asks.
    let who = "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0";
    let put = Client::new(s3.address).request("PUT", path, &[("Authorization", who)], b"damaged");
    assert_eq!(put.expect("an answer").status, 200);
    let (code, said) = verify();
    assert!(code == Some(4) && said.contains("part-0-0.parquet") && said.contains("1 damaged"), "{said}");
}
