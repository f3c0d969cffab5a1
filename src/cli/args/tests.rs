//! The predecessor's unit files and scripts call the binary with Go flags; each form must mean the same here.

use std::os::unix::ffi::OsStrExt as _;

use proptest::prelude::*;

use super::*;

fn parse_line(line: &str) -> Result<Command, clap::Error> {
    parse(std::iter::once("kymo").chain(line.split_whitespace()).map(OsString::from))
}

fn serve(line: &str) -> Serve {
    match parse_line(line) {
        Ok(Command::Serve(serve)) => serve,
        other => panic!("{line}: {other:?}"),
    }
}

#[test]
fn the_grammar_is_sound() {
    Cli::command().debug_assert();
}

#[test]
fn without_a_command_kymo_serves() {
    assert_eq!(serve(""), Serve::default());
    assert_eq!(serve("serve"), Serve::default());
}

#[test]
fn go_flags_mean_the_same_with_one_dash_or_two() {
    let expected =
        Serve { config: Some("a.json".into()), log_level: LogLevel::Info, log_date: true, ..Serve::default() };
    for line in [
        "-config a.json -loglevel info -logdate",
        "--config a.json --loglevel info --logdate",
        "-config=a.json -loglevel=info -logdate=true",
        "--config=a.json -loglevel=info --logdate=1",
        "serve -config a.json -loglevel info -logdate=T",
    ] {
        assert_eq!(serve(line), expected, "{line}");
    }
    assert!(!serve("-logdate=false").log_date);
    assert_eq!(parse_line("-logdate=maybe").unwrap_err().exit_code(), 2);
    assert_eq!(serve("-config -x").config, Some("-x".into()));
    assert_eq!(parse_line("-config").unwrap_err().exit_code(), 2);
}

#[test]
fn own_flags_are_read() {
    let expected = Serve { demo: true, io: Some(IoKind::Posix), ..Serve::default() };
    assert_eq!(serve("serve --demo --ignore-unsupported --io posix"), expected);
    assert_eq!(serve("-demo -ignore-unsupported -io=posix"), expected);
    assert_eq!(parse_line("--io floppy").unwrap_err().exit_code(), 2);
    assert_eq!(parse_line("--demo --config a.json").unwrap_err().exit_code(), 2);
}

#[test]
fn log_levels_are_those_of_the_predecessor() {
    for (name, level) in [
        ("debug", LogLevel::Debug),
        ("info", LogLevel::Info),
        ("warn", LogLevel::Warn),
        ("err", LogLevel::Err),
        ("fatal", LogLevel::Err),
        ("crit", LogLevel::Crit),
    ] {
        assert_eq!(serve(&format!("-loglevel {name}")), Serve { log_level: level, ..Serve::default() });
    }
    let unknown = serve("-loglevel loud");
    assert_eq!(unknown.log_level, LogLevel::Debug);
    assert!(unknown.warnings[0].contains("loud"));
}

#[test]
fn flags_without_effect_are_accepted_with_a_warning() {
    let dev = serve("-dev -gops=true");
    assert_eq!(dev.warnings.len(), 2);
    assert!(dev.warnings[1].contains("--gops"));
    assert!(serve("-dev=false").warnings.is_empty());
}

#[test]
fn cleanup_checkpoints_is_the_command_cleanup() {
    let expected = parse_line("cleanup --config c.json").unwrap();
    assert_eq!(parse_line("-cleanup-checkpoints -config c.json").unwrap(), expected);
    assert!(matches!(expected, Command::Cleanup { due: Due::Retention, .. }), "{expected:?}");
}

#[test]
fn days_are_archived_before_a_date() {
    let Command::Cleanup { due, json: true, .. } = parse_line("archive --before 2026-11-22 --json").unwrap() else {
        panic!()
    };
    assert_eq!(due, Due::Before(20_779 * 86_400));
    for wrong in ["archive", "archive --before yesterday", "archive --before 2026-02-30", "archive --before 2026-1-1"] {
        assert_eq!(parse_line(wrong).unwrap_err().exit_code(), 2, "{wrong}");
    }
}

#[test]
fn version_has_three_lines_with_tabs() {
    for line in ["-version", "--version", "-V", "serve --version", "-config a.json -version"] {
        assert_eq!(parse_line(line).unwrap(), Command::Version, "{line}");
    }
    let text = version();
    let names: Vec<&str> = text.lines().map(|line| line.split_once('\t').unwrap().0).collect();
    assert_eq!(names, ["Version:", "Git hash:", "Build time:"]);
}

