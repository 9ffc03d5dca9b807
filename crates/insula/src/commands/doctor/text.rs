//! The report for people: groups, aligned columns, and an arrow before what would change a thing.

use super::Report;
use super::finding::{Boundary, Finding, Status, sentence};
use super::virtualisation::kind_name;
use insula_sys::host::kernel;
use std::collections::HashSet;
use std::fmt::Write;

/// How the text is laid out.
pub(super) struct Style {
    colour: bool,
    width: usize,
}

impl Style {
    /// Colours on a terminal, unless NO_COLOR (<https://no-color.org>) or a terminal without any says otherwise; its width within
    /// reason.
    pub(super) fn of_stdout(terminal: bool) -> Style {
        let said_no = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        let columns = rustix::termios::tcgetwinsize(std::io::stdout()).map_or(0, |size| usize::from(size.ws_col));
        let width = if terminal && columns > 0 { columns.clamp(60, 120) } else { 110 };
        Style { colour: terminal && !said_no && !dumb, width }
    }

    #[cfg(test)]
    fn plain(width: usize) -> Style {
        Style { colour: false, width }
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// Columns before the text: status, then subject.
const STATUS: usize = 9;
const SUBJECT: usize = 24;
const INDENT: usize = 2 + STATUS + SUBJECT;
/// Columns before what stands below the first line of a finding.
const BELOW: usize = 2 + STATUS;

/// What has been said under this heading: one cause shows in many places, and its remedy need not be read as often.
type Said<'r> = HashSet<&'r str>;

/// The report as text.
pub(super) fn render(report: &Report, style: &Style) -> String {
    let mut out = head(report, style);
    let mut said = Said::new();
    heading(&mut out, style, "Boundaries");
    for found in &report.boundaries {
        boundary(&mut out, style, found, &mut said);
    }
    let mut group = None;
    for found in &report.findings {
        if group != Some(found.group) {
            heading(&mut out, style, found.group.title());
            group = Some(found.group);
            said.clear();
        }
        finding(&mut out, style, found, &mut said);
    }
    out.push_str(&tail(report));
    out
}

fn head(report: &Report, style: &Style) -> String {
    let kernel = &report.facts.kernel;
    let title = style.paint("1", &format!("insula {} on Linux {} ({})", report.version, kernel.release, kernel.machine));
    let gibibytes = kernel.memory as f64 / (1u64 << 30) as f64;
    let distribution = kernel.distribution.as_deref().unwrap_or("unknown distribution");
    let container = kernel.inside_container.as_ref().map_or_else(String::new, |sign| format!(", inside a container ({sign})"));
    let processors = if kernel.cpus == 1 { "1 processor".to_owned() } else { format!("{} processors", kernel.cpus) };
    format!(
        "{title}\n{distribution}, {processors}, {gibibytes:.1} GiB, {}{container}; host kind: {}\n",
        who(kernel),
        kind_name(report.host_kind)
    )
}

fn who(kernel: &kernel::Facts) -> String {
    match (kernel.uid, kernel.initial_user_namespace) {
        (0, true) => "as root".into(),
        (0, false) => "as root of a user namespace".into(),
        (uid, _) => format!("as user {uid}"),
    }
}

fn heading(out: &mut String, style: &Style, title: &str) {
    let _ = writeln!(out, "\n{}", style.paint("1", title));
}

fn word(status: Status) -> (&'static str, &'static str) {
    match status {
        Status::Ok => ("ok", "32"),
        Status::Limited => ("limited", "33"),
        Status::Missing => ("missing", "31"),
    }
}

fn boundary<'r>(out: &mut String, style: &Style, found: &'r Boundary, said: &mut Said<'r>) {
    let (name, colour) = word(found.status);
    let (name, colour) = if found.in_this_version { (name, colour) } else { ("later", "2") };
    first_line(out, style, (name, colour), found.name, found.what);
    let end = if found.limits.is_empty() { "." } else { ":" };
    paragraph(out, style, "  ", &format!("{}{end}", sentence(&found.why)));
    for limit in &found.limits {
        paragraph(out, style, "  - ", &limit.why);
        remedy(out, style, "    → ", limit.remedy.as_deref(), said);
    }
}

fn finding<'r>(out: &mut String, style: &Style, found: &'r Finding, said: &mut Said<'r>) {
    first_line(out, style, word(found.status), &found.subject, &found.what);
    if let Some(why) = &found.why {
        paragraph(out, style, "  ", why);
    }
    remedy(out, style, "  → ", found.remedy.as_deref(), said);
}

