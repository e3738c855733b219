//! From a name to a gateway that may speak: codes, their hashes, and what a gateway gets for one.

use rusqlite::{OptionalExtension, params};
use serde_json::json;
use subtle::ConstantTimeEq;
use sync_protocol::digest::content_hash;
use sync_protocol::hub::{Gateway, Snapshot, Store, ViewNews, allow};
use sync_protocol::id::{Device, Epoch, HubSeq, Origin, Scope, Source};
use sync_protocol::identity::DeviceKey;
use sync_protocol::message::Short;

use super::Tx;
use super::tx::{bits, small};
use crate::audit::{Actor, What};
use crate::error::{HubError, StoreError};
use crate::pki::KeyHash;
use crate::secret::hex;

/// Separates the hashes of codes from other hashes.
const CODE_CONTEXT: &[u8] = b"outpost-hub 2026-11 enrolment code v1\0";

/// What a new gateway is to be.
#[derive(Debug, Clone)]
pub(crate) struct NewGateway {
    /// Its name, for people.
    pub(crate) name: String,
    /// What it is subscribed to; the first is its home.
    pub(crate) scopes: Vec<Scope>,
    /// What kind of place it is, by the name in the rules.
    pub(crate) source: String,
}

impl NewGateway {
    /// What the audit says of it.
    pub(crate) fn target(&self) -> serde_json::Value {
        let scopes: Vec<&str> = self.scopes.iter().map(Scope::as_str).collect();
        serde_json::json!({ "gateway": self.name, "scopes": scopes, "source": self.source })
    }
}

/// What a gateway gets for its code.
#[derive(Debug)]
pub(crate) struct Enrolled {
    /// What the protocol remembers of it.
    pub(crate) gateway: Gateway,
    /// Its name.
    pub(crate) name: String,
    /// The name of its source.
    pub(crate) source_name: String,
}

fn hash_of(code: &str) -> [u8; 32] {
    content_hash(&[CODE_CONTEXT, code.as_bytes()].concat())
}

