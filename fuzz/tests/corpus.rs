//! Every target holds for its seeds, for all their prefixes and for some mutations of them, on a stable toolchain.

use kymo_fuzz::{TARGETS, Target, samples};
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

/// A seed is cut at each of its first so many bytes.
const CUTS: usize = 4096;
/// So often each seed is mutated.
const MUTATIONS: u64 = 300;
/// Targets that open a store each time are cut and mutated so many times less.
const SPARING: u64 = 20;

fn folder(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds").join(target)
}

/// The seeds of a target by path, in a fixed order. Writes those that can be made and are missing.
fn seeds(target: &str) -> Vec<(String, Vec<u8>)> {
    let folder = folder(target);
    fs::create_dir_all(&folder).expect("the folder of seeds");
    for (name, bytes) in made(target) {
        if let Ok(mut file) = File::create_new(folder.join(name)) {
            file.write_all(&bytes).expect("a seed is written");
        }
    }
    let entries = fs::read_dir(&folder).expect("the folder of seeds").map_while(Result::ok);
    let seed = |path: PathBuf| (path.display().to_string(), fs::read(path).expect("a seed is read"));
    let mut seeds: Vec<_> = entries.map(|entry| seed(entry.path())).collect();
    seeds.sort();
    assert!(!seeds.is_empty(), "{target} has seeds");
    seeds
}

/// What the seeds of a target are made of.
fn made(target: &str) -> Vec<(String, Vec<u8>)> {
    match target {
        "decode" => lines(),
        "segment" | "segment_repaired" => vec![named("valid", samples::segment().bytes)],
        "manifest" | "manifest_repaired" => vec![named("valid", samples::manifest())],
        "snapshot" | "snapshot_repaired" => vec![named("valid", samples::snapshot())],
        "replay_mutated" => edits(),
        "query_json" => queries(),
        "config" => configurations(),
        "http_write" => writes(),
        "engine_ops" => scripts(),
        "ccms_wal" | "ccms_wal_repaired" => logs(),
        "ccms_bin" | "ccms_bin_repaired" => binaries(),
        "ccms_json" => vec![named("recorded", recording("checkpoints/json/alpha/c1/1699999440.json"))],
        "ccms_parquet" => vec![named("recorded", recording("archive/json/beta.parquet"))],
        _ => panic!("{target} is no target"),
    }
}

fn named(name: &str, bytes: impl Into<Vec<u8>>) -> (String, Vec<u8>) {
    (name.to_owned(), bytes.into())
}

fn recording(path: &str) -> Vec<u8> {
    fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/ccms").join(path)).expect("a recording")
}

/// Bodies behind their three option bytes.
fn lines() -> Vec<(String, Vec<u8>)> {
    const LINES: &str = "cpu_load,cluster=alpha,hostname=a1,type=node value=1.5 1700000000\n\
        # a comment\r\n\r\nflops_any,host=a1,type=hwthread,type-id=3,stype=x,stype-id=0 value=-0.1e-7 1700000000123456789\n\
        mem\\ bw,cluster=al\\,pha,hostname=a\\=1 value=3i\n\
        m,cluster=c,host=h text=\"two\nlines, \\\" quoted\",value=2 60\n\
        m,cluster=c,host=h value=\"never closed 60\nm,cluster=c,host=h value=inf\nunknown,cluster=c,host=h value=1\n";
    let whole = |name: &str, body: &[u8]| (name.to_owned(), [b"\0\x40\0", body].concat());
    let mut seeds = vec![whole("hand", LINES.as_bytes())];
    for (options, name) in [(1, "short"), (2, "default-cluster"), (3, "both")] {
        seeds.push((name.to_owned(), [&[options, 0x90, 0], LINES.as_bytes()].concat()));
    }
    let load = recording("cases/001-basic-load.body");
    let ends = load.iter().enumerate().filter(|&(_, &byte)| byte == b'\n').map(|(at, _)| at);
    let end = ends.take_while(|&at| at < 2048).last().expect("a line is shorter") + 1;
    seeds.push(whole("recorded-basic", &load[..end]));
    seeds.push(whole("recorded-misaligned", &recording("cases/271-misaligned-load.body")));
    seeds.push(whole("recorded-health", &recording("cases/311-health-load.body")));
    seeds
}

