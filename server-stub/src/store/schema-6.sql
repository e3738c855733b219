-- Copies of the keys by which gateways' databases are encrypted, so that an admin can help when one is lost.
CREATE TABLE escrow (
    device      INTEGER NOT NULL,
    name        BLOB NOT NULL,  -- of the key; says nothing about it
    sealed      BLOB NOT NULL,  -- nonce and the key, encrypted with what is in escrow.key beside this database
    kept_ms     INTEGER NOT NULL,
    fetched_ms  INTEGER NOT NULL DEFAULT 0,  -- when its gateway asked for it last
    exported_ms INTEGER NOT NULL DEFAULT 0,  -- when an admin last printed it
    exports     INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (device, name)
) STRICT, WITHOUT ROWID;
