-- The database of a gateway: `outpost.db` in the data directory, SQLite in WAL mode, pages of 1 KiB.
-- A test holds this file equal to the real schema. Times are milliseconds since 1970. Unsigned 64-bit numbers are kept as
-- the signed integer of the same bits.
--
-- "packed" is `1 | zstd frame`: canonical bytes of `sync_protocol` (docs/protocol.md), compressed with the store's dictionary 1
-- (agent/src/store/dictionary-1.bin), with zstd's checksum of the content, without the dictionary's number, and without zstd's
-- magic number (28 b5 2f fd). An empty blob stands for nothing.

-- Where the gateway stands with its hub; written when an exchange ends, not when a record is captured.
CREATE TABLE sync_state (
  one INTEGER PRIMARY KEY CHECK (one = 1), -- there is one row
  device INTEGER NOT NULL, -- enrolment; 0 before it
  origin INTEGER NOT NULL, -- present incarnation; 4294967295 before enrolment
  key BLOB NOT NULL, -- secret of the enrolment, 32 bytes; zeros before it
  turn INTEGER NOT NULL, -- number of the next exchange, given by the hub
  epoch INTEGER NOT NULL, -- the hub's lineage as last heard
  cursor INTEGER NOT NULL, -- everything in view up to this hub sequence is integrated
  backfill INTEGER NOT NULL, -- how far the back-fill of new scopes has come; -1 if there is none
  scopes TEXT NOT NULL, -- subscribed scopes, one a line; the first is home
  source INTEGER NOT NULL, -- what kind of place it is: index into the `sources` of the rules
  repair_symbols INTEGER NOT NULL, -- coded symbols to send next, because digests disagreed; -1 if they agree
  repairs INTEGER NOT NULL, -- digest repairs so far
  is_unsure INTEGER NOT NULL, -- an exchange with ops began and no answer was heard
  is_told INTEGER NOT NULL, -- the hub knows version, free space and number of records
  recovers INTEGER NOT NULL, -- the hub was put back: the last hub sequence both states share; -1 otherwise
  wanted BLOB NOT NULL, -- digest items of records that it asked for meanwhile, 8 bytes each
  bounds TEXT NOT NULL, -- own ops under numbers of an epoch that is gone: lines of stream, last of them, last shared number
  heard INTEGER NOT NULL DEFAULT 0, -- highest stamp that stands at the hub, of what was acknowledged and of what came from it
  floor_ms INTEGER NOT NULL DEFAULT 0, -- a time that certainly has passed: the latest heard from the hub
  awaits_time INTEGER NOT NULL DEFAULT 0, -- unsent ops have a time of which nobody knows how good it is; nothing is sent until the hub's time is heard
  complete INTEGER NOT NULL DEFAULT 0 -- the cursor when a pull last reached the head of the hub
  , is_revoked INTEGER NOT NULL DEFAULT 0 -- the hub has shut this gateway out: it shows no records
  , erased INTEGER NOT NULL DEFAULT 0 -- every erasure up to this number was carried out
) STRICT;

-- Where the gateway stands with each stream; written in every commit that captures something.
CREATE TABLE stream_state (
  stream INTEGER PRIMARY KEY, -- 0 urgent, 1 normal, 2 bulk
  acked INTEGER NOT NULL, -- the hub has this op and all before it
  acked_chain BLOB NOT NULL, -- chain at `acked`, 8 bytes
  durable INTEGER NOT NULL, -- this op and all before it survive the loss of the hub
  last INTEGER NOT NULL, -- the last op that exists
  chain BLOB NOT NULL, -- chain at `last`, 32 bytes
  clock INTEGER NOT NULL, -- hybrid logical clock of the gateway; the highest of the rows counts
  sent INTEGER NOT NULL DEFAULT 0 -- this op and all before it have left the box and are never changed
) STRICT;

-- Origins under which this database has written. A number in `history` begins with `n`.
CREATE TABLE incarnations (
  n INTEGER PRIMARY KEY, -- counts up
  origin INTEGER NOT NULL UNIQUE -- the hub's number for the incarnation
) STRICT;

-- Digests of what is confirmed, by scope.
CREATE TABLE scopes (
  n INTEGER PRIMARY KEY, -- what `records.scope` refers to
  path TEXT NOT NULL UNIQUE, -- country/district/facility; empty is the whole world
  sum INTEGER NOT NULL, -- sum of the digest items of its confirmed records, modulo 2^64
  records INTEGER NOT NULL -- how many confirmed records it has
) STRICT;

