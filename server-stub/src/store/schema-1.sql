-- Schema of hub.db, version 1. One hub, its order of changes, its records, its gateways.
-- Numbers that are unsigned 64 bits elsewhere are kept as the signed integer with the same bits.

CREATE TABLE hub (
    one     INTEGER PRIMARY KEY CHECK (one = 1),
    epoch   INTEGER NOT NULL,
    head    INTEGER NOT NULL,  -- the last hub sequence number that was given
    lineage TEXT NOT NULL,     -- JSON list of [epoch, head at which it began]
    started INTEGER NOT NULL   -- the head when the hub was last started to serve
) STRICT;

CREATE TABLE gateways (
    device         INTEGER PRIMARY KEY,
    name           TEXT NOT NULL UNIQUE,
    added_ms       INTEGER NOT NULL,
    origin         INTEGER NOT NULL DEFAULT 0,     -- 0: not enrolled yet
    key            BLOB NOT NULL DEFAULT x'',      -- secret of the enrolment
    turn           INTEGER NOT NULL DEFAULT 0,     -- the number of its next exchange, as given last
    turn_before    INTEGER NOT NULL DEFAULT 0,     -- the one it showed when it was given that
    turn_first     INTEGER NOT NULL DEFAULT 0,     -- the first that it was given for that
    print          BLOB NOT NULL DEFAULT x'',      -- what tells its box from others, as told last
    twin_of        INTEGER NOT NULL DEFAULT 0,     -- the device from whose card its card was copied; 0: none
    scopes         TEXT NOT NULL,                  -- JSON list; the first is its home
    source         INTEGER NOT NULL,
    is_revoked     INTEGER NOT NULL DEFAULT 0,
    view           INTEGER NOT NULL DEFAULT 0,     -- 0 known, 1 changed, 2 told
    backfill       INTEGER NOT NULL DEFAULT 0,
    echo_until     INTEGER NOT NULL DEFAULT 0,
    epoch          INTEGER NOT NULL DEFAULT 0,     -- the epoch in which it last spoke, with nothing left to compare
    offered        INTEGER,                        -- the origin that who spoke under an older one may go on under
    code_hash      BLOB NOT NULL DEFAULT x'',      -- of the enrolment code; empty: none was given
    code_until_ms  INTEGER NOT NULL DEFAULT 0,
    code_used      INTEGER NOT NULL DEFAULT 0,
    enrolled_ms    INTEGER NOT NULL DEFAULT 0,     -- 0: never
    hardware       TEXT NOT NULL DEFAULT '{}',     -- as told at enrolment
    contact_ms     INTEGER NOT NULL DEFAULT 0,     -- 0: never
    skew_ms        INTEGER NOT NULL DEFAULT 0,     -- its wall clock minus ours
    version        TEXT NOT NULL DEFAULT '',
    disk_free      INTEGER NOT NULL DEFAULT 0,
    records        INTEGER NOT NULL DEFAULT 0,
    repairs        INTEGER NOT NULL DEFAULT 0,
    last_error     TEXT NOT NULL DEFAULT '',
    last_error_ms  INTEGER NOT NULL DEFAULT 0
) STRICT;

-- What each gateway last said of its streams: what lies beyond our mark has not been sent.
CREATE TABLE gateway_streams (
    device    INTEGER NOT NULL,
    stream    INTEGER NOT NULL,
    origin    INTEGER NOT NULL,
    last      INTEGER NOT NULL,
    oldest_ms INTEGER NOT NULL,
    PRIMARY KEY (device, stream)
) STRICT, WITHOUT ROWID;

CREATE TABLE origins (
    origin INTEGER PRIMARY KEY,
    device INTEGER NOT NULL,
    after  INTEGER NOT NULL
) STRICT;

CREATE TABLE marks (
    origin  INTEGER NOT NULL,
    stream  INTEGER NOT NULL,
    acked   INTEGER NOT NULL,
    chain   BLOB NOT NULL,
    durable INTEGER NOT NULL,
    PRIMARY KEY (origin, stream)
) STRICT, WITHOUT ROWID;

