//! Parses and writes dates and times of day in ISO 8601, with `T` or a space between date and time.
//!
//! Accepted are years 1000 to 9999, existing days, hours 0 to 23, and at most six digits of a second. The calendar is the
//! proleptic Gregorian one, counted in days from 1970-01-01.

pub(super) const MICROS_PER_SECOND: i64 = 1_000_000;
pub(super) const MICROS_PER_MINUTE: i64 = 60 * MICROS_PER_SECOND;
pub(super) const MICROS_PER_DAY: i64 = 24 * 60 * MICROS_PER_MINUTE;
/// 1000-01-01 in days.
const FIRST_DAY: i64 = -354_285;
/// 10000-01-01 in days, the first day out of range.
const END_DAY: i64 = 2_932_897;

/// Parses `YYYY-MM-DD`; returns days since 1970-01-01.
#[inline]
pub(in crate::schema) fn parse_date(text: &[u8]) -> Option<i32> {
    let [y1, y2, y3, y4, b'-', m1, m2, b'-', d1, d2] = *text else {
        return None;
    };
    let year = two_digits(y1, y2)? * 100 + two_digits(y3, y4)?;
    let month = two_digits(m1, m2)?;
    let day = two_digits(d1, d2)?;
    let exists = year >= 1000 && (1..=12).contains(&month) && day >= 1 && day <= days_in_month(year, month);
    exists.then(|| days_since_epoch(year, month, day))
}

/// Parses date and time without an offset; returns microseconds since 1970-01-01 00:00:00.
pub(in crate::schema) fn parse_date_time(text: &[u8]) -> Option<i64> {
    let (micros, rest) = split_date_time(text)?;
    rest.is_empty().then_some(micros)
}

/// Parses date and time with an offset (`Z`, `±HH`, `±HHMM`, `±HH:MM`); returns microseconds since 1970-01-01T00:00:00Z.
pub(in crate::schema) fn parse_instant(text: &[u8]) -> Option<i64> {
    let (local_micros, rest) = split_date_time(text)?;
    in_range(local_micros - parse_offset(rest)?)
}

/// Parses date and time with an offset that [`parse_instant`] does not accept: after a space, or as the word `UTC`.
#[cold]
pub(in crate::schema) fn parse_spaced_instant(text: &[u8]) -> Option<i64> {
    let (local_micros, rest) = split_date_time(text)?;
    in_range(local_micros - parse_any_offset(rest)?)
}

/// Parses an offset, also in the letters `z` and `UTC` and after a space.
pub(super) fn parse_any_offset(text: &[u8]) -> Option<i64> {
    match text.strip_prefix(b" ").unwrap_or(text) {
        b"z" => Some(0),
        utc if utc.eq_ignore_ascii_case(b"UTC") => Some(0),
        offset => parse_offset(offset),
    }
}

/// The microseconds, if they are in the years 1000 to 9999.
pub(super) fn in_range(micros: i64) -> Option<i64> {
    (FIRST_DAY..END_DAY).contains(&micros.div_euclid(MICROS_PER_DAY)).then_some(micros)
}

/// Writes `YYYY-MM-DD`.
pub(in crate::schema) fn write_date(days: i32, out: &mut Vec<u8>) {
    let (year, month, day) = civil_date(days.into());
    if (0..=9999).contains(&year) {
        write_two(year / 100, out);
        write_two(year % 100, out);
    } else {
        out.extend_from_slice(year.to_string().as_bytes());
    }
    out.push(b'-');
    write_two(month, out);
    out.push(b'-');
    write_two(day, out);
}

