//! `encode`: the images of a data set to code-book indices, once; and the file that holds them.
//!
//! The file begins with the checksum of the VQ-GAN that made it. Records are appended, each with a checksum of its own, so a run that
//! was killed at any moment goes on where it was; the rest of a half-written record is cut off.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rayon::prelude::*;
use sha2::{Digest, Sha256};

use super::data::{Account, DataError, Dataset, Record, read_image};
use crate::model::vqgan::Vqgan;

const MAGIC: &[u8; 8] = b"LLMCXRC1";
/// Magic, checksum of the VQ-GAN, codes per image, codes in the book.
const HEADER: usize = 8 + 32 + 4 + 4;

/// What the codes of a file were made by and how many an image has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CodeOrigin {
    /// SHA-256 of the VQ-GAN's configuration and weights.
    pub vqgan: [u8; 32],
    /// Codes of one image.
    pub codes_per_image: usize,
    /// Size of the code book.
    pub code_count: usize,
}

impl CodeOrigin {
    /// Reads the files of a VQ-GAN for their checksum.
    pub fn of(config: &Path, weights: &Path, codes_per_image: usize, code_count: usize) -> Result<Self, EncodeError> {
        let mut sum = Sha256::new();
        for path in [config, weights] {
            let file = File::open(path).map_err(|e| EncodeError::io(path, e))?;
            io::copy(&mut BufReader::new(file), &mut sum).map_err(|e| EncodeError::io(path, e))?;
        }
        Ok(Self {
            vqgan: sum.finalize().into(),
            codes_per_image,
            code_count,
        })
    }

    fn header(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        out.extend(self.vqgan);
        out.extend((self.codes_per_image as u32).to_le_bytes());
        out.extend((self.code_count as u32).to_le_bytes());
        out
    }

    fn record(&self) -> usize {
        16 + 2 * self.codes_per_image + 4
    }
}

/// Why images were not encoded, or codes not read.
#[derive(Debug, thiserror::Error)]
pub enum EncodeError {
    /// The operating system refused.
    #[error("{}: {reason}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        reason: io::Error,
    },
    /// Another kind of file.
    #[error("{} is no file of image codes; make it with `llm-cxr-train encode`", .0.display())]
    NotCodes(PathBuf),
    /// Made by another VQ-GAN.
    #[error(
        "{} holds the codes of another VQ-GAN, which mean other images; encode again to another file, or use the VQ-GAN that made it", .0.display()
    )]
    OtherVqgan(PathBuf),
    /// A record in the middle of the file is damaged.
    #[error("{}: record {record} is damaged; remove the file and encode again", .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Counted from 0.
        record: usize,
    },
    /// The data set.
    #[error(transparent)]
    Data(#[from] DataError),
}

impl EncodeError {
    fn io(path: &Path, reason: io::Error) -> Self {
        Self::Io {
            path: path.to_owned(),
            reason,
        }
    }
}

/// The codes of the images of a data set.
#[derive(Debug)]
pub struct CodeCache {
    origin: CodeOrigin,
    codes: Vec<u16>,
    index: HashMap<[u8; 16], u32>,
}