/// The begin of a recorded log, and one that was cut and appended to.
fn logs() -> Vec<(String, Vec<u8>)> {
    let log = recording("checkpoints/wal-crash/alpha/c1/current.wal");
    vec![named("recorded", &log[..800]), named("torn", [&log[..300], &log[4..500]].concat())]
}

/// Recorded snapshots, and one with binary64 values.
fn binaries() -> Vec<(String, Vec<u8>)> {
    let mut wide =
        [&b"CCMS\x01\0\0\0"[..], &60_i64.to_le_bytes(), &180_i64.to_le_bytes(), &[1, 0, 0, 0, 1, 0, b'm']].concat();
    wide.extend([60_i64, 60].map(i64::to_le_bytes).as_flattened());
    wide.extend([2, 0, 0, 0]);
    wide.extend([0.1_f64, f64::NAN].map(f64::to_le_bytes).as_flattened());
    wide.extend([0; 4]);
    let recorded = |name, folder| named(name, recording(&format!("checkpoints/{folder}/alpha/c1/1699999440.bin")));
    vec![recorded("recorded", "wal"), recorded("count", "damaged/bin-flip-count"), named("wide", wide)]
}

/// Repairs, then edits of six bytes each.
fn edits() -> Vec<(String, Vec<u8>)> {
    let edit = |what: u8, at: u16, from: u16, value: u8| {
        let ([a, b], [c, d]) = (at.to_le_bytes(), from.to_le_bytes());
        vec![what, a, b, c, d, value]
    };
    vec![
        named("none", [0]),
        named("flip-value", [vec![0], edit(0, 4400, 0, 1)].concat()),
        named("flip-and-repair", [vec![0xff], edit(0, 4400, 0, 1), edit(0, 20, 0, 1)].concat()),
        named("zero-sector", [vec![0], edit(2, 8200, 0, 0)].concat()),
        named("swap-blocks", [vec![0], edit(4, 4096, 8192, 0), edit(4, 8192, 12_288, 0)].concat()),
        named("misplaced-and-repair", [vec![4], edit(4, 8192, 4096, 0)].concat()),
        named("length-field", [vec![2], edit(5, 4104, 0, 0xff)].concat()),
        named("cut", [vec![0], edit(6, 12_288, 0, 0)].concat()),
    ]
}

fn queries() -> Vec<(String, Vec<u8>)> {
    const ALL: &str = r#"{"Cluster":"alpha","from":1700000000,"to":1700003600,"with-stats":false,"with-data":true,
        "with-padding":null,"for-all-nodes":["cpu_load","a\u0000b"],"queries":[{"metric":"flops_any","host":"a1",
        "type":"hwthread","type-ids":["0","1"],"subtype":"x","subtype-ids":["2",null],"aggreg":true,"resolution":120,
        "resample-algo":"average","scale-by":-2.5e-3},{"metric":"m","hostname":"","scale-by":null},null]} trailing"#;
    let mut seeds = vec![named("all-keys", ALL), named("null", "null"), named("nested", "[".repeat(300))];
    let mut paths: Vec<_> = ["002-node-basic", "003-unaligned-range", "018-negative-from", "019-no-from-to"].into();
    paths.sort_unstable();
    seeds.extend(paths.into_iter().map(|case| named(case, recording(&format!("cases/{case}.body")))));
    seeds
}

fn configurations() -> Vec<(String, Vec<u8>)> {
    const SMALL: &str = r#"{"metrics":{"m":{"frequency":60,"aggregation":"sum"}},
        "metric-store":{"retention-in-memory":"1h30m"},"storage":{}}"#;
    let demo = kymo::config::Config::demo().to_json();
    vec![named("small", SMALL), named("demo", demo), named("recorded", recording("config.json"))]
}

