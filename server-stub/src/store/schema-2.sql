-- Rescue: what cards that are out of use hand in.

-- Keys that a gateway had before it was enrolled anew. A card with such a key may hand in what it holds, and nothing else.
CREATE TABLE former_keys (
    device INTEGER NOT NULL,
    key    BLOB NOT NULL,
    PRIMARY KEY (device, key)
) STRICT, WITHOUT ROWID;

-- Origins that were made for rescued ops; no gateway speaks under them.
CREATE TABLE rescue_origins (
    origin INTEGER PRIMARY KEY
) STRICT;

-- Under which number an op is here that a rescued file has under another.
CREATE TABLE rescued (
    origin     INTEGER NOT NULL,
    stream     INTEGER NOT NULL,
    seq        INTEGER NOT NULL,
    as_origin  INTEGER NOT NULL,
    as_stream  INTEGER NOT NULL,
    as_seq     INTEGER NOT NULL,
    PRIMARY KEY (origin, stream, seq, as_origin, as_stream, as_seq)
) STRICT, WITHOUT ROWID;
