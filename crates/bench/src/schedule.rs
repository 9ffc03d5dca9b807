//! How many rounds fit into the time there is, and how long a row may take in each.

use std::time::Duration;

/// A row takes about this many times its nominal time: the work has to be sized first, and every sample is a little late.
const OVERHEAD: f64 = 1.6;
/// A row's nominal time lies between these, in seconds.
const SHORTEST: f64 = 0.004;
const LONGEST: f64 = 0.1;
/// Fewer rounds decide nothing, more say nothing new.
const FEWEST: u32 = 5;
const MOST: u32 = 60;

/// What a run is allowed to take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Budget {
    /// In all, preparations included.
    pub(crate) total: Duration,
    /// Rounds worth shortening the rows for.
    rounds: u32,
    /// Passes of starts in each round.
    pub(crate) passes: u32,
}

/// 90 seconds are promised for a quick run; what is left of them is for removing what was made.
pub(crate) const QUICK: Budget = Budget { total: Duration::from_secs(86), rounds: 5, passes: 3 };
/// A run without hurry.
pub(crate) const FULL: Budget = Budget { total: Duration::from_secs(300), rounds: 11, passes: 3 };

/// What is going to be done.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Plan {
    pub(crate) rounds: u32,
    /// Nominal seconds of a row.
    pub(crate) seconds: f64,
}

/// Plans rounds that take `fixed` seconds each, whatever the rows' time is, and in which `rows` rows are run (each platform's counted).
pub(crate) fn plan(budget: Budget, spent: Duration, fixed: f64, rows: usize, runs: Option<u32>) -> Plan {
    let left = budget.total.saturating_sub(spent).as_secs_f64();
    let work = rows as f64 * OVERHEAD;
    let wanted = left / f64::from(runs.unwrap_or(budget.rounds).max(1));
    let seconds = ((wanted - fixed) / work.max(1.0)).clamp(SHORTEST, LONGEST);
    let fitting = left / (fixed + work * seconds).max(1e-3);
    Plan { rounds: runs.unwrap_or((fitting as u32).clamp(FEWEST, MOST)), seconds }
}

/// Whether another round may begin, when those before took `mean` each.
pub(crate) fn another(budget: Budget, spent: Duration, mean: Duration, done: u32) -> bool {
    done < 1 || spent + mean.mul_f64(1.05) <= budget.total
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::ZERO;

    #[test]
    fn the_plan_fits_the_budget() {
        for (fixed, rows) in [(1.0, 43), (6.0, 258), (0.2, 5), (9.0, 400), (0.01, 0)] {
            for budget in [QUICK, FULL] {
                let plan = plan(budget, Duration::from_secs(10), fixed, rows, None);
                let takes = 10.0 + f64::from(plan.rounds) * (fixed + rows as f64 * OVERHEAD * plan.seconds);
                assert!(
                    takes <= budget.total.as_secs_f64() + 1e-6 || plan.rounds == FEWEST,
                    "{fixed} {rows}: {plan:?} takes {takes}"
                );
                assert!((SHORTEST..=LONGEST).contains(&plan.seconds) && (FEWEST..=MOST).contains(&plan.rounds));
            }
        }
    }

    #[test]
    fn rounds_the_user_asks_for_are_run() {
        assert_eq!(plan(QUICK, NOW, 50.0, 300, Some(7)).rounds, 7);
        assert_eq!(plan(QUICK, NOW, 0.0, 1, Some(1)).rounds, 1);
    }

    #[test]
    fn no_round_begins_that_would_end_too_late() {
        let second = Duration::from_secs(1);
        assert!(another(QUICK, QUICK.total - 10 * second, 5 * second, 9));
        assert!(!another(QUICK, QUICK.total - 3 * second, 5 * second, 9));
        assert!(another(QUICK, QUICK.total, 5 * second, 0));
    }
}
