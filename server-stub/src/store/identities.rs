//! Who an account's owner is at a login provider.

use rusqlite::{OptionalExtension, params};

use super::Tx;
use crate::error::StoreError;

impl Tx<'_> {
    /// The account of somebody at a provider, if there is one.
    pub(crate) fn account_of_identity(&mut self, issuer: &str, subject: &str) -> Result<Option<i64>, StoreError> {
        let mut select = self.sql("SELECT account FROM identities WHERE issuer = ?1 AND subject = ?2")?;
        Ok(select.query_row([issuer, subject], |row| row.get(0)).optional()?)
    }

    /// Keeps who the owner of an account is.
    pub(crate) fn link(&mut self, account: i64, issuer: &str, subject: &str) -> Result<(), StoreError> {
        self.sql("INSERT INTO identities (issuer, subject, account, linked_ms) VALUES (?1, ?2, ?3, ?4)")?
            .execute(params![issuer, subject, account, self.now_ms])?;
        Ok(())
    }

    /// Forgets it. The sessions of the account end: they may have been opened by it.
    pub(crate) fn unlink(&mut self, account: i64) -> Result<(), StoreError> {
        self.sql("DELETE FROM identities WHERE account = ?1")?.execute([account])?;
        self.end_sessions(account)
    }
}
