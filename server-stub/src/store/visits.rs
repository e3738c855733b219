//! Sessions and API tokens: by what somebody comes in who was let in before. Only hashes are kept.

use rusqlite::{OptionalExtension, params};

use super::Tx;
use crate::account::{Role, Sight};
use crate::error::{HubError, StoreError};
use crate::secret::Sha256;

/// A session is noted as used at most so often, so that a request is not a write.
const SEEN_EVERY_MS: i64 = 60_000;

/// How long a session lasts.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lasting {
    /// Without a request of a person, milliseconds.
    pub(crate) idle_ms: i64,
    /// In all, milliseconds.
    pub(crate) all_ms: i64,
}

/// An API token, as it is listed.
#[derive(Debug, Clone)]
pub(crate) struct Token {
    pub(crate) account: i64,
    pub(crate) account_name: String,
    pub(crate) label: String,
    pub(crate) role: Role,
    pub(crate) sight: Sight,
    pub(crate) added_ms: i64,
    pub(crate) until_ms: i64,
}

const TOKENS: &str = "SELECT t.account, a.name, t.label, t.role, t.scopes, t.added_ms, t.until_ms
    FROM tokens t JOIN accounts a USING (account)";

fn token(row: &rusqlite::Row<'_>) -> rusqlite::Result<Token> {
    Ok(Token {
        account: row.get(0)?,
        account_name: row.get(1)?,
        label: row.get(2)?,
        role: Role::of_number(row.get(3)?),
        sight: Sight::of_text(&row.get::<_, String>(4)?),
        added_ms: row.get(5)?,
        until_ms: row.get(6)?,
    })
}

impl Tx<'_> {
    /// Opens a session, and removes those that have ended.
    pub(crate) fn open_session(&mut self, hash: &Sha256, account: i64, lasting: Lasting) -> Result<(), StoreError> {
        let now_ms = self.now_ms;
        self.sql("DELETE FROM sessions WHERE seen_ms <= ?1 OR until_ms <= ?2")?
            .execute([now_ms - lasting.idle_ms, now_ms])?;
        let until_ms = now_ms.saturating_add(lasting.all_ms);
        self.sql("INSERT INTO sessions (hash, account, began_ms, seen_ms, until_ms) VALUES (?1, ?2, ?3, ?3, ?4)")?
            .execute(params![hash, account, now_ms, until_ms])?;
        self.sql("UPDATE accounts SET login_ms = ?2 WHERE account = ?1")?.execute([account, now_ms])?;
        Ok(())
    }

    /// Whose session this is, if it has not ended, and whether it has to be noted that it is in use.
    pub(crate) fn session(&mut self, hash: &Sha256, lasting: Lasting) -> Result<Option<(i64, bool)>, StoreError> {
        let mut select = self.sql(
            "SELECT account, seen_ms <= ?4 FROM sessions
             WHERE hash = ?1 AND seen_ms > ?2 AND began_ms > ?3 AND until_ms > ?5",
        )?;
        let now_ms = self.now_ms;
        let ends = params![hash, now_ms - lasting.idle_ms, now_ms - lasting.all_ms, now_ms - SEEN_EVERY_MS, now_ms];
        Ok(select.query_row(ends, |row| Ok((row.get(0)?, row.get(1)?))).optional()?)
    }

    /// Notes that a person asked for something.
    pub(crate) fn note_seen(&mut self, hash: &Sha256) -> Result<(), StoreError> {
        self.sql("UPDATE sessions SET seen_ms = ?2 WHERE hash = ?1")?.execute(params![hash, self.now_ms])?;
        Ok(())
    }

    /// Ends a session.
    pub(crate) fn end_session(&mut self, hash: &Sha256) -> Result<(), StoreError> {
        self.sql("DELETE FROM sessions WHERE hash = ?1")?.execute([hash])?;
        Ok(())
    }

    /// Ends all sessions of an account.
    pub(crate) fn end_sessions(&mut self, account: i64) -> Result<(), StoreError> {
        self.sql("DELETE FROM sessions WHERE account = ?1")?.execute([account])?;
        Ok(())
    }

    /// Keeps a token. An account has one of a label.
    pub(crate) fn add_token(&mut self, hash: &Sha256, new: &Token) -> Result<(), HubError> {
        let taken: bool = self
            .sql("SELECT EXISTS (SELECT 1 FROM tokens WHERE account = ?1 AND label = ?2 AND NOT is_revoked)")?
            .query_row(params![new.account, new.label], |row| row.get(0))
            .map_err(StoreError::from)?;
        if taken {
            let told = format!("{} has a token {} already; revoke it first", new.account_name, new.label);
            return Err(HubError::Conflict(told));
        }
        let (role, scopes) = (new.role.number(), new.sight.text());
        self.sql(
            "INSERT INTO tokens (hash, account, label, role, scopes, added_ms, until_ms)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )?
        .execute(params![hash, new.account, new.label, role, scopes, self.now_ms, new.until_ms])
        .map_err(StoreError::from)?;
        Ok(())
    }

    /// The token with this hash, if it is good now.
    pub(crate) fn token_of(&mut self, hash: &Sha256) -> Result<Option<Token>, StoreError> {
        let mut select = self.sql(&format!("{TOKENS} WHERE t.hash = ?1 AND NOT t.is_revoked AND t.until_ms > ?2"))?;
        Ok(select.query_row(params![hash, self.now_ms], token).optional()?)
    }

    /// All tokens that were not revoked, by account and label.
    pub(crate) fn tokens(&mut self) -> Result<Vec<Token>, StoreError> {
        let mut select = self.sql(&format!("{TOKENS} WHERE NOT t.is_revoked ORDER BY a.name, t.label"))?;
        let tokens = select.query_map([], token)?.collect::<Result<_, _>>()?;
        Ok(tokens)
    }

    /// Revokes a token by account and label.
    pub(crate) fn revoke_token(&mut self, account: i64, label: &str) -> Result<(), HubError> {
        let changed = self
            .sql("UPDATE tokens SET is_revoked = 1 WHERE account = ?1 AND label = ?2 AND NOT is_revoked")?
            .execute(params![account, label])
            .map_err(StoreError::from)?;
        match changed {
            0 => Err(HubError::Missing(format!("token {label} of this account"))),
            _ => Ok(()),
        }
    }
}
