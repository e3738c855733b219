//! What is done about accounts, by command and over the API: whoever does it gives away nothing that he does not have.

use serde_json::{Value as Json, json};
use zeroize::Zeroizing;

use crate::account::{Account, AccountName, Role, Sight};
use crate::audit::{Actor, What};
use crate::caller::TOKEN_PREFIX;
use crate::clock::rfc3339;
use crate::error::HubError;
use crate::login::Doors;
use crate::secret::{self, Sha256, sha256};
use crate::store::{Token, Tx};

const HOUR_MS: i64 = 3_600_000;
const LABEL_BYTES_MAX: usize = 64;
/// How long a name at a login provider is (OpenID Connect Core, 2).
const SUBJECT_BYTES_MAX: usize = 255;
/// Accounts of a hub, closed ones included.
const ACCOUNTS_MAX: usize = 1_000;
/// Tokens of an account that were not revoked.
const TOKENS_MAX: usize = 50;
/// How long a token is good at most.
pub(crate) const TOKEN_DAYS_MAX: u32 = 366;
pub(crate) const TOKEN_DAYS: u32 = 90;

/// Who does it, and what they see.
#[derive(Debug, Clone)]
pub(crate) struct Boss {
    pub(crate) actor: Actor,
    pub(crate) sight: Sight,
}

/// What shall be different about an account.
#[derive(Debug, Default)]
pub(crate) struct Change {
    pub(crate) role: Option<Role>,
    pub(crate) sight: Option<Sight>,
    pub(crate) is_disabled: Option<bool>,
}

/// What a new token shall be.
#[derive(Debug)]
pub(crate) struct Wish {
    pub(crate) label: String,
    /// That of the account, if none is named.
    pub(crate) role: Option<Role>,
    /// That of the account, if none is named.
    pub(crate) sight: Option<Sight>,
    pub(crate) days: u32,
}

/// An account as its managers see it.
pub(crate) fn view(account: &Account, now_ms: i64) -> Json {
    let state = match account {
        Account { is_disabled: true, .. } => "disabled",
        Account { has_password: true, .. } | Account { identity: Some(_), .. } => "open",
        Account { code_until_ms, .. } if *code_until_ms > now_ms => "waiting for a password",
        _ => "needs a new code",
    };
    let (issuer, subject) = account.identity.clone().unwrap_or_default();
    json!({
        "name": account.name.as_str(),
        "role": account.role,
        "scopes": account.sight.names(),
        "everything": account.sight.sees_everything(),
        "state": state,
        "second_factor": account.has_totp,
        "last_login_at": rfc3339(account.login_ms),
        "issuer": issuer,
        "subject": subject,
    })
}

/// A token as it is listed.
pub(crate) fn token_view(token: &Token, now_ms: i64) -> Json {
    json!({
        "account": token.account_name,
        "label": token.label,
        "role": token.role,
        "scopes": token.sight.names(),
        "added_at": rfc3339(token.added_ms),
        "valid_until": rfc3339(token.until_ms),
        "state": if token.until_ms > now_ms { "good" } else { "ended" },
    })
}

/// One account, if it is within what the boss sees: others are not there.
pub(crate) fn within(tx: &mut Tx<'_>, boss: &Boss, name: &AccountName) -> Result<Account, HubError> {
    let found = tx.account_named(name)?;
    match found.sight.is_within(&boss.sight) {
        true => Ok(found),
        false => Err(HubError::Missing(format!("account named {name}"))),
    }
}

fn check_within(boss: &Boss, sight: &Sight) -> Result<(), HubError> {
    match sight.is_within(&boss.sight) {
        true => Ok(()),
        false => Err(HubError::NotAllowed("you cannot let others see what you do not see".to_owned())),
    }
}

/// Adds an account, and gives the code by which its owner sets a password.
pub(crate) fn add(
    tx: &mut Tx<'_>,
    boss: &Boss,
    (name, role, sight): (&AccountName, Role, &Sight),
    hours: u32,
) -> Result<Zeroizing<String>, HubError> {
    add_closed(tx, boss, (name, role, sight))?;
    let account = tx.account_named(name)?;
    new_code(tx, boss, &account, hours)
}

