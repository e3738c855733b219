-- What a gateway does only so often in a day.
CREATE TABLE daily (
    device INTEGER NOT NULL,
    what   TEXT NOT NULL,
    day    INTEGER NOT NULL,  -- since 1970
    times  INTEGER NOT NULL,  -- on this day
    PRIMARY KEY (device, what)
) STRICT, WITHOUT ROWID;
