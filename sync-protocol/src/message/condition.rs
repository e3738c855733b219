//! How a gateway's box is, as far as somebody at the hub may have to send a technician.

use crate::cbor::{In, Out};
use crate::error::DecodeError;

/// From this wear on a card is to be replaced at the next visit, percent.
pub const WORN_PERCENT: u8 = 80;

/// What of a gateway's box somebody may have to mend: its power supply, its cooling, its clock, its card.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Condition {
    /// The power supply has been too weak since the box was started.
    pub is_power_weak: bool,
    /// The processor has been slowed down since then, by heat or by a weak supply.
    pub is_slowed: bool,
    /// It has no clock that goes on without power.
    pub is_clockless: bool,
    /// How much of the life of its card is used, percent in steps of ten, as the card says; above 100 it is past its time. `None` if it does not say.
    pub worn_percent: Option<u8>,
    /// How much of the card's reserve is used.
    pub reserve: Reserve,
}

/// What a card says of the blocks that it keeps in reserve (JEDEC, `PRE_EOL_INFO`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Reserve {
    /// It does not say.
    #[default]
    Unknown,
    /// Enough are left.
    Enough,
    /// Most are used: replace the card.
    Low,
    /// Nearly all are used: replace it now.
    Ending,
}

/// `[bits, worn, reserve]`: weak power 1, slowed 2, without a clock 4; worn in percent and one more, 0 for unknown.
pub(super) fn encode_condition(out: &mut Out, condition: &Condition) {
    let Condition { is_power_weak, is_slowed, is_clockless, worn_percent, reserve } = *condition;
    let bits = u64::from(is_power_weak) | u64::from(is_slowed) << 1 | u64::from(is_clockless) << 2;
    out.array(3).uint(bits).uint(worn_percent.map_or(0, |percent| u64::from(percent) + 1)).uint(reserve.number());
}

/// Bits and reserves that a newer build may have are passed over.
pub(super) fn decode_condition(input: &mut In<'_>) -> Result<Condition, DecodeError> {
    input.tuple(3)?;
    let (bits, worn, reserve) = (input.uint()?, input.uint()?, input.uint()?);
    Ok(Condition {
        is_power_weak: bits & 1 != 0,
        is_slowed: bits & 2 != 0,
        is_clockless: bits & 4 != 0,
        worn_percent: worn.checked_sub(1).map(|percent| u8::try_from(percent).unwrap_or(u8::MAX)),
        reserve: Reserve::from_number(reserve),
    })
}

impl Reserve {
    /// Its number, on the wire and as cards say it.
    pub fn number(self) -> u64 {
        match self {
            Reserve::Unknown => 0,
            Reserve::Enough => 1,
            Reserve::Low => 2,
            Reserve::Ending => 3,
        }
    }

    /// What a number stands for.
    pub fn from_number(number: u64) -> Reserve {
        match number {
            1 => Reserve::Enough,
            2 => Reserve::Low,
            3 => Reserve::Ending,
            _ => Reserve::Unknown,
        }
    }
}