/// Adds an account that nobody can open yet.
fn add_closed(tx: &mut Tx<'_>, boss: &Boss, (name, role, sight): (&AccountName, Role, &Sight)) -> Result<(), HubError> {
    check_within(boss, sight)?;
    if tx.accounts()?.len() >= ACCOUNTS_MAX {
        return Err(HubError::Conflict(format!(
            "a hub has at most {ACCOUNTS_MAX} accounts; enable one that is closed"
        )));
    }
    tx.add_account(name, role, sight)?;
    let target = json!({ "account": name.as_str(), "role": role, "scopes": sight.names() });
    Ok(tx.audit(&boss.actor, What::AddAccount, &target)?)
}

/// Adds an account for somebody whom a login provider knows.
pub(crate) fn add_linked(
    tx: &mut Tx<'_>,
    boss: &Boss,
    new: (&AccountName, Role, &Sight),
    identity: (&str, &str),
) -> Result<Account, HubError> {
    add_closed(tx, boss, new)?;
    link(tx, boss, new.0, identity)
}

/// Whether somebody can be called so at a login provider.
pub(crate) fn is_subject(text: &str) -> bool {
    let is_fine = |c: char| c.is_ascii_graphic() || c == ' ';
    !text.is_empty() && text.len() <= SUBJECT_BYTES_MAX && text.chars().all(is_fine)
}

/// Says who the owner of an account is at a login provider.
pub(crate) fn link(
    tx: &mut Tx<'_>,
    boss: &Boss,
    name: &AccountName,
    (issuer, subject): (&str, &str),
) -> Result<Account, HubError> {
    let account = within(tx, boss, name)?;
    if !is_subject(subject) {
        let told = format!("a subject has 1 to {SUBJECT_BYTES_MAX} characters of ASCII; it is no e-mail address");
        return Err(HubError::Invalid(told));
    }
    if account.identity.is_some() {
        return Err(HubError::Conflict(format!("{name} is linked to somebody; unlink it first")));
    }
    if tx.account_of_identity(issuer, subject)?.is_some() {
        return Err(HubError::Conflict("another account is linked to that subject".to_owned()));
    }
    tx.link(account.number, issuer, subject)?;
    let target = json!({ "account": name.as_str(), "issuer": issuer, "subject": subject });
    tx.audit(&boss.actor, What::LinkAccount, &target)?;
    tx.account_named(name)
}

/// Forgets who that is. The sessions of the account end.
pub(crate) fn unlink(tx: &mut Tx<'_>, boss: &Boss, name: &AccountName) -> Result<(), HubError> {
    let account = within(tx, boss, name)?;
    let told = || HubError::Missing(format!("login provider that {name} is linked to"));
    let (issuer, subject) = account.identity.ok_or_else(told)?;
    tx.unlink(account.number)?;
    let target = json!({ "account": name.as_str(), "issuer": issuer, "subject": subject });
    Ok(tx.audit(&boss.actor, What::UnlinkAccount, &target)?)
}

/// Gives an account a new code, for who forgot the password. The password before stays until the code is used.
pub(crate) fn give_code(
    tx: &mut Tx<'_>,
    boss: &Boss,
    name: &AccountName,
    doors: Doors,
    hours: u32,
) -> Result<Zeroizing<String>, HubError> {
    let account = within(tx, boss, name)?;
    if account.is_disabled {
        return Err(HubError::Conflict(format!("{name} is disabled")));
    }
    if doors.are_closed_to(&account) {
        return Err(HubError::Conflict(format!(
            "{name} is linked, and a password opens no linked account (password_of_linked = false); if it shall have one: outpost-hub admin unlink {name}"
        )));
    }
    new_code(tx, boss, &account, hours)
}

fn new_code(tx: &mut Tx<'_>, boss: &Boss, account: &Account, hours: u32) -> Result<Zeroizing<String>, HubError> {
    let code = secret::code()?;
    tx.set_password_code(account.number, &code, tx.now_ms.saturating_add(i64::from(hours) * HOUR_MS))?;
    tx.audit(&boss.actor, What::GivePasswordCode, &json!({ "account": account.name.as_str() }))?;
    Ok(code)
}

