//! What a gateway may do with the records that one frame of it is about.

use std::collections::{BTreeMap, BTreeSet};

use super::claims;
use super::judge::try_new;
use super::{Gateway, Store};
use crate::id::{Dot, Origin, RecordKey, Scope};
use crate::record::Op;
use crate::rules::OutsideRule;

/// What is done once for a frame of ops, and not for each of them.
#[derive(Debug, Default)]
pub(super) struct Sitting {
    /// Ops that have joined others in quarantine and have yet to be judged with them: each judgement is of all that wait on the record.
    pub(super) joined: BTreeMap<(RecordKey, Origin), BTreeSet<Dot>>,
    /// Whether records that are out of the view of the gateway once were in it.
    read: BTreeMap<RecordKey, bool>,
}

impl Sitting {
    /// Whether an op says that it knew something of a record, which is in this place, that its gateway cannot know.
    pub(super) fn is_unfounded<S: Store>(
        &mut self,
        store: &mut S,
        by: &Gateway,
        op: &Op,
        place: &Scope,
    ) -> Result<bool, S::Error> {
        if by.is_in_view(place) || !claims::claims_more(store, by, op)? {
            return Ok(false);
        }
        Ok(!self.has_read(store, by, op)?)
    }

    /// Whether the rules have an op wait because its gateway has nothing to do with the record: it is outside of its scopes, where it
    /// is, or where it goes if it is not here (`place`).
    pub(super) fn is_outside<S: Store>(
        &mut self,
        store: &mut S,
        by: &Gateway,
        op: &Op,
        place: Option<&Scope>,
    ) -> Result<bool, S::Error> {
        if store.rules()?.of(&op.key.record_type).outside == OutsideRule::Merge {
            return Ok(false);
        }
        match place {
            Some(place) => Ok(!by.is_in_view(place) && !self.has_read(store, by, op)?),
            None => Ok(place_of_new(store, op)?.is_some_and(|place| !by.is_in_view(&place))),
        }
    }

    fn has_read<S: Store>(&mut self, store: &mut S, by: &Gateway, op: &Op) -> Result<bool, S::Error> {
        if let Some(has_read) = self.read.get(&op.key) {
            return Ok(*has_read);
        }
        let has_read = claims::has_read(store, by, &op.key, op.stamp.dot.origin)?;
        self.read.insert(op.key.clone(), has_read);
        Ok(has_read)
    }
}

/// Where an op puts a record that is not here; `None` if it does not say so, or goes with a parent that is not here either.
fn place_of_new<S: Store>(store: &mut S, op: &Op) -> Result<Option<Scope>, S::Error> {
    let (rules, at) = (store.rules()?, store.head()?.next());
    let Some(after) = try_new(store, op, at, &rules)? else { return Ok(None) };
    match after.shown.place.filter(|parent| *parent != op.key) {
        Some(parent) => Ok(store.record(&parent)?.map(|parent| parent.scope())),
        None => Ok(Some(after.record.scope()).filter(|_| after.record.is_placed())),
    }
}
