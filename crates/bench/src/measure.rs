//! The measurement: platforms are found and tried, everything is done once to warm up, then rounds are run.
//!
//! In a round each group of rows is run on each platform, one platform after the other in an order drawn anew for every group, so that
//! what changes over time (temperature, neighbours, caches) touches all platforms alike and values of one round can be compared.

use crate::host::Host;
use crate::interrupt::Interrupt;
use crate::launcher::{Launcher, Outcome};
use crate::platform::{self, AGAIN, Errand, Found, Job, NATIVE, Platform};
use crate::progress::Progress;
use crate::rows::{self, Row, Section};
use crate::schedule::{self, Budget, Plan};
use crate::scratch::Scratch;
use crate::{Error, Options, host};
use std::collections::BTreeMap;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime};
use workload::launch::Usage;
use workload::{Group, Line};

/// Nominal seconds of a row while warming up.
const WARM: f64 = 0.002;
/// What a run of a group may take beyond its nominal time before it counts as hung.
const PATIENCE: Duration = Duration::from_secs(60);
/// A group that failed so often on a platform is not tried there again.
const ENOUGH: u32 = 2;

/// A platform that works.
pub(crate) struct Lane {
    pub(crate) name: &'static str,
    pub(crate) version: String,
    pub(crate) notes: Vec<String>,
    platform: Box<dyn Platform>,
    launcher: Launcher,
    /// Why it can't have limits.
    unlimited: Option<String>,
    failures: BTreeMap<Section, u32>,
}

impl Lane {
    /// Removes a sandbox, whatever state it was left in.
    fn remove(&self, id: &str) {
        if let Some(argv) = self.platform.removal(id) {
            quietly(&argv);
        }
    }

    /// Why it can't do a job.
    fn cannot(&self, job: &Job<'_>) -> Option<String> {
        match job {
            Job::Idle => self.platform.hidden().map(str::to_owned),
            Job::System { .. } if !self.platform.boots() => Some("it boots no system".to_owned()),
            job => self.unlimited.clone().filter(|_| job.limits()),
        }
    }
}

/// What one row gave on one platform.
#[derive(Debug, Default)]
pub(crate) struct Column {
    /// Values, each with the number of the pass it was taken in: what has the same number was taken side by side.
    pub(crate) values: Vec<(u32, f64)>,
    /// Why there is none, or not one for each pass.
    pub(crate) reason: Option<String>,
}

