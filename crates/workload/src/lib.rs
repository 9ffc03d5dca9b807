//! What the program `workload` and those who drive it (`insula bench`) must agree on.
//!
//! [`catalogue`] names every row that can be measured, with its unit and what counts as better; [`Line`] is what the program prints
//! for each row it ran, one JSON object a line; [`launch`] is the conversation with `workload launch`, the tiny process that starts
//! and times other programs. The work itself stands in the program, one file of `rows/` for each group.

pub mod catalogue;
pub mod launch;

pub use catalogue::{Better, Group, ROWS, Row};

use serde::{Deserialize, Serialize};

/// One line of `workload run`: a row that was measured, or the reason why it could not be.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Line {
    /// The row's name, as in [`ROWS`].
    pub row: String,
    /// The unit of `value` and `samples`.
    pub unit: String,
    /// Whether a low or a high value is good.
    pub better: Better,
    /// The median of `samples`; absent if the row could not be measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<f64>,
    /// The samples taken within this run of the row.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub samples: Vec<f64>,
    /// What came of checking the row's own result.
    pub check: Check,
    /// Why there is no value, or what the check found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// What came of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Check {
    /// The work was done and its result is the right one.
    Ok,
    /// The work was done and its result is wrong: the boundary, or the machine, computes falsely.
    Wrong,
    /// The row means nothing here (`O_DIRECT` on a file system without it, no directory given).
    Unsupported,
    /// A call the row needs failed.
    Failed,
}

/// The middle of `samples` (the mean of the two middle ones if their number is even); `None` if there is none.
pub fn median(samples: &[f64]) -> Option<f64> {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match (sorted.len() % 2, sorted.get(middle)) {
        (_, None) => None,
        (1, Some(&value)) => Some(value),
        (_, Some(&value)) => Some((sorted[middle - 1] + value) / 2.0),
    }
}

#[cfg(test)]
mod tests {
    use super::median;

    #[test]
    fn median_of_odd_even_and_none() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), Some(2.5));
        assert_eq!(median(&[]), None);
    }
}
