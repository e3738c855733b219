//! When this program was made: a time that has certainly passed, whatever a clock says.

/// Milliseconds since 1970. Whoever builds the program says so with `SOURCE_DATE_EPOCH`, as reproducible builds do; the clock
/// of the machine that builds is never asked, so that equal sources give equal programs.
pub const RELEASED_MS: i64 = {
    let said_ms = match option_env!("SOURCE_DATE_EPOCH") {
        Some(text) => seconds(text) * 1_000,
        None => 0,
    };
    if said_ms > SOURCE_MS { said_ms } else { SOURCE_MS }
};

/// 2026-11-01: these sources are newer.
const SOURCE_MS: i64 = 1_793_491_200_000;

/// A number that was written in digits; 0 if it was not.
const fn seconds(text: &str) -> i64 {
    let (mut rest, mut number) = (text.as_bytes(), 0);
    while let [digit, more @ ..] = rest {
        if !digit.is_ascii_digit() || number > 1 << 40 {
            return 0;
        }
        number = number * 10 + (*digit - b'0') as i64;
        rest = more;
    }
    number
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_date_of_the_program_is_read_as_it_is_written() {
        assert_eq!(
            [seconds("1793491200"), seconds(""), seconds("soon"), seconds("99999999999999999999")],
            [1_793_491_200, 0, 0, 0]
        );
    }
}
