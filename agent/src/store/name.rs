//! How a record id is kept: a UUID in its usual form as its 16 bytes, anything else as text.
//!
//! The id stands in the row and in its index, so this saves 40 bytes a record. In lists, SQLite's order holds: ids that are
//! text first, by their bytes, then UUIDs, by theirs.

use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, Value, ValueRef};
use sync_protocol::id::RecordId;
use uuid::Uuid;

/// The value of the column `id`.
pub(super) fn id_value(id: &RecordId) -> Value {
    let uuid = Uuid::try_parse(id.as_str()).ok();
    // Only the form that is written back: a UUID in capitals is another id.
    match uuid.filter(|uuid| uuid.as_hyphenated().encode_lower(&mut Uuid::encode_buffer()) == id.as_str()) {
        Some(uuid) => Value::Blob(uuid.into_bytes().to_vec()),
        None => Value::Text(id.as_str().to_owned()),
    }
}

/// An id as it is read; the text is not checked.
pub(super) struct IdText(pub(super) String);

impl FromSql for IdText {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        match value {
            ValueRef::Text(_) => value.as_str().map(|text| IdText(text.to_owned())),
            ValueRef::Blob(bytes) => match Uuid::from_slice(bytes) {
                Ok(uuid) => Ok(IdText(uuid.as_hyphenated().to_string())),
                Err(error) => Err(FromSqlError::Other(Box::new(error))),
            },
            _ => Err(FromSqlError::InvalidType),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_come_back_as_they_were() {
        let ids = [
            "0197ad3c-5a00-7000-8000-0123456789ab",
            "0197AD3C-5A00-7000-8000-0123456789AB",
            "0197ad3c5a0070008000012345678901",
            "p-1",
        ];
        for (id, is_short) in ids.into_iter().zip([true, false, false, false]) {
            let value = id_value(&RecordId::new(id).unwrap());
            assert_eq!(matches!(value, Value::Blob(_)), is_short, "{id}");
            assert_eq!(IdText::column_result(ValueRef::from(&value)).unwrap().0, id);
        }
    }
}
