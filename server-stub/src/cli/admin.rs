//! `outpost-hub admin`

use clap::Subcommand;
use qrcode::QrCode;
use qrcode::render::unicode::Dense1x2;
use serde_json::{Value as Json, json};
use zeroize::Zeroizing;

use super::Place;
use crate::account::{AccountName, Role, Sight};
use crate::config::Tls;
use crate::error::HubError;
use crate::login::Doors;
use crate::secret;
use crate::staff::{self, Boss, Change, TOKEN_DAYS, TOKEN_DAYS_MAX, Wish};
use crate::store::Tx;
use crate::totp;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Add an account and print the code by which its owner sets a password
    Add {
        /// Its name: a to z, digits, '-', '_', '.', '@'
        name: AccountName,
        /// What it may do
        #[arg(long)]
        role: Role,
        /// A scope whose records it sees, such as mw/zomba
        #[arg(long = "scope", required_unless_present = "everything", conflicts_with = "everything")]
        scopes: Vec<String>,
        /// Instead of scopes: all records that there are
        #[arg(long)]
        everything: bool,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Show all accounts
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Change what an account may do or see; it is logged out
    Role {
        /// Its name
        name: AccountName,
        /// What it may do
        #[arg(long, required_unless_present_any = ["scopes", "everything"])]
        role: Option<Role>,
        /// A scope whose records it sees
        #[arg(long = "scope", conflicts_with = "everything")]
        scopes: Vec<String>,
        /// Instead of scopes: all records that there are
        #[arg(long)]
        everything: bool,
    },
    /// Print a new code by which an account's owner sets a password; the one before is good until then
    Password {
        /// Its name
        name: AccountName,
    },
    /// Close an account: it is logged out, and its tokens are worth nothing
    Disable {
        /// Its name
        name: AccountName,
    },
    /// Open an account again
    Enable {
        /// Its name
        name: AccountName,
    },
    /// Give an account a second factor, and print its secret, once
    Totp {
        /// Its name
        name: AccountName,
        /// Take it away instead: the telephone was lost
        #[arg(long)]
        off: bool,
    },
    /// Say who an account's owner is at the login provider (OpenID Connect)
    Link {
        /// Its name
        name: AccountName,
        /// What the provider calls the person in its claim `sub`; the audit has it of who was refused because nobody linked him
        subject: String,
    },
    /// Forget who an account's owner is at the login provider; it is logged out. Its password is a way in again: to shut a person out
    /// there is `disable`
    Unlink {
        /// Its name
        name: AccountName,
    },
    /// Tokens for programs
    #[command(subcommand)]
    Token(TokenCommand),
}

#[derive(Debug, Subcommand)]
pub(super) enum TokenCommand {
    /// Print a new token, once; a program sends it as Authorization: Bearer
    Add {
        /// For which account
        name: AccountName,
        /// What it is for: letters, digits, '-', '_', '.'
        label: String,
        /// What it may do, if less than the account
        #[arg(long)]
        role: Option<Role>,
        /// A scope that it sees, if less than the account
        #[arg(long = "scope")]
        scopes: Vec<String>,
        /// How long it is good
        #[arg(long, default_value_t = TOKEN_DAYS, value_parser = clap::value_parser!(u32).range(1..=i64::from(TOKEN_DAYS_MAX)))]
        days: u32,
    },
    /// Show all tokens
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// End a token at once
    Revoke {
        /// Of which account
        name: AccountName,
        /// Its label
        label: String,
    },
}

impl Place<'_> {
    /// Decides about accounts, as who may write the database may.
    fn decide<T>(&self, act: impl FnOnce(&mut Tx<'_>, &Boss) -> Result<T, HubError>) -> Result<T, HubError> {
        self.write(|tx, actor| act(tx, &Boss { actor: actor.clone(), sight: Sight::everything() }))
    }
}