/// Two bytes of options, then bodies with `0xff` between them.
fn writes() -> Vec<(String, Vec<u8>)> {
    const FIRST: &[u8] = b"m,cluster=a,hostname=h value=1.5 1700000000\nm,cluster=a,hostname=h value=-2e-7 1699999990\n\
        cpu_load,cluster=a,hostname=h,type=socket,type-id=0 value=3 1700000001000000000\nm,cluster=a,hostname=h value=nan\n\
        m,hostname=g,type=socket,type-id=1,stype=d,stype-id=x value=7 1699999999\nm,cluster=a,hostname=h value=4 60\n";
    const SECOND: &[u8] = b"m,cluster=a,hostname=h value=9 1700000000\nm,cluster=a,hostname=h value=5\nno line\n";
    let bodies = [FIRST, b"\xff", SECOND].concat();
    let seed =
        |name: &str, options: u8, chunk: u8, bodies: &[u8]| (name.to_owned(), [&[options, chunk], bodies].concat());
    let raw =
        [&b"POST /api/write HTTP/1.1\r\nhost: k\r\ntransfer-encoding: chunked\r\n\r\n5\r\nm,hos\r\n"[..], b"z\r\n"]
            .concat();
    vec![
        seed("whole", 4, 0, &bodies),
        seed("chunked", 1 | 4 | 8 | 16, 6, &bodies),
        seed("cut", 2 | 8, 0, &bodies),
        seed("cut-chunk", 1 | 2 | 16, 12, &bodies),
        seed("raw", 0xc0, 0, &raw),
    ]
}

/// Scripts of the simulator in the bytes that it reads them from: a number, the options, then operations.
fn scripts() -> Vec<(String, Vec<u8>)> {
    const NOTHING: [u8; 7] = [0; 7];
    // An interval, a retention, a short window, short and late writes; two hosts.
    const EVERYTHING: [u8; 7] = [1, 1, 0, 1, 1, 1, 1];
    let (commit, prepare, compact) = (op(2, &[]), op(4, &[]), op(5, &[1, 64]));
    let (restart, kill, cut) = (op(14, &[]), op(15, &[0]), op(15, &[1]));
    let query = |series| op(9, &[series, 200, 0, 255, 0]);
    let crash_at = |nth, power| op(16, &[nth, power]);
    let life = [
        [body(0, 8), commit.clone(), query(0), body(3, 5), commit.clone(), compact.clone(), query(3)].concat(),
        [op(12, &[3, 0]), body(1, 4), commit.clone(), op(10, &[1]), kill.clone(), query(0), body(2, 8)].concat(),
        [op(1, &[]), commit.clone(), prepare.clone(), restart.clone(), op(8, &[1, 0, 0]), query(1), cut.clone()]
            .concat(),
    ];
    let crashes = [
        [body(0, 8), crash_at(2, 1), commit.clone(), body(5, 3), commit.clone(), query(5), compact.clone()].concat(),
        [body(1, 2), commit.clone(), op(17, &[1, 9, 1]), query(0), body(4, 8), crash_at(7, 0), commit.clone()].concat(),
        [op(12, &[160, 15]), body(0, 4), commit.clone(), crash_at(30, 1), compact.clone(), op(6, &[]), query(4)]
            .concat(),
        [op(11, &[]), body(2, 3), op(3, &[]), cut.clone(), op(13, &[0xd0, 0xff]), body(2, 3), op(22, &[])].concat(),
    ];
    let faults = [
        [
            body(0, 8),
            op(20, &[1, 0, 2, 0]),
            commit.clone(),
            body(1, 1),
            op(23, &[1, 1, 2, 2, 0]),
            query(0),
            commit.clone(),
        ]
        .concat(),
        [body(3, 8), commit.clone(), op(20, &[0, 2, 2, 1]), compact.clone(), body(3, 2), commit.clone(), cut].concat(),
        [op(18, &[8]), body(6, 8), commit.clone(), compact.clone(), query(6), restart, op(19, &[]), prepare].concat(),
        [body(7, 2), commit, op(21, &[0, 0, 64, 0]), op(21, &[1, 0, 9, 2]), compact, query(7), kill, query(6)].concat(),
    ];
    let script = |name: &str, seed: u64, setup: [u8; 7], ops: &[Vec<u8>]| {
        named(name, [&seed.to_le_bytes()[..], &setup, &ops.concat()].concat())
    };
    vec![
        script("life", 1, NOTHING, &life),
        script("crashes", 2, EVERYTHING, &crashes),
        script("faults", 3, NOTHING, &faults),
    ]
}

