//! Whether the tests of defences miss them: each is run against a program without its defence, and has to fail.
//!
//! Which they are says a table of `docs/security.md`, of classes of attacks that have been known. The program is a debug build with the feature
//! `weakened`, in which a variable names the one defence it goes without (`insula_sys::defence`).

use anyhow::{Context, Result, bail, ensure};
use std::process::{Command, Output};

/// Show that tests of defences fail where their defence is missing (on this host, as root).
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only the defences whose name contains this.
    filter: Option<String>,
}

const TABLE: &str = "docs/security.md";
const BEGIN: &str = "<!-- escapes -->";
const END: &str = "<!-- end of escapes -->";
const BUILT: &str = "target/x86_64-unknown-linux-gnu/debug/insula";
const WEAKENED: &str = "target/weakened-insula";

/// A row of the table: a test, and what it is to miss.
#[derive(Debug, PartialEq, Eq)]
struct Row {
    test: String,
    defence: String,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    ensure!(rustix::process::geteuid().is_root(), "the tests make containers, which needs root");
    let text = std::fs::read_to_string(TABLE).with_context(|| format!("read {TABLE} (run this in the project's directory)"))?;
    let mut rows = rows(&text)?;
    rows.retain(|row| args.filter.as_ref().is_none_or(|filter| row.defence.contains(filter.as_str())));
    ensure!(!rows.is_empty(), "no such defence in {TABLE}");
    build()?;
    let mut unmissed = Vec::new();
    for row in &rows {
        // With all its defences, the same program passes: then it is the missing one that a failure comes from.
        let whole = test(row, "none")?;
        ensure!(ran_one(&whole) && whole.status.success(), "{} fails with every defence there:\n{}", row.test, said(&whole));
        let weakened = test(row, &row.defence)?;
        ensure!(ran_one(&weakened), "{} of {TABLE} isn't a test:\n{}", row.test, said(&weakened));
        let missed = !weakened.status.success();
        println!("{:<26} {:<50} {}", row.defence, row.test, if missed { "is missed" } else { "IS NOT MISSED" });
        if !missed {
            unmissed.push(row.defence.as_str());
        }
    }
    ensure!(unmissed.is_empty(), "tests that pass without the defence they are for: {}", unmissed.join(", "));
    println!("{} defences, each missed by its test", rows.len());
    Ok(())
}

/// Makes the program; what cargo names as the program afterwards is the whole one again.
fn build() -> Result<()> {
    cargo(&["build", "--package", "insula", "--features", "weakened"])?;
    std::fs::copy(BUILT, WEAKENED).with_context(|| format!("copy {BUILT}"))?;
    cargo(&["test", "--package", "insula", "--test", "hostile", "--no-run"])
}

fn cargo(args: &[&str]) -> Result<()> {
    let status = Command::new("cargo").args(args).status().context("start cargo")?;
    ensure!(status.success(), "cargo {}: {status}", args.join(" "));
    Ok(())
}

/// Runs one test against the program without a defence.
fn test(row: &Row, without: &str) -> Result<Output> {
    let program = std::fs::canonicalize(WEAKENED).with_context(|| format!("find {WEAKENED}"))?;
    let mut command = Command::new("cargo");
    command.args(["test", "--quiet", "--package", "insula", "--test", "hostile", "--", "--exact", &row.test]);
    command.env("INSULA_PROGRAM", program).env("INSULA_WEAKENED", without).env("RUST_BACKTRACE", "0");
    command.output().context("start cargo")
}

fn ran_one(output: &Output) -> bool {
    said(output).contains("running 1 test")
}

fn said(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    text(&output.stdout) + &text(&output.stderr)
}

/// The rows between two marks; the last two columns are test and defence, as code.
fn rows(text: &str) -> Result<Vec<Row>> {
    let table = text.split_once(BEGIN).and_then(|(_, rest)| rest.split_once(END)).map(|(table, _)| table);
    let Some(table) = table else { bail!("{TABLE} has no table between {BEGIN} and {END}") };
    let row = |line: &str| {
        let mut columns = line.trim().trim_end_matches('|').rsplit('|').map(str::trim);
        let mut code = || columns.next()?.strip_prefix('`')?.strip_suffix('`').map(str::to_owned);
        let (defence, test) = (code()?, code()?);
        Some(Row { test, defence })
    };
    Ok(table.lines().filter_map(row).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn the_table_is_read_and_names_what_there_is() {
        let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let read = |path: &str| std::fs::read_to_string(top.join(path)).unwrap();
        let rows = rows(&read(TABLE)).unwrap();
        assert!(rows.len() > 20, "{}", rows.len());
        for Row { test, defence } in rows {
            let (file, name) = match test.split_once("::") {
                Some((module, name)) => (format!("tests/robustness/{module}.rs"), name.to_owned()),
                None => ("tests/hostile.rs".to_owned(), test.clone()),
            };
            assert!(read(&file).contains(&format!("fn {name}(")), "{test}");
            assert!(asked_in(&top.join("crates"), &format!("defence::stands(\"{defence}\")")), "{defence}");
        }
    }

    fn asked_in(dir: &Path, text: &str) -> bool {
        std::fs::read_dir(dir).unwrap().flatten().any(|entry| {
            let path = entry.path();
            let source = path.extension().is_some_and(|extension| extension == "rs");
            if path.is_dir() { asked_in(&path, text) } else { source && std::fs::read_to_string(&path).unwrap().contains(text) }
        })
    }
}
