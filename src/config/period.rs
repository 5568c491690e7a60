//! A span of time as written in the configuration: `0s`, `500ms`, `10m`, `4h`, `30d`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A whole number and one unit of `ms`, `s`, `m`, `h`, `d`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String", extend("format" = "period", "pattern" = "^[0-9]+(ms|s|m|h|d)$", "examples" = ["30s"]))]
pub struct Period(pub Duration);

impl Period {
    /// A period of whole seconds.
    #[must_use]
    pub const fn seconds(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }
}

const MISTAKE: &str = "a period is a whole number with a unit: `500ms`, `30s`, `10m`, `4h`, `30d`";

impl FromStr for Period {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (number, unit) = text.split_at(digits);
        let number: u64 = number.parse().map_err(|_| MISTAKE.to_owned())?;
        let unit = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return Err(MISTAKE.into()),
        };
        let millis = number.checked_mul(unit).ok_or("this period is too long")?;
        Ok(Self(Duration::from_millis(millis)))
    }
}

impl TryFrom<String> for Period {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Period> for String {
    fn from(period: Period) -> Self {
        period.to_string()
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = self.0.as_millis();
        let units = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s")];
        let (size, unit) = units
            .into_iter()
            .find(|(size, _)| millis > 0 && millis.is_multiple_of(*size))
            .unwrap_or(if millis == 0 { (1_000, "s") } else { (1, "ms") });
        write!(f, "{}{unit}", millis / size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_period_reads_back_as_written() {
        for text in ["0s", "500ms", "30s", "90m", "4h", "30d"] {
            assert_eq!(text.parse::<Period>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_is_no_period_is_refused() {
        for text in ["", "5", "s", "-1s", "1.5h", "5 s", "1w", "99999999999999999999d", "213503982334601d"] {
            assert!(text.parse::<Period>().is_err(), "{text}");
        }
    }
}