/// The variant of an enum as `arbitrary` reads it: four bytes, of which each variant has an equal share.
fn variant(number: u64, of: u64) -> [u8; 4] {
    u32::try_from((number << 32).div_ceil(of)).expect("it is one of them").to_le_bytes()
}

/// An operation by its number.
fn op(number: u64, fields: &[u8]) -> Vec<u8> {
    [&variant(number, 24), fields].concat()
}

/// A body of up to eight present samples of series that differ.
fn body(series: u8, count: u8) -> Vec<u8> {
    let line = |at| [&variant(0, 2)[..], &[series + 2 * at], &variant(0, 6), &[at]].concat();
    let lines: Vec<_> = (0..count).map(line).collect();
    op(0, &[&[count - 1], lines.concat().as_slice()].concat())
}

/// A generator of numbers that looks random and is always the same.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Below `end`, which is not zero.
    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end as u64).expect("it is below a usize")
    }
}

/// One to four changes: a flipped bit, another byte, a copied or removed piece.
fn mutate(bytes: &mut Vec<u8>, numbers: &mut Numbers) {
    for _ in 0..=numbers.below(4) {
        if bytes.is_empty() {
            return;
        }
        let at = numbers.below(bytes.len());
        let [low, high, ..] = numbers.next().to_le_bytes();
        match numbers.below(5) {
            0 => bytes[at] ^= 1 << (low % 8),
            1 => bytes[at] = low,
            2 => bytes[at] = [0, 1, 0x7f, 0x80, 0xff, b'\n', b'"', b','][usize::from(low % 8)],
            3 => {
                let len = usize::from(high).min(bytes.len() - at);
                let from = numbers.below(bytes.len() - len + 1);
                bytes.copy_within(from..from + len, at);
            }
            _ => drop(bytes.drain(at..(at + usize::from(low % 16)).min(bytes.len()))),
        }
    }
}

/// Runs `target` on its seeds, their prefixes and mutations.
fn replay(name: &str, target: Target) {
    for (number, (seed, bytes)) in (0_u64..).zip(seeds(name)) {
        let every = if name == "http_write" { SPARING } else { 1 };
        replay_seed(&format!("{name} fails on {seed}"), target, &bytes, number, every);
    }
}

/// Runs `target` on one seed, its prefixes and mutations; a failure names the bytes.
fn replay_seed(failure: &str, target: Target, bytes: &[u8], number: u64, every: u64) {
    let run = |what: &str, bytes: &[u8]| {
        let is_good = std::panic::catch_unwind(|| target(bytes)).is_ok();
        assert!(is_good, "{failure} {what}: b\"{}\"", bytes.escape_ascii());
    };
    run("as it is", bytes);
    for cut in (0..bytes.len().min(CUTS)).step_by(usize::try_from(every).expect("a small number")) {
        run(&format!("cut at {cut}"), &bytes[..cut]);
    }
    for mutation in 0..MUTATIONS / every {
        let mut bytes = bytes.to_vec();
        mutate(&mut bytes, &mut Numbers(number << 32 | mutation));
        run(&format!("in mutation {mutation}"), &bytes);
    }
}

macro_rules! targets {
    ($($test:ident $target:ident),* $(,)?) => {
        $(#[test]
        fn $test() {
            replay(stringify!($target), kymo_fuzz::$target);
        })*

        #[test]
        fn every_target_has_a_test_and_a_fuzzer() {
            let tested = [$(stringify!($target)),*];
            assert_eq!(TARGETS.map(|(name, _)| name), tested);
            for target in tested.into_iter().chain(["canary"]) {
                let fuzzer = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("fuzz_targets/{target}.rs"));
                assert!(fs::read_to_string(fuzzer).unwrap().contains(&format!("kymo_fuzz::{target}(data)")));
            }
        }
    };
}

