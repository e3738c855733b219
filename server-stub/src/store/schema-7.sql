-- People who log in at a provider (OpenID Connect).

CREATE TABLE identities (
    issuer    TEXT NOT NULL,
    subject   TEXT NOT NULL,            -- who it is there; never an e-mail address, which is given to others later
    account   INTEGER NOT NULL UNIQUE,  -- one way in from outside for each
    linked_ms INTEGER NOT NULL,
    PRIMARY KEY (issuer, subject)
) STRICT, WITHOUT ROWID;

-- A session may be shorter than others: the hub does not hear at once what a provider takes away.
ALTER TABLE sessions ADD COLUMN until_ms INTEGER NOT NULL DEFAULT 9223372036854775807;