#[test]
fn commands_have_their_own_arguments() {
    let check = Command::CheckConfig { file: "a.json".into() };
    assert_eq!(parse_line("check-config a.json").unwrap(), check);
    assert_eq!(parse_line("check-config a.json --ignore-unsupported").unwrap(), check);
    let salvage = |confirmed| Command::Salvage { directory: "./dir".into(), confirmed };
    assert_eq!(parse_line("salvage ./dir").unwrap(), salvage(false));
    assert_eq!(parse_line("salvage ./dir --yes").unwrap(), salvage(true));
    for line in ["check-config", "salvage", "explode", "--explode", "-x", "serve extra", "check-config -config a.json"]
    {
        assert_eq!(parse_line(line).unwrap_err().exit_code(), 2, "{line}");
    }
}

#[test]
fn tools_have_their_own_arguments() {
    let inspect = |form| Command::Inspect { file: "a.snap".into(), form };
    assert_eq!(parse_line("inspect a.snap").unwrap(), inspect(InspectForm::Text));
    assert_eq!(parse_line("inspect --json a.snap").unwrap(), inspect(InspectForm::Json));
    assert_eq!(parse_line("inspect a.snap --csv").unwrap(), inspect(InspectForm::Csv));
    let verify = |config: Option<&str>, json, pace| {
        let config = config.map(Into::into);
        Command::Verify { directory: "./dir".into(), config, json, pace }
    };
    assert_eq!(parse_line("verify ./dir").unwrap(), verify(None, false, None));
    assert_eq!(parse_line("verify ./dir --json --pace 1000").unwrap(), verify(None, true, Some(1000)));
    assert_eq!(parse_line("verify ./dir --config c").unwrap(), verify(Some("c"), false, None));
    let backup = |config: Option<&str>| {
        let config = config.map(Into::into);
        Command::Backup { directory: "a".into(), destination: "b".into(), config, json: false }
    };
    assert_eq!(parse_line("backup a b").unwrap(), backup(None));
    assert_eq!(parse_line("backup a b --config c").unwrap(), backup(Some("c")));
    let shape = Shape { f32_share: 0.25, ..Shape::new(10, 20, 60, 7200) };
    let line = "estimate --hosts 10 --series 20 --interval 60 --retention 2h --f32-share 0.25 --json";
    assert_eq!(parse_line(line).unwrap(), Command::Estimate { shape, json: true });
    let import = |from: &[&str]| {
        let from = from.iter().map(Into::into).collect();
        Command::Import { from, config: None, json: false }
    };
    assert_eq!(parse_line("import --from a").unwrap(), import(&["a"]));
    assert_eq!(parse_line("import --from a --from b").unwrap(), import(&["a", "b"]));
    for line in
        ["import", "inspect", "inspect a --json --csv", "verify", "verify a --pace 0", "backup a", "estimate --hosts 1"]
    {
        assert_eq!(parse_line(line).unwrap_err().exit_code(), 2, "{line}");
    }
}

#[test]
fn an_unknown_flag_is_named_whole() {
    for line in ["-frobnicate", "--frobnicate", "-frobnicate=1"] {
        let error = parse_line(line).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        assert!(error.to_string().contains("'--frobnicate'"), "{error}");
    }
}

#[test]
fn help_teaches_and_ends_well() {
    for line in ["--help", "-h", "-help", "serve --help", "help", "salvage --help"] {
        let help = parse_line(line).unwrap_err();
        assert_eq!(help.exit_code(), 0, "{line}");
    }
    let help = parse_line("--help").unwrap_err().to_string();
    for text in ["check-config config.json", "Exit codes:", "another process", "--config <FILE>", "cc-metric-store"] {
        assert!(help.contains(text), "{text} in {help}");
    }
}

#[test]
fn a_path_that_is_no_text_is_kept() {
    let path = std::ffi::OsStr::from_bytes(b"-config=/a\xff.json");
    match parse([OsString::from("kymo"), path.to_owned()].into_iter()).unwrap() {
        Command::Serve(serve) => assert_eq!(serve.config.unwrap().as_os_str().as_bytes(), b"/a\xff.json"),
        other => panic!("{other:?}"),
    }
}

fn argument() -> impl Strategy<Value = Vec<u8>> {
    let flag = "-{0,3}[a-z]{0,9}=?[a-z]{0,3}".prop_map(String::into_bytes);
    let known =
        prop::sample::select(vec!["serve", "salvage", "-config", "--demo", "-logdate=", "--io=posix", "--", "-"]);
    prop_oneof![prop::collection::vec(any::<u8>(), 0..12), flag, known.prop_map(|word| word.as_bytes().to_vec())]
}

proptest! {
    #[test]
    fn any_arguments_are_a_command_or_an_error(args in prop::collection::vec(argument(), 0..6)) {
        drop(parse(args.into_iter().map(OsString::from_vec)));
    }
}
