-- How the boxes of gateways are, as they told last.

CREATE TABLE conditions (
    device   INTEGER PRIMARY KEY,
    is_weak  INTEGER NOT NULL,  -- its power supply has been too weak
    is_slow  INTEGER NOT NULL,  -- its processor has been slowed down
    no_clock INTEGER NOT NULL,  -- it has no clock that goes on without power
    worn     INTEGER,           -- percent of its card's life; NULL: the card does not say
    reserve  INTEGER NOT NULL,  -- of its card: 0 not known, 1 enough, 2 low, 3 ending
    told_ms  INTEGER NOT NULL
) STRICT;