-- Every op that arrived. `applied` is the number under which it became part of its record: `hseq` if that was at once,
-- another one if it was released from quarantine, 0 while it waits or if it was dropped.
CREATE TABLE history (
    hseq        INTEGER PRIMARY KEY,
    origin      INTEGER NOT NULL,
    stream      INTEGER NOT NULL,
    seq         INTEGER NOT NULL,
    applied     INTEGER NOT NULL,
    type        TEXT NOT NULL,
    id          TEXT NOT NULL,
    op          BLOB NOT NULL,
    chain       BLOB NOT NULL,
    received_ms INTEGER NOT NULL
) STRICT;
CREATE INDEX history_dot ON history (origin, stream, seq, applied);
CREATE INDEX history_record ON history (type, id);

-- Which value stopped being current, and what stands instead; both are in the history.
CREATE TABLE superseded (
    type      TEXT NOT NULL,
    id        TEXT NOT NULL,
    field     TEXT NOT NULL,
    origin    INTEGER NOT NULL,
    stream    INTEGER NOT NULL,
    seq       INTEGER NOT NULL,
    by_origin INTEGER NOT NULL,
    by_stream INTEGER NOT NULL,
    by_seq    INTEGER NOT NULL,
    why       INTEGER NOT NULL,  -- 0 seen, 1 rule, 2 limit
    PRIMARY KEY (type, id, field, origin, stream, seq)
) STRICT, WITHOUT ROWID;

-- With row numbers, although the key is text: a table without them puts what is longer than a quarter of a page onto a page
-- of its own, which is most records of a visit.
CREATE TABLE records (
    type       TEXT NOT NULL,
    id         TEXT NOT NULL,
    scope      TEXT NOT NULL,
    rev        INTEGER NOT NULL,  -- the hub sequence number of the last change
    item       INTEGER NOT NULL,  -- its part in the digest
    is_deleted INTEGER NOT NULL,
    conflicts  INTEGER NOT NULL,  -- what a person could settle in it
    cells      BLOB NOT NULL,
    PRIMARY KEY (type, id)
) STRICT;
-- What a pull scans; everything it asks is in it, so rows out of view are never touched.
CREATE INDEX records_rev ON records (rev, scope, item, type, id);
CREATE INDEX records_conflict ON records (type, id) WHERE conflicts > 0;

CREATE TABLE scope_digest (
    scope   TEXT PRIMARY KEY,
    digest  INTEGER NOT NULL,
    records INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- What is sent down besides changed records.
CREATE TABLE log (
    hseq   INTEGER NOT NULL,
    kind   INTEGER NOT NULL,  -- 1 left a scope, 2 held, 3 released, 4 discarded
    type   TEXT NOT NULL,
    id     TEXT NOT NULL,
    text   TEXT NOT NULL,     -- scope or reason
    device INTEGER NOT NULL,
    origin INTEGER NOT NULL,
    stream INTEGER NOT NULL,
    seq    INTEGER NOT NULL,
    number INTEGER NOT NULL,  -- as what change it was released
    PRIMARY KEY (hseq, kind, type, id)
) STRICT, WITHOUT ROWID;

CREATE TABLE quarantine (
    origin INTEGER NOT NULL,
    stream INTEGER NOT NULL,
    seq    INTEGER NOT NULL,
    type   TEXT NOT NULL,
    id     TEXT NOT NULL,
    device INTEGER NOT NULL,  -- 0: the hub's own
    hseq   INTEGER NOT NULL,
    seen   INTEGER NOT NULL,  -- what it counts as having seen: less than it says, if that was at a hub that was put back since
    reason TEXT NOT NULL,
    PRIMARY KEY (origin, stream, seq)
) STRICT, WITHOUT ROWID;
CREATE INDEX quarantine_record ON quarantine (type, id, origin, hseq);

CREATE TABLE waits (
    origin INTEGER NOT NULL,
    stream INTEGER NOT NULL,
    seq    INTEGER NOT NULL,
    type   TEXT NOT NULL,     -- the record that is waited for
    id     TEXT NOT NULL,
    PRIMARY KEY (origin, stream, seq, type, id)
) STRICT, WITHOUT ROWID;
CREATE INDEX waits_for ON waits (type, id);

CREATE TABLE parents (
    type        TEXT NOT NULL,
    id          TEXT NOT NULL,
    parent_type TEXT NOT NULL,
    parent_id   TEXT NOT NULL,
    PRIMARY KEY (type, id, parent_type, parent_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX parents_children ON parents (parent_type, parent_id);

CREATE TABLE rules (
    version      INTEGER PRIMARY KEY,
    text         TEXT NOT NULL,
    published_ms INTEGER NOT NULL
) STRICT;
