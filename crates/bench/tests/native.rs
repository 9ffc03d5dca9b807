//! A whole run with the real workload, on the platforms that are always there.

use insula_bench::{Error, Options, Report, report};

fn options(rows: &[&str]) -> Options {
    Options {
        rows: rows.iter().map(|&row| row.to_owned()).collect(),
        runs: Some(2),
        seed: Some(1),
        quick: true,
        ..Options::default()
    }
}

fn run(options: &Options) -> Report {
    insula_bench::run(options).expect("plain processes can be measured")
}

#[test]
fn a_run_measures_reports_and_leaves_nothing() {
    let volume = tempfile::tempdir().expect("a directory");
    let rows = ["start.plain", "start.memory", "sys.getppid", "volume.files"];
    let platforms = vec!["docker".to_owned(), "youki".to_owned()];
    let report = run(&Options { platforms, volume: Some(volume.path().to_owned()), ..options(&rows) });
    assert_eq!(volume.path().read_dir().expect("it can be read").count(), 0, "files are left behind");

    assert_eq!(report.rows.iter().map(|row| row.row.name).collect::<Vec<_>>(), rows);
    for row in &report.rows {
        let native = row.native().and_then(|cell| cell.summary).expect("native is measured");
        assert!(native.median > 0.0 && native.n >= 2 && row.floor.is_some_and(|floor| floor >= 1.0), "{row:?}");
    }
    // What was asked for is there, or its absence is explained.
    for name in ["docker", "youki"] {
        let measured = report.platforms.iter().any(|platform| platform.name == name);
        let excused = report.absent.iter().any(|missing| missing.name == name && !missing.reason.is_empty());
        assert!(measured != excused, "{name}");
    }
    shown(&report, &rows);
}

fn shown(report: &Report, rows: &[&str]) {
    let json: serde_json::Value = serde_json::from_str(&report.json().expect("JSON")).expect("JSON again");
    assert_eq!((&json["seed"], json["rows"].as_array().map(Vec::len)), (&1.into(), Some(rows.len())));
    assert!(json["rows"][0]["cells"][0]["samples"].as_array().is_some_and(|samples| samples.len() >= 2));
    let (table, page) = (report::table::render(report), report::html::render(report));
    for text in rows.iter().copied().chain(report.absent.iter().map(|missing| missing.reason.as_str())) {
        assert!(table.contains(text), "{text} is not in the table:\n{table}");
    }
    assert!(rows.iter().all(|row| page.contains(row)) && page.ends_with("</html>"));
    for outside in ["http:", "https:", "src=", "href=", "url(", "@import", "<script"] {
        assert!(!page.contains(outside), "the page refers to something outside: {outside}");
    }
}

#[test]
fn what_does_not_exist_is_named() {
    assert!(matches!(insula_bench::run(&options(&["gpu.*"])), Err(Error::NoRow(row)) if row == "gpu.*"));
    let unknown = Options { platforms: vec!["vax".into()], ..options(&[]) };
    assert!(matches!(insula_bench::run(&unknown), Err(Error::NoPlatform { name, .. }) if name == "vax"));
    let nowhere = Options { volume: Some("/no/such/dir".into()), ..options(&["sys.getppid"]) };
    assert!(matches!(insula_bench::run(&nowhere), Err(Error::File { .. })));
}
