//! The report as one page: HTML with its style and its plots in it, and no reference to anything outside.
//!
//! From what one wants to know first to what one looks up last: a card for each platform, the mean costs, the plots of each section,
//! what is missing and why, every figure as a table, the machine, and how it was measured.

use super::plot::{self, Scale};
use super::{Cell, Ratio, Report, RowReport, number, times};
use crate::Error;
use crate::platform::{AGAIN, NATIVE};
use crate::rows::{self, Section};
use crate::stats::Verdict;
use std::fmt::{self, Write as _};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use tempfile::NamedTempFile;

const STYLE: &str = include_str!("style.css");
const METHOD: &str = include_str!("method.html");

/// A page that is going to be written.
pub struct Page {
    file: NamedTempFile,
    path: PathBuf,
}

impl Page {
    /// Prepares a page at `path`, so that whether it can be written is known early. What stands there stays until [`Page::write`].
    ///
    /// # Errors
    /// When the directory of `path` can't be written.
    pub fn at(path: &Path) -> Result<Page, Error> {
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        if !parent.is_dir() {
            return Err(Error::file("write into", parent)(std::io::Error::other("there is no such directory")));
        }
        let mut builder = tempfile::Builder::new();
        // As any file a program writes, and not for the owner's eyes only: the user's mask takes away what it shall not be.
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
        let file = builder.tempfile_in(parent).map_err(Error::file("create a file in", parent))?;
        Ok(Page { file, path: path.to_owned() })
    }

    /// Writes the page, in the place of what stood there.
    ///
    /// # Errors
    /// When the file can't be written or put in its place.
    pub fn write(mut self, report: &Report) -> Result<(), Error> {
        self.file.write_all(render(report).as_bytes()).map_err(Error::file("write", &self.path))?;
        self.file.persist(&self.path).map_err(|error| Error::file("write", &self.path)(error.error))?;
        Ok(())
    }
}

/// The page.
pub fn render(report: &Report) -> String {
    let mut page = String::new();
    // Writing into a string does not fail.
    let _ = write(report, &mut page);
    page
}

