-- Certificates.

-- The hub's own authority and the address that codes carry. In the database, so that a hub that was put back is still trusted.
CREATE TABLE authority (
    one         INTEGER PRIMARY KEY CHECK (one = 1),
    key         BLOB NOT NULL,  -- PKCS #8; secret
    certificate BLOB NOT NULL,  -- DER
    address     TEXT NOT NULL,  -- host and port as gateways reach it; empty: nobody said
    bound       TEXT NOT NULL DEFAULT ''  -- where it listened last
) STRICT;

-- SHA-256 of the public key (SubjectPublicKeyInfo) to which a gateway's certificates are bound; empty: enrolled without.
ALTER TABLE gateways ADD COLUMN cert_key BLOB NOT NULL DEFAULT x'';

-- Those that it had before it was enrolled anew: good for handing in an old card, as its former key is.
CREATE TABLE former_cert_keys (
    device   INTEGER NOT NULL,
    cert_key BLOB NOT NULL,
    PRIMARY KEY (device, cert_key)
) STRICT, WITHOUT ROWID;

-- Keys and certificates of cards that were revoked and replaced since: what they still send waits for a person.
CREATE TABLE revoked_keys (
    device   INTEGER NOT NULL,
    key      BLOB NOT NULL,
    cert_key BLOB NOT NULL,
    PRIMARY KEY (device, key, cert_key)
) STRICT, WITHOUT ROWID;

-- Whether only a person frees it.
ALTER TABLE quarantine ADD COLUMN for_person INTEGER NOT NULL DEFAULT 0;
