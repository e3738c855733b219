//! How a gateway shows who it is, and how two boxes under one identity are told apart.
//!
//! A gateway has a key from its enrolment, and a turn: the number of its next exchange, which the hub gives with each answer.
//! A request shows the turn and a proof that only who has the key can make. The hub accepts the turn that it gave last and
//! the one that was shown when it gave that, because an answer may be lost. Any other turn is genuine all the same, and says
//! what happened: an older one comes from a card that was copied or put back, a newer one means that the hub itself was.
//! Random tokens in place of numbers could not say the second: a hub from a backup knows none of the newer ones, and would
//! shut its gateways out.

use zeroize::Zeroize;

use crate::message::Short;

/// The secret of one enrolment. Each copy is overwritten when it goes.
#[derive(Clone, PartialEq, Eq)]
pub struct DeviceKey(pub [u8; 32]);

impl Drop for DeviceKey {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl std::fmt::Debug for DeviceKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("DeviceKey")
    }
}

impl DeviceKey {
    /// No key: that of a gateway before its enrolment.
    pub const NONE: DeviceKey = DeviceKey([0; 32]);

    /// What shows that its holder speaks, in this turn.
    pub fn proof(&self, turn: u64) -> Short {
        self.short(b"turn", turn)
    }

    /// Whether a proof is right, in a time that does not depend on where it is wrong.
    pub fn proves(&self, turn: u64, proof: &Short) -> bool {
        self.is_short(b"turn", turn, proof)
    }

    /// What shows the hub that gave this key to a device that it did. It is no turn: another hub that is asked learns nothing
    /// with which it could speak for the device.
    pub fn membership(&self, device: u32) -> Short {
        self.short(b"here", u64::from(device))
    }

    /// Whether that is right, in a time that does not depend on where it is wrong.
    pub fn is_membership(&self, device: u32, shown: &Short) -> bool {
        self.is_short(b"here", u64::from(device), shown)
    }

    /// The key of the enrolment that a twin gets when the two are parted. Both ends compute it, so it never travels. Of no key
    /// comes no key: anybody could compute it.
    pub fn part(&self, device: u32) -> DeviceKey {
        if *self == DeviceKey::NONE {
            return DeviceKey::NONE;
        }
        DeviceKey(*self.keyed(b"part", u64::from(device)).as_bytes())
    }

    fn short(&self, purpose: &[u8; 4], number: u64) -> Short {
        let mut short = Short::default();
        for (to, from) in short.iter_mut().zip(self.keyed(purpose, number).as_bytes()) {
            *to = *from;
        }
        short
    }

    fn is_short(&self, purpose: &[u8; 4], number: u64, shown: &Short) -> bool {
        let differs = self.short(purpose, number).iter().zip(shown).fold(0, |differs, (a, b)| differs | (a ^ b));
        *self != DeviceKey::NONE && differs == 0
    }

    fn keyed(&self, purpose: &[u8; 4], number: u64) -> blake3::Hash {
        let mut hasher = blake3::Hasher::new_keyed(&self.0);
        hasher.update(purpose).update(&number.to_le_bytes());
        hasher.finalize()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proof_is_of_one_key_and_one_turn() {
        let (one, other) = (DeviceKey([1; 32]), DeviceKey([2; 32]));
        assert!(one.proves(7, &one.proof(7)));
        assert!(!one.proves(8, &one.proof(7)) && !other.proves(7, &one.proof(7)));
        let mut cancelling = one.proof(7);
        cancelling.iter_mut().take(2).for_each(|byte| *byte ^= 1);
        assert!(!one.proves(7, &cancelling), "two wrong bytes do not make a right one");
        assert!(one.is_membership(7, &one.membership(7)) && !other.is_membership(7, &one.membership(7)));
        assert!(!one.is_membership(8, &one.membership(7)) && !one.proves(7, &one.membership(7)), "it is no turn");
        assert!(!one.part(3).proves(7, &one.proof(7)) && one.part(3) != one.part(4));
        assert!(!DeviceKey::NONE.proves(0, &DeviceKey::NONE.proof(0)), "who was never enrolled proves nothing");
        assert!(!DeviceKey::NONE.is_membership(0, &DeviceKey::NONE.membership(0)), "nor that it was");
        let forged = DeviceKey::NONE.keyed(b"part", 3);
        assert!(DeviceKey::NONE.part(3) != DeviceKey(*forged.as_bytes()), "what anybody can compute is no key");
        let twin = DeviceKey::NONE.part(3);
        assert!(!twin.proves(0, &twin.proof(0)), "nor does its twin");
    }
}
