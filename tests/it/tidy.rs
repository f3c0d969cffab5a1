//! The rules of the house that no compiler checks: which module may know which, that `docs/format.md` names every field,
//! and that nothing is left for later.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
const GROUND_FLOOR: [&str; 9] = ["model", "names", "slot", "format", "disk", "env", "paths", "error", "canary"];
const STAGES: [&str; 4] = ["decode", "head", "wal", "snapshot"];

#[test]
fn stages_know_the_ground_floor_and_not_each_other() {
    for stage in STAGES {
        assert_knows_only(stage, &GROUND_FLOOR);
    }
}

#[test]
fn the_predecessors_formats_know_the_disk_alone() {
    assert_knows_only("ccms", &["disk"]);
}

#[test]
fn queries_know_values_and_slots_alone() {
    // And how to be broken on purpose, which is nothing outside of tests.
    assert_knows_only("query", &["model", "slot", "canary"]);
}

#[test]
fn the_ground_floor_knows_no_stage() {
    for module in GROUND_FLOOR {
        assert_knows_only(module, &GROUND_FLOOR);
    }
}

#[test]
fn the_description_of_the_format_names_every_field() {
    let description = fs::read_to_string(Path::new(ROOT).join("docs/format.md")).expect("docs/format.md is there");
    let mut fields = Vec::new();
    for path in module_files("format") {
        fields.extend(layout_fields(&fs::read_to_string(&path).expect("a source file")));
    }
    assert!(fields.len() > 10, "hardly any field was found: {fields:?}");
    let missing: Vec<_> = fields.iter().filter(|field| !description.contains(&format!("`{field}`"))).collect();
    assert!(missing.is_empty(), "docs/format.md does not name {missing:?}");
}

#[test]
fn nothing_is_left_for_later() {
    // Put together here, so that this file does not contain them.
    let words =
        [concat!("FIX", "ME"), concat!("XX", "X"), concat!("HA", "CK"), concat!("to", "do!"), concat!("#[ign", "ore")];
    let mut found = Vec::new();
    for directory in ["src", "engine", "tests", "benches", "fuzz"] {
        for path in rust_files(&Path::new(ROOT).join(directory)) {
            let source = fs::read_to_string(&path).expect("a source file");
            for (index, line) in source.lines().enumerate() {
                if words.iter().any(|word| line.contains(word)) {
                    found.push(format!("{}:{}: {}", path.display(), index + 1, line.trim()));
                }
            }
        }
    }
    assert!(found.is_empty(), "left for later:\n{}", found.join("\n"));
}

/// Fails if a file of `module` names a top-level module of the engine beside itself and `allowed`.
fn assert_knows_only(module: &str, allowed: &[&str]) {
    let known: BTreeSet<String> = top_level_modules();
    for path in module_files(module) {
        let source = fs::read_to_string(&path).expect("a source file");
        for name in crate_paths(&source, depth(&path)) {
            let forbidden = known.contains(&name) && name != module && !allowed.contains(&&*name);
            assert!(!forbidden, "{}: `{module}` must not know `{name}`", path.display());
        }
    }
}

fn engine() -> PathBuf {
    Path::new(ROOT).join("engine/src")
}

fn top_level_modules() -> BTreeSet<String> {
    let entries = fs::read_dir(engine()).expect("the engine is there").map_while(Result::ok);
    entries.filter_map(|entry| Some(entry.path().file_stem()?.to_str()?.to_owned())).collect()
}

/// The files of a top-level module of the engine; none while it does not exist.
fn module_files(module: &str) -> Vec<PathBuf> {
    let mut files = rust_files(&engine().join(module));
    files.extend(Some(engine().join(module).with_extension("rs")).filter(|path| path.is_file()));
    files
}

fn rust_files(directory: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).into_iter().flatten().map_while(Result::ok) {
        let path = entry.path();
        if path.is_dir() {
            if path.file_name().is_some_and(|name| name != "target") {
                files.extend(rust_files(&path));
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}

/// How many `super::` lead from a file of the engine to the root of the crate.
fn depth(path: &Path) -> usize {
    let inside = path.strip_prefix(engine()).unwrap_or(path);
    let folders = inside.components().count() - 1;
    if inside.ends_with("mod.rs") { folders } else { folders + 1 }
}

/// The names right behind the root of the crate, in paths that start with `crate::` or climb up to it. Comments may
/// speak of anything.
fn crate_paths(source: &str, depth: usize) -> Vec<String> {
    let code: Vec<&str> = source.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
    let code = code.join("\n");
    let mut names = Vec::new();
    for root in ["crate::".to_owned(), "super::".repeat(depth)] {
        for (at, _) in code.match_indices(&root) {
            let before = code[..at].chars().next_back();
            if before.is_none_or(|character| !character.is_alphanumeric() && character != '_' && character != ':') {
                names.extend(first_names(&code[at + root.len()..]));
            }
        }
    }
    names
}

/// The first name of a path, or of each path of a group: `a::b` gives `a`, `{a::{b, c}, d}` gives `a` and `d`.
fn first_names(path: &str) -> Vec<String> {
    let name = |text: &str| {
        let end = text.find(|character: char| !character.is_alphanumeric() && character != '_').unwrap_or(text.len());
        text[..end].to_owned()
    };
    let Some(group) = path.strip_prefix('{') else { return vec![name(path)] };
    let mut names = Vec::new();
    let mut level = 0_usize;
    let mut start = 0;
    for (at, character) in group.char_indices() {
        match character {
            '{' => level += 1,
            '}' if level > 0 => level -= 1,
            '}' | ',' if level == 0 => {
                names.push(name(group[start..at].trim()));
                start = at + 1;
                if character == '}' {
                    break;
                }
            }
            _ => {}
        }
    }
    names
}

/// The fields of the structs of a source file whose layout is fixed.
fn layout_fields(source: &str) -> Vec<String> {
    let mut fields = Vec::new();
    let mut fixed = false;
    let mut inside = false;
    for line in source.lines().map(str::trim) {
        let public = ["pub(crate) ", "pub(super) ", "pub "].iter().find_map(|prefix| line.strip_prefix(prefix));
        let item = public.unwrap_or(line);
        if line.starts_with("#[repr(C") {
            fixed = true;
        } else if item.starts_with("struct ") {
            inside = fixed && line.ends_with('{');
            fixed = false;
        } else if inside && line == "}" {
            inside = false;
        } else if inside
            && let Some((field, _)) = item.split_once(':')
            && field.chars().all(|character| character.is_alphanumeric() || character == '_')
        {
            fields.push(field.to_owned());
        }
    }
    fields
}

#[test]
fn paths_to_the_root_are_found_however_they_are_written() {
    let source = "use crate::{wal::{A, B}, model, slot::S};\n// crate::head\nfn f() { super::super::disk::open(); }";
    assert_eq!(crate_paths(source, 2), ["wal", "model", "slot", "disk"]);
}

#[test]
fn fields_of_fixed_layouts_are_found() {
    let source = "#[repr(C)]\npub struct A {\n    /// One: two.\n    pub one: U32,\n    two: [u8; 4],\n}\nstruct B {\n    c: u8,\n}";
    assert_eq!(layout_fields(source), ["one", "two"]);
}