targets! {
    lines_give_one_verdict_each_however_they_are_cut decode,
    segments_replay_whatever_their_bytes segment,
    segments_with_good_checksums_replay_whatever_their_bytes segment_repaired,
    manifests_that_are_accepted_read_back manifest,
    manifests_with_good_checksums_that_are_accepted_read_back manifest_repaired,
    snapshots_that_verify_can_be_read snapshot,
    snapshots_with_good_checksums_can_be_read snapshot_repaired,
    an_edited_segment_gives_what_was_written_or_nothing replay_mutated,
    query_requests_are_answered_whatever_their_bytes query_json,
    configurations_that_are_accepted_print_and_read_back config,
    what_http_acknowledges_is_read_back_after_a_power_cut http_write,
    a_store_keeps_its_promises_whatever_happens engine_ops,
    records_of_a_predecessors_log_stand_in_it ccms_wal,
    damage_to_a_predecessors_log_costs_what_it_hit ccms_wal_repaired,
    arrays_of_a_predecessors_snapshot_stand_in_it ccms_bin,
    a_whole_snapshot_of_the_predecessor_is_read_exactly ccms_bin_repaired,
    what_is_read_of_a_predecessors_text_is_written_and_read_again ccms_json,
    rows_of_a_predecessors_archive_are_rows_whatever_its_bytes ccms_parquet,
}

#[test]
fn valid_seeds_are_accepted() {
    use kymo_engine::disk::Region;
    use kymo_engine::format::{manifest::Manifest, segment::Segment};
    let segment = samples::segment();
    assert!(Segment::check(&segment.bytes, segment.bytes.len() as u64).is_ok());
    assert_eq!(segment.frames.len(), 4);
    assert!(Manifest::check(&samples::manifest()).is_ok());
    let snapshot = kymo_engine::snapshot::Snapshot::open_unlisted(Region::copy_of(&samples::snapshot())).unwrap();
    assert_eq!((snapshot.host_count(), snapshot.stripe_count()), (2, 6));
    assert!(snapshot.verify().all(|piece| piece.is_ok()));
}

/// A store of which hardly anything is asked keeps its promises: seeds must come to what a fuzzer is to vary.
#[test]
fn seeds_of_scripts_write_commit_compact_ask_and_crash() {
    use arbitrary::{Arbitrary as _, Unstructured};
    use kymo_engine::sim::{Op, Script};
    let kind = |op: &Op| format!("{op:?}").split([' ', '(']).next().map(str::to_owned);
    let mut kinds = std::collections::BTreeSet::new();
    for (seed, bytes) in seeds("engine_ops") {
        let script = Script::arbitrary_take_rest(Unstructured::new(&bytes)).expect("any bytes are a script");
        assert!(script.ops.len() > 20, "{seed} has {} operations", script.ops.len());
        assert!(
            matches!(&script.ops[0], Op::Write(lines) if lines.len() == 8),
            "{seed} begins with {:?}",
            script.ops[0]
        );
        let of_seed: Vec<_> = script.ops.iter().filter_map(kind).collect();
        for wanted in ["Write", "Commit", "Compact", "Query", "Crash"] {
            assert!(of_seed.iter().any(|kind| kind == wanted), "{seed} has no {wanted}: {of_seed:?}");
        }
        kinds.extend(of_seed);
    }
    for wanted in ["CrashAt", "CrashTwice", "CrashThenFail", "Restart", "Fail", "Fill", "Free", "Retain", "Damage"] {
        assert!(kinds.contains(wanted), "no seed has {wanted}: {kinds:?}");
    }
}

#[test]
fn seeds_are_small() {
    let sizes = TARGETS.iter().flat_map(|(target, _)| seeds(target)).map(|(_, bytes)| bytes.len());
    assert!(sizes.sum::<usize>() < 300 << 10);
}

#[test]
fn the_canary_lets_other_bytes_pass() {
    for bytes in [&b""[..], b"kym", b"kyme", b"Kymo"] {
        kymo_fuzz::canary(bytes);
    }
}

#[test]
#[should_panic(expected = "the canary was found")]
fn the_canary_fails_when_it_is_found() {
    kymo_fuzz::canary(b"kymograph");
}

#[test]
#[should_panic(expected = "canary fails on a seed in mutation")]
fn a_replay_finds_the_canary_one_bit_away() {
    replay_seed("canary fails on a seed", kymo_fuzz::canary, b"kymn", 0, 1);
}
