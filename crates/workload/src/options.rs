//! The options of `workload run`.

use std::path::PathBuf;
use workload::{ROWS, Row, catalogue::matches};

/// What to run, and how.
pub(crate) struct Options {
    pub(crate) rows: Vec<&'static Row>,
    /// About how long each row is measured, in seconds.
    pub(crate) seconds: f64,
    /// Where the `root` rows keep their files.
    pub(crate) dir: Option<PathBuf>,
    /// Where the `volume` rows keep their files.
    pub(crate) volume: Option<PathBuf>,
    /// How many threads "all cores" means.
    pub(crate) threads: usize,
}

/// Reads the arguments after `run`; an error is a sentence for the user.
pub(crate) fn parse(mut args: impl Iterator<Item = String>) -> Result<Options, String> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let mut options = Options { rows: Vec::new(), seconds: 0.5, dir: None, volume: None, threads };
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or_else(|| format!("{arg} needs a value"));
        match arg.as_str() {
            "--seconds" => options.seconds = number(&arg, &value()?, 0.001, 3600.0)?,
            "--threads" => options.threads = number(&arg, &value()?, 1.0, 4096.0)? as usize,
            "--dir" => options.dir = Some(value()?.into()),
            "--volume" => options.volume = Some(value()?.into()),
            flag if flag.starts_with('-') => return Err(format!("'{flag}' is not an option of run")),
            pattern => {
                let before = options.rows.len();
                options.rows.extend(ROWS.iter().filter(|row| matches(pattern, row.name)));
                if options.rows.len() == before {
                    return Err(format!("no row is called '{pattern}'; 'workload list' shows them"));
                }
            }
        }
    }
    if options.rows.is_empty() {
        return Err("no row given; 'workload list' shows them, '*' takes all".into());
    }
    Ok(options)
}

fn number(option: &str, text: &str, low: f64, high: f64) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if (low..=high).contains(&value) => Ok(value),
        _ => Err(format!("{option} takes a number from {low} to {high}, not '{text}'")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> impl Iterator<Item = String> {
        line.split_whitespace().map(str::to_owned).collect::<Vec<_>>().into_iter()
    }

    #[test]
    fn globs_and_options_are_taken() {
        let options = parse(words("cpu.float* sys.spawn --seconds 0.2 --threads 3 --dir /x")).expect("valid");
        let names: Vec<_> = options.rows.iter().map(|row| row.name).collect();
        assert_eq!(names, ["cpu.float", "cpu.float-all", "sys.spawn"]);
        assert_eq!((options.seconds, options.threads), (0.2, 3));
    }

    #[test]
    fn wrong_input_is_named() {
        for (line, word) in
            [("x.y", "x.y"), ("", "no row"), ("* --seconds -1", "-1"), ("* --dir", "--dir"), ("* --what", "--what")]
        {
            let message = parse(words(line)).err().unwrap_or_default();
            assert!(message.contains(word), "{line}: {message}");
        }
    }
}
