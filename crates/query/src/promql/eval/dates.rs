//! Parts of a Unix time in UTC, for any 64 bit number of seconds.

use super::numbers::go_i64;

/// Year, month, day and what else the time functions ask for.
struct Date {
    year: i64,
    month: i64,
    day: i64,
    /// Days since 1970-01-01.
    days: i128,
    second_of_day: i64,
}

/// Seconds between the earliest time that Go can tell and 1970; earlier ones wrap around there, and so they do here.
const SECONDS_BEFORE_1970_MAX: i128 = 9_223_372_028_741_760_000;

fn date(seconds: i64) -> Date {
    let mut seconds = i128::from(seconds);
    if seconds < -SECONDS_BEFORE_1970_MAX {
        seconds += 1 << 64;
    }
    let days = seconds.div_euclid(86_400);
    // days since 0000-03-01, in eras of 400 years
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    let year = year_of_era + era * 400 + i128::from(month <= 2);
    Date {
        year: year as i64,
        month: month as i64,
        day: day as i64,
        days,
        second_of_day: seconds.rem_euclid(86_400) as i64,
    }
}

fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

fn days_in(year: i64, month: i64) -> i64 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if is_leap(year) => 29,
        2 => 28,
        _ => 31,
    }
}

/// The function of a time in seconds by the name of a PromQL function.
pub(super) fn date_function(name: &str) -> Option<fn(f64) -> f64> {
    Some(match name {
        "days_in_month" => |v| with(v, |d| days_in(d.year, d.month)),
        "day_of_month" => |v| with(v, |d| d.day),
        // 1970 began on a Thursday
        "day_of_week" => |v| with(v, |d| (d.days + 4).rem_euclid(7) as i64),
        "day_of_year" => |v| with(v, |d| (1..d.month).map(|m| days_in(d.year, m)).sum::<i64>() + d.day),
        "hour" => |v| with(v, |d| d.second_of_day / 3600),
        "minute" => |v| with(v, |d| d.second_of_day / 60 % 60),
        "month" => |v| with(v, |d| d.month),
        "year" => |v| with(v, |d| d.year),
        _ => return None,
    })
}

fn with(seconds: f64, part: fn(&Date) -> i64) -> f64 {
    part(&date(go_i64(seconds))) as f64
}

/// A time as RFC 3339 has it, in whole seconds.
pub(super) fn rfc3339(at_ms: i64) -> String {
    let d = date(at_ms / 1000);
    let (h, m, s) = (d.second_of_day / 3600, d.second_of_day / 60 % 60, d.second_of_day % 60);
    format!("{:04}-{:02}-{:02}T{h:02}:{m:02}:{s:02}Z", d.year, d.month, d.day)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(name: &str, v: f64) -> f64 {
        date_function(name).unwrap()(v)
    }

    #[test]
    fn parts_of_known_times() {
        // 2016-02-29T13:34:56Z, a Monday
        let v = 1_456_752_896.0;
        for (name, want) in [
            ("year", 2016.0),
            ("month", 2.0),
            ("day_of_month", 29.0),
            ("day_of_week", 1.0),
            ("day_of_year", 60.0),
            ("hour", 13.0),
            ("minute", 34.0),
            ("days_in_month", 29.0),
        ] {
            assert_eq!(part(name, v), want, "{name}");
        }
        assert_eq!(rfc3339(1_456_752_896_000), "2016-02-29T13:34:56Z");
    }

    #[test]
    fn any_number_has_a_date() {
        // what Go says
        assert_eq!(
            (
                part("year", f64::NAN),
                part("month", f64::NAN),
                part("day_of_month", f64::NAN)
            ),
            (292277026596.0, 12.0, 4.0)
        );
        assert_eq!(
            (
                part("hour", f64::NAN),
                part("day_of_week", f64::NAN),
                part("day_of_year", f64::NAN)
            ),
            (15.0, 0.0, 339.0)
        );
        assert_eq!(
            (part("year", 1e15), part("month", 1e15), part("day_of_week", 1e15)),
            (31690708.0, 7.0, 0.0)
        );
        assert_eq!(
            (part("year", -1e17), part("month", -1e17), part("day_of_year", -1e17)),
            (-3168871881.0, 4.0, 117.0)
        );
    }
}
