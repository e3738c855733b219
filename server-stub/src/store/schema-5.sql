-- People at the centre, and what everybody did there.

CREATE TABLE accounts (
    account       INTEGER PRIMARY KEY,          -- never used again: accounts are disabled, not deleted
    name          TEXT NOT NULL UNIQUE,
    role          INTEGER NOT NULL,             -- 0 viewer, 1 resolver, 2 operator, 3 admin
    scopes        TEXT NOT NULL,                -- JSON list; the empty scope is everything
    password      TEXT NOT NULL DEFAULT '',     -- argon2id, as a PHC string; empty: none was set
    code_hash     BLOB NOT NULL DEFAULT x'',    -- of the one-time code by which a password is set; empty: none is open
    code_until_ms INTEGER NOT NULL DEFAULT 0,
    totp_key      BLOB NOT NULL DEFAULT x'',    -- secret; empty: no second factor
    totp_step     INTEGER NOT NULL DEFAULT 0,   -- the last step of which a code was taken: none is good twice
    is_disabled   INTEGER NOT NULL DEFAULT 0,
    added_ms      INTEGER NOT NULL,
    login_ms      INTEGER NOT NULL DEFAULT 0    -- 0: never
) STRICT;

CREATE TABLE sessions (
    hash     BLOB PRIMARY KEY,  -- SHA-256 of what the cookie holds
    account  INTEGER NOT NULL,
    began_ms INTEGER NOT NULL,
    seen_ms  INTEGER NOT NULL   -- when a person last asked for something, to the minute
) STRICT, WITHOUT ROWID;

CREATE TABLE tokens (
    token      INTEGER PRIMARY KEY,
    hash       BLOB NOT NULL UNIQUE,  -- SHA-256
    account    INTEGER NOT NULL,
    label      TEXT NOT NULL,
    role       INTEGER NOT NULL,
    scopes     TEXT NOT NULL,
    added_ms   INTEGER NOT NULL,
    until_ms   INTEGER NOT NULL,
    is_revoked INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE UNIQUE INDEX tokens_label ON tokens (account, label) WHERE NOT is_revoked;

CREATE TABLE audit (
    number INTEGER PRIMARY KEY,  -- 1, 2, 3, without a gap
    at_ms  INTEGER NOT NULL,
    who    TEXT NOT NULL,
    source TEXT NOT NULL,        -- an address, or `here`
    what   TEXT NOT NULL,
    target TEXT NOT NULL,        -- JSON: ids, names, counts; never values
    hash   BLOB NOT NULL         -- SHA-256 over the hash before and this entry
) STRICT;
CREATE TRIGGER audit_grows BEFORE INSERT ON audit WHEN NEW.number <> (SELECT coalesce(max(number), 0) + 1 FROM audit)
BEGIN SELECT RAISE(ABORT, 'the audit is append-only'); END;
CREATE TRIGGER audit_stays BEFORE UPDATE ON audit BEGIN SELECT RAISE(ABORT, 'the audit is append-only'); END;
CREATE TRIGGER audit_keeps BEFORE DELETE ON audit BEGIN SELECT RAISE(ABORT, 'the audit is append-only'); END;
