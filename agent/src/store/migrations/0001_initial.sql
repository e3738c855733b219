CREATE TABLE sync_state (
  one INTEGER PRIMARY KEY CHECK (one = 1),
  device INTEGER NOT NULL,
  origin INTEGER NOT NULL,
  key BLOB NOT NULL,
  turn INTEGER NOT NULL,
  epoch INTEGER NOT NULL,
  cursor INTEGER NOT NULL,
  backfill INTEGER NOT NULL,
  scopes TEXT NOT NULL,
  source INTEGER NOT NULL,
  repair_symbols INTEGER NOT NULL,
  repairs INTEGER NOT NULL,
  is_unsure INTEGER NOT NULL,
  is_told INTEGER NOT NULL,
  recovers INTEGER NOT NULL,
  wanted BLOB NOT NULL,
  bounds TEXT NOT NULL
) STRICT;

CREATE TABLE stream_state (
  stream INTEGER PRIMARY KEY,
  acked INTEGER NOT NULL,
  acked_chain BLOB NOT NULL,
  durable INTEGER NOT NULL,
  last INTEGER NOT NULL,
  chain BLOB NOT NULL,
  clock INTEGER NOT NULL
) STRICT;

CREATE TABLE incarnations (
  n INTEGER PRIMARY KEY,
  origin INTEGER NOT NULL UNIQUE
) STRICT;

CREATE TABLE scopes (
  n INTEGER PRIMARY KEY,
  path TEXT NOT NULL UNIQUE,
  sum INTEGER NOT NULL,
  records INTEGER NOT NULL
) STRICT;

CREATE TABLE types (
  n INTEGER PRIMARY KEY,
  name TEXT NOT NULL UNIQUE
) STRICT;

CREATE TABLE records (
  feed INTEGER PRIMARY KEY,
  type INTEGER NOT NULL,
  id ANY NOT NULL,
  scope INTEGER NOT NULL,
  etag BLOB NOT NULL,
  presence INTEGER NOT NULL,
  conflicts INTEGER NOT NULL,
  is_confirmed INTEGER NOT NULL,
  item INTEGER NOT NULL,
  changed INTEGER NOT NULL,
  is_pending INTEGER NOT NULL,
  unsettled INTEGER NOT NULL,
  newest INTEGER NOT NULL,
  body BLOB NOT NULL,
  confirmed BLOB NOT NULL,
  UNIQUE (type, id)
) STRICT;

CREATE INDEX records_absent ON records (type) WHERE presence >= 2;

CREATE INDEX records_open ON records (type, id) WHERE conflicts > 0 OR presence = 1;

CREATE TABLE history (
  number INTEGER PRIMARY KEY,
  older INTEGER NOT NULL,
  fate INTEGER NOT NULL,
  hseq INTEGER NOT NULL,
  noted_ms INTEGER NOT NULL,
  chain BLOB NOT NULL,
  etag_before BLOB NOT NULL,
  op BLOB NOT NULL,
  before BLOB NOT NULL,
  superseded BLOB NOT NULL
) STRICT;

CREATE TABLE notes (
  number INTEGER PRIMARY KEY,
  fate INTEGER NOT NULL,
  reason TEXT NOT NULL,
  noted_ms INTEGER NOT NULL
) STRICT;

CREATE TABLE pleas (
  origin INTEGER NOT NULL,
  stream INTEGER NOT NULL,
  seq INTEGER NOT NULL,
  is_discard INTEGER NOT NULL,
  PRIMARY KEY (origin, stream, seq)
) STRICT, WITHOUT ROWID;

CREATE TABLE idempotency (
  n INTEGER PRIMARY KEY,
  key TEXT NOT NULL UNIQUE,
  hash BLOB NOT NULL,
  answer BLOB NOT NULL,
  expires_ms INTEGER NOT NULL
) STRICT;

CREATE TABLE rules (
  one INTEGER PRIMARY KEY CHECK (one = 1),
  text TEXT NOT NULL
) STRICT;

CREATE TABLE enrolment (
  one INTEGER PRIMARY KEY CHECK (one = 1),
  hub_url TEXT NOT NULL,
  name TEXT NOT NULL,
  device INTEGER NOT NULL,
  enrolled_ms INTEGER NOT NULL
) STRICT;

CREATE TABLE sync_report (
  one INTEGER PRIMARY KEY CHECK (one = 1),
  attempt_ms INTEGER NOT NULL,
  success_ms INTEGER NOT NULL,
  error_class TEXT NOT NULL,
  error TEXT NOT NULL,
  bytes_up INTEGER NOT NULL,
  bytes_down INTEGER NOT NULL,
  exchanges INTEGER NOT NULL
) STRICT;

INSERT INTO incarnations (n, origin) VALUES (1, 4294967295);