-- Names of record types: a row of `records` and its index take the number.
CREATE TABLE types (
  n INTEGER PRIMARY KEY, -- what `records.type` refers to
  name TEXT NOT NULL UNIQUE -- record type
) STRICT;

-- One row a record, moved to the end whenever what apps see of it changes: the primary key is the change feed.
CREATE TABLE records (
  feed INTEGER PRIMARY KEY, -- position in the change feed; never used twice
  type INTEGER NOT NULL, -- `types.n`
  id ANY NOT NULL, -- record id; a UUID in its usual form as its 16 bytes, anything else as text
  scope INTEGER NOT NULL, -- `scopes.n` of the confirmed record, or else of what is shown
  etag BLOB NOT NULL, -- version tag of what is shown, 8 bytes; empty if it is gone
  presence INTEGER NOT NULL, -- 0 there, 1 there and waiting for review, 2 deleted, 3 gone: left our scopes, only its history stays
  conflicts INTEGER NOT NULL, -- fields in which more than one value stands
  is_confirmed INTEGER NOT NULL, -- whether the hub knows it
  item INTEGER NOT NULL, -- its part in the digest; 0 if it is not confirmed
  changed INTEGER NOT NULL, -- hub sequence of its last confirmed change; 0 if there is none
  is_pending INTEGER NOT NULL, -- own ops are shown that the hub has not confirmed
  unsettled INTEGER NOT NULL, -- how many own ops are neither confirmed nor discarded
  newest INTEGER NOT NULL, -- `history.number` of the latest entry; 0 if there is none
  body BLOB NOT NULL, -- the record as it is shown, packed; empty if it is exactly the op `newest`, applied to nothing
  confirmed BLOB NOT NULL, -- the record as the hub confirmed it, packed; empty if it is not, or equals what is shown
  UNIQUE (type, id)
) STRICT;

-- To count the records of a type without reading them: these are taken off.
CREATE INDEX records_absent ON records (type) WHERE presence >= 2;

-- What waits for a person.
CREATE INDEX records_open ON records (type, id) WHERE conflicts > 0 OR presence = 1;

-- Own ops, the tail of which is the outbox, and what changes from the hub replaced. The entries of a record are a list.
CREATE TABLE history (
  number INTEGER PRIMARY KEY, -- (incarnation * 4 + lane) * 2^36 + sequence number; lanes 0 to 2 are the streams, 3 is changes from the hub
  older INTEGER NOT NULL, -- the entry before it of the same record; 0 if it is the first; negative if entries between the two were forgotten, or all before it
  fate INTEGER NOT NULL, -- 0 pending, 1 confirmed, 2 parked in quarantine, 3 discarded, 4 a change from the hub
  hseq INTEGER NOT NULL, -- the hub's number of an own op; 0 if it has none
  noted_ms INTEGER NOT NULL, -- when a change from the hub came; 0 for an own op, which says it itself
  chain BLOB NOT NULL, -- short chain after an own op, 8 bytes; empty for a change from the hub
  etag_before BLOB NOT NULL, -- tag of what was shown before; empty if nothing was, or if it stayed
  op BLOB NOT NULL, -- the own op, packed, its dot left out (origin, stream and sequence number 0), as `number` says it; empty for a change from the hub
  before BLOB NOT NULL, -- the cells that it changed as they were, a packed record; a field that was absent has no entries
  superseded BLOB NOT NULL, -- other values that are no longer current, a packed record: each entry is followed by what overruled it, its value being why (0 seen, 1 rule, 2 limit)
  boot INTEGER NOT NULL DEFAULT 0, -- `boots.n` in which an own op was written; 0 if that is not known
  mono_ms INTEGER NOT NULL DEFAULT 0 -- how long that boot had lasted then
) STRICT;

-- Runs of the box, from switching on to switching off, in their order. The newest 1,000 are kept.
CREATE TABLE boots (
  n INTEGER PRIMARY KEY, -- counts up
  id TEXT NOT NULL UNIQUE, -- the kernel's name for it, /proc/sys/kernel/random/boot_id
  floor_ms INTEGER NOT NULL, -- a time that certainly had passed when it began
  start_ms INTEGER NOT NULL -- when it began by the hub's clock; -1 if it never heard of that
) STRICT;

