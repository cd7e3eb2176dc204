//! Records: how one looks in a segment file.
//!
//! All numbers are little-endian. A header of the length of what follows it
//! (u32), a CRC32 of that length and a CRC32 of what follows; then the time
//! (i64), the number of places (u16), each place as shard (u16) and offset
//! (u64), and the body. The length has a CRC of its own so that the next
//! record is found behind a damaged one.

use bytes::Bytes;
use smallvec::SmallVec;

/// Bytes of the header.
pub(super) const HEADER: usize = 12;

/// Bytes of the time and the number of places.
pub(super) const FIXED: usize = 10;

/// Bytes of a place.
pub(super) const PLACE: usize = 10;

/// The largest record, in bytes.
pub(super) const MAX: usize = 64 << 20;

/// No record has a larger offset, so that sums of a few never overflow.
pub(super) const MAX_OFFSET: u64 = 1 << 61;

/// Where a record is in the history of one shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    /// The shard.
    pub(super) shard: u16,
    /// Its offset there.
    pub(super) offset: u64,
}

/// The places of a record, nearly always one.
pub(super) type Places = SmallVec<[Place; 1]>;

/// How many bytes a record takes, header included.
pub(super) fn length(places: usize, parts: &[&[u8]]) -> usize {
    HEADER + FIXED + places * PLACE + parts.iter().map(|part| part.len()).sum::<usize>()
}

/// Adds a record of at most [`MAX`] bytes to `out`.
pub(super) fn encode(out: &mut Vec<u8>, at_ms: i64, places: &[Place], parts: &[&[u8]]) {
    let start = out.len();
    let length = length(places.len(), parts);
    out.reserve(length);
    out.extend_from_slice(&[0; HEADER]);
    out.extend_from_slice(&at_ms.to_le_bytes());
    out.extend_from_slice(&(places.len() as u16).to_le_bytes());
    for place in places {
        out.extend_from_slice(&place.shard.to_le_bytes());
        out.extend_from_slice(&place.offset.to_le_bytes());
    }
    for part in parts {
        out.extend_from_slice(part);
    }
    let size = ((length - HEADER) as u32).to_le_bytes();
    let crc = crc32fast::hash(&out[start + HEADER..]);
    let header = &mut out[start..start + HEADER];
    header[..4].copy_from_slice(&size);
    header[4..8].copy_from_slice(&crc32fast::hash(&size).to_le_bytes());
    header[8..].copy_from_slice(&crc.to_le_bytes());
}

/// The length of what follows a header and its CRC, if the length can be trusted.
pub(super) fn header(bytes: &[u8; HEADER]) -> Option<(usize, u32)> {
    let [a, b, c, d, e, f, g, h, i, j, k, l] = *bytes;
    let size = [a, b, c, d];
    let length = u32::from_le_bytes(size) as usize;
    let fits = (FIXED + PLACE..=MAX - HEADER).contains(&length);
    let whole = fits && crc32fast::hash(&size) == u32::from_le_bytes([e, f, g, h]);
    whole.then_some((length, u32::from_le_bytes([i, j, k, l])))
}

/// The time and the number of places.
pub(super) fn fixed(bytes: &[u8; FIXED]) -> (i64, usize) {
    let [a, b, c, d, e, f, g, h, low, high] = *bytes;
    (i64::from_le_bytes([a, b, c, d, e, f, g, h]), usize::from(u16::from_le_bytes([low, high])))
}

/// The places in a list of them.
pub(super) fn places(bytes: &[u8]) -> impl Iterator<Item = Place> {
    bytes.as_chunks::<PLACE>().0.iter().map(|&[low, high, a, b, c, d, e, f, g, h]| Place {
        shard: u16::from_le_bytes([low, high]),
        offset: u64::from_le_bytes([a, b, c, d, e, f, g, h]),
    })
}

/// The body of a whole record, if the record is undamaged and is the one at `place`.
pub(super) fn body(record: &Bytes, place: Place) -> Option<Bytes> {
    let (head, content) = record.split_first_chunk::<HEADER>()?;
    let (length, crc) = header(head)?;
    if content.len() != length || crc32fast::hash(content) != crc {
        return None;
    }
    let (head, rest) = content.split_first_chunk::<FIXED>()?;
    let list = fixed(head).1 * PLACE;
    places(rest.get(..list)?).any(|other| other == place).then(|| record.slice(HEADER + FIXED + list..))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> (Vec<u8>, [Place; 2]) {
        let places = [Place { shard: 0, offset: 7 }, Place { shard: 3, offset: 1 << 40 }];
        let mut out = Vec::new();
        encode(&mut out, -5, &places, &[b"ab", b"", b"c"]);
        (out, places)
    }

    #[test]
    fn a_record_comes_back_for_each_of_its_places() {
        let (bytes, places) = record();
        assert_eq!(bytes.len(), length(2, &[b"abc"]));
        let bytes = Bytes::from(bytes);
        for place in places {
            assert_eq!(body(&bytes, place).as_deref(), Some(&b"abc"[..]));
        }
        assert_eq!(body(&bytes, Place { shard: 3, offset: 7 }), None);
    }

    #[test]
    fn a_flipped_bit_or_a_lost_byte_is_noticed() {
        let (bytes, places) = record();
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut damaged = bytes.clone();
                damaged[at] ^= 1 << bit;
                assert_eq!(body(&damaged.into(), places[0]), None, "byte {at}, bit {bit}");
            }
            assert_eq!(body(&bytes[..at].to_vec().into(), places[0]), None);
        }
    }
}
