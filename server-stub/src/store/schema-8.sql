-- Erasures.

-- Which records were erased, for ever: what comes of them later is dropped. A second time in erasures.list beside this database.
CREATE TABLE erasures (
    number INTEGER PRIMARY KEY,  -- milliseconds since 1970 when it was decided, or more
    type   TEXT NOT NULL,
    id     TEXT NOT NULL,
    cause  INTEGER NOT NULL      -- the erasure that brought it about, because this record belongs to another; its own number if people asked
) STRICT;
CREATE INDEX erasures_record ON erasures (type, id);

-- Hashes of ops that lost their values, so that a repeat of one is known.
CREATE TABLE erased_ops (
    origin INTEGER NOT NULL,
    stream INTEGER NOT NULL,
    seq    INTEGER NOT NULL,
    hash   BLOB NOT NULL,
    PRIMARY KEY (origin, stream, seq)
) STRICT, WITHOUT ROWID;

-- What one admin asked for and another has to agree to.
CREATE TABLE erasure_wishes (
    wish     INTEGER PRIMARY KEY,
    type     TEXT NOT NULL,
    id       TEXT NOT NULL,
    account  INTEGER NOT NULL,
    asked_ms INTEGER NOT NULL
) STRICT;

-- Up to which number a gateway has carried out erasures; NULL: its program cannot, as far as is known.
ALTER TABLE gateways ADD COLUMN erased INTEGER;

-- Whether free pages of this file, or its log, may hold what was erased.
ALTER TABLE hub ADD COLUMN sweep_due INTEGER NOT NULL DEFAULT 0;
