//! The house rules that a compiler does not check: who may use whom, how files are named, and that the engine is linked
//! once. Plain std only, so that it runs in a moment.

// Clippy's exception for tests does not reach the functions that tests share.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};

/// The modules of `src/`, from the ground up. A module may use those of the layers above its own line, and itself; those
/// of one line do not use each other. `error` is the ground that the rest of the ground floor stands on.
const LAYERS: &[&[&str]] = &[
    &["error"],
    &["certificate", "config", "metrics", "shutdown"],
    &["dialect", "lake"],
    &["rollup"],
    &["catalog"],
    &["optimizer", "workload"],
    &["session"],
    &["leaderboard", "maintain", "ingest"],
    &["jobs"],
    &["statement"],
    &["cluster"],
    &["pg", "http", "demo"],
    &["app"],
    &["main"],
];

/// Names that say nothing about what is inside.
const NAMELESS: &[&str] = &["util", "utils", "helper", "helpers", "common", "manager", "misc"];

/// Crates whose types cross our interfaces: two versions of one would be two sets of types.
const ONCE: &[&str] = &["arrow", "datafusion", "datafusion-common", "object_store", "parquet", "pgwire"];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn layer(module: &str) -> Option<usize> {
    LAYERS.iter().position(|modules| modules.contains(&module))
}

/// Every Rust file below a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = vec![];
    let Ok(entries) = fs::read_dir(folder) else { return found };
    for entry in entries {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// The module of `src/` that a file belongs to: `lake` of `src/lake/log.rs`.
fn module_of(file: &Path) -> String {
    let relative = file.strip_prefix(root().join("src")).unwrap();
    let first = relative.components().next().unwrap().as_os_str().to_str().unwrap();
    first.trim_end_matches(".rs").to_owned()
}

/// The modules that a line of code names by `crate::`; in `main.rs` the crate goes by its name. A comment uses nothing.
fn used<'a>(line: &'a str, own_name: Option<&str>) -> Vec<&'a str> {
    let code = line.split("//").next().unwrap_or_default();
    let mut found = vec![];
    for prefix in std::iter::once("crate::").chain(own_name) {
        for (at, _) in code.match_indices(prefix) {
            let before = code[..at].chars().next_back();
            if before.is_some_and(|c| c.is_alphanumeric() || c == '_') {
                continue;
            }
            let rest = &code[at + prefix.len()..];
            let names: Vec<&str> = match rest.strip_prefix('{') {
                Some(list) => list.split('}').next().unwrap_or_default().split(',').map(first_name).collect(),
                None => vec![first_name(rest)],
            };
            found.extend(names);
        }
    }
    found
}

/// The first name of a path.
fn first_name(path: &str) -> &str {
    let path = path.trim_start();
    let end = path.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(path.len());
    &path[..end]
}

#[test]
fn a_module_uses_only_what_stands_above_it() {
    let mut wrong = vec![];
    for file in files(&root().join("src")) {
        let module = module_of(&file);
        if module == "lib" {
            continue;
        }
        let shown = file.strip_prefix(root()).unwrap().display().to_string();
        let Some(mine) = layer(&module) else {
            wrong.push(format!("{shown}: '{module}' has no place in the order of layers"));
            continue;
        };
        let own_name = (module == "main").then_some("toplake::");
        for (number, line) in fs::read_to_string(&file).unwrap().lines().enumerate() {
            for name in used(line, own_name) {
                let Some(theirs) = layer(name) else { continue };
                if name != module && theirs >= mine {
                    wrong.push(format!("{shown}:{}: '{module}' uses '{name}'", number + 1));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "the order of layers is broken:\n{}", wrong.join("\n"));
}

#[test]
fn the_reader_of_use_lines_sees_what_it_should() {
    assert_eq!(used("use crate::lake::log;", None), ["lake"]);
    assert_eq!(used("    let x = crate::session::open(l) + crate::app::y();", None), ["session", "app"]);
    assert_eq!(used("use crate::{error::Error, lake};", None), ["error", "lake"]);
    assert!(used("// see crate::app", None).is_empty() && used("use other_crate::app;", None).is_empty());
    assert_eq!(used("use toplake::app::{Cli, run};", Some("toplake::")), ["app"]);
}

#[test]
fn no_file_has_a_name_that_says_nothing() {
    let folders = ["src", "udfs", "tests", "benches", "examples"];
    let nameless = folders.iter().flat_map(|folder| files(&root().join(folder))).filter(|file| {
        let relative = file.strip_prefix(root()).unwrap();
        relative.components().any(|part| {
            let name = part.as_os_str().to_str().unwrap().trim_end_matches(".rs");
            NAMELESS.contains(&name)
        })
    });
    let nameless: Vec<String> = nameless.map(|file| file.display().to_string()).collect();
    assert!(nameless.is_empty(), "name these after what they do:\n{}", nameless.join("\n"));
}

#[test]
fn the_engine_is_linked_once() {
    let lock = fs::read_to_string(root().join("Cargo.lock")).unwrap();
    let names: Vec<&str> =
        lock.lines().filter_map(|l| l.strip_prefix("name = \"")?.strip_suffix('"')).collect();
    let wrong =
        ONCE.iter().map(|name| (name, names.iter().filter(|n| n == &name).count())).filter(|(_, n)| *n != 1);
    let wrong: Vec<String> = wrong.map(|(name, n)| format!("{name}: {n} versions")).collect();
    assert!(wrong.is_empty(), "Cargo.lock has not exactly one of each:\n{}", wrong.join("\n"));
}
