//! The few CBOR (RFC 8949) moves that every encoder and decoder here shares, on top of `minicbor`.
//!
//! Writing goes to memory and cannot fail; reading comes from outside and can. Every length that is read is
//! checked against what is left of the input before anything is allocated for it.

use minicbor::data::Type;
use minicbor::{Decoder, Encoder};

use crate::error::DecodeError;

/// Writes CBOR into a growing buffer.
pub(crate) struct Out(Encoder<Vec<u8>>);

/// Writing to a `Vec` has no way to fail, so the result carries nothing to look at.
macro_rules! put {
    ($self:ident . $method:ident ( $($arg:expr),* )) => {{
        let _infallible = $self.0.$method($($arg),*);
        $self
    }};
}

impl Out {
    pub(crate) fn new() -> Self {
        Out(Encoder::new(Vec::new()))
    }

    pub(crate) fn finish(self) -> Vec<u8> {
        self.0.into_writer()
    }

    pub(crate) fn uint(&mut self, v: u64) -> &mut Self {
        put!(self.u64(v))
    }

    pub(crate) fn int(&mut self, v: i64) -> &mut Self {
        put!(self.i64(v))
    }

    pub(crate) fn text(&mut self, v: &str) -> &mut Self {
        put!(self.str(v))
    }

    pub(crate) fn bytes(&mut self, v: &[u8]) -> &mut Self {
        put!(self.bytes(v))
    }

    pub(crate) fn array(&mut self, len: usize) -> &mut Self {
        put!(self.array(len as u64))
    }

    pub(crate) fn map(&mut self, len: usize) -> &mut Self {
        put!(self.map(len as u64))
    }

    pub(crate) fn tag(&mut self, tag: u64) -> &mut Self {
        put!(self.tag(minicbor::data::Tag::new(tag)))
    }

    pub(crate) fn bool(&mut self, v: bool) -> &mut Self {
        put!(self.bool(v))
    }

    pub(crate) fn null(&mut self) -> &mut Self {
        put!(self.null())
    }

    pub(crate) fn undefined(&mut self) -> &mut Self {
        put!(self.undefined())
    }

    pub(crate) fn float(&mut self, v: f64) -> &mut Self {
        put!(self.f64(v))
    }

    /// Ends a chain of calls.
    pub(crate) fn done(&mut self) {}

    /// Appends bytes that are CBOR already.
    pub(crate) fn raw(&mut self, encoded: &[u8]) -> &mut Self {
        self.0.writer_mut().extend_from_slice(encoded);
        self
    }

    /// Writes an array by calling `each` for every item.
    pub(crate) fn list<T>(
        &mut self,
        items: impl ExactSizeIterator<Item = T>,
        mut each: impl FnMut(&mut Self, T),
    ) -> &mut Self {
        self.array(items.len());
        for item in items {
            each(self, item);
        }
        self
    }
}

/// Reads CBOR from a slice.
pub(crate) struct In<'b>(Decoder<'b>);

impl<'b> In<'b> {
    pub(crate) fn new(bytes: &'b [u8]) -> Self {
        In(Decoder::new(bytes))
    }

    /// Fails unless all of the input was read.
    pub(crate) fn end(&self) -> Result<(), DecodeError> {
        match self.0.position() == self.0.input().len() {
            true => Ok(()),
            false => Err(DecodeError::TrailingBytes),
        }
    }

    pub(crate) fn kind(&self) -> Result<Type, DecodeError> {
        Ok(self.0.datatype()?)
    }

    pub(crate) fn uint(&mut self) -> Result<u64, DecodeError> {
        Ok(self.0.u64()?)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, DecodeError> {
        Ok(self.0.u32()?)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, DecodeError> {
        Ok(self.0.u8()?)
    }

    pub(crate) fn int(&mut self) -> Result<i64, DecodeError> {
        Ok(self.0.i64()?)
    }

    pub(crate) fn bool(&mut self) -> Result<bool, DecodeError> {
        Ok(self.0.bool()?)
    }

    pub(crate) fn float(&mut self) -> Result<f64, DecodeError> {
        Ok(self.0.f64()?)
    }

    pub(crate) fn text(&mut self) -> Result<&'b str, DecodeError> {
        Ok(self.0.str()?)
    }

    pub(crate) fn bytes(&mut self) -> Result<&'b [u8], DecodeError> {
        Ok(self.0.bytes()?)
    }

    pub(crate) fn tag(&mut self) -> Result<u64, DecodeError> {
        Ok(self.0.tag()?.as_u64())
    }

    pub(crate) fn null(&mut self) -> Result<(), DecodeError> {
        Ok(self.0.null()?)
    }

    pub(crate) fn skip(&mut self) -> Result<(), DecodeError> {
        Ok(self.0.skip()?)
    }

    /// The length of an array. An item takes at least one byte, so a length beyond the input is a lie.
    pub(crate) fn array(&mut self) -> Result<usize, DecodeError> {
        let len = self.0.array()?;
        self.check_length(len, 1)
    }

    /// The number of pairs of a map.
    pub(crate) fn map(&mut self) -> Result<usize, DecodeError> {
        let len = self.0.map()?;
        self.check_length(len, 2)
    }

    fn check_length(&self, len: Option<u64>, item_bytes_min: u64) -> Result<usize, DecodeError> {
        let len = len.ok_or(DecodeError::IndefiniteLength)?;
        let left = self.0.input().len().saturating_sub(self.0.position()) as u64;
        match len.checked_mul(item_bytes_min) {
            Some(bytes) if bytes <= left => Ok(len as usize),
            _ => Err(DecodeError::LengthBeyondInput),
        }
    }

    /// Reads an array by calling `each` for every item.
    pub(crate) fn list<T>(
        &mut self,
        mut each: impl FnMut(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<Vec<T>, DecodeError> {
        let len = self.array()?;
        let mut items = Vec::with_capacity(len.min(1024));
        for _ in 0..len {
            items.push(each(self)?);
        }
        Ok(items)
    }

    /// Reads an array that must have exactly `len` items; the caller reads them.
    pub(crate) fn tuple(&mut self, len: usize) -> Result<(), DecodeError> {
        match self.array()? == len {
            true => Ok(()),
            false => Err(DecodeError::Shape("array of another length")),
        }
    }
}
