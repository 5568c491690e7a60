//! Five cron fields, in UTC: minute, hour, day of the month, month, day of the week.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use jiff::Timestamp;
use jiff::civil::{Date, DateTime, Time, date};
use jiff::tz::TimeZone;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Lists, ranges and steps (`*/15`, `1-5`, `0,30`), names of months and days (`jan`, `mon`); where both kinds of day
/// are restricted, either is enough (POSIX `crontab`).
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String", extend("format" = "cron", "examples" = ["0 */3 * * *"]))]
pub struct Cron {
    text: String,
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    weekdays: u64,
    /// Both kinds of day are restricted.
    is_either_day: bool,
}

/// Leap days are eight years apart at the most (1896 to 1904).
const HORIZON_DAYS: i32 = 366 * 9;

impl Cron {
    /// The first tick after this instant.
    #[must_use]
    pub fn after(&self, instant: Timestamp) -> Option<Timestamp> {
        let start = TimeZone::UTC.to_datetime(instant);
        let mut date = start.date();
        for days in 0..HORIZON_DAYS {
            if self.is_on(date) {
                let from = if days == 0 { (start.hour(), start.minute()) } else { (-1, 59) };
                if let Some(time) = self.first_time(from) {
                    return TimeZone::UTC.to_timestamp(DateTime::from_parts(date, time)).ok();
                }
            }
            date = date.tomorrow().ok()?;
        }
        None
    }

    /// The longest stretch between two of its ticks, over a whole cycle of leap years.
    #[must_use]
    pub fn longest(&self) -> Duration {
        let minutes: Vec<i64> = self.minutes_of_day().collect();
        let within = minutes.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or(0);
        let (first, last) = (minutes.first().copied().unwrap_or(0), minutes.last().copied().unwrap_or(0));
        let mut date = date(2024, 1, 1);
        let (mut apart, mut longest_apart, mut is_after_one) = (0, 0, false);
        for _ in 0..HORIZON_DAYS {
            apart += 1;
            if self.is_on(date) {
                longest_apart = longest_apart.max(if is_after_one { apart } else { 0 });
                (apart, is_after_one) = (0, true);
            }
            let Ok(tomorrow) = date.tomorrow() else { break };
            date = tomorrow;
        }
        let between = longest_apart * 24 * 60 + first - last;
        Duration::from_mins(within.max(between).unsigned_abs())
    }

    fn minutes_of_day(&self) -> impl Iterator<Item = i64> {
        let hours = (0..24_i8).filter(|hour| has(self.hours, *hour));
        hours.flat_map(|hour| {
            let minutes = (0..60_i8).filter(|minute| has(self.minutes, *minute));
            minutes.map(move |minute| i64::from(hour) * 60 + i64::from(minute))
        })
    }

    fn is_on(&self, date: Date) -> bool {
        let weekday = date.weekday().to_sunday_zero_offset();
        let (day, weekday) = (has(self.days, date.day()), has(self.weekdays, weekday));
        let is_day = if self.is_either_day { day || weekday } else { day && weekday };
        has(self.months, date.month()) && is_day
    }

    /// The first time of a day that is later than this minute of this hour.
    fn first_time(&self, (hour, minute): (i8, i8)) -> Option<Time> {
        let this_hour = has(self.hours, hour).then(|| (minute + 1..60).find(|at| has(self.minutes, *at))).flatten();
        let (hour, minute) = if let Some(minute) = this_hour {
            (hour, minute)
        } else {
            let hour = (hour + 1..24).find(|at| has(self.hours, *at))?;
            (hour, (0..60).find(|at| has(self.minutes, *at))?)
        };
        Time::new(hour, minute, 0, 0).ok()
    }
}

fn has(set: u64, number: i8) -> bool {
    u32::try_from(number).is_ok_and(|number| set >> number & 1 == 1)
}

const MISTAKE: &str =
    "five fields are wanted: minute, hour, day of the month, month, day of the week (`0 */3 * * *`), in UTC";
const MONTHS: [&str; 12] = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const WEEKDAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

/// The numbers from `least` to `most` that a field names; the names count from `least`.
fn field(text: &str, least: u32, most: u32, names: &[&str]) -> Result<u64, String> {
    let number = |text: &str| {
        let at = names.iter().position(|name| name.eq_ignore_ascii_case(text));
        let by_name = at.and_then(|at| u32::try_from(at).ok()).map(|at| at + least);
        let written = text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten();
        let number = by_name.or(written).ok_or_else(|| MISTAKE.to_owned())?;
        let in_range = (least..=most).contains(&number);
        in_range.then_some(number).ok_or_else(|| format!("`{text}` is not from {least} to {most}"))
    };
    let mut set = 0;
    for part in text.split(',') {
        let (range, step) = part.split_once('/').map_or((part, None), |(range, step)| (range, Some(step)));
        let step: usize = step.map_or(Ok(1), |step| step.parse().map_err(|_| MISTAKE.to_owned()))?;
        if step == 0 {
            return Err("a step of 0 leads nowhere".into());
        }
        let (from, to) = match range.split_once('-') {
            _ if range == "*" => (least, most),
            Some((from, to)) => (number(from)?, number(to)?),
            // `5/15` is from 5 on.
            None if part.contains('/') => (number(range)?, most),
            None => (number(range)?, number(range)?),
        };
        if from > to {
            return Err(format!("`{range}` runs backwards"));
        }
        set |= (from..=to).step_by(step).fold(0, |set, number| set | 1 << number);
    }
    Ok(set)
}

