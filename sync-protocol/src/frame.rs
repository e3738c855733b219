//! Frames: the unit of transfer, of damage and of progress.
//!
//! A frame is `length varint | flags u8 | crc32 u32 little-endian | payload`. The checksum (CRC-32, IEEE) covers flags and
//! payload. Flags: 0 raw, 1 zstd, 2 zstd with dictionary 1; both without the four bytes with which zstd (RFC 8878) always
//! begins, because the flags say it already. Each frame decodes alone and is committed with its watermark in one
//! transaction, so that an interruption loses at most one.

use std::io;

use zstd::bulk::{Compressor, Decompressor};
use zstd::zstd_safe::CParameter;

use crate::error::DecodeError;
use crate::limits::{COMPRESS_BYTES_MIN, FRAME_BYTES_LIMIT, FRAME_UNPACKED_BYTES_LIMIT};

/// The dictionary shipped with the program, trained on synthetic records only. `docs/protocol.md` says how.
pub const DICTIONARY_1: &[u8] = include_bytes!("dictionary-1.bin");

const FLAG_RAW: u8 = 0;
const FLAG_ZSTD: u8 = 1;
const FLAG_DICTIONARY_1: u8 = 2;
const HEADER_BYTES: usize = 5;
const LEVEL_LINK: i32 = 19;
/// The tables of that level, half as large as zstd makes them, for the dictionary and for the payload: they still have a place for
/// each byte of the dictionary and of a frame, and a small box has 1.5 MB more. A payload of more than 64 KB is a single large op.
const HASH_LOG_LINK: u32 = 16;
const CHAIN_LOG_LINK: u32 = 17;
/// The first bytes of everything that zstd makes (RFC 8878, section 3.1.1).
const ZSTD_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// Packs and unpacks frames. Holds the prepared dictionary, so make one and keep it.
pub struct Packer {
    level: i32,
    /// Made when it is first needed: it takes megabytes, and a gateway without news never packs.
    encoder: Option<Compressor<'static>>,
    decoder: Decompressor<'static>,
    plain: Decompressor<'static>,
}

impl std::fmt::Debug for Packer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Packer")
    }
}

/// How hard to compress. A gateway has time and a thin link; the hub has many gateways.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effort {
    /// For what goes over a thin link: zstd level 19.
    Link,
    /// For what is done often: zstd level 6.
    Quick,
}

impl Packer {
    /// Prepares the dictionary for reading.
    ///
    /// # Errors
    /// What zstd reports if it cannot get memory.
    pub fn new(effort: Effort) -> io::Result<Packer> {
        let level = match effort {
            Effort::Link => LEVEL_LINK,
            Effort::Quick => 6,
        };
        Ok(Packer {
            level,
            encoder: None,
            decoder: Decompressor::with_dictionary(DICTIONARY_1)?,
            plain: Decompressor::new()?,
        })
    }

    /// Makes a frame of a payload.
    ///
    /// # Errors
    /// What zstd reports if it cannot get memory.
    pub fn pack(&mut self, payload: &[u8]) -> io::Result<Vec<u8>> {
        let packed = match payload.len() < COMPRESS_BYTES_MIN {
            true => Vec::new(),
            false => self.encoder()?.compress(payload)?,
        };
        let (flag, body) = match packed.strip_prefix(&ZSTD_MAGIC) {
            Some(packed) if packed.len() < payload.len() => (FLAG_DICTIONARY_1, packed),
            _ => (FLAG_RAW, payload),
        };
        let mut frame = Vec::with_capacity(body.len() + 10);
        write_varint(&mut frame, (body.len() + HEADER_BYTES) as u64);
        frame.push(flag);
        frame.extend_from_slice(&checksum(flag, body).to_le_bytes());
        frame.extend_from_slice(body);
        Ok(frame)
    }

    fn encoder(&mut self) -> io::Result<&mut Compressor<'static>> {
        match &mut self.encoder {
            Some(encoder) => Ok(encoder),
            none => {
                let mut encoder = Compressor::with_dictionary(self.level, DICTIONARY_1)?;
                if self.level == LEVEL_LINK {
                    encoder.set_parameter(CParameter::HashLog(HASH_LOG_LINK))?;
                    encoder.set_parameter(CParameter::ChainLog(CHAIN_LOG_LINK))?;
                }
                Ok(none.insert(encoder))
            }
        }
    }

    /// Unpacks the inside of a frame, as [`split`] gave it.
    ///
    /// # Errors
    /// A [`DecodeError`] if it is damaged, too large or needs an unknown dictionary.
    pub fn unpack(&mut self, frame: &[u8]) -> Result<Vec<u8>, DecodeError> {
        let (&flag, rest) = frame.split_first().ok_or(DecodeError::Checksum)?;
        let (crc, body) = rest.split_first_chunk::<4>().ok_or(DecodeError::Checksum)?;
        if u32::from_le_bytes(*crc) != checksum(flag, body) {
            return Err(DecodeError::Checksum);
        }
        match flag {
            FLAG_RAW => Ok(body.to_vec()),
            FLAG_ZSTD => unpack_with(&mut self.plain, body),
            FLAG_DICTIONARY_1 => unpack_with(&mut self.decoder, body),
            other => Err(DecodeError::Dictionary(u32::from(other) - 1)),
        }
    }
}

