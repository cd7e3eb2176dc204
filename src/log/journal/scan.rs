//! Scanning: the records of a segment file, one after another, whatever is in
//! the file.
//!
//! Reads in small pieces, so that a scan takes the same memory for any file.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};

use super::record::{self, Place, Places};

const BUFFER: usize = 64 << 10;

/// What a scan comes across.
#[derive(Debug)]
pub(super) enum Found {
    /// A whole record.
    Record {
        /// Its bytes, header included.
        length: u32,
        /// When it was appended.
        at_ms: i64,
        /// Where it is in the history of each shard.
        places: Places,
    },
    /// A record whose content is wrong; what follows it is known.
    Damaged,
    /// The file ends within a record, or in bytes that were never written.
    Torn,
    /// Neither a record nor a way to find the next one.
    Lost,
}

/// Walks through a segment file.
pub(super) struct Scanner<'a> {
    reader: BufReader<&'a File>,
    at: u64,
    end: u64,
}

impl<'a> Scanner<'a> {
    /// Begins behind the header of a file of `end` bytes.
    pub(super) fn new(mut file: &'a File, start: u64, end: u64) -> io::Result<Self> {
        file.seek(SeekFrom::Start(start))?;
        Ok(Self { reader: BufReader::with_capacity(BUFFER, file), at: start, end })
    }

    /// What comes next, and the byte at which it begins; nothing at the end of the file.
    pub(super) fn next(&mut self) -> io::Result<Option<(u64, Found)>> {
        let start = self.at;
        let left = self.end.saturating_sub(start);
        if left == 0 {
            return Ok(None);
        }
        self.at = self.end;
        if left < record::HEADER as u64 {
            return Ok(Some((start, Found::Torn)));
        }
        let mut header = [0; record::HEADER];
        self.reader.read_exact(&mut header)?;
        let Some((content, crc)) = record::header(&header) else {
            let blank = header == [0; record::HEADER] && self.rest_is_blank()?;
            return Ok(Some((start, if blank { Found::Torn } else { Found::Lost })));
        };
        let length = (record::HEADER + content) as u64;
        if length > left {
            return Ok(Some((start, Found::Torn)));
        }
        self.at = start + length;
        let found = match self.content(content, crc)? {
            Some((at_ms, places)) => Found::Record { length: length as u32, at_ms, places },
            None => Found::Damaged,
        };
        Ok(Some((start, found)))
    }

    /// Reads the content of a record to its end: its time and places, if it is undamaged.
    fn content(&mut self, length: usize, crc: u32) -> io::Result<Option<(i64, Places)>> {
        let mut fixed = [0; record::FIXED];
        self.reader.read_exact(&mut fixed)?;
        let (at_ms, count) = record::fixed(&fixed);
        let rest = length - record::FIXED;
        let list = count * record::PLACE;
        if count == 0 || list > rest {
            self.reader.seek_relative(rest as i64)?;
            return Ok(None);
        }
        let mut places = vec![0; list];
        self.reader.read_exact(&mut places)?;
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&fixed);
        hasher.update(&places);
        let mut left = rest - list;
        while left > 0 {
            let piece = self.filled()?;
            let piece = &piece[..piece.len().min(left)];
            hasher.update(piece);
            let read = piece.len();
            self.reader.consume(read);
            left -= read;
        }
        let places: Places = record::places(&places).collect();
        let sound = |place: &Place| (1..=record::MAX_OFFSET).contains(&place.offset);
        Ok((hasher.finalize() == crc && places.iter().all(sound)).then_some((at_ms, places)))
    }

    /// Whether the file holds nothing but zeros from here on.
    fn rest_is_blank(&mut self) -> io::Result<bool> {
        loop {
            match self.reader.fill_buf()? {
                [] => return Ok(true),
                piece if piece.iter().any(|&byte| byte != 0) => return Ok(false),
                piece => {
                    let read = piece.len();
                    self.reader.consume(read);
                }
            }
        }
    }

    /// What the reader has buffered, at least one byte.
    fn filled(&mut self) -> io::Result<&[u8]> {
        match self.reader.fill_buf()? {
            [] => Err(io::ErrorKind::UnexpectedEof.into()),
            piece => Ok(piece),
        }
    }
}
