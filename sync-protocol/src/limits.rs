//! Every limit of the protocol in one place. `docs/protocol.md` lists the same numbers.

/// How far a wall clock may be from the hub's and still count as right, milliseconds.
pub const CLOCK_AGREES_MS: u64 = 30_000;
/// How far ahead of the hub's clock a stamp may be, milliseconds; the hub clamps what is further. More than
/// [`CLOCK_AGREES_MS`], so that a clock that counts as right is never clamped.
pub const CLOCK_AHEAD_MS_MAX: u64 = 60_000;
/// A repair moves a time by whole multiples of this, milliseconds: what remains belongs to the identity of a write. Half
/// of it is how wrong a repaired time can be.
pub const REPAIR_STEP_MS: i64 = 4_096;
/// Unsent ops whose times are corrected with one answer.
pub const RESTAMP_OPS_MAX: usize = 1_000;
/// The same, their bytes; one op goes whatever its size.
pub const RESTAMP_BYTES_MAX: usize = 256 * 1024;
/// Longest record type, bytes.
pub const TYPE_BYTES_MAX: usize = 64;
/// Longest record id, bytes.
pub const ID_BYTES_MAX: usize = 128;
/// Longest field path in its written form, bytes.
pub const FIELD_BYTES_MAX: usize = 256;
/// Longest scope path, bytes.
pub const SCOPE_BYTES_MAX: usize = 256;
/// Longest author name, bytes.
pub const AUTHOR_BYTES_MAX: usize = 128;
/// Longest note on a settlement, bytes.
pub const NOTE_BYTES_MAX: usize = 512;
/// Fields in one record.
pub const FIELDS_MAX: usize = 512;
/// Nesting of a value.
pub const DEPTH_MAX: usize = 32;
/// One record as JSON, bytes.
pub const RECORD_BYTES_MAX: usize = 256 * 1024;
/// One record with every value that stands in it, bytes: what would make it larger is refused at the desk and held at the
/// hub, so that any record fits into a frame.
pub const RECORD_KEPT_BYTES_MAX: usize = 1024 * 1024;
/// Concurrent values kept in one field. The oldest beyond it stay in the history only.
pub const VALUES_KEPT_MAX: usize = 16;
/// A frame aims at this many bytes on the wire...
pub const FRAME_BYTES_TARGET: usize = 3 * 1024;
/// ...and exceeds this only when a single op or record is larger.
pub const FRAME_BYTES_MAX: usize = 4 * 1024;
/// No frame, whatever it holds, is larger than this on the wire.
pub const FRAME_BYTES_LIMIT: usize = 2 * 1024 * 1024;
/// No frame unpacks to more than this.
pub const FRAME_UNPACKED_BYTES_LIMIT: usize = 8 * 1024 * 1024;
/// Ops or records in one frame.
pub const FRAME_ITEMS_MAX: usize = 1000;
/// The head of a request or response.
pub const HEAD_BYTES_MAX: usize = 512 * 1024;
/// Bytes below which nothing is compressed.
pub const COMPRESS_BYTES_MIN: usize = 64;
/// A whole request or response body.
pub const MESSAGE_BYTES_MAX: usize = 32 * 1024 * 1024;
/// What the frames of one request unpack to together, bytes, before the hub takes no more of it; the frame that reaches it is
/// finished. The rest comes with the next request.
pub const EXCHANGE_UNPACKED_BYTES_MAX: usize = 64 * 1024 * 1024;
/// A rules document, bytes of TOML.
pub const RULES_BYTES_MAX: usize = 256 * 1024;
/// Scopes one gateway subscribes to.
pub const SCOPES_MAX: usize = 256;
/// Characters of a program version that are kept.
pub const VERSION_CHARS_MAX: usize = 64;
/// Frames of one response, bytes, whatever the gateway asks for. The frame that reaches it is finished.
pub const ANSWER_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Changes that the hub looks at for one response.
pub const ANSWER_CHANGES_MAX: usize = 20_000;
/// Wishes about ops in quarantine that one exchange grants.
pub const PLEAS_MAX: usize = 1_000;
/// Coded symbols that a gateway sends first when the digests differ: enough for about a hundred differences.
pub const SYMBOLS_FIRST: usize = 208;
/// Coded symbols that the hub reads at most.
pub const SYMBOLS_MAX: usize = 16_384;
/// Changes of one origin to one record that wait, and are judged one by one as well as all together.
pub const HELD_JUDGED_EACH_MAX: usize = 64;
/// Bounds that a gateway keeps of one stream.
pub const BOUNDS_KEPT_MAX: usize = 256;
/// Ops of one revoked gateway that wait for a person before the hub takes no more of it.
pub const REVOKED_OPS_MAX: usize = 20_000;
/// And their bytes.
pub const REVOKED_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Bounds that one request names: one for each stream and epoch that is gone.
pub const BOUNDS_MAX: usize = 4_096;
/// Gaps in what one request sends. What lies behind more of them goes with the next.
pub const GAPS_MAX: usize = 256;
/// Erasures that a gateway hears of in one response.
pub const ERASURES_MAX: usize = 1_000;
/// Records that a hub which was put back asks a gateway for at a time.
pub const WANTED_MAX: usize = 500;
/// Slices into which digest items are divided at most, where too many differ to be named at once.
pub const SLICES_MAX: u32 = 4096;
/// Boxes that run with copies of one card, copies of copies included, before a person has to look: whoever has a card could make up
/// ever more of them.
pub const TWINS_MAX: usize = 16;
/// Numbers that the hub leaves out at least when it is started: of its order of changes, and of its own writes in each stream. It may
/// have been started on an older state of itself, and what it gave in the time that it lost must not be given again.
pub const HUB_NUMBERS_SKIPPED: usize = 64 * 1024;
/// Numbers that there are for each second since 2026, more than are given in the long run: who is started goes on at those of its time,
/// because one that was started before it, on the same older state, may be what was lost. Few enough for 32 bits until 2034.
pub const HUB_NUMBERS_PER_SECOND: usize = 16;