fn unpack_with(decoder: &mut Decompressor<'_>, body: &[u8]) -> Result<Vec<u8>, DecodeError> {
    let limit = DecodeError::TooLarge { what: "unpacked frame", limit: FRAME_UNPACKED_BYTES_LIMIT };
    let body = [&ZSTD_MAGIC, body].concat();
    // The size is in zstd's own header; a frame that lies about it fails in `decompress`.
    match Decompressor::upper_bound(&body) {
        Some(size) if size <= FRAME_UNPACKED_BYTES_LIMIT => {
            decoder.decompress(&body, size).map_err(DecodeError::Unpack)
        }
        _ => Err(limit),
    }
}

fn checksum(flag: u8, body: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&[flag]);
    hasher.update(body);
    hasher.finalize()
}

/// Splits the first frame off a buffer: its inside, and how many bytes it took. `None` if it is not complete yet.
///
/// # Errors
/// [`DecodeError::TooLarge`] before anything that large is waited for.
pub fn split(buffer: &[u8]) -> Result<Option<(&[u8], usize)>, DecodeError> {
    let Some((len, start)) = read_varint(buffer)? else { return Ok(None) };
    if len > FRAME_BYTES_LIMIT as u64 {
        return Err(DecodeError::TooLarge { what: "frame", limit: FRAME_BYTES_LIMIT });
    }
    let end = start + len as usize;
    Ok(buffer.get(start..end).map(|inside| (inside, end)))
}

/// Appends an unsigned LEB128 number.
pub(crate) fn write_varint(out: &mut Vec<u8>, mut n: u64) {
    while n >= 0x80 {
        out.push((n as u8 & 0x7f) | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

/// Reads an unsigned LEB128 number of at most 5 bytes and how many it took; `None` if it is cut.
pub(crate) fn read_varint(bytes: &[u8]) -> Result<Option<(u64, usize)>, DecodeError> {
    let mut n = 0u64;
    for (i, byte) in bytes.iter().enumerate().take(5) {
        n |= u64::from(byte & 0x7f) << (7 * i);
        if byte & 0x80 == 0 {
            return Ok(Some((n, i + 1)));
        }
    }
    match bytes.len() < 5 {
        true => Ok(None),
        false => Err(DecodeError::Shape("length of a frame")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame_of(payload: &[u8]) -> Vec<u8> {
        Packer::new(Effort::Quick).unwrap().pack(payload).unwrap()
    }

    #[test]
    fn a_frame_comes_out_as_it_went_in() {
        let mut packer = Packer::new(Effort::Link).unwrap();
        for len in [0, 1, 63, 64, 5_000, 100_000] {
            let payload: Vec<u8> = (0..len).map(|i| (i % 7) as u8).collect();
            let frame = packer.pack(&payload).unwrap();
            let (inside, taken) = split(&frame).unwrap().unwrap();
            assert_eq!(taken, frame.len());
            assert_eq!(packer.unpack(inside).unwrap(), payload);
        }
    }

    #[test]
    fn what_is_small_on_the_wire_and_too_large_in_memory_is_refused() {
        let mut packer = Packer::new(Effort::Quick).unwrap();
        let most = frame_of(&vec![0; FRAME_UNPACKED_BYTES_LIMIT]);
        assert!(most.len() < 4_096, "{} bytes", most.len());
        assert_eq!(packer.unpack(split(&most).unwrap().unwrap().0).unwrap().len(), FRAME_UNPACKED_BYTES_LIMIT);
        let bomb = frame_of(&vec![0; FRAME_UNPACKED_BYTES_LIMIT + 1]);
        let refused = packer.unpack(split(&bomb).unwrap().unwrap().0);
        assert!(matches!(refused, Err(DecodeError::TooLarge { limit: FRAME_UNPACKED_BYTES_LIMIT, .. })), "{refused:?}");
        // One that says that it is small: four bytes of its header, after one that says that they are there.
        let mut body = zstd::bulk::compress(&[0; 100_000], 1).unwrap().split_off(ZSTD_MAGIC.len());
        assert_eq!(body[0] >> 5, 0b101, "the size in four bytes, and no window");
        body[1..5].copy_from_slice(&10u32.to_le_bytes());
        let lie = [&[FLAG_ZSTD][..], &checksum(FLAG_ZSTD, &body).to_le_bytes(), &body].concat();
        assert!(matches!(packer.unpack(&lie), Err(DecodeError::Unpack(_))));
    }

    #[test]
    fn a_cut_frame_is_waited_for_and_a_damaged_one_refused() {
        let frame = frame_of(&[7; 300]);
        for cut in 0..frame.len() {
            assert!(split(&frame[..cut]).unwrap().is_none(), "cut at {cut}");
        }
        let mut packer = Packer::new(Effort::Quick).unwrap();
        for i in 1..frame.len() {
            let mut damaged = frame.clone();
            damaged[i] ^= 0x10;
            let (inside, _) = split(&damaged).unwrap().unwrap();
            assert!(packer.unpack(inside).is_err(), "byte {i}");
        }
    }

    #[test]
    fn a_length_beyond_the_limit_is_refused_at_once() {
        assert!(matches!(split(&[0xff, 0xff, 0xff, 0x7f]), Err(DecodeError::TooLarge { .. })));
    }
}