pub(super) fn run(place: &mut Place<'_>, command: Command) -> Result<(), HubError> {
    let hours = place.config.code_hours_valid;
    match command {
        Command::Add { name, role, scopes, everything, json } => {
            let sight = Sight::wanted(&scopes, everything)?;
            let code = place.decide(|tx, boss| staff::add(tx, boss, (&name, role, &sight), hours))?;
            match json {
                true => place.say_json(&json!({ "name": name.as_str(), "code": code, "hours_valid": hours })),
                false => say_code(place, &name, &code)?,
            }
        }
        Command::List { json } => {
            let told = place.read(|tx| {
                let now_ms = tx.now_ms;
                Ok(tx.accounts()?.iter().map(|account| staff::view(account, now_ms)).collect::<Vec<_>>())
            })?;
            say_list(place, &told, json, &["name", "role", "scopes", "state", "last_login_at", "subject"]);
        }
        Command::Role { name, role, scopes, everything } => {
            let is_sight = everything || !scopes.is_empty();
            let sight = is_sight.then(|| Sight::wanted(&scopes, everything)).transpose()?;
            place.decide(|tx, boss| staff::change(tx, boss, &name, Change { role, sight, is_disabled: None }))?;
            place.say(format!("{name} has other rights from its next login on"));
        }
        Command::Password { name } => {
            let doors = Doors::of(&place.config);
            let code = place.decide(|tx, boss| staff::give_code(tx, boss, &name, doors, hours))?;
            say_code(place, &name, &code)?;
        }
        Command::Disable { name } => {
            set_disabled(place, &name, true)?;
            place.say(format!("{name} is closed: logged out, and its tokens are worth nothing"));
        }
        Command::Enable { name } => {
            set_disabled(place, &name, false)?;
            place.say(format!("{name} is open again, with the password that it had; so are its tokens"));
        }
        Command::Totp { name, off: true } => {
            place.decide(|tx, boss| staff::set_totp(tx, boss, &name, &[]))?;
            place.say(format!("{name} needs no second factor any more"));
        }
        Command::Totp { name, off: false } => {
            let key = secret::totp_key()?;
            place.decide(|tx, boss| staff::set_totp(tx, boss, &name, key.as_slice()))?;
            let secret = Zeroizing::new(totp::base32(key.as_slice()));
            place.say(format!("secret: {}", secret.as_str()));
            let picture = QrCode::new(totp::url(name.as_str(), &secret));
            place.say(picture.map(|picture| picture.render::<Dense1x2>().build()).unwrap_or_default());
            place.say("shown once; put it into an app for one-time codes now. Telephone lost: admin totp NAME --off");
        }
        Command::Link { name, subject } => {
            let issuer = place.config.oidc.issuer.clone();
            if issuer.is_empty() {
                return Err(HubError::Config("no login provider is configured: [oidc] issuer".to_owned()));
            }
            place.decide(|tx, boss| staff::link(tx, boss, &name, (&issuer, &subject)))?;
            place.say(format!("{name} can log in at {issuer}"));
        }
        Command::Unlink { name } => {
            place.decide(|tx, boss| staff::unlink(tx, boss, &name))?;
            place.say(format!("{name} is logged out, and cannot log in by the login provider any more"));
            place.say("a password that it has is a way in again, and its tokens go on; to shut the person out: admin disable NAME");
        }
        Command::Token(command) => run_token(place, command)?,
    }
    Ok(())
}

fn set_disabled(place: &Place<'_>, name: &AccountName, is_disabled: bool) -> Result<(), HubError> {
    let change = Change { is_disabled: Some(is_disabled), ..Change::default() };
    place.decide(|tx, boss| staff::change(tx, boss, name, change)).map(drop)
}

fn run_token(place: &mut Place<'_>, command: TokenCommand) -> Result<(), HubError> {
    match command {
        TokenCommand::Add { name, label, role, scopes, days } => {
            let sight = (!scopes.is_empty()).then(|| Sight::wanted(&scopes, false)).transpose()?;
            let (text, hash) = staff::new_token()?;
            let wish = Wish { label, role, sight, days };
            place.decide(|tx, boss| staff::add_token(tx, boss, &name, wish, &hash))?;
            place.say(text.as_str());
        }
        TokenCommand::List { json } => {
            let told = place.read(|tx| {
                let now_ms = tx.now_ms;
                Ok(tx.tokens()?.iter().map(|token| staff::token_view(token, now_ms)).collect::<Vec<_>>())
            })?;
            say_list(place, &told, json, &["account", "label", "role", "scopes", "state", "valid_until"]);
        }
        TokenCommand::Revoke { name, label } => {
            place.decide(|tx, boss| staff::revoke_token(tx, boss, &name, &label))?;
            place.say("revoked");
        }
    }
    Ok(())
}

/// A list as JSON, or a line for each with these of its keys.
fn say_list(place: &mut Place<'_>, told: &[Json], as_json: bool, keys: &[&str]) {
    let text = |value: &Json| match value {
        Json::String(text) => text.clone(),
        Json::Array(scopes) => {
            let scopes =
                scopes.iter().map(|scope| scope.as_str().filter(|scope| !scope.is_empty()).unwrap_or("everything"));
            scopes.collect::<Vec<_>>().join(",")
        }
        other => other.to_string(),
    };
    match as_json {
        true => place.say_json(&told),
        false if told.is_empty() => place.say("none"),
        false => told.iter().for_each(|one| {
            let line: Vec<String> = keys.iter().filter_map(|key| one.get(*key)).map(text).collect();
            place.say(line.join("\t"));
        }),
    }
}

/// Says where, and by what code, the owner of an account sets a password.
pub(super) fn say_code(place: &mut Place<'_>, name: &AccountName, code: &str) -> Result<(), HubError> {
    let known = place.database()?.read(crate::clock::now_ms(), |tx| tx.known_address())?;
    let address = if known.is_empty() { place.config.listen.to_string() } else { known };
    let scheme = if place.config.tls == Tls::Off { "http" } else { "https" };
    let hours = place.config.code_hours_valid;
    place.say(format!(
        "{name} sets a password at {scheme}://{address}/password with this code, once, within {hours} hours:"
    ));
    place.say(code);
    Ok(())
}