impl Tx<'_> {
    /// Adds a gateway that is not enrolled yet.
    pub(crate) fn add_gateway(&mut self, new: &NewGateway) -> Result<Device, HubError> {
        let source = self.source_named(&new.source)?;
        let taken = self.count("SELECT count(*) FROM gateways WHERE name = ?1", &new.name)?;
        if taken > 0 {
            return Err(HubError::NameTaken(new.name.clone()));
        }
        let scopes = scopes_text(&new.scopes);
        let device = self.next_device()?;
        let mut insert =
            self.sql("INSERT INTO gateways (device, name, added_ms, scopes, source) VALUES (?1, ?2, ?3, ?4, ?5)")?;
        insert.execute(params![device.0, new.name, self.now_ms, scopes, source.0]).map_err(StoreError::from)?;
        Ok(device)
    }

    /// A device number that was never given, not in a time that this hub lost either.
    fn next_device(&mut self) -> Result<Device, StoreError> {
        let sql = "SELECT max(coalesce(max(device), 0), ?1) + 1 FROM gateways WHERE device < ?1 + 65536";
        Ok(Device(self.next_of_epoch(sql)?))
    }

    fn count(&self, sql: &str, name: &str) -> Result<i64, StoreError> {
        Ok(self.sql(sql)?.query_row([name], |row| row.get(0))?)
    }

    /// The number of a source.
    fn source_named(&mut self, name: &str) -> Result<Source, HubError> {
        let rules = self.rules()?;
        let at = rules.sources.iter().position(|known| known == name).and_then(|at| u8::try_from(at).ok());
        at.map(Source).ok_or_else(|| {
            HubError::Invalid(format!("the rules know no source named {name}, only {}", rules.sources.join(", ")))
        })
    }

    /// The name of a source.
    pub(crate) fn source_name(&mut self, source: Source) -> Result<String, StoreError> {
        let rules = self.rules()?;
        Ok(rules.sources.get(usize::from(source.0)).cloned().unwrap_or_else(|| format!("source {}", source.0)))
    }

    /// Gives a gateway a code, in place of any it had. It is kept as a hash only.
    pub(crate) fn set_code(&mut self, name: &str, code: &str, until_ms: i64) -> Result<(), HubError> {
        let mut update =
            self.sql("UPDATE gateways SET code_hash = ?2, code_until_ms = ?3, code_used = 0 WHERE name = ?1")?;
        match update.execute(params![name, hash_of(code), until_ms]).map_err(StoreError::from)? {
            0 => Err(HubError::Missing(format!("gateway named {name}"))),
            _ => Ok(()),
        }
    }

    /// Whether this hub gave the device the key that shows this, now or before; not if it did so in a time that it lost.
    pub(crate) fn knows(&mut self, device: Device, membership: &Short) -> Result<bool, StoreError> {
        let mut keys: Vec<DeviceKey> = self.gateway_state(device)?.map(|gateway| gateway.key).into_iter().collect();
        keys.extend(self.keys_before(device)?);
        keys.extend(self.keys_revoked(device)?);
        Ok(keys.iter().any(|key| key.is_membership(device.0, membership)))
    }

    /// Sees to it that no origin is given here that another hub may have given: those of a gateway's past stand in the records that
    /// it brings. Every hub begins with the same numbers, so they are left behind with the first that comes from elsewhere.
    pub(crate) fn leave_origins(&mut self, past: &[Origin]) -> Result<(), StoreError> {
        let epoch = self.epoch()?;
        if Origin::before(epoch) == Origin::HUB || past.iter().any(|origin| origin.is_of(epoch)) {
            self.begin_epoch(u64::try_from(self.now_ms).unwrap_or(0))?;
        }
        Ok(())
    }

    /// Whom a code is for that was not used yet.
    pub(crate) fn device_to_enrol(&mut self, code: &str) -> Result<Device, HubError> {
        match self.device_of_code(code)? {
            (_, true) => Err(HubError::Code("this code was used already")),
            (device, false) => Ok(device),
        }
    }

    /// Takes a code and gives the gateway a new origin and its key. A gateway that had been enrolled before, on a
    /// card that is gone, is so again: whoever still has the old card is shut out, but for handing in what it holds, and a
    /// revocation ends.
    pub(crate) fn redeem(
        &mut self,
        code: &str,
        hardware: &str,
        version: &str,
        key: DeviceKey,
    ) -> Result<Enrolled, HubError> {
        let device = self.device_to_enrol(code)?;
        let (name, origin, scopes, source) = self.enrolment_of(device)?;
        self.keep_former_key(device)?;
        let origin = self.new_origin(device, origin)?;
        let gateway = Gateway {
            device,
            origin,
            key,
            turn: 0,
            turn_before: 0,
            turn_first: 0,
            print: Short::default(),
            scopes,
            source,
            is_revoked: false,
            view: ViewNews::Known,
            backfill: false,
            echo_until: HubSeq::NONE,
            twin_of: None,
            // A gateway that was enrolled before may hold what this hub lost when it was put back.
            epoch: Epoch::NONE,
            offered: None,
            erased: None,
        };
        self.set_gateway(&gateway)?;
        let mut update = self.sql(
            "UPDATE gateways SET code_used = 1, enrolled_ms = ?2, hardware = ?3, version = ?4, last_error = ''
             WHERE device = ?1",
        )?;
        update.execute(params![device.0, self.now_ms, hardware, version]).map_err(StoreError::from)?;
        let source_name = self.source_name(source)?;
        Ok(Enrolled { gateway, name, source_name })
    }

    /// What a gateway got for its code before, if it has not spoken since, and shows the key that it was bound to then: it did
    /// not hear the answer.
    pub(crate) fn redeemed(&mut self, code: &str, key: &KeyHash) -> Result<Option<Enrolled>, HubError> {
        let Ok((device, true)) = self.device_of_code(code) else { return Ok(None) };
        if !self.is_bound(device, key)? {
            return Ok(None);
        }
        let Some(gateway) = self.gateway_state(device)?.filter(|known| known.turn == 0) else { return Ok(None) };
        let (name, ..) = self.enrolment_of(device)?;
        let source_name = self.source_name(gateway.source)?;
        Ok(Some(Enrolled { gateway, name, source_name }))
    }

    /// Whose code it is, and whether it was used. Every code is compared in constant time, and all of them are, whether or not
    /// one fits.
    fn device_of_code(&mut self, code: &str) -> Result<(Device, bool), HubError> {
        let hash = hash_of(code);
        let mut select =
            self.sql("SELECT device, code_hash, code_until_ms, code_used FROM gateways WHERE code_hash <> x''")?;
        let mut rows = select.query([]).map_err(StoreError::from)?;
        let mut found = Err(HubError::Code("this code is not known"));
        while let Some(row) = rows.next().map_err(StoreError::from)? {
            let (device, known, until_ms, used): (i64, Vec<u8>, i64, bool) =
                row.try_into().map_err(StoreError::from)?;
            if bool::from(known.ct_eq(&hash)) {
                found = match (used, until_ms > self.now_ms) {
                    (true, false) => Err(HubError::Code("this code was used already")),
                    (false, false) => Err(HubError::Code("this code has expired")),
                    (_, true) => Ok((Device(small(device)), used)),
                };
            }
        }
        found
    }

    pub(super) fn enrolment_of(&mut self, device: Device) -> Result<(String, Origin, Vec<Scope>, Source), StoreError> {
        let mut select = self.sql("SELECT name, origin, scopes, source FROM gateways WHERE device = ?1")?;
        let (name, origin, scopes, source): (String, i64, String, u8) =
            select.query_row([device.0], |row| row.try_into())?;
        Ok((name, Origin(small(origin)), scopes_of(&scopes)?, Source(source)))
    }

    pub(super) fn gateway_states(&mut self) -> Result<Vec<Gateway>, StoreError> {
        let devices: Vec<u32> = self
            .sql("SELECT device FROM gateways WHERE origin > 0 ORDER BY device")?
            .query_map([], |row| row.get(0))?
            .collect::<Result<_, _>>()?;
        let mut gateways = Vec::with_capacity(devices.len());
        for device in devices {
            gateways.extend(self.gateway_state(Device(device))?);
        }
        Ok(gateways)
    }

    pub(super) fn gateway_state(&mut self, device: Device) -> Result<Option<Gateway>, StoreError> {
        let mut select = self.sql(
            "SELECT origin, key, turn, scopes, source, is_revoked, view, backfill, echo_until, turn_before, print, offered, turn_first,
                    epoch, twin_of, erased
             FROM gateways WHERE device = ?1 AND origin > 0",
        )?;
        let mut rows = select.query([device.0])?;
        let Some(row) = rows.next()? else { return Ok(None) };
        let view = match row.get(6)? {
            0 => ViewNews::Known,
            1 => ViewNews::Changed,
            _ => ViewNews::Told,
        };
        Ok(Some(Gateway {
            device,
            origin: Origin(small(row.get(0)?)),
            key: super::tx::device_key(row.get_ref(1)?).unwrap_or(DeviceKey::NONE),
            turn: super::tx::number(row.get(2)?),
            turn_before: super::tx::number(row.get(9)?),
            print: super::tx::short(&row.get::<_, Vec<u8>>(10)?),
            scopes: scopes_of(&row.get::<_, String>(3)?)?,
            source: Source(row.get(4)?),
            is_revoked: row.get(5)?,
            view,
            backfill: row.get(7)?,
            echo_until: HubSeq(super::tx::number(row.get(8)?)),
            offered: row.get::<_, Option<u32>>(11)?.map(Origin),
            turn_first: super::tx::number(row.get(12)?),
            epoch: Epoch(row.get(13)?),
            twin_of: Some(Device(row.get(14)?)).filter(|of| of.0 > 0),
            erased: row.get::<_, Option<i64>>(15)?.map(super::tx::number),
        }))
    }

    pub(super) fn set_gateway_state(&mut self, gateway: &Gateway) -> Result<(), StoreError> {
        let view = match gateway.view {
            ViewNews::Known => 0,
            ViewNews::Changed => 1,
            ViewNews::Told => 2,
        };
        let mut update = self.sql(
            "UPDATE gateways SET origin = ?2, key = ?3, turn = ?4, scopes = ?5, source = ?6, is_revoked = ?7,
             view = ?8, backfill = ?9, echo_until = ?10, turn_before = ?11, print = ?12, offered = ?13, turn_first = ?14,
             epoch = ?15, erased = ?16 WHERE device = ?1",
        )?;
        update.execute(params![
            gateway.device.0,
            gateway.origin.0,
            gateway.key.0,
            bits(gateway.turn),
            scopes_text(&gateway.scopes),
            gateway.source.0,
            gateway.is_revoked,
            view,
            gateway.backfill,
            bits(gateway.echo_until.0),
            bits(gateway.turn_before),
            gateway.print,
            gateway.offered.map(|origin| origin.0),
            bits(gateway.turn_first),
            gateway.epoch.0,
            gateway.erased.map(bits),
        ])?;
        Ok(())
    }

    /// A gateway of its own for a box that runs with a copy of another one's card.
    pub(super) fn part_twin(&mut self, of: &Gateway, after: Origin, print: Short) -> Result<Gateway, StoreError> {
        let known: Option<i64> = self
            .sql("SELECT device FROM gateways WHERE twin_of = ?1 AND print = ?2 AND turn = 0 AND origin > 0")?
            .query_row(params![of.device.0, print], |row| row.get(0))
            .optional()?;
        if let Some(device) = known {
            return self.gateway_state(Device(small(device)))?.ok_or(StoreError::Closed);
        }
        let device = self.insert_twin(None, of)?;
        let origin = self.new_origin(device, after)?;
        let twin = of.twin(device, origin, print);
        self.set_gateway_state(&twin)?;
        self.tell_twin(&twin, of)?;
        Ok(twin)
    }

    /// Two boxes run with copies of one card, and somebody has to look which of them is to stay.
    fn tell_twin(&mut self, twin: &Gateway, of: &Gateway) -> Result<(), StoreError> {
        let (gateway, ..) = self.enrolment_of(of.device)?;
        let (parted, ..) = self.enrolment_of(twin.device)?;
        let [own_box, other_box] = [of, twin].map(|gateway| hex(&gateway.print));
        tracing::warn!(
            gateway,
            r#box = own_box,
            twin = parted,
            twin_box = other_box,
            "two boxes run with copies of one card"
        );
        let target = json!({ "gateway": gateway, "box": own_box, "twin": parted, "twin_box": other_box });
        self.audit(&Actor::hub(), What::PartTwin, &target)
    }

    /// The row of a twin that was parted from another gateway in a time that this hub has lost.
    pub(super) fn insert_lost_twin(&mut self, twin: &Gateway) -> Result<(), StoreError> {
        let of = Gateway { device: twin.twin_of.unwrap_or(twin.device), ..twin.clone() };
        self.insert_twin(Some(twin.device), &of)?;
        self.set_gateway_state(twin)?;
        match self.gateway_state(of.device)? {
            Some(known) => self.tell_twin(twin, &known),
            None => Ok(()),
        }
    }

    fn insert_twin(&mut self, device: Option<Device>, of: &Gateway) -> Result<Device, StoreError> {
        let (name, ..) = self.enrolment_of(of.device)?;
        let nth = self.count("SELECT count(*) FROM gateways WHERE name LIKE ?1 || '-twin-%'", &name)? + 1;
        let device = match device {
            Some(device) => device,
            None => self.next_device()?,
        };
        self.sql(
                "INSERT INTO gateways (device, name, added_ms, scopes, source, twin_of, enrolled_ms, last_error, last_error_ms,
                                       cert_key)
                 SELECT ?7, ?1, ?2, ?3, ?4, ?5, ?2, ?6, ?2, cert_key FROM gateways WHERE device = ?5",
            )?
            .execute(
                params![
                    format!("{name}-twin-{nth}"),
                    self.now_ms,
                    scopes_text(&of.scopes),
                    of.source.0,
                    of.device.0,
                    format!("runs with a copy of the card of {name}"),
                    device.0,
                ],
            )?;
        Ok(device)
    }

    /// Subscribes a gateway to these scopes. It hears of it with the next sync.
    pub(crate) fn set_scopes(&mut self, name: &str, scopes: Vec<Scope>) -> Result<(), HubError> {
        let device = self.device_named(name)?;
        match self.gateway_state(device)? {
            Some(mut gateway) => {
                let is_new = |scope: &Scope| !gateway.scopes.iter().any(|known| known.covers(scope));
                gateway.backfill |= scopes.iter().any(is_new);
                gateway.view = ViewNews::Changed;
                gateway.scopes = scopes;
                self.set_gateway_state(&gateway)?;
            }
            None => {
                let mut update = self.sql("UPDATE gateways SET scopes = ?2 WHERE device = ?1")?;
                update.execute(params![device.0, scopes_text(&scopes)]).map_err(StoreError::from)?;
            }
        }
        Ok(())
    }

    /// The names of gateways that run with copies of its card, or that it runs with a copy of, and are not shut out.
    pub(crate) fn copies_of(&mut self, name: &str) -> Result<Vec<String>, HubError> {
        let mut select = self.sql(
            "SELECT other.name FROM gateways one JOIN gateways other ON other.twin_of = one.device OR one.twin_of = other.device
             WHERE one.name = ?1 AND other.is_revoked = 0 ORDER BY other.name",
        )?;
        let names = select.query_map([name], |row| row.get(0)).map_err(StoreError::from)?;
        Ok(names.collect::<Result<_, _>>().map_err(StoreError::from)?)
    }

    /// Shuts a gateway out, and voids its code.
    pub(crate) fn revoke(&mut self, name: &str) -> Result<(), HubError> {
        let device = self.device_named(name)?;
        let mut update = self.sql("UPDATE gateways SET is_revoked = 1, code_hash = x'' WHERE device = ?1")?;
        update.execute([device.0]).map_err(StoreError::from)?;
        Ok(())
    }

    /// Lets a gateway in again that was shut out, and what it sent meanwhile with it. Tells how many records that freed.
    pub(crate) fn allow(&mut self, name: &str) -> Result<u64, HubError> {
        let device = self.device_named(name)?;
        let mut update = self.sql("UPDATE gateways SET is_revoked = 0 WHERE device = ?1 AND is_revoked = 1")?;
        if update.execute([device.0]).map_err(StoreError::from)? == 0 {
            return Err(HubError::Conflict(format!("{name} is not revoked")));
        }
        drop(update);
        Ok(allow(self, device)?)
    }

    fn device_named(&mut self, name: &str) -> Result<Device, HubError> {
        let mut select = self.sql("SELECT device FROM gateways WHERE name = ?1")?;
        let device: Option<i64> = select.query_row([name], |row| row.get(0)).optional().map_err(StoreError::from)?;
        device.map(|device| Device(small(device))).ok_or_else(|| HubError::Missing(format!("gateway named {name}")))
    }
}

fn scopes_text(scopes: &[Scope]) -> String {
    let names: Vec<_> = scopes.iter().map(Scope::as_str).collect();
    serde_json::Value::from(names).to_string()
}

pub(super) fn scopes_of(text: &str) -> Result<Vec<Scope>, StoreError> {
    let names: Vec<String> = serde_json::from_str(text).unwrap_or_default();
    Ok(names.iter().map(|name| Scope::new(name)).collect::<Result<_, _>>()?)
}
