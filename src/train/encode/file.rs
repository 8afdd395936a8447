//! The file of codes.
//!
//! It begins with the checksum of what decides the codes of the VQ-GAN that made it: its decoder may be exchanged. (Files from before begin
//! with that of the VQ-GAN's files, and get the other one when they are gone on with.)
//!
//! Records are appended, each with a checksum of its own, so a run that was killed at any moment goes on where it was; the rest of a
//! half-written record is cut off. Of several records of one id the last counts. A record that is damaged is left out, and its image has no
//! codes: whoever goes on with the file cuts off damaged ones at its end and writes over the others.
//!
//! Files of the first version (`LLMCXRC1`) are refused: they do not say what images they are of, so they could not be told from codes
//! of other images, and to find out every image would have to be encoded again.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::stamp::{Content, Seen, Stamp};
use super::{CodeOrigin, EncodeError};
use crate::basics::lock;

const MAGIC: &[u8; 8] = b"LLMCXRC2";
/// The part of it that is the same in all versions.
const FAMILY: &[u8; 7] = b"LLMCXRC";
/// Magic, checksum of the VQ-GAN, codes per image, codes in the book.
pub(super) const HEADER: usize = 8 + 32 + 4 + 4;
/// Key, stamp and content, which stand before the codes of a record.
const BEFORE: usize = 16 + Stamp::LENGTH + 16;

impl CodeOrigin {
    fn header(&self) -> Vec<u8> {
        self.header_with(self.vqgan)
    }

    /// How a file begins that was made before the decoder could be exchanged.
    fn former_header(&self) -> Vec<u8> {
        self.header_with(self.files)
    }

    fn header_with(&self, sum: [u8; 32]) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        out.extend(sum);
        out.extend((self.codes_per_image as u32).to_le_bytes());
        out.extend((self.code_count as u32).to_le_bytes());
        out
    }

    fn record(&self) -> usize {
        BEFORE + 2 * self.codes_per_image + 4
    }
}

/// How an image file is to the one that was encoded, as far as can be told without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Likeness {
    /// Of the same size and time of modification, or not there to be compared.
    Same,
    /// Written at another time: a copy, or another image of the same size.
    Touched,
    /// Of another size: another image.
    Other,
}

/// The codes of the images of a data set.
#[derive(Debug)]
pub struct CodeCache {
    origin: CodeOrigin,
    codes: Vec<u16>,
    seen: Vec<Seen>,
    /// Place of each image's codes.
    index: HashMap<[u8; 16], u32>,
    /// Records in the file, those included that later ones have replaced.
    records: usize,
    /// Places of damaged ones, rising.
    damaged: Vec<usize>,
    /// Whether the file begins as those from before.
    former: bool,
}

impl CodeCache {
    /// Reads a file of codes made by `origin`. What a killed run left half-written at its end is left out, and so are damaged records.
    pub fn open(path: &Path, origin: &CodeOrigin) -> Result<Self, EncodeError> {
        let error = |e| EncodeError::io(path, e);
        let file = File::open(path).map_err(error)?;
        let records = file.metadata().map_err(error)?.len().saturating_sub(HEADER as u64) as usize / origin.record();
        let mut reader = BufReader::with_capacity(1 << 20, file);
        let mut header = [0; HEADER];
        match reader.read_exact(&mut header) {
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Err(EncodeError::NotCodes(path.to_owned())),
            other => other.map_err(error)?,
        }
        if !header.starts_with(FAMILY) {
            return Err(EncodeError::NotCodes(path.to_owned()));
        }
        if !header.starts_with(MAGIC) {
            return Err(EncodeError::Earlier(path.to_owned()));
        }
        let former = header[..] != origin.header()[..];
        if former && header[..] != origin.former_header()[..] {
            return Err(EncodeError::OtherVqgan(path.to_owned()));
        }
        let mut cache = Self {
            origin: *origin,
            codes: Vec::with_capacity(records * origin.codes_per_image),
            seen: Vec::with_capacity(records),
            index: HashMap::with_capacity(records),
            records,
            damaged: Vec::new(),
            former,
        };
        let mut record = vec![0; origin.record()];
        for number in 0..records {
            reader.read_exact(&mut record).map_err(error)?;
            if cache.take(&record).is_none() {
                cache.damaged.push(number);
            }
        }
        Ok(cache)
    }

    /// Takes over a record; `None` if it is damaged.
    fn take(&mut self, record: &[u8]) -> Option<()> {
        let (body, sum) = record.split_last_chunk::<4>()?;
        let (key, rest) = body.split_first_chunk::<16>()?;
        let (stamp, rest) = rest.split_first_chunk::<{ Stamp::LENGTH }>()?;
        let (content, codes) = rest.split_first_chunk::<16>()?;
        let seen = Seen {
            stamp: Stamp::from_bytes(stamp),
            content: Content(*content),
        };
        let codes = codes.as_chunks::<2>().0.iter().map(|c| u16::from_le_bytes(*c));
        let known = codes.clone().all(|c| usize::from(c) < self.origin.code_count);
        if crc32fast::hash(body) != u32::from_le_bytes(*sum) || !known {
            return None;
        }
        match self.index.get(key) {
            Some(&place) => {
                let start = place as usize * self.origin.codes_per_image;
                let old = self.codes.get_mut(start..start + self.origin.codes_per_image)?;
                old.iter_mut().zip(codes).for_each(|(old, new)| *old = new);
                *self.seen.get_mut(place as usize)? = seen;
            }
            None => {
                self.index.insert(*key, self.seen.len() as u32);
                self.codes.extend(codes);
                self.seen.push(seen);
            }
        }
        Some(())
    }

