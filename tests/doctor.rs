//! `insula doctor` as a user meets it: the built program, its text, its JSON, its exit code, and what it leaves behind (nothing).

use serde_json::Value;
use std::collections::BTreeSet;
use std::process::{Command, Output};

const BOUNDARIES: [&str; 6] = ["native", "container", "system", "sentry", "microvm", "unikernel"];
const STATUSES: [&str; 3] = ["ok", "limited", "missing"];

fn doctor(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_insula")).arg("doctor").args(arguments).output().expect("the program starts")
}

/// As an ordinary user, if we are root and can become one. The program is copied to where that user may reach it.
fn doctor_as_nobody(arguments: &[&str]) -> Option<Output> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let place = tempfile::tempdir().expect("a temporary directory");
    let program = place.path().join("insula");
    std::fs::copy(env!("CARGO_BIN_EXE_insula"), &program).expect("a copy of the program");
    let mode = |path: &std::path::Path| {
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).expect("permissions");
    };
    mode(place.path());
    mode(&program);
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--"]).arg(&program).arg("doctor").args(arguments);
    Some(command.output().expect("setpriv(1), of util-linux"))
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("not JSON ({error}): {output:?}"))
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// What holds for every report, whoever asked and wherever.
fn check(output: &Output) -> Value {
    let report = json(output);
    let boundaries = report["boundaries"].as_array().expect("boundaries");
    let names: Vec<&str> = boundaries.iter().map(|boundary| text(&boundary["name"])).collect();
    assert_eq!(names, BOUNDARIES);
    let findings = report["findings"].as_array().expect("findings");
    for entry in boundaries.iter().chain(findings) {
        assert!(STATUSES.contains(&text(&entry["status"])), "{entry}");
        assert!(!text(&entry["what"]).is_empty(), "{entry}");
    }
    let mut seen = BTreeSet::new();
    for finding in findings {
        assert!(seen.insert((text(&finding["group"]), text(&finding["subject"]))), "said twice: {finding}");
        if finding["status"] != "ok" {
            assert!(finding["why"].is_string() || finding["remedy"].is_string(), "a problem without a word: {finding}");
        }
    }
    let container_works = boundaries[1]["status"] != "missing";
    assert_eq!(output.status.code(), Some(if container_works { 0 } else { 1 }), "the exit code is about the container boundary");
    report
}

#[test]
fn the_report_holds_together() {
    let report = check(&doctor(&["--format", "json"]));
    assert_eq!(report["boundaries"][0]["status"], "ok", "native always works");
    assert_eq!(report["facts"]["kernel"]["uid"], rustix::process::geteuid().as_raw());
    let kinds = ["hardware-kvm", "kvm-without-access", "kvm-pvm", "no-kvm"];
    assert!(kinds.contains(&text(&report["host_kind"])), "{}", report["host_kind"]);
}

#[test]
fn the_sentry_is_in_this_version_where_programs_can_be_traced() {
    let report = check(&doctor(&["--format", "json"]));
    let sentry = &report["boundaries"][3];
    assert_eq!(sentry["in_this_version"], true, "{sentry}");
    let works = |fact: &Value| fact["works"].as_bool().or_else(|| fact.as_str().map(|word| word == "works"));
    let (trace, container) = (&report["facts"]["process"]["ptrace_child"], &report["facts"]["rehearsal"]["container"]);
    if let (Some(trace), Some(container)) = (works(trace), works(container)) {
        assert!(sentry["status"] != "ok" || (trace && container), "{sentry}");
    }
    assert!(sentry["status"] != "ok" || text(&sentry["why"]).contains("ptrace"), "{sentry}");
}

#[test]
fn a_plain_user_gets_a_report_of_their_own() {
    let Some(output) = doctor_as_nobody(&["--format", "json"]) else { return };
    let report = check(&output);
    assert_eq!(report["facts"]["kernel"]["uid"], 65534);
    assert_eq!(report["facts"]["rehearsal"]["in_user_namespace"], true);
    assert_eq!(report["facts"]["privileges"]["effective"], serde_json::json!([]));
    // A node that only root may open never promises guests to others.
    if report["facts"]["kvm"]["device"]["state"] == "refused" {
        assert_ne!(report["host_kind"], "hardware-kvm");
    }
}

#[test]
fn a_virtual_machine_is_only_promised_where_guests_run_on_the_processor() {
    let report = check(&doctor(&["--format", "json"]));
    let guest = &report["facts"]["kvm"]["guest"];
    if let Some(time) = guest["nanoseconds_per_instruction"].as_f64() {
        let interpreted = time > 50.0 || report["facts"]["kvm"]["cpu_flag"].is_null();
        assert_eq!(report["host_kind"] == "kvm-pvm", interpreted);
    }
    if report["host_kind"] != "hardware-kvm" {
        assert_eq!(report["boundaries"][5]["status"], "missing", "a unikernel needs a processor that runs guests");
    }
}

#[test]
fn the_text_is_for_people() {
    for output in [Some(doctor(&[])), doctor_as_nobody(&[])].into_iter().flatten() {
        let printed = String::from_utf8(output.stdout).expect("UTF-8");
        assert!(!printed.contains('\x1b'), "no colours into a pipe");
        for boundary in BOUNDARIES {
            assert!(printed.contains(&format!(" {boundary} ")), "{boundary} is missing:\n{printed}");
        }
        // A path is never broken, so a line with one may be longer.
        let long = printed.lines().find(|line| line.chars().count() > 120 && !line.contains('/'));
        assert_eq!(long, None, "a line is too long");
        assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn nothing_is_left_behind() {
    let mounts = || std::fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
    let name = || std::fs::read_to_string("/proc/sys/kernel/hostname").expect("a host name");
    let before = (mounts(), name());
    doctor(&[]);
    assert_eq!((mounts(), name()), before);
}

#[test]
fn help_explains_the_exit_status() {
    let help = String::from_utf8(doctor(&["--help"]).stdout).expect("UTF-8");
    assert!(help.contains("Exit status:") && help.contains("Examples:"), "{help}");
}

#[test]
fn an_unknown_format_is_refused() {
    assert_eq!(doctor(&["--format", "yaml"]).status.code(), Some(2));
}
