//! Times as text, as every way in and out reads them.

/// The furthest time from 1970 that is worked with, in ms: its microseconds still fit 64 bits, so that adding a window
/// or an offset to it never overflows. Times beyond are cut to it.
pub const TIME_MS_MAX: i64 = 9_200_000_000_000_000;

/// Unix seconds, with a fraction, or RFC 3339; `None` when the text is neither. Years may have more than four digits and
/// a sign, as in the smallest and largest times of Prometheus' API (`-292273086-05-16T16:47:06Z`). A time beyond
/// [`TIME_MS_MAX`] is cut to it: as the end of a range it is open.
pub fn parse_time_ms(text: &str) -> Option<i64> {
    let Ok(seconds) = text.parse::<f64>() else {
        return rfc3339_ms(text);
    };
    // the fraction alone is rounded, as Prometheus does it: 1.2345 is 1.234 in binary
    let ms = seconds.trunc() * 1000.0 + (seconds.fract() * 1000.0).round();
    seconds
        .is_finite()
        .then(|| (ms as i64).clamp(-TIME_MS_MAX, TIME_MS_MAX))
}

/// RFC 3339, as [`parse_time_ms`] takes it.
pub fn rfc3339_ms(text: &str) -> Option<i64> {
    let mut rest = Rest(text.as_bytes());
    let year = {
        let before_christ = rest.skips(b"-");
        let _ = !before_christ && rest.skips(b"+");
        let year = rest.number(4..=9)?;
        if before_christ { -year } else { year }
    };
    let (month, day) = (rest.after(b"-")?.number(2..=2)?, rest.after(b"-")?.number(2..=2)?);
    let (hour, minute) = (rest.after(b"Tt ")?.number(2..=2)?, rest.after(b":")?.number(2..=2)?);
    let second = rest.after(b":")?.number(2..=2)?;
    let fraction_ms = if rest.skips(b".") { rest.thousandths()? } else { 0 };
    let offset_minutes = if rest.skips(b"Zz") {
        0
    } else {
        let west = rest.skips(b"-");
        if !west && !rest.skips(b"+") {
            return None;
        }
        let (hours, minutes) = (rest.number(2..=2)?, rest.after(b":")?.number(2..=2)?);
        if hours > 23 || minutes > 59 {
            return None;
        }
        let offset = hours * 60 + minutes;
        if west { -offset } else { offset }
    };
    // a leap second is the one after it
    if !rest.0.is_empty() || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    if !(1..=12).contains(&month) || day < 1 || day > days_in(year, month) {
        return None;
    }
    let minutes = (days_since_1970(year, month, day) * 24 + hour) * 60 + minute - offset_minutes;
    let ms = i128::from(minutes * 60 + second) * 1000 + i128::from(fraction_ms);
    let max = i128::from(TIME_MS_MAX);
    i64::try_from(ms.clamp(-max, max)).ok()
}

/// What is left of a text.
struct Rest<'a>(&'a [u8]);

impl Rest<'_> {
    /// Passes over one byte when it is one of these.
    fn skips(&mut self, any_of: &[u8]) -> bool {
        match self.0.split_first() {
            Some((first, rest)) if any_of.contains(first) => {
                self.0 = rest;
                true
            }
            _ => false,
        }
    }

    fn after(&mut self, any_of: &[u8]) -> Option<&mut Self> {
        self.skips(any_of).then_some(self)
    }

    fn digits(&mut self) -> &[u8] {
        let n = self.0.iter().take_while(|b| b.is_ascii_digit()).count();
        let (digits, rest) = self.0.split_at(n);
        self.0 = rest;
        digits
    }

    fn number(&mut self, digits: std::ops::RangeInclusive<usize>) -> Option<i64> {
        let text = self.digits();
        digits
            .contains(&text.len())
            .then(|| text.iter().fold(0, |n, b| n * 10 + i64::from(b - b'0')))
    }

    /// Digits behind a point, cut to three.
    fn thousandths(&mut self) -> Option<i64> {
        let text = self.digits();
        let digit = |i: usize| text.get(i).map_or(0, |b| i64::from(b - b'0'));
        (!text.is_empty()).then(|| digit(0) * 100 + digit(1) * 10 + digit(2))
    }
}

fn days_in(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days in the Gregorian calendar, counted in years that begin in March, so that a leap day is a year's last.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    const DAYS_OF_400_YEARS: i64 = 146_097;
    const MARCH_OF_YEAR_0_TO_1970: i64 = 719_468;
    let year = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * DAYS_OF_400_YEARS + of_era * 365 + of_era / 4 - of_era / 100 + of_year - MARCH_OF_YEAR_0_TO_1970
}

#[cfg(test)]
mod tests;