impl CodeCache {
    /// Reads a file of codes made by `origin`. What a killed run left half-written at its end is left out.
    pub fn open(path: &Path, origin: &CodeOrigin) -> Result<Self, EncodeError> {
        let error = |e| EncodeError::io(path, e);
        let file = File::open(path).map_err(error)?;
        let whole = file.metadata().map_err(error)?.len().saturating_sub(HEADER as u64) as usize / origin.record();
        let mut reader = BufReader::with_capacity(1 << 20, file);
        let mut header = [0; HEADER];
        match reader.read_exact(&mut header) {
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Err(EncodeError::NotCodes(path.to_owned())),
            other => other.map_err(error)?,
        }
        if !header.starts_with(MAGIC) {
            return Err(EncodeError::NotCodes(path.to_owned()));
        }
        if header[..] != origin.header()[..] {
            return Err(EncodeError::OtherVqgan(path.to_owned()));
        }
        let mut cache = Self {
            origin: *origin,
            codes: Vec::with_capacity(whole * origin.codes_per_image),
            index: HashMap::with_capacity(whole),
        };
        let mut record = vec![0; origin.record()];
        for number in 0..whole {
            reader.read_exact(&mut record).map_err(error)?;
            let damaged = || EncodeError::Damaged {
                path: path.to_owned(),
                record: number,
            };
            let (body, sum) = record.split_last_chunk::<4>().ok_or_else(damaged)?;
            let (key, codes) = body.split_first_chunk::<16>().ok_or_else(damaged)?;
            let codes = codes.as_chunks::<2>().0.iter().map(|c| u16::from_le_bytes(*c));
            if crc32fast::hash(body) != u32::from_le_bytes(*sum)
                || codes.clone().any(|c| usize::from(c) >= origin.code_count)
            {
                return Err(damaged());
            }
            cache.codes.extend(codes);
            cache.index.insert(*key, number as u32);
        }
        Ok(cache)
    }