fn write(report: &Report, page: &mut String) -> fmt::Result {
    let title = "What isolation costs on this machine";
    write!(page, "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">")?;
    write!(page, "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"><title>{title}</title>")?;
    write!(page, "<style>{STYLE}</style></head><body><main><header><p class=\"brand\">insula bench</p><h1>{title}</h1>")?;
    write!(page, "<p class=\"machine\">{}</p>", machine(report))?;
    if let Some(warning) = report.host.busy() {
        write!(page, "<p class=\"busy\">{}</p>", escape(&warning))?;
    }
    write!(page, "</header>")?;
    cards(report, page)?;
    overview(report, page)?;
    for (section, rows) in report.sections() {
        match section {
            Section::Start => amounts(&rows, page)?,
            section => ratios(report, section, &rows, page)?,
        }
    }
    missing(report, page)?;
    figures(report, page)?;
    host(report, page)?;
    write!(page, "{METHOD}</main></body></html>")
}

fn machine(report: &Report) -> String {
    let host = &report.host;
    let memory = host.memory as f64 / f64::from(1 << 30);
    let stopped = if report.interrupted { " (stopped by the user)" } else { "" };
    let parts = [
        escape(&host.cpu),
        format!("{} cores", host.cores),
        format!("{memory:.0} GiB"),
        escape(&host.kernel),
        format!("{} rounds in {:.0} s{stopped}", report.rounds, report.took),
        date(report.started),
    ];
    parts.map(|part| format!("<span>{part}</span>")).concat()
}

/// One card for each platform: what starting costs, and how many rows tell it from a plain process.
fn cards(report: &Report, page: &mut String) -> fmt::Result {
    let rows: Vec<&RowReport> = report.rows.iter().collect();
    write!(page, "<section class=\"cards\">")?;
    for platform in report.shown() {
        let median = |row: &str| {
            let row = rows.iter().find(|report| report.row.name == row)?;
            Some((row.cell(platform.name)?.summary?.median, row.row.unit))
        };
        let name = platform.name;
        write!(page, "<article class=\"card p-{name}\"><h2>{name}</h2><p class=\"version\">{}</p>", escape(&platform.version))?;
        let start = median(rows::LIMITS).map(|start| (start, "start to exit, with limits"));
        if let Some(((value, unit), words)) = start.or_else(|| Some((median(rows::PLAIN)?, "start to exit, without limits"))) {
            write!(page, "<p class=\"big\">{}<small> {unit}</small></p><p class=\"label\">{words}</p>", number(value))?;
        }
        let facts = [(rows::CPU, "of CPU time"), (rows::MEMORY, "peak memory")];
        let facts = facts.map(|(row, words)| median(row).map(|(value, unit)| format!("<b>{} {unit}</b> {words}", number(value))));
        write!(page, "<p class=\"facts\">{}</p>", facts.into_iter().flatten().collect::<Vec<_>>().join("<br>"))?;
        verdicts(&rows, name, page)?;
        write!(page, "</article>")?;
    }
    write!(page, "</section>")
}

/// How many rows of work came to which verdict.
fn verdicts(rows: &[&RowReport], platform: &str, page: &mut String) -> fmt::Result {
    let work = rows.iter().filter(|row| row.row.section != Section::Start);
    let found: Vec<Verdict> = work.filter_map(|row| Some(row.cell(platform)?.ratio.as_ref()?.verdict)).collect();
    if found.is_empty() {
        return Ok(());
    }
    let count = |verdict: Verdict| found.iter().filter(|&&one| one == verdict).count();
    let order = [Verdict::Cheaper, Verdict::Within, Verdict::Noise, Verdict::Open, Verdict::Dearer];
    let parts = order.map(|verdict| (class(verdict), count(verdict), verdict.words()));
    let (dearer, open, all) = (count(Verdict::Dearer), count(Verdict::Open), found.len());
    let undecided = if open > 0 { format!(", {open} undecided") } else { String::new() };
    let bar = plot::shares(&parts);
    write!(page, "{bar}<p class=\"label\">{dearer} of {all} rows of work dearer than native{undecided}</p>")
}

const OVERVIEW: &str = "<section><h2>Cost of the work itself, beside a plain process</h2><p>Geometric means over the rows of each \
group. 1\u{d7} is as native, 2\u{d7} twice as dear, for times and rates alike. What lies inside the noise floor stands pale behind \
a ~; native-again is native, measured a second time.</p>";

/// Mean costs of platforms by section, as a table whose colour grows with the cost.
fn overview(report: &Report, page: &mut String) -> fmt::Result {
    let sections: Vec<_> = report.sections().filter(|(section, _)| *section != Section::Start).collect();
    if sections.is_empty() || report.shown().next().is_none() {
        return Ok(());
    }
    write!(page, "{OVERVIEW}<div class=\"scroll\"><table class=\"heat\"><thead><tr><th></th>")?;
    for (section, _) in &sections {
        write!(page, "<th>{}</th>", section.title())?;
    }
    write!(page, "</tr></thead><tbody>")?;
    let again = report.platforms.iter().filter(|platform| platform.name == AGAIN);
    for platform in report.shown().chain(again) {
        let name = platform.name;
        write!(page, "<tr><th class=\"p-{name}\"><i></i>{name}</th>")?;
        for (_, rows) in &sections {
            let floor = report.mean_floor(rows).unwrap_or(1.0);
            match report.mean_cost(rows, name) {
                Some(mean) if mean <= floor && mean >= 1.0 / floor => write!(page, "<td class=\"idle\">~ {}</td>", times(mean))?,
                Some(mean) => {
                    let heat = (mean.ln().abs() / 3_f64.ln() * 100.0).min(100.0);
                    let side = if mean > 1.0 { "dear" } else { "cheap" };
                    write!(page, "<td class=\"{side}\" style=\"--heat:{heat:.0}%\">{}</td>", times(mean))?;
                }
                None => write!(page, "<td>\u{2013}</td>")?,
            }
        }
        write!(page, "</tr>")?;
    }
    write!(page, "</tbody></table></div></section>")
}

/// Bars of amounts, each row on its own scale, native among them.
fn amounts(rows: &[&RowReport], page: &mut String) -> fmt::Result {
    write!(
        page,
        "<section><h2>{}</h2><p>Medians as bars, their 95 % intervals as lines, every run as a dot.</p>",
        Section::Start.title()
    )?;
    for row in rows {
        heading(row, page)?;
        let summaries = row.cells.iter().filter(|cell| cell.platform != AGAIN).filter_map(|cell| cell.summary);
        let scale = Scale::amounts(summaries.map(|summary| summary.q3.max(summary.interval.high)));
        for cell in row.cells.iter().filter(|cell| cell.platform != AGAIN) {
            let Some(summary) = cell.summary else {
                absent(cell, page)?;
                continue;
            };
            let value = format!("{} {}", number(summary.median), row.row.unit);
            let (low, high) = (number(summary.interval.low), number(summary.interval.high));
            let title = format!("{}: {value} ({low} to {high}), {} runs", cell.platform, summary.n);
            let svg = plot::bar(scale, &cell.samples, summary.median, summary.interval, &title);
            let ratio = cell.ratio.as_ref().map_or(String::new(), |ratio| times(ratio.value));
            lane(cell, &svg, &format!("<b>{value}</b>"), &ratio, page)?;
        }
        write!(page, "<div class=\"row\"><span></span>{}</div></div>", plot::axis(scale))?;
    }
    write!(page, "</section>")?;
    Ok(())
}

/// Dots of ratios to native, all rows of the section on one scale.
fn ratios(report: &Report, section: Section, rows: &[&RowReport], page: &mut String) -> fmt::Result {
    if report.shown().next().is_none() {
        return Ok(());
    }
    let shown = |cell: &&Cell| cell.platform != NATIVE && cell.platform != AGAIN;
    let all = rows.iter().flat_map(|row| row.cells.iter().filter(shown)).filter_map(|cell| cell.ratio.as_ref());
    let scale =
        Scale::ratios(all.flat_map(|ratio| {
            [ratio.value, ratio.interval.low.max(ratio.value / 2.0), ratio.interval.high.min(ratio.value * 2.0)]
        }));
    write!(
        page,
        "<section><h2>{}</h2><p>Cost beside native; to the right is dearer. The grey band is the noise floor.</p>",
        section.title()
    )?;
    write!(page, "<div class=\"plot head\"><div class=\"row\"><span></span>{}</div></div>", plot::axis(scale))?;
    for row in rows {
        heading(row, page)?;
        for cell in row.cells.iter().filter(shown) {
            let (Some(ratio), Some(summary)) = (&cell.ratio, cell.summary) else {
                absent(cell, page)?;
                continue;
            };
            let title = format!("{}: {}, {}", cell.platform, plot::spoken(ratio.value, ratio.interval), ratio.verdict.words());
            let svg = plot::ratio(scale, row.floor, &ratio.samples, ratio.value, ratio.interval, &title);
            let value = format!("{} {}", number(summary.median), row.row.unit);
            lane(cell, &svg, &mark(ratio), &value, page)?;
        }
        write!(page, "</div>")?;
    }
    write!(page, "</section>")
}

fn heading(row: &RowReport, page: &mut String) -> fmt::Result {
    let native = row.native().and_then(|cell| cell.summary);
    let native = native.map_or(String::new(), |summary| format!("native {} {}", number(summary.median), row.row.unit));
    let (name, about) = (row.row.name, escape(row.row.about));
    write!(page, "<div class=\"plot\"><h3><code>{name}</code><span>{about}</span><span class=\"native\">{native}</span></h3>")
}

fn lane(cell: &Cell, svg: &str, first: &str, second: &str, page: &mut String) -> fmt::Result {
    let name = cell.platform;
    write!(page, "<div class=\"row p-{name}\"><span class=\"name\">{name}</span>{svg}")?;
    write!(page, "<span class=\"value\">{first}</span><span class=\"second\">{second}</span></div>")
}

/// A lane without a value says why.
fn absent(cell: &Cell, page: &mut String) -> fmt::Result {
    let (name, reason) = (cell.platform, escape(cell.reason.as_deref().unwrap_or("not measured")));
    write!(page, "<div class=\"row p-{name}\"><span class=\"name\">{name}</span><span class=\"why\">{reason}</span></div>")
}

fn mark(ratio: &Ratio) -> String {
    format!("<b class=\"{}\" title=\"{}\">{}</b>", class(ratio.verdict), ratio.verdict.words(), times(ratio.value))
}

fn class(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Within => "within",
        Verdict::Noise => "noise",
        Verdict::Open => "open",
        Verdict::Dearer => "dearer",
        Verdict::Cheaper => "cheaper",
    }
}

fn missing(report: &Report, page: &mut String) -> fmt::Result {
    let reasons = super::reasons(report);
    let notes = report.platforms.iter().any(|platform| !platform.notes.is_empty());
    if report.absent.is_empty() && reasons.is_empty() && !notes {
        return Ok(());
    }
    write!(page, "<section><h2>What is missing, and what to know</h2><dl>")?;
    for missing in &report.absent {
        write!(page, "<dt>{}</dt><dd>not measured: {}</dd>", missing.name, escape(&missing.reason))?;
    }
    for platform in &report.platforms {
        for note in &platform.notes {
            write!(page, "<dt>{}</dt><dd>{}</dd>", platform.name, escape(note))?;
        }
    }
    for reason in reasons {
        write!(page, "<dt>{}</dt><dd>{} <code>{}</code></dd>", reason.whose(), escape(reason.text), reason.rows.join(" "))?;
    }
    write!(page, "</dl></section>")
}

/// Every figure, folded away.
fn figures(report: &Report, page: &mut String) -> fmt::Result {
    write!(
        page,
        "<section><details><summary>All figures</summary><div class=\"scroll\"><table class=\"figures\"><thead><tr><th>row</th>"
    )?;
    write!(page, "<th>platform</th><th>median</th><th>95 % interval</th><th>quartiles</th><th>MAD</th><th>n</th><th>cost</th>")?;
    write!(page, "<th>interval</th><th>verdict</th></tr></thead><tbody>")?;
    for row in &report.rows {
        for cell in &row.cells {
            let Some(summary) = cell.summary else { continue };
            let range = |low: f64, high: f64| format!("{} \u{2013} {}", number(low), number(high));
            write!(
                page,
                "<tr><td>{}</td><td>{}</td><td>{} {}</td>",
                row.row.name,
                cell.platform,
                number(summary.median),
                row.row.unit
            )?;
            write!(page, "<td>{}</td>", range(summary.interval.low, summary.interval.high))?;
            write!(page, "<td>{}</td><td>{}</td><td>{}</td>", range(summary.q1, summary.q3), number(summary.mad), summary.n)?;
            match &cell.ratio {
                Some(ratio) => {
                    let range = range(ratio.interval.low, ratio.interval.high);
                    write!(page, "<td>{}</td><td>{range}</td><td>{}</td></tr>", mark(ratio), ratio.verdict.words())?;
                }
                None if cell.platform == NATIVE => write!(page, "<td></td><td></td><td>baseline</td></tr>")?,
                None => write!(page, "<td></td><td></td><td>nothing native beside it</td></tr>")?,
            }
        }
    }
    write!(page, "</tbody></table></div></details></section>")
}

fn host(report: &Report, page: &mut String) -> fmt::Result {
    let host = &report.host;
    let yes = |yes: bool| if yes { "yes" } else { "no" }.to_owned();
    let facts = [
        ("Processor", escape(&host.cpu)),
        ("Cores", host.cores.to_string()),
        ("Memory", format!("{:.1} GiB", host.memory as f64 / f64::from(1 << 30))),
        ("Itself a virtual machine", yes(host.virtual_machine)),
        ("Frequency governor", host.governor.as_deref().map_or("none".into(), escape)),
        ("Kernel", escape(&host.kernel)),
        ("System", escape(&host.system)),
        ("Control groups", format!("{:?}", host.cgroups).to_lowercase()),
        ("Root rows on", escape(&host.root_fs)),
        ("Volume rows on", escape(&host.volume_fs)),
        ("Load at the beginning", format!("{:.2}", host.load)),
        ("Rounds", format!("{} of {} planned, {:.0} ms for each row", report.rounds, report.planned, report.seconds * 1e3)),
        ("Seed", report.seed.to_string()),
        ("Measured by", format!("insula {}", report.version)),
    ];
    write!(page, "<section><h2>The machine and the run</h2><dl class=\"facts\">")?;
    for (name, value) in facts {
        write!(page, "<dt>{name}</dt><dd>{value}</dd>")?;
    }
    for platform in &report.platforms {
        write!(page, "<dt>{}</dt><dd>{}</dd>", platform.name, escape(&platform.version))?;
    }
    write!(page, "</dl></section>")
}

/// Text as HTML; what a peer prints goes through here.
fn escape(text: &str) -> String {
    text.chars().fold(String::new(), |mut out, c| {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            c => out.push(c),
        }
        out
    })
}

/// A day and time of UTC from seconds since 1970. The calendar is Hinnant's `civil_from_days`.
fn date(seconds: u64) -> String {
    let (days, second) = (seconds / 86_400 + 719_468, seconds % 86_400);
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    let year = year + era * 400 + next;
    format!("{year}-{month:02}-{day:02} {:02}:{:02} UTC", second / 3600, second / 60 % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        assert_eq!(date(0), "1970-01-01 00:00 UTC");
        assert_eq!(date(951_827_696), "2000-02-29 12:34 UTC");
        assert_eq!(date(1_798_761_599), "2026-12-31 23:59 UTC");
    }

    #[test]
    fn what_a_peer_says_can_not_become_markup() {
        assert_eq!(escape("<script a=\"1\">&"), "&lt;script a=&quot;1&quot;&gt;&amp;");
    }
}
