//! A gateway as admins see it.

use serde::Serialize;
use serde_json::Value as Json;
use sync_protocol::id::{Scope, Source};
use sync_protocol::message::{Condition, Reserve, WORN_PERCENT};

use crate::account::Sight;
use crate::clock::rfc3339;
use crate::error::{HubError, StoreError};
use crate::store::{FleetRow, Tx};

/// One gateway of the fleet.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct GatewayView {
    pub(crate) name: String,
    pub(crate) device: u32,
    /// Its present incarnation; 0 before it is enrolled.
    pub(crate) origin: u32,
    pub(crate) state: &'static str,
    pub(crate) scopes: Vec<String>,
    pub(crate) source: String,
    pub(crate) enrolled_at: String,
    pub(crate) last_contact_at: String,
    #[serde(skip)]
    pub(crate) last_contact_ms: i64,
    /// Changes that it had at its last contact and that have not arrived.
    pub(crate) unsent: u64,
    pub(crate) unsent_oldest_at: String,
    #[serde(skip)]
    pub(crate) unsent_oldest_ms: i64,
    pub(crate) quarantined: u64,
    pub(crate) version: String,
    pub(crate) disk_free_bytes: u64,
    pub(crate) records: u64,
    pub(crate) clock_skew_ms: i64,
    pub(crate) repairs: u64,
    /// What tells its box from others, as `outpost status` shows it there; empty if it is not known.
    #[serde(rename = "box")]
    pub(crate) box_print: String,
    /// Set while two boxes run with copies of one card: the names of the others, each with its box.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) twins: String,
    pub(crate) last_error: String,
    pub(crate) last_error_at: String,
    pub(crate) code_valid_until: String,
    pub(crate) hardware: Json,
    /// What is wrong with its box, in words; a technician has to go there.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) box_warnings: Vec<String>,
    /// How much of the life of its card is used; absent if the card does not say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) card_worn_percent: Option<u8>,
}

/// How often in a day a card may be put back before somebody should look.
const MISFITS_MAX: u32 = 2;

/// Boxes with copies of one card are told apart by what hardware says of itself. Where that says nothing, or the same, they show by
/// what they do: each makes that the other's history does not fit any more.
fn card_warning(misfits: u32) -> Option<String> {
    (misfits > MISFITS_MAX).then(|| {
        format!(
            "its history did not fit {misfits} times in a day: two boxes run with copies of its card and cannot be told apart, or \
             its card forgets; find the other box and give it a code of its own, or replace the card"
        )
    })
}

/// What of a box somebody has to mend. That it has no clock is how most boards are, and gateways live with that.
fn warnings(condition: &Condition) -> Vec<String> {
    let mut found = Vec::new();
    if condition.is_power_weak {
        found.push("the power supply is too weak: use the board's official one".to_owned());
    }
    if condition.is_slowed && !condition.is_power_weak {
        found.push("the processor is slowed down: too hot, or too little power".to_owned());
    }
    let worn = condition.worn_percent.unwrap_or(0);
    match condition.reserve {
        Reserve::Ending => found.push("the card is at its end: replace it now".to_owned()),
        Reserve::Low => found.push("the card is worn: replace it at the next visit".to_owned()),
        _ if worn >= WORN_PERCENT => found.push(format!("the card is worn, {worn} %: replace it at the next visit")),
        _ => {}
    }
    found
}

fn view(tx: &mut Tx<'_>, row: FleetRow) -> Result<GatewayView, StoreError> {
    let is_code_valid = row.is_code_open && row.code_until_ms > tx.now_ms;
    let state = match (row.is_revoked, row.enrolled_ms > 0) {
        (true, _) => "revoked",
        (false, true) if row.is_key_spent => "enrolled, needs a new code",
        (false, true) => "enrolled",
        (false, false) if is_code_valid => "waiting to be enrolled",
        (false, false) => "needs a new code",
    };
    Ok(GatewayView {
        name: row.name,
        device: row.device.0,
        origin: row.origin.0,
        state,
        scopes: row.scopes.iter().map(ToString::to_string).collect(),
        source: tx.source_name(Source(row.source))?,
        enrolled_at: rfc3339(row.enrolled_ms),
        last_contact_at: rfc3339(row.contact_ms),
        last_contact_ms: row.contact_ms,
        unsent: row.unsent,
        unsent_oldest_at: rfc3339(row.oldest_ms),
        unsent_oldest_ms: row.oldest_ms,
        quarantined: row.held,
        version: row.version,
        disk_free_bytes: row.disk_free,
        records: row.records,
        clock_skew_ms: row.skew_ms,
        repairs: row.repairs,
        box_print: row.box_print,
        twins: [row.twin_of, row.twins].into_iter().flatten().collect::<Vec<_>>().join(", "),
        last_error: row.last_error,
        last_error_at: rfc3339(row.last_error_ms),
        code_valid_until: if is_code_valid { rfc3339(row.code_until_ms) } else { String::new() },
        hardware: serde_json::from_str(&row.hardware).unwrap_or_default(),
        box_warnings: card_warning(row.misfits).into_iter().chain(row.condition.iter().flat_map(warnings)).collect(),
        card_worn_percent: row.condition.and_then(|condition| condition.worn_percent),
    })
}

/// A gateway is seen by who sees its home.
fn is_seen(sight: &Sight, row: &FleetRow) -> bool {
    row.scopes.first().map_or_else(|| sight.sees_everything(), |home| sight.sees(home))
}

/// The fleet as far as it is seen, by name.
pub(crate) fn all(tx: &mut Tx<'_>, sight: &Sight) -> Result<Vec<GatewayView>, StoreError> {
    let rows = tx.fleet()?;
    rows.into_iter().filter(|row| is_seen(sight, row)).map(|row| view(tx, row)).collect()
}

fn row(tx: &mut Tx<'_>, sight: &Sight, name: &str) -> Result<FleetRow, HubError> {
    let row = tx.gateway_named(name)?.filter(|row| is_seen(sight, row));
    row.ok_or_else(|| HubError::Missing(format!("gateway named {name}")))
}

/// One gateway by its name.
pub(crate) fn one(tx: &mut Tx<'_>, sight: &Sight, name: &str) -> Result<GatewayView, HubError> {
    let row = row(tx, sight, name)?;
    Ok(view(tx, row)?)
}

/// Refuses who does not see all that a gateway holds: it would be decided about others' records.
pub(crate) fn own(tx: &mut Tx<'_>, sight: &Sight, name: &str) -> Result<(), HubError> {
    check_within(sight, &row(tx, sight, name)?.scopes)
}

/// Refuses scopes that are not seen whole.
pub(crate) fn check_within(sight: &Sight, scopes: &[Scope]) -> Result<(), HubError> {
    match sight.sees_all(scopes) {
        true => Ok(()),
        false => Err(HubError::NotAllowed("this gateway holds, or would hold, scopes that you do not see".to_owned())),
    }
}
