//! The wire format: numbered fields, each a varint, eight or four bytes, or a length and
//! that many bytes. <https://protobuf.dev/programming-guides/encoding/>

use super::{Error, Result};

/// What one field holds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Payload<'a> {
    /// An integer or a boolean; signed ones are in two's complement.
    Varint(u64),
    /// A double.
    Eight([u8; 8]),
    /// Nothing that Kubernetes uses; read over.
    Four,
    /// A text, bytes or another message.
    Bytes(&'a [u8]),
}

/// Reads the fields of one message in their order.
#[derive(Debug)]
pub(super) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// The next field and its number; `None` at the end.
    ///
    /// # Errors
    /// When the message is cut short, or a tag is none.
    pub(super) fn next(&mut self) -> Result<Option<(u32, Payload<'a>)>> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let tag = self.varint()?;
        let number = u32::try_from(tag >> 3)
            .ok()
            .filter(|number| *number > 0)
            .ok_or_else(|| Error(format!("proto: illegal tag {} (wire type {tag})", tag >> 3)))?;
        let payload = match tag & 7 {
            0 => Payload::Varint(self.varint()?),
            1 => {
                let bytes = self.take(8)?;
                Payload::Eight(bytes.try_into().map_err(|_| cut_short())?)
            }
            2 => {
                let length = usize::try_from(self.varint()?).map_err(|_| cut_short())?;
                Payload::Bytes(self.take(length)?)
            }
            5 => {
                self.take(4)?;
                Payload::Four
            }
            kind => return Err(Error(format!("proto: illegal wireType {kind}"))),
        };
        Ok(Some((number, payload)))
    }

    fn varint(&mut self) -> Result<u64> {
        let mut value = 0_u64;
        for (index, byte) in self.0.iter().enumerate() {
            let shift = 7 * u32::try_from(index).unwrap_or(u32::MAX);
            if shift >= 64 {
                return Err(Error("proto: integer overflow".to_owned()));
            }
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                self.0 = &self.0[index + 1..];
                return Ok(value);
            }
        }
        Err(cut_short())
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or_else(cut_short)?;
        self.0 = rest;
        Ok(taken)
    }
}

// === writing ===

/// Appends an integer in groups of seven bits.
pub(super) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends a field that holds an integer or a boolean.
pub(super) fn put_integer(out: &mut Vec<u8>, number: u32, value: u64) {
    put_varint(out, u64::from(number) << 3);
    put_varint(out, value);
}

/// Appends a field that holds a double.
pub(super) fn put_double(out: &mut Vec<u8>, number: u32, value: f64) {
    put_varint(out, u64::from(number) << 3 | 1);
    out.extend_from_slice(&value.to_le_bytes());
}

/// Appends a field that holds a text, bytes or a message.
pub(super) fn put_bytes(out: &mut Vec<u8>, number: u32, bytes: &[u8]) {
    put_varint(out, u64::from(number) << 3 | 2);
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn cut_short() -> Error {
    Error("unexpected EOF".to_owned())
}

/// A text field.
///
/// # Errors
/// When it is no UTF-8.
pub(super) fn text(bytes: &[u8]) -> Result<String> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Ok(text.to_owned()),
        Err(_) => Err(Error("proto: a text is not UTF-8".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_read_in_their_order() {
        let mut reader = Reader::new(b"\x08\x96\x01\x12\x02hi\x1d\0\0\0\0\x21\0\0\0\0\0\0\xf0\x3f");
        assert_eq!(reader.next(), Ok(Some((1, Payload::Varint(150)))));
        assert_eq!(reader.next(), Ok(Some((2, Payload::Bytes(b"hi")))));
        assert_eq!(reader.next(), Ok(Some((3, Payload::Four))));
        assert_eq!(
            reader.next(),
            Ok(Some((4, Payload::Eight(1.0_f64.to_le_bytes()))))
        );
        assert_eq!(reader.next(), Ok(None));
    }

    #[test]
    fn what_is_cut_short_or_no_tag_is_an_error() {
        for bytes in [
            &b"\x08"[..],
            b"\x12\x05hi",
            b"\x21\0",
            b"\0\0",
            b"\x0b",
            b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
            b"\x12\xff\xff\xff\xff\xff\xff\xff\xff\x7f",
        ] {
            assert!(Reader::new(bytes).next().is_err(), "{bytes:x?}");
        }
    }
}