/// Everything that was measured.
pub(crate) struct Measured {
    pub(crate) host: Host,
    pub(crate) seed: u64,
    pub(crate) quick: bool,
    pub(crate) plan: Plan,
    pub(crate) rounds: u32,
    pub(crate) interrupted: bool,
    pub(crate) started: SystemTime,
    pub(crate) took: Duration,
    pub(crate) lanes: Vec<Lane>,
    pub(crate) absent: Vec<(&'static str, String)>,
    /// By row and lane.
    pub(crate) columns: BTreeMap<(&'static str, usize), Column>,
}

/// Measures `rows` on the platforms that `options` name.
pub(crate) fn measure(options: &Options, rows: &[Row]) -> Result<Measured, Error> {
    let started = SystemTime::now();
    let interrupt = Interrupt::listen()?;
    let scratch = Scratch::new(options.volume.as_deref())?;
    let host = Host::look(&scratch.data(), scratch.volume());
    let seed = options.seed.unwrap_or_else(|| fastrand::u64(..=u64::from(u32::MAX)));
    let mut session = Session {
        begin: Instant::now(),
        progress: Progress::new(),
        rng: fastrand::Rng::with_seed(seed),
        lanes: Vec::new(),
        absent: Vec::new(),
        columns: BTreeMap::new(),
        farewells: Vec::new(),
        serial: 0,
        stopped: false,
        scratch: &scratch,
        interrupt: &interrupt,
        rows,
        system: options.system.as_deref(),
    };
    let done = session.all(options, &host);
    session.farewell();
    let (plan, rounds) = done?;
    let Session { begin, lanes, absent, columns, stopped: interrupted, .. } = session;
    let took = begin.elapsed();
    Ok(Measured { host, seed, quick: options.quick, plan, rounds, interrupted, started, took, lanes, absent, columns })
}

struct Session<'a> {
    begin: Instant,
    progress: Progress,
    rng: fastrand::Rng,
    lanes: Vec<Lane>,
    absent: Vec<(&'static str, String)>,
    columns: BTreeMap<(&'static str, usize), Column>,
    /// Command lines that remove what platforms keep (images), of those too that turned out not to work.
    farewells: Vec<Vec<String>>,
    /// Sandboxes started so far; their names come from it.
    serial: u32,
    stopped: bool,
    scratch: &'a Scratch,
    interrupt: &'a Interrupt,
    rows: &'a [Row],
    /// The directory of the system that is booted.
    system: Option<&'a Path>,
}

impl Session<'_> {
    /// Everything from the first platform to the last round. Returns the plan and how many rounds were completed.
    fn all(&mut self, options: &Options, host: &Host) -> Result<(Plan, u32), Error> {
        if let Some(warning) = host.busy() {
            self.progress.say(&warning);
        }
        self.find_platforms(options, host)?;
        let (fixed, rows) = self.warm_up()?;
        let budget = if options.quick { schedule::QUICK } else { schedule::FULL };
        let plan = schedule::plan(budget, self.begin.elapsed(), fixed, rows, options.runs);
        let (rounds, each) = (plan.rounds, plan.seconds * 1e3);
        self.progress.say(&format!("{} platforms, {rounds} rounds, {each:.0} ms for each row", self.lanes.len()));
        let done = self.rounds(plan, budget, options.runs.is_some())?;
        match done {
            0 => Err(Error::Interrupted),
            done => Ok((plan, done)),
        }
    }

    fn find_platforms(&mut self, options: &Options, host: &Host) -> Result<(), Error> {
        let mut errand = Errand { launcher: Launcher::new(Vec::new()), scratch: self.scratch, interrupt: self.interrupt };
        for name in platform::NAMES {
            let baseline = name == NATIVE || name == AGAIN;
            if !baseline && !options.platforms.is_empty() && !options.platforms.iter().any(|wanted| wanted == name) {
                continue;
            }
            let lane = match platform::find(name, &mut errand, host) {
                Ok(found) => self.admit(name, found)?,
                Err(reason) => Err(reason),
            };
            if self.interrupt.wanted() {
                return Err(Error::Interrupted);
            }
            match lane {
                Ok(lane) => self.lanes.push(lane),
                Err(reason) if baseline => return Err(Error::NoBaseline(reason)),
                Err(reason) => {
                    self.progress.say(&format!("without {name}: {reason}"));
                    self.absent.push((name, reason));
                }
            }
        }
        Ok(())
    }

    /// Tries a platform with the program that does nothing, with and without limits. The inner error is the reason why it doesn't work.
    fn admit(&mut self, name: &'static str, found: Found) -> Result<Result<Lane, String>, Error> {
        let Found { platform, version, otherwise } = found;
        self.farewells.extend(platform.farewell());
        let unlimited = platform.unlimited().map(str::to_owned);
        let launcher = Launcher::new(Vec::new());
        let mut lane = Lane { name, version, notes: Vec::new(), platform, launcher, unlimited, failures: BTreeMap::new() };
        let mut tried = self.start(&mut lane, &Job::Noop { limits: false }, PATIENCE)?;
        if let (Err(reason), Some((prefix, note))) = (&tried, otherwise) {
            let reason = reason.clone();
            lane.launcher = Launcher::new(prefix);
            tried = self.start(&mut lane, &Job::Noop { limits: false }, PATIENCE)?;
            lane.notes.push(format!("{note}, because without that: {reason}"));
        }
        if let Err(reason) = tried {
            return Ok(Err(reason));
        }
        if lane.unlimited.is_none()
            && let Err(reason) = self.start(&mut lane, &Job::Noop { limits: true }, PATIENCE)?
        {
            lane.notes.push(format!("run without limits, because with limits: {reason}"));
            lane.unlimited = Some(reason);
        }
        Ok(Ok(lane))
    }

    /// Runs a job to its end; the inner error is a reason. After anything but a plain end the sandbox is removed.
    fn start(&mut self, lane: &mut Lane, job: &Job<'_>, timeout: Duration) -> Result<Result<Usage, String>, Error> {
        self.serial += 1;
        let id = format!("insula-bench-{}-{}", std::process::id(), self.serial);
        let argv = match lane.platform.argv(job, self.scratch, &id) {
            Ok(argv) => argv,
            Err(reason) => return Ok(Err(reason)),
        };
        let reason = match lane.launcher.run(argv, matches!(job, Job::Idle), self.scratch, self.interrupt, timeout)? {
            Outcome::Ended(usage) if usage.code == 0 => {
                // A system runs on.
                if matches!(job, Job::System { .. }) {
                    lane.remove(&id);
                }
                return Ok(Ok(usage));
            }
            Outcome::Ended(usage) => self.scratch.complaint(usage.code),
            Outcome::Failed(reason) => reason,
            Outcome::Late => format!("no end within {} s", timeout.as_secs()),
            Outcome::Stop => {
                self.stopped = true;
                "stopped".into()
            }
        };
        lane.remove(&id);
        Ok(Err(reason))
    }

    /// Does everything once, as short as can be. Returns what a round takes whatever the rows' time is, in seconds, and how many rows
    /// it has, each platform's counted.
    fn warm_up(&mut self) -> Result<(f64, usize), Error> {
        self.progress.say("warming up");
        self.progress.steps((self.lanes.len() * self.sections().len()) as u64);
        let begin = Instant::now();
        let mut rows = 0;
        for section in self.sections() {
            for lane in 0..self.lanes.len() {
                self.progress.step(format!("warming up: {} on {}", section.title(), self.lanes[lane].name));
                match section {
                    Section::Start => self.starts(lane, None)?,
                    Section::Work(group) => rows += self.work(lane, group, WARM, None)?,
                }
                if self.stopped {
                    return Err(Error::Interrupted);
                }
            }
        }
        // Each round does the starts several times, and the first time anything is done is the slowest.
        Ok((begin.elapsed().as_secs_f64(), rows))
    }

    /// Runs the rounds; returns how many were completed.
    fn rounds(&mut self, plan: Plan, budget: Budget, fixed: bool) -> Result<u32, Error> {
        let sections = self.sections();
        let steps = sections.len() * self.lanes.len() * plan.rounds as usize;
        self.progress.steps(steps as u64);
        let begin = Instant::now();
        for round in 0..plan.rounds {
            let mean = begin.elapsed() / round.max(1);
            if !fixed && round > 0 && !schedule::another(budget, self.begin.elapsed(), mean, round) {
                return Ok(round);
            }
            let mut order = sections.clone();
            self.rng.shuffle(&mut order);
            for section in order {
                self.section(section, round, plan, budget.passes)?;
                if self.stopped {
                    return Ok(round);
                }
            }
            self.progress.say(&format!("round {} of {} done", round + 1, plan.rounds));
        }
        Ok(plan.rounds)
    }

    fn section(&mut self, section: Section, round: u32, plan: Plan, passes: u32) -> Result<(), Error> {
        let passes = if section == Section::Start { passes } else { 1 };
        for pass in 0..passes {
            let mut order: Vec<usize> = (0..self.lanes.len()).collect();
            self.rng.shuffle(&mut order);
            for lane in order {
                if pass == 0 {
                    let name = self.lanes[lane].name;
                    self.progress.step(format!("round {} of {}: {} on {name}", round + 1, plan.rounds, section.title()));
                }
                match section {
                    Section::Start => self.starts(lane, Some(round * passes + pass))?,
                    Section::Work(group) => _ = self.work(lane, group, plan.seconds, Some(round))?,
                }
                if self.stopped {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Starts the program that does nothing, with and without limits, the one that waits, and a system, in random order. Without a pass's number nothing is
    /// recorded.
    fn starts(&mut self, index: usize, pass: Option<u32>) -> Result<(), Error> {
        let mut jobs: Vec<Job<'_>> = Vec::new();
        let system = self.system.map(|root| Job::System { root });
        if system.is_none() {
            self.lost(rows::SYSTEM, index, "no system is named; --system DIR does it".to_owned());
        }
        for job in [Job::Noop { limits: true }, Job::Noop { limits: false }, Job::Idle].into_iter().chain(system) {
            jobs.extend(start_rows(&job).iter().any(|row| self.chosen(row)).then_some(job));
        }
        self.rng.shuffle(&mut jobs);
        for job in jobs {
            if let Some(reason) = self.lanes[index].cannot(&job) {
                start_rows(&job).iter().for_each(|row| self.lost(row, index, reason.clone()));
                continue;
            }
            let begun = self.on(index, |session, lane| session.start(lane, &job, PATIENCE))?;
            if self.stopped {
                return Ok(());
            }
            self.started(index, &job, begun, pass);
        }
        Ok(())
    }

    fn started(&mut self, index: usize, job: &Job<'_>, outcome: Result<Usage, String>, pass: Option<u32>) {
        let names = start_rows(job);
        let usage = match outcome {
            Ok(usage) => usage,
            Err(reason) => return names.iter().for_each(|row| self.lost(row, index, reason.clone())),
        };
        let hidden = self.lanes[index].platform.hidden();
        for &row in names {
            let value = match row {
                rows::MEMORY => usage.rss as f64 / f64::from(1 << 20),
                rows::IDLE => usage.idle.unwrap_or_default() as f64 / f64::from(1 << 20),
                rows::CPU => usage.cpu_ns as f64 / 1e6,
                _ => usage.wall_ns as f64 / 1e6,
            };
            match hidden {
                Some(reason) if row == rows::MEMORY || row == rows::CPU => self.lost(row, index, reason.into()),
                _ => self.keep(row, index, pass, value),
            }
        }
    }

    /// Runs the chosen rows of a group in one go, and returns how many they were. Without a round's number no value is recorded, but
    /// reasons are.
    fn work(&mut self, index: usize, group: Group, seconds: f64, round: Option<u32>) -> Result<usize, Error> {
        let section = Section::Work(group);
        let rows: Vec<&'static str> = self.rows.iter().filter(|row| row.section == section).map(|row| row.name).collect();
        if self.lanes[index].failures.get(&section).is_some_and(|&failures| failures >= ENOUGH) {
            return Ok(0);
        }
        let limits = self.lanes[index].unlimited.is_none();
        let job = Job::Rows { rows: &rows, seconds, threads: host::cores(), limits };
        let timeout = PATIENCE + Duration::from_secs_f64(rows.len() as f64 * seconds * 4.0);
        let outcome = self.on(index, |session, lane| session.start(lane, &job, timeout))?;
        if self.stopped {
            return Ok(0);
        }
        let printed = std::fs::read(self.scratch.stdout()).unwrap_or_default();
        let lines: Vec<Line> =
            printed.split(|&byte| byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect();
        let complete = rows.iter().all(|row| lines.iter().any(|line| line.row == *row));
        if !complete {
            *self.lanes[index].failures.entry(section).or_default() += 1;
        }
        let silent = || "the workload said nothing of this row".to_owned();
        for row in &rows {
            match lines.iter().find(|line| line.row == *row) {
                Some(Line { value: Some(value), .. }) => self.keep(row, index, round, *value),
                Some(line) => self.lost(row, index, line.reason.clone().unwrap_or_else(silent)),
                None => self.lost(row, index, outcome.clone().err().unwrap_or_else(silent)),
            }
        }
        Ok(rows.len())
    }

    /// Lends a lane out while the session is at work with it.
    fn on<T>(&mut self, index: usize, act: impl FnOnce(&mut Self, &mut Lane) -> T) -> T {
        let mut lane = self.lanes.swap_remove(index);
        let result = act(self, &mut lane);
        self.lanes.push(lane);
        let last = self.lanes.len() - 1;
        self.lanes.swap(index, last);
        result
    }

    fn keep(&mut self, row: &'static str, lane: usize, pass: Option<u32>, value: f64) {
        if let Some(pass) = pass {
            self.columns.entry((row, lane)).or_default().values.push((pass, value));
        }
    }

    fn lost(&mut self, row: &'static str, lane: usize, reason: String) {
        self.columns.entry((row, lane)).or_default().reason = Some(reason);
    }

    fn chosen(&self, name: &str) -> bool {
        self.rows.iter().any(|row| row.name == name)
    }

    fn sections(&self) -> Vec<Section> {
        Section::all().filter(|section| self.rows.iter().any(|row| row.section == *section)).collect()
    }

    /// Removes what platforms keep; sandboxes are already gone.
    fn farewell(&mut self) {
        self.progress.finish();
        self.farewells.iter().for_each(|argv| quietly(argv));
    }
}

/// The rows that a start gives.
fn start_rows(job: &Job<'_>) -> &'static [&'static str] {
    match job {
        Job::Noop { limits: true } => &[rows::LIMITS],
        Job::Noop { limits: false } => &[rows::PLAIN, rows::MEMORY, rows::CPU],
        Job::Idle => &[rows::IDLE],
        Job::System { .. } => &[rows::SYSTEM],
        Job::Rows { .. } => &[],
    }
}

/// Runs a command that puts something in order; it may well find nothing to do, and then fails. Out of reach of Ctrl-C.
fn quietly(argv: &[String]) {
    if let Some((program, args)) = argv.split_first() {
        let mut command = Command::new(program);
        command.args(args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
        let _ = command.status();
    }
}
