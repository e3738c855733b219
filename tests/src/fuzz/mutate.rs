//! Changes of inputs for the suite: seeded, and without any knowledge of the code. libFuzzer is better at it.

use crate::generator::random::Random;

/// Numbers at which readers like to fail.
const EDGES: [u8; 12] = [0, 1, 0x17, 0x18, 0x1b, 0x3b, 0x5b, 0x7f, 0x80, 0x9b, 0xbb, 0xff];

/// One of the inputs, changed at some places, and sometimes with a part of another.
pub(super) fn changed(random: &mut Random, inputs: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = one(random, inputs);
    for _ in 0..random.between(1, 4) {
        let at = place(random, bytes.len());
        match random.between(0, 6) {
            0 => bytes.truncate(at),
            1 if at < bytes.len() => bytes[at] ^= 1 << random.between(0, 7),
            2 if at < bytes.len() => bytes[at] = random.pick(&EDGES),
            3 => bytes.insert(at, random.bits() as u8),
            4 if at < bytes.len() => drop(bytes.remove(at)),
            5 => {
                let from = one(random, inputs);
                let (begin, end) = (place(random, from.len()), place(random, from.len()));
                let part = from[begin.min(end)..begin.max(end)].to_vec();
                bytes.splice(at..at, part);
            }
            _ => {
                let end = place(random, bytes.len());
                let part = bytes[at.min(end)..at.max(end)].to_vec();
                bytes.splice(at..at, part);
            }
        }
    }
    bytes
}

fn one(random: &mut Random, inputs: &[Vec<u8>]) -> Vec<u8> {
    inputs.get(random.between(0, inputs.len() as i64 - 1) as usize).cloned().unwrap_or_default()
}

fn place(random: &mut Random, len: usize) -> usize {
    random.between(0, len as i64) as usize
}
