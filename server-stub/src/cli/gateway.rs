//! `outpost-hub gateway`

use std::collections::BTreeSet;
use std::net::SocketAddr;

use clap::Subcommand;
use qrcode::render::unicode::Dense1x2;
use qrcode::{EcLevel, QrCode};
use serde_json::json;
use sync_protocol::ticket::Ticket;
use zeroize::Zeroizing;

use super::Place;
use crate::account::Sight;
use crate::audit::What;
use crate::config::Tls;
use crate::error::HubError;
use crate::escrow::Seal;
use crate::fleet::{self, GatewayView};
use crate::hub::{add_gateway, authority_of, checked_scopes, give_code, new_gateway, ticket};
use crate::secret::{self, hex};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Add a gateway and print the code by which it is enrolled
    Add {
        /// Its name: letters, digits, '-', '_', '.'
        name: String,
        /// A scope that it holds, such as mw/zomba/chingale; the first is its home
        #[arg(long = "scope", required_unless_present = "everything", conflicts_with = "everything")]
        scopes: Vec<String>,
        /// Instead of scopes: all records that there are
        #[arg(long)]
        everything: bool,
        /// What kind of place it is, as the rules name it
        #[arg(long, default_value = "clinic")]
        source: String,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Give a gateway a new code: its card was swapped, or the last code expired
    Code {
        /// Its name
        name: String,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Show all gateways
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Show one gateway
    Show {
        /// Its name
        name: String,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Change what a gateway holds
    Scopes {
        /// Its name
        name: String,
        /// A scope that it shall hold; the first is its home
        #[arg(long = "scope", required_unless_present = "everything", conflicts_with = "everything")]
        scopes: Vec<String>,
        /// Instead of scopes: all records that there are
        #[arg(long)]
        everything: bool,
    },
    /// Shut a gateway out, for one that was stolen
    Revoke {
        /// Its name
        name: String,
    },
    /// Print the recovery keys of a gateway whose database is encrypted and whose key is lost; that is noted
    RecoveryKey {
        /// Its name
        name: String,
    },
    /// Let a gateway in again that was shut out, with what it sent meanwhile; `quarantine list` shows that before
    Allow {
        /// Its name
        name: String,
    },
}

pub(super) fn run(place: &mut Place<'_>, command: Command) -> Result<(), HubError> {
    let hours = place.config.code_hours_valid;
    match command {
        Command::Add { name, scopes, everything, source, json } => {
            let new = new_gateway(&name, &wanted(scopes, everything)?, &source)?;
            let code = secret::code()?;
            place.change(What::AddGateway, |tx| Ok((add_gateway(tx, &new, &code, hours)?, new.target())))?;
            say_code(place, &name, &code, json)?;
        }
        Command::Code { name, json } => {
            let code = secret::code()?;
            place.change(What::GiveCode, |tx| Ok((give_code(tx, &name, &code, hours)?, json!({ "gateway": name }))))?;
            say_code(place, &name, &code, json)?;
        }
        Command::List { json } => {
            let gateways = place.read(|tx| Ok(fleet::all(tx, &Sight::everything())?))?;
            match json {
                true => place.say_json(&gateways),
                false if gateways.is_empty() => place.say("none"),
                false => gateways.iter().for_each(|gateway| place.say(line(gateway))),
            }
        }
        Command::Show { name, json } => {
            let gateway = place.read(|tx| fleet::one(tx, &Sight::everything(), &name))?;
            match json {
                true => place.say_json(&gateway),
                false => say_all(place, &gateway),
            }
        }
        Command::Scopes { name, scopes, everything } => {
            let scopes = wanted(scopes, everything)?;
            let target = json!({ "gateway": name, "scopes": scopes });
            let scopes = checked_scopes(&scopes)?;
            place.change(What::SetScopes, |tx| Ok((tx.set_scopes(&name, scopes)?, target)))?;
            place.say(format!("{name} hears of its scopes with its next sync"));
        }
        Command::Revoke { name } => revoke(place, &name)?,
        Command::RecoveryKey { name } => recovery_key(place, &name)?,
        Command::Allow { name } => {
            let freed = place.change(What::Allow, |tx| {
                let freed = tx.allow(&name)?;
                Ok((freed, json!({ "gateway": name, "freed": freed })))
            })?;
            place.say(format!("{name} may sync again; {freed} records of it left quarantine"));
        }
    }
    Ok(())
}

/// Shuts a gateway out, and says what becomes of boxes with copies of its card.
fn revoke(place: &mut Place<'_>, name: &str) -> Result<(), HubError> {
    let (copies, sharing) = place.change(What::Revoke, |tx| {
        tx.revoke(name)?;
        Ok(((tx.copies_of(name)?, tx.sharing_key_with(name)?), json!({ "gateway": name })))
    })?;
    place.say(format!("{name} is shut out; what it still sends goes into quarantine"));
    if !copies.is_empty() {
        let copies = copies.join(", ");
        place.say(format!("a copy of the same card still syncs: {copies}. If it was stolen, too: gateway revoke"));
    }
    for other in sharing {
        place.say(format!(
            "{other} has the key of the same card, and that alone opens nothing any more: it syncs on, but gets no further \
             certificate, and no key of its database when it starts with key = \"hub\". Enrol it anew before it needs either: \
             `gateway code {other}`. If it does not start already: `gateway recovery-key {other}`"
        ));
    }
    place.say(format!(
        "`gateway code {name}` lets a new card in under its name, `gateway allow {name}` lets in this one again"
    ));
    Ok(())
}

/// Prints the keys that a gateway deposited, or one from whose card its card was copied; the newest first.
fn recovery_key(place: &mut Place<'_>, name: &str) -> Result<(), HubError> {
    let keys = place.change(What::GiveRecoveryKey, |tx| {
        fleet::one(tx, &Sight::everything(), name)?;
        let keys = tx.export_keys(name)?;
        // Under whose names they lie: who prints a twin's sees another's.
        let of: BTreeSet<&str> = keys.iter().map(|kept| kept.gateway.as_str()).collect();
        let target = json!({ "gateway": name, "keys": keys.len(), "of": of });
        Ok((keys, target))
    })?;
    if keys.is_empty() {
        return Err(HubError::Missing(format!(
            "key of {name} here: its database is not encrypted, or it never had a link since"
        )));
    }
    tracing::warn!(gateway = name, keys = keys.len(), "recovery keys were printed");
    let seal = Seal::of(&place.data_dir, false)?;
    let mut is_any_open = false;
    for kept in keys {
        let at = jiff::Timestamp::from_millisecond(kept.kept_ms).unwrap_or_default().strftime("%Y-%m-%d %H:%M UTC");
        let id: String = hex(&kept.name).chars().take(8).collect();
        let by = if kept.gateway == name { String::new() } else { format!(" by {}", kept.gateway) };
        place.say(format!("key {id}, deposited {at}{by}"));
        // One that another file sealed keeps nobody from the others.
        match seal.open(kept.device, &kept.name, &kept.sealed) {
            Some(letters) => {
                is_any_open = true;
                place.say(letters.as_str());
            }
            None => place.say("sealed with another escrow.key than the one in the data directory"),
        }
    }
    if !is_any_open {
        let told = "escrow.key in the data directory is not the one that this was sealed with: put that back, or have the gateway \
                    started again and synced";
        return Err(HubError::Config(told.to_owned()));
    }
    place.say("secret: on the gateway, `outpost key recover` or `outpost unlock` asks for it");
    Ok(())
}

/// The scopes that were asked for. The empty one holds everything, which nobody gets by a slip.
fn wanted(scopes: Vec<String>, everything: bool) -> Result<Vec<String>, HubError> {
    match everything {
        true => Ok(vec![String::new()]),
        false if scopes.iter().any(|scope| scope.trim().is_empty()) => Err(HubError::Invalid(
            "an empty scope would hold all records that there are; say --everything if that is meant".to_owned(),
        )),
        false => Ok(scopes),
    }
}

fn say_code(place: &mut Place<'_>, name: &str, code: &str, json: bool) -> Result<(), HubError> {
    let hours = place.config.code_hours_valid;
    let code = match place.config.tls {
        Tls::Own | Tls::Proxy => {
            let authority = authority_of(&mut place.database()?, &place.config)?;
            place.read(|tx| ticket(tx, &authority, &place.config, code))?
        }
        Tls::Off => Zeroizing::new(code.to_owned()),
    };
    if json {
        place.say_json(&json!({ "name": name, "code": code, "hours_valid": hours }));
        return Ok(());
    }
    let code = code.as_str();
    place.say(code);
    match place.config.tls {
        Tls::Own | Tls::Proxy => {
            place.say(format!("valid once, for {hours} hours; on the gateway: outpost enroll {code}"));
            if is_of_this_machine(code) {
                place.say(
                    "this code works on this machine only: set `listen` in the configuration, then say how gateways reach \
                     the hub: outpost-hub init --name hub.example.org, and start it again",
                );
            }
            place.say(qr(code));
        }
        Tls::Off => place.say(format!("valid once, for {hours} hours; on the gateway: outpost enroll HUB_URL {code}")),
    }
    Ok(())
}

/// Whether the hub that a code names cannot be reached from anywhere else.
fn is_of_this_machine(code: &str) -> bool {
    let Some(ticket) = Ticket::parse(code) else { return false };
    match ticket.address.parse::<SocketAddr>() {
        Ok(address) => address.ip().to_canonical().is_loopback(),
        Err(_) => ticket.address.split(':').next() == Some("localhost"),
    }
}

/// The code as a picture for a terminal; nothing if it is too long for one.
fn qr(code: &str) -> String {
    let picture = QrCode::with_error_correction_level(code, EcLevel::L);
    picture.map(|picture| picture.render::<Dense1x2>().build()).unwrap_or_default()
}

fn line(gateway: &GatewayView) -> String {
    let contact = if gateway.last_contact_at.is_empty() { "never" } else { &gateway.last_contact_at };
    let GatewayView { name, state, unsent, quarantined, box_warnings, .. } = gateway;
    let warnings: String = box_warnings.iter().map(|told| format!("\t{told}")).collect();
    let copies = match gateway.twins.as_str() {
        "" => String::new(),
        twins => format!("\thas one card with {twins}"),
    };
    format!("{name}\t{state}\tlast contact {contact}\tnot sent {unsent}\tquarantine {quarantined}{copies}{warnings}")
}

fn say_all(place: &mut Place<'_>, gateway: &GatewayView) {
    let Ok(serde_json::Value::Object(fields)) = serde_json::to_value(gateway) else { return };
    for (name, value) in fields {
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        if !text.is_empty() {
            place.say(format!("{}: {text}", name.replace('_', " ")));
        }
    }
}