fn remedy<'r>(out: &mut String, style: &Style, mark: &str, remedy: Option<&'r str>, said: &mut Said<'r>) {
    if let Some(remedy) = remedy {
        let again = remedy.len() > "As above.".len() && !said.insert(remedy);
        paragraph(out, style, mark, if again { "As above." } else { remedy });
    }
}

/// `  status   subject   what`, where a long subject pushes what to the next line.
fn first_line(out: &mut String, style: &Style, (status, colour): (&str, &str), subject: &str, what: &str) {
    let padding = " ".repeat(STATUS.saturating_sub(status.len()));
    let _ = write!(out, "  {}{padding}", style.paint(colour, status));
    let length = subject.chars().count();
    if length < SUBJECT {
        let _ = write!(out, "{subject}{}", " ".repeat(SUBJECT - length));
    } else {
        let _ = write!(out, "{subject}\n{}", " ".repeat(INDENT));
    }
    for (index, line) in wrap(what, style.width.saturating_sub(INDENT)).iter().enumerate() {
        let margin = if index == 0 { 0 } else { INDENT };
        let _ = writeln!(out, "{}{line}", " ".repeat(margin));
    }
}

/// Wrapped text below a finding's first line, its own first line after `mark`.
fn paragraph(out: &mut String, style: &Style, mark: &str, text: &str) {
    let hang = mark.chars().count();
    for (index, line) in wrap(text, style.width.saturating_sub(BELOW + hang)).iter().enumerate() {
        let lead = if index == 0 { mark.to_owned() } else { " ".repeat(hang) };
        let line = if mark.contains('→') { style.paint("36", line) } else { line.clone() };
        let _ = writeln!(out, "{}{lead}{line}", " ".repeat(BELOW));
    }
}

/// Breaks text at blanks into lines of at most `width` characters; a longer word gets a line of its own. Never empty.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let Some(line) = lines.last_mut() else { break };
        if line.is_empty() {
            line.push_str(word);
        } else if line.chars().count() + 1 + word.chars().count() <= width {
            line.push(' ');
            line.push_str(word);
        } else {
            lines.push(word.to_owned());
        }
    }
    lines
}

fn tail(report: &Report) -> String {
    let count = |status| report.findings.iter().filter(|finding| finding.status == status).count();
    let container = report.boundaries.iter().find(|boundary| boundary.name == "container").map_or("", |found| found.why.as_str());
    format!(
        "\nThe container boundary: {container}.\nOf {} findings {} are fine, {} limited, {} missing.\n",
        report.findings.len(),
        count(Status::Ok),
        count(Status::Limited),
        count(Status::Missing)
    )
}

#[cfg(test)]
mod tests {
    use super::super::finding::Group;
    use super::*;

    #[test]
    fn text_is_wrapped_at_blanks() {
        assert_eq!(wrap("one two three", 7), ["one two", "three"]);
        assert_eq!(wrap("incomprehensibilities are long", 6), ["incomprehensibilities", "are", "long"]);
        assert_eq!(wrap("", 6), [""]);
    }

    #[test]
    fn columns_stand_below_each_other() {
        let mut out = String::new();
        let found = Finding::missing(Group::Devices, "/dev/x", "what it is for").why("It is gone.").remedy("Bring it back.");
        finding(&mut out, &Style::plain(60), &found, &mut Said::new());
        let margin = " ".repeat(BELOW);
        let first = format!("  missing  {:<SUBJECT$}what it is for\n", "/dev/x");
        assert_eq!(out, format!("{first}{margin}  It is gone.\n{margin}  → Bring it back.\n"));
    }

    #[test]
    fn a_remedy_is_said_once() {
        let (mut out, mut said) = (String::new(), Said::new());
        for _ in 0..2 {
            remedy(&mut out, &Style::plain(80), "→ ", Some("Do this and that."), &mut said);
        }
        assert_eq!(out.matches("Do this and that.").count(), 1);
        assert!(out.ends_with("→ As above.\n"));
    }

    #[test]
    fn colour_is_only_put_in_when_wanted() {
        let style = Style { colour: true, width: 80 };
        assert_eq!(style.paint("32", "ok"), "\x1b[32mok\x1b[0m");
        assert_eq!(Style::plain(80).paint("32", "ok"), "ok");
    }
}
