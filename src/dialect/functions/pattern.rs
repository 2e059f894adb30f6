//! PostgreSQL's patterns of dates and times, `YYYY-MM-DD HH24:MI:SS.US`, for `to_char`, `to_timestamp` and
//! `to_date`.

/// A piece of a pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Piece {
    /// Text that stands for itself; whether it was quoted.
    Text(String, bool),
    /// A part of a time.
    Part {
        part: Part,
        /// How names are written.
        case: Case,
        /// `FM`: neither zeros nor spaces to fill it up.
        bare: bool,
        /// `TH`: a number's ending, written so.
        ending: Option<Case>,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Case {
    Upper,
    Title,
    Lower,
}

/// What a part is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Hour12,
    Hour24,
    Minute,
    Second,
    Millisecond,
    Microsecond,
    /// So many digits of the second's fraction.
    Fraction(usize),
    SecondOfDay,
    /// AM or PM; whether with dots.
    HalfDay(bool),
    /// So many last digits of the year; 5 is all, with a comma.
    Year(usize),
    IsoYear(usize),
    Era(bool),
    MonthName,
    MonthShort,
    Month,
    DayName,
    DayShort,
    DayOfYear,
    IsoDayOfYear,
    Day,
    /// From 1 on Sunday.
    DayOfWeek,
    /// From 1 on Monday.
    IsoDayOfWeek,
    WeekOfMonth,
    WeekOfYear,
    IsoWeek,
    Century,
    JulianDay,
    Quarter,
    RomanMonth,
    Zone,
    ZoneHours,
    ZoneMinutes,
    Offset,
}

/// The words of patterns, the longer of two that begin alike first.
const WORDS: &[(&str, Part)] = &[
    ("SSSSS", Part::SecondOfDay),
    ("MONTH", Part::MonthName),
    ("Y,YYY", Part::Year(5)),
    ("A.D.", Part::Era(true)),
    ("A.M.", Part::HalfDay(true)),
    ("B.C.", Part::Era(true)),
    ("HH12", Part::Hour12),
    ("HH24", Part::Hour24),
    ("IDDD", Part::IsoDayOfYear),
    ("IYYY", Part::IsoYear(4)),
    ("P.M.", Part::HalfDay(true)),
    ("SSSS", Part::SecondOfDay),
    ("YYYY", Part::Year(4)),
    ("DAY", Part::DayName),
    ("DDD", Part::DayOfYear),
    ("FF1", Part::Fraction(1)),
    ("FF2", Part::Fraction(2)),
    ("FF3", Part::Fraction(3)),
    ("FF4", Part::Fraction(4)),
    ("FF5", Part::Fraction(5)),
    ("FF6", Part::Fraction(6)),
    ("IYY", Part::IsoYear(3)),
    ("MON", Part::MonthShort),
    ("TZH", Part::ZoneHours),
    ("TZM", Part::ZoneMinutes),
    ("YYY", Part::Year(3)),
    ("AD", Part::Era(false)),
    ("AM", Part::HalfDay(false)),
    ("BC", Part::Era(false)),
    ("CC", Part::Century),
    ("DD", Part::Day),
    ("DY", Part::DayShort),
    ("HH", Part::Hour12),
    ("ID", Part::IsoDayOfWeek),
    ("IW", Part::IsoWeek),
    ("IY", Part::IsoYear(2)),
    ("MI", Part::Minute),
    ("MM", Part::Month),
    ("MS", Part::Millisecond),
    ("OF", Part::Offset),
    ("PM", Part::HalfDay(false)),
    ("RM", Part::RomanMonth),
    ("SS", Part::Second),
    ("TZ", Part::Zone),
    ("US", Part::Microsecond),
    ("WW", Part::WeekOfYear),
    ("YY", Part::Year(2)),
    ("D", Part::DayOfWeek),
    ("I", Part::IsoYear(1)),
    ("J", Part::JulianDay),
    ("Q", Part::Quarter),
    ("W", Part::WeekOfMonth),
    ("Y", Part::Year(1)),
];

pub(super) const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
/// From Sunday on.
pub(super) const DAYS: [&str; 7] =
    ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

/// Whether a pattern is of the engine's kind (`%Y-%m-%d`) and not PostgreSQL's, which has no use for `%`.
pub(super) fn is_strftime(pattern: &str) -> bool {
    pattern.contains('%')
}

/// Reads a pattern.
pub(super) fn parse(pattern: &str) -> Vec<Piece> {
    let mut pieces = vec![];
    let mut rest = pattern;
    let mut bare = false;
    while let Some(first) = rest.chars().next() {
        if first == '"' {
            rest = quoted(&rest[1..], &mut pieces);
            continue;
        }
        // FX and TM change nothing here: names are English, and blanks are never skipped where it matters.
        if let Some(after) = ["FM", "FX", "TM"].iter().find_map(|p| strip(rest, p)) {
            bare |= strip(rest, "FM").is_some();
            rest = after;
            continue;
        }
        let Some((word, part)) = WORDS.iter().find(|(word, _)| strip(rest, word).is_some()) else {
            text(&mut pieces, first, false);
            rest = &rest[first.len_utf8()..];
            continue;
        };
        let (written, after) = rest.split_at(word.len());
        let ending = strip(after, "TH").map(|_| case_of(&after[..2]));
        pieces.push(Piece::Part { part: *part, case: case_of(written), bare, ending });
        rest = if ending.is_some() { &after[2..] } else { after };
        bare = false;
    }
    pieces
}

/// Takes the text up to the closing quote; a backslash takes the next character as it is.
fn quoted<'a>(inside: &'a str, pieces: &mut Vec<Piece>) -> &'a str {
    let mut escaped = false;
    for (at, c) in inside.char_indices() {
        match c {
            '\\' if !escaped => escaped = true,
            '"' if !escaped => return &inside[at + 1..],
            c => {
                text(pieces, c, true);
                escaped = false;
            }
        }
    }
    ""
}

fn text(pieces: &mut Vec<Piece>, c: char, quoted: bool) {
    match pieces.last_mut() {
        Some(Piece::Text(text, same)) if *same == quoted => text.push(c),
        _ => pieces.push(Piece::Text(c.into(), quoted)),
    }
}

fn strip<'a>(text: &'a str, word: &str) -> Option<&'a str> {
    let head = text.get(..word.len())?;
    head.eq_ignore_ascii_case(word).then(|| &text[word.len()..])
}

fn case_of(written: &str) -> Case {
    let mut letters = written.chars().filter(char::is_ascii_alphabetic);
    match (letters.next(), letters.next()) {
        (Some(a), _) if a.is_ascii_lowercase() => Case::Lower,
        (Some(_), Some(b)) if b.is_ascii_lowercase() => Case::Title,
        _ => Case::Upper,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_is_words_and_what_stands_between() {
        let pieces = parse("FMDDth \"of\" Month");
        let part = |part, case, bare, ending| Piece::Part { part, case, bare, ending };
        assert_eq!(
            pieces,
            [
                part(Part::Day, Case::Upper, true, Some(Case::Lower)),
                Piece::Text(" ".into(), false),
                Piece::Text("of".into(), true),
                Piece::Text(" ".into(), false),
                part(Part::MonthName, Case::Title, false, None),
            ]
        );
    }
}