/// Writes `YYYY-MM-DD HH:MM:SS`, with six digits of a fraction unless it is zero.
pub(in crate::schema) fn write_date_time(micros: i64, out: &mut Vec<u8>) {
    // 32 bits hold the days of any 64-bit number of microseconds.
    write_date(micros.div_euclid(MICROS_PER_DAY) as i32, out);
    let of_day = micros.rem_euclid(MICROS_PER_DAY);
    let minutes = of_day / MICROS_PER_MINUTE;
    let seconds = of_day / MICROS_PER_SECOND % 60;
    for (separator, number) in [(b' ', minutes / 60), (b':', minutes % 60), (b':', seconds)] {
        out.push(separator);
        write_two(number, out);
    }
    let fraction = of_day % MICROS_PER_SECOND;
    if fraction > 0 {
        out.push(b'.');
        write_two(fraction / 10_000, out);
        write_two(fraction / 100 % 100, out);
        write_two(fraction % 100, out);
    }
}

/// Parses date and time at the start of a text; returns microseconds and the rest of the text.
#[inline]
fn split_date_time(text: &[u8]) -> Option<(i64, &[u8])> {
    let (date, rest) = text.split_at_checked(10)?;
    let [b'T' | b' ', h1, h2, b':', m1, m2, rest @ ..] = rest else {
        return None;
    };
    let hour = two_digits(*h1, *h2).filter(|hour| *hour <= 23)?;
    let minute = two_digits(*m1, *m2).filter(|minute| *minute <= 59)?;
    let days = parse_date(date)?;
    let mut micros = i64::from(days) * MICROS_PER_DAY + i64::from(hour * 60 + minute) * MICROS_PER_MINUTE;
    let [b':', s1, s2, rest @ ..] = rest else {
        return Some((micros, rest));
    };
    let second = two_digits(*s1, *s2).filter(|second| *second <= 59)?;
    micros += i64::from(second) * MICROS_PER_SECOND;
    let [b'.', fraction @ ..] = rest else {
        return Some((micros, rest));
    };
    let digits = fraction.iter().take_while(|byte| byte.is_ascii_digit()).count();
    if !(1..=6).contains(&digits) {
        return None;
    }
    let value = fraction[..digits].iter().fold(0, |sum, byte| sum * 10 + i64::from(byte - b'0'));
    Some((micros + value * 10i64.pow(6 - digits as u32), &fraction[digits..]))
}

/// Parses an offset; returns microseconds east of UTC. Offsets in use are between -12:00 and +14:00.
pub(super) fn parse_offset(text: &[u8]) -> Option<i64> {
    let (sign, hour, minute) = match *text {
        [b'Z'] => return Some(0),
        [sign @ (b'+' | b'-'), h1, h2] => (sign, two_digits(h1, h2)?, 0),
        [sign @ (b'+' | b'-'), h1, h2, m1, m2] | [sign @ (b'+' | b'-'), h1, h2, b':', m1, m2] => {
            (sign, two_digits(h1, h2)?, two_digits(m1, m2)?)
        }
        _ => return None,
    };
    if hour > 15 || minute > 59 {
        return None;
    }
    let micros = i64::from(hour * 60 + minute) * MICROS_PER_MINUTE;
    Some(if sign == b'-' { -micros } else { micros })
}

#[inline]
fn two_digits(tens: u8, ones: u8) -> Option<i32> {
    let (tens, ones) = (tens.wrapping_sub(b'0'), ones.wrapping_sub(b'0'));
    (tens <= 9 && ones <= 9).then(|| i32::from(tens) * 10 + i32::from(ones))
}

fn write_two(number: i64, out: &mut Vec<u8>) {
    out.extend_from_slice(&[b'0' + (number / 10) as u8, b'0' + (number % 10) as u8]);
}

#[inline]
fn days_in_month(year: i32, month: i32) -> i32 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// The days from 1970-01-01 to a date. Years start in March here, so that the leap day is the last of a year.
#[inline]
fn days_since_epoch(year: i32, month: i32, day: i32) -> i32 {
    let year_from_march = if month <= 2 { year - 1 } else { year };
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let leap_days = year_from_march / 4 - year_from_march / 100 + year_from_march / 400;
    year_from_march * 365 + leap_days + day_of_year - 719_468
}

/// Year, month and day of any number of days: the inverse of [`days_since_epoch`].
fn civil_date(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}
