//! Programs of other builds: what they write, and what they read of what others wrote.
//!
//! There is one build of the cores here, so another one is made on the way: heads are rewritten where a gateway or the hub
//! would write or read them otherwise. Frames stay, because within a version nothing but keys of heads may differ
//! (`docs/protocol.md`, "Versions").

use std::collections::BTreeMap;

use minicbor::bytes::ByteVec;
use minicbor::data::Tagged;
use minicbor::{Decoder, Encoder};
use sync_protocol::error::DecodeError;
use sync_protocol::message::{PROTOCOL, Request, Response, body, split_head};

/// What a program was built from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Build {
    /// What this is built from.
    #[default]
    This,
    /// Something newer: it says more than this one knows.
    Newer,
    /// Something older: it neither says nor reads what this one can do without.
    Older,
    /// Something older that cannot read the rules which are published. A hub is never that: it checked them.
    OldRules,
    /// Another major version of the protocol.
    OtherVersion,
}

impl Build {
    /// In words.
    pub(super) fn told(self) -> &'static str {
        match self {
            Build::This => "this build",
            Build::Newer => "a newer build",
            Build::Older => "an older build",
            Build::OldRules => "an older build, which cannot read new rules",
            Build::OtherVersion => "a build of another major version",
        }
    }
}

/// Keys that an older build may lack, in both directions.
const REQUEST_KEYS_OLDER: [u64; 3] = [0, 1, 6];
const RESPONSE_KEYS_OLDER: [u64; 3] = [2, 9, 13];
/// The key of a response in which rules are.
const RULES_KEY: u64 = 4;
/// What the keys of a newer build begin with: far above those that this one has.
const KEY_NEWER: u64 = 1_000;
/// The other major version.
const OTHER_VERSION: u64 = PROTOCOL + 1;
/// The one simple value for which Rust has no type.
const UNDEFINED: [u8; 1] = [0xf7];
/// A kind of rule that nobody knows yet.
const TOMORROW: &str = "\n[types.tomorrow.fields]\nfield = \"as-one-will-merge-tomorrow\"\n";

/// A head, taken apart: the items before the map, and the map.
struct Head {
    items: Vec<Vec<u8>>,
    keys: Vec<(u64, Vec<u8>)>,
}

impl Head {
    /// `None` if it is no head of any version that is known here.
    fn parse(head: &[u8]) -> Option<Head> {
        let mut input = Decoder::new(head);
        let count = input.array().ok()??;
        let taken = |input: &mut Decoder<'_>| {
            let from = input.position();
            input.skip().ok()?;
            head.get(from..input.position()).map(<[u8]>::to_vec)
        };
        let items = (1..count).map(|_| taken(&mut input)).collect::<Option<_>>()?;
        let pairs = input.map().ok()??;
        let keys = (0..pairs).map(|_| Some((input.u64().ok()?, taken(&mut input)?))).collect::<Option<_>>()?;
        Some(Head { items, keys })
    }

    fn bytes(&self) -> Vec<u8> {
        let mut out = Encoder::new(Vec::new());
        out.array(self.items.len() as u64 + 1).unwrap();
        out.writer_mut().extend(self.items.iter().flatten());
        out.map(self.keys.len() as u64).unwrap();
        for (key, value) in &self.keys {
            out.u64(*key).unwrap().writer_mut().extend(value);
        }
        out.into_writer()
    }

    fn without(mut self, keys: &[u64]) -> Head {
        self.keys.retain(|(key, _)| !keys.contains(key));
        self
    }

    /// With keys that nobody knows, of each type that a value can have.
    fn with_more(mut self) -> Head {
        let map = BTreeMap::from([("a", (1, BTreeMap::from([(-1, ["b", ""])])))]);
        let values = [
            cbor(u64::MAX),
            cbor(i64::MIN),
            cbor(0.5),
            cbor(None::<u8>),
            cbor(true),
            cbor(ByteVec::from(vec![0xff; 300])),
            cbor("more than one knew"),
            cbor(Tagged::<28_528, _>::new("1.50")),
            cbor((Vec::<u8>::new(), &map, 7)),
            cbor(&map),
            UNDEFINED.to_vec(),
        ];
        self.keys.extend((KEY_NEWER..).zip(values));
        self.keys.push((u64::MAX, cbor(0)));
        self
    }

    /// Of the other major version, if it is of this one, and the other way round: the number in front, and one item more.
    fn in_other_version(mut self) -> Head {
        let (own, other) = (cbor(PROTOCOL), cbor(OTHER_VERSION));
        if self.items.first() == Some(&own) {
            self.items[0] = other;
            self.items.push(own);
        } else {
            self.items[0] = own;
            self.items.pop();
        }
        self
    }

    /// With rules, if there are any, that cannot be read.
    fn with_rules_of_tomorrow(mut self) -> Head {
        for (_, value) in self.keys.iter_mut().filter(|(key, _)| *key == RULES_KEY) {
            let text = Decoder::new(value).str().unwrap_or_default().to_owned() + TOMORROW;
            *value = cbor(text);
        }
        self
    }
}

fn cbor(value: impl minicbor::Encode<()>) -> Vec<u8> {
    minicbor::to_vec(value).unwrap()
}

/// A message with another head.
fn with_head(message: Vec<u8>, change: impl FnOnce(Head) -> Head) -> Vec<u8> {
    let Ok(Some((head, at))) = split_head(&message) else { return message };
    let Some(parsed) = Head::parse(head) else { return message };
    body(&change(parsed).bytes(), [message[at..].to_vec()])
}

