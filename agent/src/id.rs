//! Ids for records that come without one.

use sync_protocol::id::RecordId;

use crate::error::Error;

/// A new UUIDv7 (RFC 9562): 48 bits of time, the rest random. Never derived from the device, which may have a twin.
///
/// # Errors
/// [`Error::Io`] if the system has no random bytes.
pub fn mint_id(now_ms: i64) -> Result<RecordId, Error> {
    let mut random = [0; 10];
    getrandom::fill(&mut random).map_err(|e| Error::Io(std::io::Error::from(e)))?;
    let uuid = uuid::Builder::from_unix_timestamp_millis(u64::try_from(now_ms).unwrap_or(0), &random).into_uuid();
    Ok(RecordId::new(&uuid.hyphenated().to_string())?)
}
