//! Pages of lists. One ends with the row that is the last of so many, or that reaches so many bytes, whichever is first: a record may
//! have as many bytes as a thousand others.

use serde_json::Value as Json;

use crate::error::HubError;
use crate::store::Tx;

pub(super) const LIMIT_DEFAULT: usize = 100;
pub(super) const LIMIT_MAX: usize = 1_000;
/// A page ends with the row that reaches this, bytes of JSON.
pub(super) const PAGE_BYTES_MAX: usize = 1024 * 1024;
/// Rows looked at for one page.
const SCAN_MAX: usize = 20_000;
/// Rows that are in memory at a time: few, because each may be a large one.
pub(super) const STEP: usize = 16;

/// The rows of a page as they are told, and the row after which the next one begins. `read` gives the rows after one, or the first,
/// and at most [`STEP`] of them; `tell` gives what is told of a row, or nothing if it does not belong on the page.
pub(super) fn filled<'a, R>(
    tx: &mut Tx<'a>,
    limit: usize,
    mut read: impl FnMut(&mut Tx<'a>, Option<&R>) -> Result<Vec<R>, HubError>,
    mut tell: impl FnMut(&mut Tx<'a>, &R) -> Result<Option<Json>, HubError>,
) -> Result<(Vec<Json>, Option<R>), HubError> {
    let (mut told, mut bytes, mut seen, mut last) = (Vec::new(), 0, 0, None);
    loop {
        let rows = read(tx, last.as_ref())?;
        let is_end = rows.len() < STEP;
        for row in rows {
            seen += 1;
            if let Some(one) = tell(tx, &row)? {
                bytes += one.to_string().len();
                told.push(one);
            }
            if told.len() >= limit || bytes >= PAGE_BYTES_MAX || seen >= SCAN_MAX {
                return Ok((told, Some(row)));
            }
            last = Some(row);
        }
        if is_end {
            return Ok((told, None));
        }
    }
}
