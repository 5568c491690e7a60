//! The archive's bytes in the units of its format: bytes, integers, texts, read in passing.

use std::io::{BufRead as _, BufReader, ErrorKind, Read};

use super::Error;

/// Texts and chunks are not longer than what PostgreSQL can hold in one value.
const MAX_LENGTH: i64 = 1 << 30;

/// What is read at once, in bytes.
const BUFFER: usize = 256 * 1024;

/// Texts that are kept: versions.
const MAX_SHORT: u64 = 256;

/// Where in the archive we are, and in what.
pub(super) struct Scan<R> {
    archive: BufReader<R>,
    at: u64,
    inside: &'static str,
}

impl<R: Read> Scan<R> {
    pub(super) fn new(archive: R) -> Self {
        Self { archive: BufReader::with_capacity(BUFFER, archive), at: 0, inside: "" }
    }

    /// How many bytes were read.
    pub(super) const fn at(&self) -> u64 {
        self.at
    }

    /// Says what follows, for messages.
    pub(super) const fn enter(&mut self, inside: &'static str) {
        self.inside = inside;
    }

    pub(super) const fn malformed(&self, what: &'static str) -> Error {
        Error::Malformed { at: self.at, what }
    }

    /// The next byte; nothing at the end.
    pub(super) fn byte_or_end(&mut self) -> Result<Option<u8>, Error> {
        let byte = self.buffer()?.first().copied();
        self.consume(usize::from(byte.is_some()));
        Ok(byte)
    }

    pub(super) fn byte(&mut self) -> Result<u8, Error> {
        self.byte_or_end()?.ok_or(Error::Truncated { at: self.at, inside: self.inside })
    }

    /// A sign, and four bytes from the lowest to the highest.
    pub(super) fn int(&mut self) -> Result<i64, Error> {
        // One is there for every row of a database: mostly whole in the buffer.
        let [sign, value @ ..] = match self.buffer()?.first_chunk::<5>() {
            Some(bytes) => {
                let bytes = *bytes;
                self.consume(bytes.len());
                bytes
            }
            None => [self.byte()?, self.byte()?, self.byte()?, self.byte()?, self.byte()?],
        };
        let value = u32::from_le_bytes(value);
        match sign {
            0 => Ok(i64::from(value)),
            1 => Ok(-i64::from(value)),
            _ => Err(self.malformed("an integer with an impossible sign")),
        }
    }

    /// A length; `None` where it says that there is nothing, not even something empty.
    pub(super) fn length(&mut self) -> Result<Option<u64>, Error> {
        match self.int()? {
            -1 => Ok(None),
            length @ 0..=MAX_LENGTH => Ok(Some(length.unsigned_abs())),
            _ => Err(self.malformed("an impossible length")),
        }
    }

    /// Passes over a text; its length, or `None` where there is none.
    pub(super) fn skip_text(&mut self) -> Result<Option<u64>, Error> {
        let length = self.length()?;
        if let Some(length) = length {
            self.skip(length)?;
        }
        Ok(length)
    }

    pub(super) fn skip_texts(&mut self, count: usize) -> Result<(), Error> {
        for _ in 0..count {
            self.skip_text()?;
        }
        Ok(())
    }

    /// A text that is kept, without what no terminal should see.
    pub(super) fn short_text(&mut self) -> Result<String, Error> {
        let Some(length) = self.length()? else { return Ok(String::new()) };
        if length > MAX_SHORT {
            return Err(self.malformed("a version that is none"));
        }
        let mut text = String::new();
        for _ in 0..length {
            let byte = self.byte()?;
            text.push(if byte.is_ascii_graphic() || byte == b' ' { char::from(byte) } else { '?' });
        }
        Ok(text)
    }

    /// Passes over bytes.
    pub(super) fn skip(&mut self, mut count: u64) -> Result<(), Error> {
        while count > 0 {
            let there = self.buffer()?.len();
            if there == 0 {
                return Err(Error::Truncated { at: self.at, inside: self.inside });
            }
            let step = there.min(usize::try_from(count).unwrap_or(usize::MAX));
            self.consume(step);
            count -= step as u64;
        }
        Ok(())
    }

    fn buffer(&mut self) -> Result<&[u8], Error> {
        let at = self.at;
        loop {
            match self.archive.fill_buf() {
                // Asked again below: the borrow checker cannot see that nothing is borrowed on the way round.
                Ok(_) => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(source) => return Err(Error::Read { at, source }),
            }
        }
        Ok(self.archive.buffer())
    }

    fn consume(&mut self, count: usize) {
        self.archive.consume(count);
        self.at += count as u64;
    }
}