    /// The codes of an image by its record's id.
    pub fn get(&self, id: &str) -> Option<&[u16]> {
        let start = *self.index.get(&key(id))? as usize * self.origin.codes_per_image;
        self.codes.get(start..start + self.origin.codes_per_image)
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
fn key(id: &str) -> [u8; 16] {
    let sum: [u8; 32] = Sha256::digest(id.as_bytes()).into();
    std::array::from_fn(|i| sum[i])
}

/// Appends records to a file of codes.
struct CodeWriter {
    path: PathBuf,
    origin: CodeOrigin,
    out: BufWriter<File>,
}

impl CodeWriter {
    /// Opens the file after its last whole record, or makes it; gives what it holds.
    fn open(path: &Path, origin: &CodeOrigin) -> Result<(Self, Option<CodeCache>), EncodeError> {
        let error = |e| EncodeError::io(path, e);
        // A run that was killed before its first record may leave less than a header.
        let begun = path.metadata().is_ok_and(|m| m.len() >= HEADER as u64);
        let cache = begun.then(|| CodeCache::open(path, origin)).transpose()?;
        let records = cache
            .as_ref()
            .map_or(0, |c| c.codes.len() / origin.codes_per_image.max(1));
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(path)
            .map_err(error)?;
        if cache.is_none() {
            file.set_len(0).map_err(error)?;
            file.write_all(&origin.header()).map_err(error)?;
        }
        let end = (HEADER + records * origin.record()) as u64;
        file.set_len(end).map_err(error)?;
        file.seek(SeekFrom::Start(end)).map_err(error)?;
        let writer = Self {
            path: path.to_owned(),
            origin: *origin,
            out: BufWriter::new(file),
        };
        Ok((writer, cache))
    }

    fn append(&mut self, id: &str, codes: &[u16]) -> Result<(), EncodeError> {
        let mut record = Vec::with_capacity(self.origin.record());
        record.extend(key(id));
        record.extend(codes.iter().flat_map(|c| c.to_le_bytes()));
        record.extend(crc32fast::hash(&record).to_le_bytes());
        self.out.write_all(&record).map_err(|e| EncodeError::io(&self.path, e))
    }

    fn flush(&mut self) -> Result<(), EncodeError> {
        self.out.flush().map_err(|e| EncodeError::io(&self.path, e))
    }

    fn finish(mut self) -> Result<(), EncodeError> {
        self.flush()?;
        self.out
            .get_ref()
            .sync_all()
            .map_err(|e| EncodeError::io(&self.path, e))
    }
}

/// Encodes every image of `dataset` that `out` does not hold yet, `batch` at a time; files are decoded in parallel. Images that
/// cannot be read are counted and tried again by the next run. `progress` is told how many images are done.
pub fn encode(
    dataset: &Dataset,
    vqgan: &Vqgan,
    origin: &CodeOrigin,
    out: &Path,
    batch: usize,
    progress: &mut dyn FnMut(u64),
) -> Result<Account, EncodeError> {
    let (mut writer, cache) = CodeWriter::open(out, origin)?;
    let mut known: std::collections::HashSet<[u8; 16]> =
        cache.iter().flat_map(|cache| cache.index.keys().copied()).collect();
    drop(cache);
    let (mut account, mut waiting, mut done) = (Account::default(), Vec::new(), 0u64);
    dataset.visit::<EncodeError>(&mut account, &mut |record: Record, account| {
        let Some(image) = record.image else {
            return Ok(());
        };
        if !known.insert(key(&record.id)) {
            // In the file already, or named by an earlier row with another question.
            return Ok(());
        }
        waiting.push((record.id, image));
        if waiting.len() >= batch.max(1) {
            done += waiting.len() as u64;
            encode_batch(vqgan, std::mem::take(&mut waiting), &mut writer, account)?;
            progress(done);
        }
        Ok(())
    })?;
    done += waiting.len() as u64;
    encode_batch(vqgan, waiting, &mut writer, &mut account)?;
    progress(done);
    writer.finish()?;
    Ok(account)
}

fn encode_batch(
    vqgan: &Vqgan,
    images: Vec<(String, PathBuf)>,
    writer: &mut CodeWriter,
    account: &mut Account,
) -> Result<(), EncodeError> {
    let side = vqgan.config().resolution;
    let decoded: Vec<_> = images
        .into_par_iter()
        .map(|(id, path)| (id, read_image(&path, side)))
        .collect();
    let (mut ids, mut pixels) = (Vec::new(), Vec::new());
    for (id, image) in decoded {
        match image {
            Ok(image) => {
                ids.push(id);
                pixels.push(Arc::new(image));
            }
            Err(fault) => account.skip(fault.reason(), || id),
        }
    }
    if pixels.is_empty() {
        return Ok(());
    }
    let codes = tch::no_grad(|| {
        let mut pass = vqgan.begin_encode(&pixels);
        while vqgan.advance(&mut pass) {}
        vqgan.codes(pass)
    });
    for (id, codes) in ids.iter().zip(&codes) {
        writer.append(id, codes)?;
        account.used("images encoded");
    }
    // A batch that is done stays done.
    writer.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ORIGIN: CodeOrigin = CodeOrigin {
        vqgan: [7; 32],
        codes_per_image: 4,
        code_count: 64,
    };

    fn written(path: &Path) -> Vec<u8> {
        let (mut writer, cache) = CodeWriter::open(path, &ORIGIN).unwrap();
        assert!(cache.is_none());
        writer.append("a", &[1, 2, 3, 4]).unwrap();
        writer.append("b", &[63, 0, 0, 9]).unwrap();
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
                writer.append("a", &[1, 2, 3, 4]).unwrap();
            }
            writer.append("b", &[63, 0, 0, 9]).unwrap();
            writer.finish().unwrap();
            assert_eq!(std::fs::read(&path).unwrap(), whole, "cut at {length}");
        }
    }

    #[test]
    fn codes_of_another_vqgan_and_damaged_codes_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("codes");
        let mut whole = written(&path);
        let other = CodeOrigin {
            vqgan: [8; 32],
            ..ORIGIN
        };
        assert!(matches!(
            CodeCache::open(&path, &other),
            Err(EncodeError::OtherVqgan(_))
        ));
        whole[HEADER + 17] ^= 1;
        std::fs::write(&path, &whole).unwrap();
        assert!(matches!(
            CodeCache::open(&path, &ORIGIN),
            Err(EncodeError::Damaged { record: 0, .. })
        ));
        std::fs::write(&path, "nothing of the kind, though it is long enough to be one").unwrap();
        assert!(matches!(CodeCache::open(&path, &ORIGIN), Err(EncodeError::NotCodes(_))));
    }
}
