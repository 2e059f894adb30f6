//! `--max-errors`: when there is so much bad input that something else must be wrong.

use std::fmt;
use std::str::FromStr;

use super::decode::BadLine;
use crate::error::{Error, Result};

/// Lines of a file before a percentage says anything.
const JUDGED_FROM: u64 = 1000;

/// How much bad input is allowed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum MaxErrors {
    /// So many lines, in all files of one command together.
    Lines(u64),
    /// So many of 100 lines, in each file; judged from its 1,000th line on, and at its end.
    Percent(f64),
}

impl Default for MaxErrors {
    /// Half of a file: where more is bad, the format or the columns are wrong rather than the lines, and the file must
    /// not be taken for done.
    fn default() -> Self {
        MaxErrors::Percent(50.0)
    }
}

impl FromStr for MaxErrors {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        let bad = || format!("'{s}' is neither a number of lines nor a percentage such as 5%");
        match s.strip_suffix('%') {
            Some(percent) => match percent.trim().parse::<f64>() {
                Ok(percent) if (0.0..=100.0).contains(&percent) => Ok(MaxErrors::Percent(percent)),
                _ => Err(bad()),
            },
            None => s.parse().map(MaxErrors::Lines).map_err(|_| bad()),
        }
    }
}

impl fmt::Display for MaxErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MaxErrors::Lines(lines) => write!(f, "{lines}"),
            MaxErrors::Percent(percent) => write!(f, "{percent}%"),
        }
    }
}

/// Lines read and bad.
#[derive(Debug, Clone, Copy, Default)]
struct Count {
    /// Bad lines of the command.
    total: u64,
    /// Lines of the file.
    lines: u64,
    /// Bad lines of the file.
    bad: u64,
}

/// Counts, and stops.
#[derive(Debug)]
pub(super) struct Breaker {
    limit: MaxErrors,
    now: Count,
    /// As of the last commit: what was read after it may be read again.
    settled: Count,
    /// Its name, without the folder.
    file: String,
    /// The first bad line of the file.
    first: Option<(i64, String)>,
}

impl Breaker {
    pub(super) fn new(limit: MaxErrors) -> Self {
        Breaker { limit, now: Count::default(), settled: Count::default(), file: String::new(), first: None }
    }

    /// Begins a file.
    pub(super) fn begin(&mut self, file: &str) {
        self.now = Count { total: self.now.total, ..Default::default() };
        self.settled = self.now;
        self.file = file.rsplit('/').next().unwrap_or(file).to_owned();
        self.first = None;
    }

    /// Counts lines, good and bad together, and the bad ones among them. Fails when there are too many.
    pub(super) fn count(&mut self, lines: usize, bad: &[BadLine]) -> Result<()> {
        if let (None, Some(first)) = (&self.first, bad.first()) {
            self.first = Some((first.line, first.reason.clone()));
        }
        self.now.lines += lines as u64;
        self.now.bad += bad.len() as u64;
        self.now.total += bad.len() as u64;
        self.judge(self.now.lines >= JUDGED_FROM)
    }

    /// Fails when the file has too many bad lines, however short it is.
    pub(super) fn end(&self) -> Result<()> {
        self.judge(true)
    }

    /// What was counted is committed.
    pub(super) fn settle(&mut self) {
        self.settled = self.now;
    }

    /// What was counted since the last commit is read again.
    pub(super) fn revert(&mut self) {
        self.now = self.settled;
    }

    fn judge(&self, percent_too: bool) -> Result<()> {
        let Count { total, lines, bad } = self.now;
        let (tripped, found) = match self.limit {
            MaxErrors::Lines(limit) => (total > limit, format!("{total} bad lines")),
            MaxErrors::Percent(limit) => (
                percent_too && bad as f64 * 100.0 > limit * lines as f64,
                format!("{bad} bad lines of {lines}"),
            ),
        };
        if !tripped {
            return Ok(());
        }
        let (line, reason) = self.first.clone().unwrap_or_default();
        let file = &self.file;
        Err(Error::too_many_errors(format!(
            "{found} are more than --max-errors {} allows; the first of this file is {file}:{line}: {reason}",
            self.limit
        ))
        .with_hint(
            "what was committed before stays, and the next run goes on behind it; correct the file or the transform, or \
             allow more with --max-errors",
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bad(n: i64) -> Vec<BadLine> {
        (1..=n).map(|line| BadLine { line, reason: "why".into(), payload: None }).collect()
    }

    #[test]
    fn limits_are_read_as_people_write_them() {
        assert_eq!("100".parse(), Ok(MaxErrors::Lines(100)));
        assert_eq!("2.5%".parse(), Ok(MaxErrors::Percent(2.5)));
        assert!("101%".parse::<MaxErrors>().is_err() && "-1".parse::<MaxErrors>().is_err());
    }

    #[test]
    fn a_number_counts_over_files_and_what_is_read_again_counts_once() {
        let mut breaker = Breaker::new(MaxErrors::Lines(3));
        breaker.begin("a");
        breaker.count(10, &bad(2)).unwrap();
        breaker.revert();
        breaker.count(10, &bad(2)).unwrap();
        breaker.settle();
        breaker.begin("b");
        breaker.count(10, &bad(1)).unwrap();
        let e = breaker.count(10, &bad(1)).unwrap_err();
        assert!(e.message().contains("4 bad lines") && e.message().contains("b:1: why"), "{}", e.message());
    }

    #[test]
    fn a_percentage_waits_for_a_thousand_lines_or_the_end() {
        let mut breaker = Breaker::new(MaxErrors::Percent(10.0));
        breaker.begin("a");
        breaker.count(10, &bad(10)).unwrap();
        assert!(breaker.end().is_err());
        breaker.count(90, &[]).unwrap();
        breaker.end().unwrap();
        assert!(breaker.count(1000, &bad(200)).is_err());
    }
}