/// A request as a gateway of this build writes it.
pub(super) fn asked(by: Build, message: Vec<u8>) -> Vec<u8> {
    match by {
        Build::This | Build::OldRules => message,
        Build::Newer => with_head(message, Head::with_more),
        Build::Older => with_head(message, |head| head.without(&REQUEST_KEYS_OLDER)),
        Build::OtherVersion => with_head(message, Head::in_other_version),
    }
}

/// The head of a request as a hub of this build reads it.
pub(super) fn heard(by: Build, head: &[u8]) -> Result<Request, DecodeError> {
    let changed = match by {
        Build::This | Build::OldRules | Build::Newer => None,
        Build::Older => Head::parse(head).map(|head| head.without(&REQUEST_KEYS_OLDER)),
        Build::OtherVersion => Head::parse(head).map(Head::in_other_version),
    };
    changed.map_or_else(|| Request::decode(head), |head| Request::decode(&head.bytes()))
}

/// Whether a request is of another major version than a hub of this build speaks.
pub(super) fn is_foreign(hub: Build, request: &[u8]) -> bool {
    let head = split_head(request).ok().flatten().and_then(|(head, _)| Head::parse(head));
    let is_other = head.is_some_and(|head| head.items.first() == Some(&cbor(OTHER_VERSION)));
    is_other != (hub == Build::OtherVersion)
}

/// An answer as a hub of this build writes it.
pub(super) fn answered(by: Build, message: Vec<u8>) -> Vec<u8> {
    match by {
        Build::This | Build::OldRules | Build::OtherVersion => message,
        Build::Newer => with_head(message, Head::with_more),
        Build::Older => with_head(message, |head| head.without(&RESPONSE_KEYS_OLDER)),
    }
}

/// The head of an answer as a gateway of this build reads it.
pub(super) fn taken(by: Build, head: &[u8]) -> Result<Response, DecodeError> {
    let changed = match by {
        Build::This | Build::Newer | Build::OtherVersion => None,
        Build::Older => Head::parse(head).map(|head| head.without(&RESPONSE_KEYS_OLDER)),
        Build::OldRules => Head::parse(head).map(Head::with_rules_of_tomorrow),
    };
    changed.map_or_else(|| Response::decode(head), |head| Response::decode(&head.bytes()))
}

#[cfg(test)]
mod tests {
    use sync_protocol::rules::Rules;

    use super::*;
    use crate::sim::fleet;

    const IDLE: &str = include_str!("../../../sync-protocol/tests/golden/request-idle.hex");
    const WITH_RULES: &str = include_str!("../../../sync-protocol/tests/golden/response-rules.hex");

    fn golden(hex: &str) -> Vec<u8> {
        let digits: Vec<u8> = hex.chars().filter_map(|c| c.to_digit(16)).map(|digit| digit as u8).collect();
        digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
    }

    #[test]
    fn what_a_newer_build_says_more_is_skipped() {
        let (request, response) = (golden(IDLE), golden(WITH_RULES));
        let (more_asked, more_said) =
            (asked(Build::Newer, body(&request, [])), answered(Build::Newer, body(&response, [])));
        let (asked, _) = split_head(&more_asked).unwrap().unwrap();
        let (said, _) = split_head(&more_said).unwrap().unwrap();
        assert!(asked.len() > request.len() + 400 && said.len() > response.len() + 400);
        assert_eq!(Request::decode(asked).unwrap(), Request::decode(&request).unwrap());
        assert_eq!(Response::decode(said).unwrap(), Response::decode(&response).unwrap());
    }

    #[test]
    fn an_older_build_lacks_its_keys_and_nothing_else() {
        let whole = Request { ahead_seconds: Some(-5), repairs: 3, ..Request::decode(&golden(IDLE)).unwrap() };
        let lacking = Request { ahead_seconds: None, repairs: 0, budget_frames: 0, ..whole.clone() };
        assert_ne!(whole.budget_frames, 0);
        let sent = asked(Build::Older, body(&whole.encode(), [vec![1, 2]]));
        assert_eq!(sent, body(&lacking.encode(), [vec![1, 2]]));
        assert_eq!(heard(Build::Older, &whole.encode()).unwrap(), lacking);
        let whole = Response {
            digest: Some(9),
            reason: Some("so".into()),
            more: true,
            ..taken(Build::This, &golden(WITH_RULES)).unwrap()
        };
        let lacking = Response { digest: None, reason: None, ..whole.clone() };
        assert_eq!(answered(Build::Older, body(&whole.encode(), [])), body(&lacking.encode(), []));
        assert_eq!(taken(Build::Older, &whole.encode()).unwrap(), lacking);
    }

    #[test]
    fn rules_of_tomorrow_cannot_be_read_and_all_else_can() {
        let rules = Some(fleet::rules_text(0, 1).into());
        let whole = Response { rules, ..Response::decode(&golden(WITH_RULES)).unwrap() };
        let read = taken(Build::OldRules, &whole.encode()).unwrap();
        assert!(Rules::parse(whole.rules.as_ref().unwrap()).is_ok());
        assert!(Rules::parse(read.rules.as_ref().unwrap()).is_err());
        assert_eq!(Response { rules: whole.rules.clone(), ..read }, whole);
    }

    #[test]
    fn another_version_is_read_by_its_own_kind_alone() {
        let request = golden(IDLE);
        let sent = asked(Build::OtherVersion, body(&request, []));
        let (head, _) = split_head(&sent).unwrap().unwrap();
        for by in [Build::This, Build::Newer, Build::Older] {
            assert!(matches!(heard(by, head), Err(DecodeError::Version(OTHER_VERSION))), "{by:?}");
        }
        assert_eq!(heard(Build::OtherVersion, head).unwrap(), Request::decode(&request).unwrap());
        assert!(matches!(heard(Build::OtherVersion, &request), Err(DecodeError::Version(OTHER_VERSION))));
    }
}
