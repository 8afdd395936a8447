//! The file of codes.
//!
//! It begins with the checksum of the VQ-GAN that made it. Records are appended, each with a checksum of its own, so a run that
//! was killed at any moment goes on where it was; the rest of a half-written record is cut off. Of several records of one id the last
//! counts. A record that is damaged is left out, and its image has no codes: whoever goes on with the file cuts off damaged ones at its
//! end and writes over the others.
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
use crate::train::common::lock;

const MAGIC: &[u8; 8] = b"LLMCXRC2";
/// The part of it that is the same in all versions.
const FAMILY: &[u8; 7] = b"LLMCXRC";
/// Magic, checksum of the VQ-GAN, codes per image, codes in the book.
pub(super) const HEADER: usize = 8 + 32 + 4 + 4;
/// Key, stamp and content, which stand before the codes of a record.
const BEFORE: usize = 16 + Stamp::LENGTH + 16;

impl CodeOrigin {
    fn header(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        out.extend(self.vqgan);
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
        if header[..] != origin.header()[..] {
            return Err(EncodeError::OtherVqgan(path.to_owned()));
        }
        let mut cache = Self {
            origin: *origin,
            codes: Vec::with_capacity(records * origin.codes_per_image),
            seen: Vec::with_capacity(records),
            index: HashMap::with_capacity(records),
            records,
            damaged: Vec::new(),
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
            Some(cache) => mend(&mut file, cache).map_err(error)?,
            None => {
                let mut start = Vec::new();
                file.read_to_end(&mut start).map_err(error)?;
                if !origin.header().starts_with(&start) {
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
mod tests {
    use super::*;

    const ORIGIN: CodeOrigin = CodeOrigin {
        vqgan: [7; 32],
        codes_per_image: 4,
        code_count: 64,
    };

    const SEEN: Seen = Seen {
        stamp: Stamp {
            size: 3,
            modified: 1,
            changed: 2,
        },
        content: Content([9; 16]),
    };

    fn written(path: &Path) -> Vec<u8> {
        let (mut writer, cache) = CodeWriter::open(path, &ORIGIN).unwrap();
        assert!(cache.is_none());
        writer.append("a", &SEEN, &[1, 2, 3, 4]).unwrap();
        writer.append("b", &SEEN, &[63, 0, 0, 9]).unwrap();
        writer.finish().unwrap();
        std::fs::read(path).unwrap()
    }

    #[test]
    fn codes_are_read_back_by_id() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("codes");
        written(&path);
        let cache = CodeCache::open(&path, &ORIGIN).unwrap();
        assert_eq!(
            (cache.len(), cache.get("b"), cache.get("c")),
            (2, Some(&[63, 0, 0, 9][..]), None)
        );
        assert_eq!((cache.seen("a"), cache.seen("c")), (Some(&SEEN), None));
    }

    #[test]
    fn of_two_records_of_an_image_the_later_one_counts() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("codes");
        written(&path);
        let newer = Seen {
            content: Content([8; 16]),
            ..SEEN
        };
        for codes in [[5, 6, 7, 8], [9, 9, 9, 9]] {
            let (mut writer, cache) = CodeWriter::open(&path, &ORIGIN).unwrap();
            assert_eq!(cache.map(|cache| cache.len()), Some(2));
            writer.append("a", &newer, &codes).unwrap();
            writer.finish().unwrap();
        }
        let cache = CodeCache::open(&path, &ORIGIN).unwrap();
        assert_eq!((cache.len(), cache.records), (2, 4));
        assert_eq!(
            (cache.get("a"), cache.get("b")),
            (Some(&[9; 4][..]), Some(&[63, 0, 0, 9][..]))
        );
        assert_eq!((cache.seen("a"), cache.seen("b")), (Some(&newer), Some(&SEEN)));
    }

    #[test]
    fn a_file_cut_at_any_byte_goes_on_after_its_last_whole_record() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("codes");
        let whole = written(&path);
        for length in 0..whole.len() {
            std::fs::write(&path, &whole[..length]).unwrap();
            let (mut writer, cache) = CodeWriter::open(&path, &ORIGIN).unwrap();
            if cache.as_ref().and_then(|c| c.get("a")).is_none() {
                writer.append("a", &SEEN, &[1, 2, 3, 4]).unwrap();
            }
            writer.append("b", &SEEN, &[63, 0, 0, 9]).unwrap();
            writer.finish().unwrap();
            assert_eq!(std::fs::read(&path).unwrap(), whole, "cut at {length}");
        }
    }

    #[test]
    fn codes_of_another_vqgan_or_an_earlier_version_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("codes");
        let whole = written(&path);
        let other = CodeOrigin {
            vqgan: [8; 32],
            ..ORIGIN
        };
        assert!(matches!(
            CodeCache::open(&path, &other),
            Err(EncodeError::OtherVqgan(_))
        ));
        std::fs::write(&path, [b"LLMCXRC1", &whole[8..]].concat()).unwrap();
        let earlier = CodeCache::open(&path, &ORIGIN).unwrap_err();
        assert!(earlier.to_string().contains("remove the file and encode again"));
        std::fs::write(&path, "nothing of the kind, though it is long enough to be one").unwrap();
        assert!(matches!(CodeCache::open(&path, &ORIGIN), Err(EncodeError::NotCodes(_))));
        // However short: it may be somebody's.
        std::fs::write(&path, "my notes").unwrap();
        assert!(matches!(
            CodeWriter::open(&path, &ORIGIN),
            Err(EncodeError::NotCodes(_))
        ));
        assert_eq!(std::fs::read(&path).unwrap(), b"my notes");
    }

    #[test]
    fn a_damaged_record_costs_its_image_alone_and_is_gone_once_the_file_is_gone_on_with() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("codes");
        let (whole, record) = (written(&path), ORIGIN.record());
        // In the key, the stamp, the content, the codes and the checksum.
        for place in [0, 17, 42, BEFORE + 1, record - 1] {
            for number in [0, 1] {
                let mut damaged = whole.clone();
                damaged[HEADER + number * record + place] ^= 1;
                std::fs::write(&path, &damaged).unwrap();
                let cache = CodeCache::open(&path, &ORIGIN).unwrap();
                assert_eq!((cache.damaged(), cache.len()), (1, 1), "{place}");
                let (mut writer, cache) = CodeWriter::open(&path, &ORIGIN).unwrap();
                let (id, codes) = [("a", [1, 2, 3, 4]), ("b", [63, 0, 0, 9])][number];
                assert_eq!(cache.unwrap().get(id), None);
                writer.append(id, &SEEN, &codes).unwrap();
                writer.finish().unwrap();
                let cache = CodeCache::open(&path, &ORIGIN).unwrap();
                assert_eq!((cache.damaged(), cache.len()), (0, 2), "{place}");
                assert_eq!(
                    (cache.get("a"), cache.get("b")),
                    (Some(&[1, 2, 3, 4][..]), Some(&[63, 0, 0, 9][..]))
                );
            }
        }
    }