-- Why an own op was parked or discarded.
CREATE TABLE notes (
  number INTEGER PRIMARY KEY, -- `history.number` of the op
  fate INTEGER NOT NULL, -- 2 parked, 3 discarded
  reason TEXT NOT NULL, -- a sentence for a person
  noted_ms INTEGER NOT NULL -- since when
) STRICT;

-- What people want done with parked ops, until the hub has been told.
CREATE TABLE pleas (
  origin INTEGER NOT NULL, -- origin of the op
  stream INTEGER NOT NULL, -- its stream
  seq INTEGER NOT NULL, -- its sequence number
  is_discard INTEGER NOT NULL, -- 1 drop it, 0 try it again
  PRIMARY KEY (origin, stream, seq)
) STRICT, WITHOUT ROWID;

-- Answers that were given under an idempotency key.
CREATE TABLE idempotency (
  n INTEGER PRIMARY KEY, -- in the order of the answers; the oldest are looked at for being out of date
  key TEXT NOT NULL UNIQUE, -- the key
  hash BLOB NOT NULL, -- hash of the request
  answer BLOB NOT NULL, -- the answer
  expires_ms INTEGER NOT NULL -- from when on it does not hold
) STRICT;

-- The rules document in force; no row means the built-in one.
CREATE TABLE rules (
  one INTEGER PRIMARY KEY CHECK (one = 1), -- there is one row
  text TEXT NOT NULL -- TOML, as the hub wrote it
) STRICT;

-- Where the gateway is enrolled; no row before it is. The secret is a file, not here.
CREATE TABLE enrolment (
  one INTEGER PRIMARY KEY CHECK (one = 1), -- there is one row
  hub_url TEXT NOT NULL, -- the hub
  name TEXT NOT NULL, -- what the hub calls the gateway
  device INTEGER NOT NULL, -- the number that the hub gave it
  enrolled_ms INTEGER NOT NULL -- when
  , authority BLOB NOT NULL DEFAULT x'' -- certificate (DER) of the hub's authority, whom the gateway trusts; empty: enrolled without TLS of the hub's own
  , key BLOB NOT NULL DEFAULT x'' -- the gateway's secret key (PKCS #8) for TLS; made here, never sent
  , certificate BLOB NOT NULL DEFAULT x'' -- its certificate (DER)
  , renew_ms INTEGER NOT NULL DEFAULT 0 -- from when on it asks for the next certificate
) STRICT;

-- How the last syncs went.
CREATE TABLE sync_report (
  one INTEGER PRIMARY KEY CHECK (one = 1), -- there is one row
  attempt_ms INTEGER NOT NULL, -- the last attempt
  success_ms INTEGER NOT NULL, -- the last success; 0 if there was none
  error_class TEXT NOT NULL, -- class of the failure, if the last attempt failed; else empty
  error TEXT NOT NULL, -- what failed
  bytes_up INTEGER NOT NULL, -- bytes sent in all
  bytes_down INTEGER NOT NULL, -- bytes received in all
  exchanges INTEGER NOT NULL -- exchanges in all
) STRICT;

-- How the last checks and the last backup went.
CREATE TABLE upkeep (
  one INTEGER PRIMARY KEY CHECK (one = 1), -- there is one row
  checked_ms INTEGER NOT NULL, -- when SQLite's own check of the file last ended; 0 if never
  faults TEXT NOT NULL, -- what it found, one a line; empty if nothing
  scrubbed_ms INTEGER NOT NULL, -- when every row was last read and hashed again; 0 if never
  backup_ms INTEGER NOT NULL, -- when the last backup was complete; 0 if there was none
  backup_error TEXT NOT NULL -- why the last attempt made none; empty if it did
) STRICT;

-- Rows that could not be read. One that can be again, or is gone, does not count any more.
CREATE TABLE damage (
  place INTEGER NOT NULL, -- 0 `records`, 1 `history`
  number INTEGER NOT NULL, -- `records.feed` or `history.number`
  found_ms INTEGER NOT NULL, -- when it was met first
  PRIMARY KEY (place, number)
) STRICT, WITHOUT ROWID;