/// Gives an account other rights, or closes it, or opens it again. Its sessions end.
pub(crate) fn change(tx: &mut Tx<'_>, boss: &Boss, name: &AccountName, change: Change) -> Result<Account, HubError> {
    let mut account = within(tx, boss, name)?;
    account.role = change.role.unwrap_or(account.role);
    account.is_disabled = change.is_disabled.unwrap_or(account.is_disabled);
    if let Some(sight) = change.sight {
        check_within(boss, &sight)?;
        account.sight = sight;
    }
    tx.change_account(&account)?;
    let target = json!({
        "account": name.as_str(),
        "role": account.role,
        "scopes": account.sight.names(),
        "disabled": account.is_disabled,
    });
    tx.audit(&boss.actor, What::ChangeAccount, &target)?;
    Ok(account)
}

/// Gives an account a second factor, or takes it away. Its sessions end.
pub(crate) fn set_totp(tx: &mut Tx<'_>, boss: &Boss, name: &AccountName, key: &[u8]) -> Result<(), HubError> {
    let account = within(tx, boss, name)?;
    tx.set_totp(account.number, key)?;
    let target = json!({ "account": name.as_str(), "on": !key.is_empty() });
    Ok(tx.audit(&boss.actor, What::SetSecondFactor, &target)?)
}

/// A new token in words, and as it is kept.
pub(crate) fn new_token() -> Result<(Zeroizing<String>, Sha256), HubError> {
    let text = Zeroizing::new(format!("{TOKEN_PREFIX}{}", secret::pass()?.as_str()));
    let hash = sha256(text.as_bytes());
    Ok((text, hash))
}

/// Gives an account a token, with no more rights than it has itself.
pub(crate) fn add_token(
    tx: &mut Tx<'_>,
    boss: &Boss,
    name: &AccountName,
    wish: Wish,
    hash: &Sha256,
) -> Result<Token, HubError> {
    let account = within(tx, boss, name)?;
    let is_fine = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let Wish { label, role, sight, days } = wish;
    if label.is_empty() || label.len() > LABEL_BYTES_MAX || !label.chars().all(is_fine) {
        let told = format!("a label has 1 to {LABEL_BYTES_MAX} letters, digits, '-', '_' and '.'");
        return Err(HubError::Invalid(told));
    }
    if !(1..=TOKEN_DAYS_MAX).contains(&days) {
        return Err(HubError::Invalid(format!("a token is good for 1 to {TOKEN_DAYS_MAX} days")));
    }
    if tx.tokens()?.iter().filter(|token| token.account == account.number).count() >= TOKENS_MAX {
        return Err(HubError::Conflict(format!("an account has at most {TOKENS_MAX} tokens; revoke one first")));
    }
    let (role, sight) = (role.unwrap_or(account.role), sight.unwrap_or_else(|| account.sight.clone()));
    if account.is_disabled || role > account.role || !sight.is_within(&account.sight) {
        return Err(HubError::NotAllowed(format!("a token cannot do or see more than {name} can")));
    }
    let token = Token {
        account: account.number,
        account_name: name.to_string(),
        label,
        role,
        sight,
        added_ms: tx.now_ms,
        until_ms: tx.now_ms.saturating_add(i64::from(days) * 24 * HOUR_MS),
    };
    tx.add_token(hash, &token)?;
    let target = json!({ "account": name.as_str(), "label": token.label, "role": role, "scopes": token.sight.names(), "days": days });
    tx.audit(&boss.actor, What::AddToken, &target)?;
    Ok(token)
}

/// Ends a token at once.
pub(crate) fn revoke_token(tx: &mut Tx<'_>, boss: &Boss, name: &AccountName, label: &str) -> Result<(), HubError> {
    let account = within(tx, boss, name)?;
    tx.revoke_token(account.number, label)?;
    Ok(tx.audit(&boss.actor, What::RevokeToken, &json!({ "account": name.as_str(), "label": label }))?)
}
