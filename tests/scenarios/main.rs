//! Scenarios by name: what Outpost promises, on real programs, real files and a link under control.

mod api;
mod bad_record;
mod cards;
mod clinical;
mod clock;
mod conflicts;
mod cut;
mod kill;
mod rescue;
mod restore;
mod tidy;
