//! A circuit breaker: how much of the newest input is bad, and when that is too much to go on.
//!
//! Messages are counted over a sliding window of time, cut into twenty parts; a part that falls out of the window is
//! forgotten as a whole.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use serde::Deserialize;

use crate::error::{Error, Result};

/// Parts of a window.
const PARTS: u32 = 20;

/// How much bad input is too much.
#[derive(Debug, Clone, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct ErrorRate {
    /// Above this share of bad messages it is logged.
    pub warn: Percent,
    /// Above this share of bad messages consuming stops.
    pub critical: Percent,
    /// Fewer messages in the window say nothing.
    pub least: u64,
    /// How far back it looks.
    #[serde(deserialize_with = "super::kafka::options::duration")]
    pub window: Duration,
    /// When to try again after a stop; without it only `CALL resume` does.
    #[serde(deserialize_with = "optional_duration")]
    pub retry_after: Option<Duration>,
}

impl Default for ErrorRate {
    fn default() -> Self {
        ErrorRate {
            warn: Percent(1.0),
            critical: Percent(5.0),
            least: 1000,
            window: Duration::from_secs(60),
            retry_after: None,
        }
    }
}

impl ErrorRate {
    /// Fails where it makes no sense.
    pub fn check(&self) -> Result<()> {
        if self.window < Duration::from_secs(1) || self.warn.0 > self.critical.0 || self.least == 0 {
            return Err(Error::invalid_input(
                "errors: the window must be 1s or longer, warn not more than critical, and least more than 0",
            ));
        }
        Ok(())
    }
}

/// So many of a hundred.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Deserialize)]
#[serde(try_from = "String")]
pub struct Percent(pub f64);

impl std::str::FromStr for Percent {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let number = text.strip_suffix('%').and_then(|number| number.trim().parse::<f64>().ok());
        number.filter(|number| (0.0..=100.0).contains(number)).map(Percent).ok_or_else(|| {
            Error::invalid_input(format!("'{text}' is not a percentage")).with_hint("write it as 5%")
        })
    }
}

impl TryFrom<String> for Percent {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

fn optional_duration<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Duration>, D::Error> {
    super::kafka::options::duration(deserializer).map(Some)
}

/// What counting led to.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Verdict {
    /// Nothing new.
    Fine,
    /// The share rose above `warn`; the text says what there is.
    Warn(String),
    /// It rose above `critical`: stop.
    Stop(String),
}

/// Counts messages.
#[derive(Debug)]
pub(super) struct Window {
    limits: ErrorRate,
    parts: VecDeque<Part>,
    warned: bool,
    stopped: bool,
}

#[derive(Debug)]
struct Part {
    from: Instant,
    messages: u64,
    bad: u64,
    /// The first bad one.
    first: Option<String>,
}

impl Window {
    pub(super) fn new(limits: ErrorRate) -> Self {
        Window { limits, parts: VecDeque::new(), warned: false, stopped: false }
    }

    /// Counts messages, good and bad together, and the bad ones among them, of which `first` describes one.
    pub(super) fn count(
        &mut self,
        now: Instant,
        messages: u64,
        bad: u64,
        first: impl FnOnce() -> String,
    ) -> Verdict {
        let length = self.limits.window / PARTS;
        match self.parts.back_mut() {
            Some(part) if now < part.from + length => {
                part.messages += messages;
                part.bad += bad;
                if part.first.is_none() && bad > 0 {
                    part.first = Some(first());
                }
            }
            _ => {
                let first = (bad > 0).then(first);
                self.parts.push_back(Part { from: now, messages, bad, first });
            }
        }
        while self.parts.front().is_some_and(|part| part.from + self.limits.window <= now) {
            self.parts.pop_front();
        }
        let (messages, bad) = self.counted();
        let share = bad as f64 * 100.0 / messages.max(1) as f64;
        if messages < self.limits.least || self.stopped {
            return Verdict::Fine;
        }
        if share > self.limits.critical.0 {
            self.stopped = true;
            return Verdict::Stop(self.told(messages, bad, self.limits.critical));
        }
        let warn = share > self.limits.warn.0;
        if std::mem::replace(&mut self.warned, warn) || !warn {
            return Verdict::Fine;
        }
        Verdict::Warn(self.told(messages, bad, self.limits.warn))
    }

    /// Messages in the window, and the bad ones.
    pub(super) fn counted(&self) -> (u64, u64) {
        self.parts.iter().fold((0, 0), |(messages, bad), part| (messages + part.messages, bad + part.bad))
    }

    /// Begins anew after a stop.
    pub(super) fn reset(&mut self) {
        *self = Window::new(self.limits.clone());
    }

    fn told(&self, messages: u64, bad: u64, limit: Percent) -> String {
        let first = self.parts.iter().find_map(|part| part.first.as_deref()).unwrap_or_default();
        format!(
            "{bad} of {messages} messages of the last {} are bad, more than {}%; the first: {first}",
            humantime::format_duration(self.limits.window),
            limit.0
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window() -> Window {
        Window::new(ErrorRate { window: Duration::from_secs(20), ..Default::default() })
    }

    #[test]
    fn it_warns_once_and_stops_once() {
        let (mut window, begun) = (window(), Instant::now());
        let mut count = |seconds: u64, messages, bad| {
            window.count(begun + Duration::from_secs(seconds), messages, bad, || format!("at {seconds}"))
        };
        assert_eq!(count(0, 999, 999), Verdict::Fine, "too few to say anything");
        assert_eq!(count(21, 999, 10), Verdict::Fine, "those before are forgotten");
        let Verdict::Warn(said) = count(22, 1, 1) else { panic!("no warning") };
        assert!(
            said.starts_with("11 of 1000 messages of the last 20s are bad, more than 1%; the first: at 21"),
            "{said}"
        );
        assert_eq!(count(23, 1000, 10), Verdict::Fine, "said already");
        let Verdict::Stop(said) = count(24, 100, 100) else { panic!("no stop") };
        assert!(said.contains("121 of 2100"), "{said}");
        assert_eq!(count(25, 100, 100), Verdict::Fine, "stopped already");
    }

    #[test]
    fn after_a_reset_it_counts_anew() {
        let (mut window, now) = (window(), Instant::now());
        assert!(matches!(window.count(now, 1000, 1000, String::new), Verdict::Stop(_)));
        window.reset();
        assert_eq!(window.count(now, 999, 999, String::new), Verdict::Fine);
        assert!(matches!(window.count(now, 1, 0, String::new), Verdict::Stop(_)));
    }

    #[test]
    fn a_rate_that_falls_may_warn_again() {
        let (mut window, begun) = (window(), Instant::now());
        let mut at = |seconds: u64, messages, bad| {
            window.count(begun + Duration::from_secs(seconds), messages, bad, String::new)
        };
        assert!(matches!(at(0, 1000, 20), Verdict::Warn(_)));
        assert_eq!(at(19, 1000, 0), Verdict::Fine);
        assert_eq!(at(21, 1000, 0), Verdict::Fine);
        assert!(matches!(at(22, 1000, 40), Verdict::Warn(_)));
    }
}
