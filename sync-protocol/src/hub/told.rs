//! Why a gateway is not heard, in words for whoever looks at its status.

pub(super) const NOT_ENROLLED: &str = "this gateway is not enrolled here";

pub(super) const WRONG_KEY: &str = "this is not the key that this gateway was given";

pub(super) const COPY_SHUT_OUT: &str =
    "a box with a copy of this card was revoked, and this may be it: ask the hub's admin for a code";

pub(super) const TOO_MANY_COPIES: &str =
    "as many boxes run with copies of this card as may: ask the hub's admin for a code";

pub(super) const TOO_MANY_LOSSES: &str =
    "this card has shown too often today that the hub was put back: it is heard again tomorrow";

pub(super) const TOO_MANY_MISFITS: &str = "this card did not fit what the hub has too often today: if two boxes run with copies of \
                                           it, one has to be enrolled anew. It is heard again tomorrow";

pub(super) const TOO_MANY_CLAIMS: &str =
    "this card has brought too many numbers today that the hub does not know: it is heard again tomorrow";

pub(super) const TOO_MANY_RESCUES: &str =
    "files of this card were handed in too often today. What came so far is safe: hand the file in again tomorrow";