    #[test]
    fn a_tail_of_zeros_is_cut_off_and_a_newer_record_stays_the_newer_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("codes");
        let (mut whole, record) = (written(&path), ORIGIN.record());
        let (mut writer, _) = CodeWriter::open(&path, &ORIGIN).unwrap();
        writer.append("a", &SEEN, &[5, 6, 7, 8]).unwrap();
        writer.finish().unwrap();
        let newer = std::fs::read(&path).unwrap();
        // Two damaged ones in a row before it, then zeros, as after a loss of power.
        whole.extend_from_slice(&newer[whole.len()..]);
        whole[HEADER] ^= 1;
        whole[HEADER + record] ^= 1;
        whole.resize(whole.len() + 2 * record + 5, 0);
        std::fs::write(&path, &whole).unwrap();
        let (writer, cache) = CodeWriter::open(&path, &ORIGIN).unwrap();
        assert_eq!(cache.unwrap().damaged(), 4);
        writer.finish().unwrap();
        let cache = CodeCache::open(&path, &ORIGIN).unwrap();
        assert_eq!((cache.damaged(), cache.records, cache.len()), (0, 3, 1));
        assert_eq!(cache.get("a"), Some(&[5, 6, 7, 8][..]));
    }

    #[test]
    fn two_writers_are_not_at_one_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("codes");
        let held = CodeWriter::open(&path, &ORIGIN).unwrap();
        let refused = CodeWriter::open(&path, &ORIGIN).err().unwrap();
        assert!(matches!(refused, EncodeError::Busy(_)), "{refused}");
        drop(held);
        CodeWriter::open(&path, &ORIGIN).unwrap();
    }
}
