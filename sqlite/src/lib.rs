//! SQLite as both programs link it: with page encryption by SQLite3 Multiple Ciphers, which is used where a key is given, and
//! leaves files without a key as they always were.
//!
//! rusqlite's own copy of SQLite is not compiled (feature `in_gecko` of its bindings: the symbols come from elsewhere); this
//! crate brings them. It has no code of its own. Whoever uses rusqlite in this workspace names it, so that it is linked.

/// The cipher that is compiled in, as SQLite3 Multiple Ciphers calls it.
pub const CIPHER: &str = "chacha20";