-- By what apps of the clinic's network know this gateway; no row before it was opened to one.
CREATE TABLE face (
  one INTEGER PRIMARY KEY CHECK (one = 1), -- there is one row
  key BLOB NOT NULL -- secret key (PKCS #8) of the listener; made here, never sent
) STRICT;

-- Apps that may come in over the clinic's network.
CREATE TABLE apps (
  name TEXT PRIMARY KEY, -- what people call it
  token BLOB NOT NULL UNIQUE, -- SHA-256 of its token
  reads TEXT NOT NULL, -- record types that it may read, with spaces between; `*` is all
  writes TEXT NOT NULL, -- record types that it may write, likewise
  paired_ms INTEGER NOT NULL, -- when it was paired
  days INTEGER NOT NULL, -- how long it may come in
  expires_ms INTEGER NOT NULL, -- when that ends; 0 until the time is known
  used_ms INTEGER NOT NULL -- when it was last here, to the day; 0 if never
) STRICT, WITHOUT ROWID;

-- What was safe on a day, by the hub's time; older history goes by that. Those that are older than is needed are removed.
CREATE TABLE milestones (
  at_ms INTEGER PRIMARY KEY, -- when
  epoch INTEGER NOT NULL, -- the hub's lineage then
  origin INTEGER NOT NULL, -- the incarnation then
  urgent INTEGER NOT NULL, -- in stream 0 this op and all before it survived the loss of the hub
  normal INTEGER NOT NULL, -- in stream 1
  bulk INTEGER NOT NULL, -- in stream 2
  changes INTEGER NOT NULL -- the last change from the hub: sequence number in lane 3
) STRICT;

-- Where own ops were forgotten or erased, for a hub that is put back.
CREATE TABLE gaps (
  number INTEGER PRIMARY KEY, -- `history.number` of the op that follows on forgotten ones, or on an erased one
  chain BLOB NOT NULL -- chain before it, 32 bytes
) STRICT;

-- How forgetting goes.
CREATE TABLE retention (
  one INTEGER PRIMARY KEY CHECK (one = 1), -- there is one row
  takes_gaps INTEGER NOT NULL, -- the hub takes a stream over forgotten ops; without that nothing is forgotten
  passed_ms INTEGER NOT NULL, -- when the history was last gone through to its end; 0 if never
  ops INTEGER NOT NULL, -- own ops forgotten in all
  changes INTEGER NOT NULL -- changes from the hub forgotten in all
) STRICT;

-- Records that the hub has erased. What is written of them knows of it, or is dropped.
CREATE TABLE erasures (
  name BLOB PRIMARY KEY, -- a hash of type and id
  number INTEGER NOT NULL -- of the last erasure: milliseconds since 1970, about
) STRICT, WITHOUT ROWID;

-- Free pages of the file may hold what was erased, until it is written anew; no row when they do not.
CREATE TABLE sweep (
  one INTEGER PRIMARY KEY CHECK (one = 1), -- there is one row
  due_ms INTEGER NOT NULL -- since when
) STRICT;

-- What was done here that decides about who gets in, for the audit of the hub. The newest 500.
CREATE TABLE acts (
  number INTEGER PRIMARY KEY, -- rises
  name TEXT NOT NULL UNIQUE, -- 16 hex digits at random, by which the hub knows one that it has
  at_ms INTEGER NOT NULL, -- when, as well as that was known
  time INTEGER NOT NULL, -- how well that was
  who TEXT NOT NULL, -- `cli:0 for 1000`, `page`, `machine`, `app:tablet 1` or `gateway`
  what TEXT NOT NULL, -- such as `pair-app`
  target TEXT NOT NULL -- on what, in JSON: ids, names and counts, never a value of a record
) STRICT;

-- What of them the hub has; no row before it has any.
CREATE TABLE acts_told (
  one INTEGER PRIMARY KEY CHECK (one = 1), -- there is one row
  number INTEGER NOT NULL, -- acts up to this one
  epoch INTEGER NOT NULL, -- under this lineage of the hub: a hub that was put back may have lost them, and is told again
  dropped INTEGER NOT NULL -- acts that went before the hub heard of them, in all
) STRICT;

-- The key of an enrolment that was begun; no row when none is under way.
CREATE TABLE enrolling (
  one INTEGER PRIMARY KEY CHECK (one = 1), -- there is one row
  mark BLOB NOT NULL, -- a hash of the code that it is for
  key BLOB NOT NULL -- PKCS #8
) STRICT;
