//! Scenarios by name: what Outpost promises, on real programs, real files and a link under control.
//!
//! The scenarios that decide whether it works have a letter, with which the names of their tests begin: `tests/scenario ::a_`.
//!
//! | | scenario | where |
//! |---|---|---|
//! | a | an outreach day without internet | `outreach` |
//! | b | clinic and centre edit one record | `both_edit`, more in `conflicts` |
//! | c | the power is cut again and again | `kill`, and `power` on a whole file system |
//! | d | boots in 1970 and in 2038 without a contact | `clock` |
//! | e | an old card is put back, or runs twice | `cards` |
//! | f | one bad record among five thousand | `bad_record` |
//! | g | the hub is put back to last week | `restore` |
//! | l | the disk fills during intake | `full` |

mod acts;
mod advisories;
mod another_hub;
mod api;
mod bad_record;
mod board;
mod both_edit;
mod broken_page;
mod canary;
mod cards;
mod clinical;
mod clock;
mod conflicts;
mod cut;
mod erase;
mod every_byte;
mod expired;
mod full;
mod injection;
mod io;
mod kill;
mod link;
mod oidc;
mod outreach;
mod outside;
mod pairing;
mod power;
mod quiet;
mod read_only;
mod renewal;
mod rescue;
mod restore;
mod scan;
mod sealed;
mod secure;
mod service;
mod tidy;
mod upgrade;
mod walkthrough;
