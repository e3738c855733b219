//! Accounts, as they are kept.

use rusqlite::{OptionalExtension, Row, params};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::Tx;
use crate::account::{Account, AccountName, Role, Sight};
use crate::error::{HubError, StoreError};
use crate::secret::{Sha256, normal_code, sha256};

const COLUMNS: &str = "SELECT account, name, role, scopes, is_disabled, password <> '', totp_key <> x'', code_until_ms, login_ms, i.issuer, i.subject
    FROM accounts LEFT JOIN identities i USING (account)";

/// What an account is opened with.
#[derive(Debug, Default)]
pub(crate) struct Locks {
    /// argon2id, as a PHC string; empty if there is none.
    pub(crate) password: String,
    /// The secret of the second factor; empty if there is none.
    pub(crate) totp_key: Zeroizing<Vec<u8>>,
    pub(crate) totp_step: i64,
    /// The hash of the one-time code, if it can be used now.
    pub(crate) code: Option<Sha256>,
}

impl Locks {
    /// Whether this code opens the account.
    pub(crate) fn opens(&self, code: &str) -> bool {
        let shown = sha256(normal_code(code).as_bytes());
        self.code.is_some_and(|known| known.ct_eq(&shown).into())
    }
}

fn account(row: &Row<'_>) -> Result<Account, HubError> {
    let get = || -> rusqlite::Result<_> {
        let (name, scopes): (String, String) = (row.get(1)?, row.get(3)?);
        Ok((row.get(0)?, name, row.get(2)?, scopes, row.get(4)?, row.get(5)?, row.get(6)?, row.get(7)?, row.get(8)?))
    };
    let identity = || -> rusqlite::Result<_> {
        let (issuer, subject): (Option<String>, Option<String>) = (row.get(9)?, row.get(10)?);
        Ok(issuer.zip(subject))
    };
    let identity = identity().map_err(StoreError::from)?;
    let (number, name, role, scopes, is_disabled, has_password, has_totp, code_until_ms, login_ms) =
        get().map_err(StoreError::from)?;
    Ok(Account {
        number,
        name: name.parse()?,
        role: Role::of_number(role),
        sight: Sight::of_text(&scopes),
        is_disabled,
        has_password,
        has_totp,
        code_until_ms,
        login_ms,
        identity,
    })
}

impl Tx<'_> {
    /// All accounts, by name.
    pub(crate) fn accounts(&mut self) -> Result<Vec<Account>, HubError> {
        let mut select = self.sql(&format!("{COLUMNS} ORDER BY name"))?;
        let mut rows = select.query([]).map_err(StoreError::from)?;
        let mut all = Vec::new();
        while let Some(row) = rows.next().map_err(StoreError::from)? {
            all.push(account(row)?);
        }
        Ok(all)
    }

    /// One account by its name, if there is one.
    pub(crate) fn find_account(&mut self, name: &AccountName) -> Result<Option<Account>, HubError> {
        let mut select = self.sql(&format!("{COLUMNS} WHERE name = ?1"))?;
        let found = select.query_row([name.as_str()], |row| Ok(account(row))).optional().map_err(StoreError::from)?;
        found.transpose()
    }

    /// One account by its name.
    pub(crate) fn account_named(&mut self, name: &AccountName) -> Result<Account, HubError> {
        self.find_account(name)?.ok_or_else(|| HubError::Missing(format!("account named {name}")))
    }

    /// One account by its number.
    pub(crate) fn account_numbered(&mut self, number: i64) -> Result<Option<Account>, HubError> {
        let mut select = self.sql(&format!("{COLUMNS} WHERE account = ?1"))?;
        let found = select.query_row([number], |row| Ok(account(row))).optional().map_err(StoreError::from)?;
        found.transpose()
    }

    /// Adds an account that nobody can open yet.
    pub(crate) fn add_account(&mut self, name: &AccountName, role: Role, sight: &Sight) -> Result<(), HubError> {
        if self.find_account(name)?.is_some() {
            return Err(HubError::Conflict(format!("there is an account named {name}; names are not used twice")));
        }
        self.sql("INSERT INTO accounts (name, role, scopes, added_ms) VALUES (?1, ?2, ?3, ?4)")?
            .execute(params![name.as_str(), role.number(), sight.text(), self.now_ms])
            .map_err(StoreError::from)?;
        Ok(())
    }

    /// Gives an account other rights. Its sessions end: they were opened with those before.
    pub(crate) fn change_account(&mut self, changed: &Account) -> Result<(), StoreError> {
        self.sql("UPDATE accounts SET role = ?2, scopes = ?3, is_disabled = ?4 WHERE account = ?1")?
            .execute(params![changed.number, changed.role.number(), changed.sight.text(), changed.is_disabled])?;
        if changed.is_disabled {
            self.sql("UPDATE accounts SET code_hash = x'' WHERE account = ?1")?.execute([changed.number])?;
        }
        self.end_sessions(changed.number)
    }

    /// What an account is opened with.
    pub(crate) fn locks_of(&mut self, account: i64) -> Result<Locks, StoreError> {
        let mut select = self.sql(
            "SELECT password, totp_key, totp_step, CASE WHEN code_until_ms > ?2 THEN code_hash END FROM accounts
             WHERE account = ?1",
        )?;
        let locks = select.query_row(params![account, self.now_ms], |row| {
            let code: Option<Vec<u8>> = row.get(3)?;
            Ok(Locks {
                password: row.get(0)?,
                totp_key: Zeroizing::new(row.get(1)?),
                totp_step: row.get(2)?,
                code: code.and_then(|code| code.try_into().ok()),
            })
        });
        Ok(locks.optional()?.unwrap_or_default())
    }

    /// Gives an account a code, in place of any it had. It is kept as a hash.
    pub(crate) fn set_password_code(&mut self, account: i64, code: &str, until_ms: i64) -> Result<(), StoreError> {
        let hash = sha256(normal_code(code).as_bytes());
        self.sql("UPDATE accounts SET code_hash = ?2, code_until_ms = ?3 WHERE account = ?1")?
            .execute(params![account, hash, until_ms])?;
        Ok(())
    }

    /// Gives an account a password. A code that is open is void, and all its sessions end.
    pub(crate) fn set_password(&mut self, account: i64, phc: &str) -> Result<(), StoreError> {
        self.sql("UPDATE accounts SET password = ?2, code_hash = x'', code_until_ms = 0 WHERE account = ?1")?
            .execute(params![account, phc])?;
        self.end_sessions(account)
    }

    /// Gives an account a second factor, or takes it away by an empty secret.
    pub(crate) fn set_totp(&mut self, account: i64, key: &[u8]) -> Result<(), StoreError> {
        self.sql("UPDATE accounts SET totp_key = ?2, totp_step = 0 WHERE account = ?1")?
            .execute(params![account, key])?;
        self.end_sessions(account)
    }

    /// Notes that a code of this step was taken.
    pub(crate) fn note_totp(&mut self, account: i64, step: i64) -> Result<(), StoreError> {
        self.sql("UPDATE accounts SET totp_step = ?2 WHERE account = ?1")?.execute(params![account, step])?;
        Ok(())
    }
}
