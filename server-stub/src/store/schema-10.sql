-- What gateways tell of what was done there, for the audit.

-- Acts that the audit has, by the names that gateways gave them, so that one that is sent twice is written once.
CREATE TABLE acts (
    device INTEGER NOT NULL,
    name   BLOB NOT NULL,  -- eight bytes at random
    PRIMARY KEY (device, name)
) STRICT, WITHOUT ROWID;

CREATE TABLE acts_heard (
    device  INTEGER PRIMARY KEY,
    day     INTEGER NOT NULL,  -- since 1970
    taken   INTEGER NOT NULL,  -- new acts on this day
    dropped INTEGER NOT NULL   -- how many the gateway says that it dropped before it could tell them, in all
) STRICT;
