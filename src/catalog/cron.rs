//! When a job is due: by a cron expression in a time zone, or every so often.

use std::time::Duration;

use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use croner::Cron;

use crate::error::{Error, Result};

/// When a job is due.
#[derive(Debug, Clone)]
pub enum When {
    /// So long after its last run.
    Every(Duration),
    /// Whenever a clock in a time zone shows a time that fits.
    Cron(Box<Cron>, Tz),
}

impl When {
    /// Reads `every 60s`, or a cron expression of five fields (minute, hour, day, month, weekday) or a name such as `@daily`.
    /// Of a time that a change of the clock leaves out, the first one after it fits; of one that comes twice, the first.
    pub fn parse(schedule: &str, time_zone: Option<&str>) -> Result<Self> {
        let bad = |what: String, hint: &str| Error::invalid_input(what).with_hint(hint);
        if let Some(text) = schedule.strip_prefix("every ") {
            let hint = "write it like 'every 90s' or 'every 1h 30m'";
            let every = humantime::parse_duration(text.trim())
                .map_err(|e| bad(format!("the schedule '{schedule}' is no length of time: {e}"), hint))?;
            if every.is_zero() {
                return Err(bad(format!("the schedule '{schedule}' never ends"), hint));
            }
            return Ok(When::Every(every));
        }
        let zone = time_zone.unwrap_or("UTC");
        let tz = zone
            .parse()
            .map_err(|_| bad(format!("there is no time zone '{zone}'"), "write it like Europe/Berlin"))?;
        let hint =
            "a cron expression is minute, hour, day, month and weekday: '15 3 * * *' is each day at 03:15";
        let cron: Cron = schedule
            .parse()
            .map_err(|e| bad(format!("the schedule '{schedule}' is no cron expression: {e}"), hint))?;
        let when = When::Cron(Box::new(cron), tz);
        if when.next(Utc::now().timestamp_micros()).is_none() {
            return Err(bad(format!("the schedule '{schedule}' never comes"), hint));
        }
        Ok(when)
    }

    /// The first time after `after`, both in microseconds.
    pub fn next(&self, after: i64) -> Option<i64> {
        match self {
            When::Every(pause) => after.checked_add(i64::try_from(pause.as_micros()).ok()?),
            When::Cron(cron, tz) => {
                let after = DateTime::from_timestamp_micros(after)?.with_timezone(tz);
                let next = cron.find_next_occurrence(&after, false).ok()?;
                Some(next.timestamp_micros())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next(schedule: &str, zone: &str, after: &str) -> String {
        let after = DateTime::parse_from_rfc3339(after).unwrap().timestamp_micros();
        let next = When::parse(schedule, Some(zone)).unwrap().next(after).unwrap();
        DateTime::<Utc>::from_timestamp_micros(next)
            .unwrap()
            .to_rfc3339_opts(chrono::SecondsFormat::Secs, true)
    }

    #[test]
    fn a_clock_in_its_time_zone_decides() {
        assert_eq!(next("15 3 * * *", "UTC", "2026-11-29T03:15:00Z"), "2026-11-30T03:15:00Z");
        assert_eq!(next("15 3 * * *", "Europe/Berlin", "2026-11-29T00:00:00Z"), "2026-11-29T02:15:00Z");
        assert_eq!(next("15 3 * * *", "Europe/Berlin", "2026-07-01T00:00:00Z"), "2026-07-01T01:15:00Z");
        assert_eq!(next("0 0 * * MON", "UTC", "2026-11-29T12:00:00Z"), "2026-11-30T00:00:00Z");
        assert_eq!(next("@monthly", "UTC", "2026-11-29T12:00:00Z"), "2026-12-01T00:00:00Z");
        assert_eq!(next("every 90s", "UTC", "2026-11-29T12:00:00Z"), "2026-11-29T12:01:30Z");
    }

    #[test]
    fn a_job_runs_once_when_the_clock_changes() {
        // 02:30 does not exist on 29 March in Berlin, and comes twice on 25 October.
        let spring = next("30 2 * * *", "Europe/Berlin", "2026-03-28T12:00:00Z");
        assert!(("2026-03-29T01:00:00Z".."2026-03-29T02:00:01Z").contains(&spring.as_str()), "{spring}");
        let first = next("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00:00Z");
        assert_eq!(first, "2026-10-25T00:30:00Z");
        assert_eq!(next("30 2 * * *", "Europe/Berlin", &first), "2026-10-26T01:30:00Z");
    }

    #[test]
    fn what_is_no_schedule_says_why() {
        for (schedule, zone, what) in [
            ("", "UTC", "cron"),
            ("61 * * * *", "UTC", "61"),
            ("* * *", "UTC", "* * *"),
            ("every", "UTC", "every"),
            ("every 0s", "UTC", "never ends"),
            ("every soon", "UTC", "soon"),
            ("0 0 30 2 *", "UTC", "never comes"),
            ("* * * * *", "Europe/Berlim", "Berlim"),
        ] {
            let e = When::parse(schedule, Some(zone)).unwrap_err();
            assert!(e.message().contains(what) && e.hint().is_some(), "{schedule}: {e}");
        }
    }
}