impl FromStr for Cron {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let fields: Vec<&str> = text.split_ascii_whitespace().collect();
        let [minutes, hours, days, months, weekdays] = fields[..] else { return Err(MISTAKE.into()) };
        // Sunday is 0 and 7.
        let mut of_week = field(weekdays, 0, 7, &WEEKDAYS)?;
        of_week |= of_week >> 7;
        let cron = Self {
            text: text.to_owned(),
            minutes: field(minutes, 0, 59, &[])?,
            hours: field(hours, 0, 23, &[])?,
            days: field(days, 1, 31, &[])?,
            months: field(months, 1, 12, &MONTHS)?,
            weekdays: of_week,
            is_either_day: !days.starts_with('*') && !weekdays.starts_with('*'),
        };
        if cron.after(Timestamp::UNIX_EPOCH).is_none() {
            return Err("no such day ever comes".into());
        }
        Ok(cron)
    }
}

impl TryFrom<String> for Cron {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Cron> for String {
    fn from(cron: Cron) -> Self {
        cron.text
    }
}

impl fmt::Display for Cron {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn next(cron: &str, after: &str) -> String {
        cron.parse::<Cron>().unwrap().after(after.parse().unwrap()).unwrap().to_string()
    }

    #[test]
    fn the_next_tick_is_the_first_that_fits_every_field() {
        let cases = [
            ("0 */3 * * *", "2026-11-28T00:45:00Z", "2026-11-28T03:00:00Z"),
            ("0 */3 * * *", "2026-11-28T03:00:00Z", "2026-11-28T06:00:00Z"),
            ("*/15 * * * *", "2026-12-31T23:50:00Z", "2027-01-01T00:00:00Z"),
            ("30 4 1,15 * *", "2026-11-28T00:00:00Z", "2026-12-01T04:30:00Z"),
            ("0 0 29 2 *", "2026-11-28T00:00:00Z", "2028-02-29T00:00:00Z"),
            ("0 0 * * sun", "2026-11-28T00:00:00Z", "2026-11-29T00:00:00Z"),
            ("0 0 * * 7", "2026-11-28T00:00:00Z", "2026-11-29T00:00:00Z"),
            ("0 0 * * 1-5", "2026-11-28T00:00:00Z", "2026-11-30T00:00:00Z"),
            // Either kind of day where both are named.
            ("0 0 1 * mon", "2026-11-28T00:00:00Z", "2026-11-30T00:00:00Z"),
            ("0 0 1 jan *", "2026-11-28T00:00:00Z", "2027-01-01T00:00:00Z"),
            ("5/20 1 * * *", "2026-11-28T01:10:00Z", "2026-11-28T01:25:00Z"),
            ("59 23 31 12 *", "2026-12-31T23:59:30Z", "2027-12-31T23:59:00Z"),
        ];
        for (cron, after, expected) in cases {
            assert_eq!(next(cron, after), expected, "{cron} after {after}");
        }
    }

    #[test]
    fn what_never_ticks_or_is_no_cron_is_refused() {
        for text in [
            "",
            "* * * *",
            "* * * * * *",
            "60 * * * *",
            "* 24 * * *",
            "* * 0 * *",
            "* * * 13 *",
            "* * * * 8",
            "*/0 * * * *",
            "5-1 * * * *",
            "a * * * *",
            "0 0 30 2 *",
            "1- * * * *",
            "+1 * * * *",
            "@daily",
            "0 0 31 4,6 *",
        ] {
            assert!(text.parse::<Cron>().is_err(), "{text}");
        }
    }

    #[test]
    fn the_longest_stretch_is_that_between_the_two_ticks_furthest_apart() {
        for (cron, hours) in [
            ("0 */3 * * *", 3),
            ("0 */5 * * *", 5),
            ("0 1 * * *", 24),
            ("0 0 * * 0", 168),
            ("0 0,6 * * *", 18),
            ("0 9-17 * * mon-fri", 64),
            ("0 0 29 2 *", 4 * 365 * 24 + 24),
        ] {
            assert_eq!(cron.parse::<Cron>().unwrap().longest(), Duration::from_hours(hours), "{cron}");
        }
    }

    proptest! {
        #[test]
        fn a_tick_is_later_whole_and_with_none_before_it(start in 0_i64..4_000_000_000, step in 1_u32..30, hour in 0_u8..24) {
            let cron: Cron = format!("*/{step} {hour} * * *").parse().unwrap();
            let start = Timestamp::from_second(start).unwrap();
            let tick = cron.after(start).unwrap();
            prop_assert!(tick > start && tick.as_second() % 60 == 0);
            let at = TimeZone::UTC.to_datetime(tick);
            prop_assert!(at.hour() == hour.cast_signed() && u32::from(at.minute().unsigned_abs()).is_multiple_of(step));
            // From any instant before the tick the same one comes.
            let between = Timestamp::from_second(start.as_second().midpoint(tick.as_second() - 1)).unwrap();
            prop_assert_eq!(cron.after(between), Some(tick));
        }
    }
}
