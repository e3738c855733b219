CREATE TABLE upkeep (
  one INTEGER PRIMARY KEY CHECK (one = 1),
  checked_ms INTEGER NOT NULL,
  faults TEXT NOT NULL,
  scrubbed_ms INTEGER NOT NULL,
  backup_ms INTEGER NOT NULL,
  backup_error TEXT NOT NULL
) STRICT;

CREATE TABLE damage (
  place INTEGER NOT NULL,
  number INTEGER NOT NULL,
  found_ms INTEGER NOT NULL,
  PRIMARY KEY (place, number)
) STRICT, WITHOUT ROWID;