    fn place(&self, id: &str) -> Option<usize> {
        self.index.get(&key(id)).map(|&place| place as usize)
    }

    /// The codes of an image by its record's id.
    pub fn get(&self, id: &str) -> Option<&[u16]> {
        let start = self.place(id)? * self.origin.codes_per_image;
        self.codes.get(start..start + self.origin.codes_per_image)
    }

    /// What the file of an image was when it was encoded.
    pub(super) fn seen(&self, id: &str) -> Option<&Seen> {
        self.seen.get(self.place(id)?)
    }

    /// Compares the file of an image with the one that was encoded under this id, without reading it. A file that is not there, or an
    /// id without codes, has nothing to be compared with.
    pub fn likeness(&self, id: &str, image: &Path) -> Likeness {
        let (Some(seen), Ok(now)) = (self.seen(id), Stamp::of(image)) else {
            return Likeness::Same;
        };
        match (seen.stamp.size == now.size, seen.stamp.modified == now.modified) {
            (false, _) => Likeness::Other,
            (true, false) => Likeness::Touched,
            (true, true) => Likeness::Same,
        }
    }

    /// How many records of the file are damaged.
    pub fn damaged(&self) -> usize {
        self.damaged.len()
    }

    /// Number of images.
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }
}

/// A name of fixed length; two of 2⁶⁰ names would have to be tried before two agree.
pub(super) fn key(id: &str) -> [u8; 16] {
    let sum: [u8; 32] = Sha256::digest(id.as_bytes()).into();
    std::array::from_fn(|i| sum[i])
}

/// Appends records to a file of codes, which it holds: two that write to one would damage each other's records.
pub(super) struct CodeWriter {
    path: PathBuf,
    origin: CodeOrigin,
    out: BufWriter<File>,
}

impl CodeWriter {
    /// Opens the file after its last whole record, or makes it; gives what it holds.
    pub(super) fn open(path: &Path, origin: &CodeOrigin) -> Result<(Self, Option<CodeCache>), EncodeError> {
        let error = |e| EncodeError::io(path, e);
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(path)
            .map_err(error)?;
        if !lock(&file).map_err(error)? {
            return Err(EncodeError::Busy(path.to_owned()));
        }
        // A run that was killed before its first record may leave less than a header.
        let begun = file.metadata().map_err(error)?.len() >= HEADER as u64;
        let cache = begun.then(|| CodeCache::open(path, origin)).transpose()?;
        let records = match &cache {
            Some(cache) => {
                if cache.former {
                    // From now on it may be used with another decoder.
                    file.rewind().map_err(error)?;
                    file.write_all(&origin.header()).map_err(error)?;
                }
                mend(&mut file, cache).map_err(error)?
            }
            None => {
                let mut start = Vec::new();
                file.read_to_end(&mut start).map_err(error)?;
                let begins = |header: Vec<u8>| header.starts_with(&start);
                if !begins(origin.header()) && !begins(origin.former_header()) {
                    return Err(EncodeError::NotCodes(path.to_owned()));
                }
                file.rewind().map_err(error)?;
                file.set_len(0).map_err(error)?;
                file.write_all(&origin.header()).map_err(error)?;
                0
            }
        };
        let end = place(origin, records);
        file.set_len(end).map_err(error)?;
        file.seek(SeekFrom::Start(end)).map_err(error)?;
        let writer = Self {
            path: path.to_owned(),
            origin: *origin,
            out: BufWriter::new(file),
        };
        Ok((writer, cache))
    }

    pub(super) fn append(&mut self, id: &str, seen: &Seen, codes: &[u16]) -> Result<(), EncodeError> {
        let mut record = Vec::with_capacity(self.origin.record());
        record.extend(key(id));
        record.extend(seen.stamp.to_bytes());
        record.extend(seen.content.0);
        record.extend(codes.iter().flat_map(|c| c.to_le_bytes()));
        record.extend(crc32fast::hash(&record).to_le_bytes());
        self.out.write_all(&record).map_err(|e| EncodeError::io(&self.path, e))
    }

    pub(super) fn flush(&mut self) -> Result<(), EncodeError> {
        self.out.flush().map_err(|e| EncodeError::io(&self.path, e))
    }

    pub(super) fn finish(mut self) -> Result<(), EncodeError> {
        self.flush()?;
        self.out
            .get_ref()
            .sync_all()
            .map_err(|e| EncodeError::io(&self.path, e))
    }
}

/// Where record `number` begins.
fn place(origin: &CodeOrigin, number: usize) -> u64 {
    (HEADER + number * origin.record()) as u64
}

/// Writes the next whole record over each damaged one: standing there twice, it says the same. Gives the number of records up to the last
/// whole one.
fn mend(file: &mut File, cache: &CodeCache) -> io::Result<usize> {
    let (origin, mut records) = (&cache.origin, cache.records);
    let mut record = vec![0; origin.record()];
    // From the end, so that the next one is whole.
    for &number in cache.damaged.iter().rev() {
        if number + 1 == records {
            records = number;
            continue;
        }
        file.seek(SeekFrom::Start(place(origin, number + 1)))?;
        file.read_exact(&mut record)?;
        file.seek(SeekFrom::Start(place(origin, number)))?;
        file.write_all(&record)?;
    }
    Ok(records)
}

#[cfg(test)]
#[path = "file_tests.rs"]
mod tests;
