//! `encode`: the images of a data set to code-book indices, once; and the file that holds them.
//!
//! An image is known by its record's id, and by what its file was when it was encoded: a data set that is exported again under the
//! same names, with other images, gets other codes. Files whose size and times are as they were are not read again.

mod error;
mod file;
mod origin;
mod stamp;
#[cfg(test)]
mod tests;

pub use error::EncodeError;
pub use file::{CodeCache, Likeness};
pub use origin::CodeOrigin;

use std::collections::HashSet;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rayon::prelude::*;

use self::file::{CodeWriter, key};
use self::stamp::{Content, Seen, Stamp};
use super::data::{Account, DataError, Dataset, ImageFault, Record, SKIPPED, decode_image, is_no_file, read_file};
use crate::model::vqgan::Vqgan;
use crate::radiograph::Pixels;

/// What an account calls images of which `encode` had no codes.
pub const ENCODED: &str = "images encoded";
/// Images whose files hold something else than when they were encoded.
pub const ENCODED_AGAIN: &str = "images encoded again, whose files had changed";
/// Images whose codes were there.
pub const AS_THEY_WERE: &str = "images encoded before";

/// Why an image is left out whose path was written on another system.
const BACKSLASHES: &str = "image file is not there; its path has backslashes: write folders with / between them";

/// An image whose file has to be read.
struct Waiting {
    id: String,
    path: PathBuf,
    /// To be noted with its codes.
    stamp: Stamp,
    /// If it was encoded before: what its file held then, and its codes.
    known: Option<(Content, Vec<u16>)>,
}

/// What a file turned out to hold.
enum Found {
    /// What it held before, which has these codes.
    Same(Vec<u16>),
    /// An image of which there are no codes yet.
    New(Arc<Pixels>),
}

/// Encodes every image of `dataset` that `out` does not hold yet or whose file has changed since, `batch` at a time; files are read and
/// decoded in parallel. Images that are not there or do not decode are counted, named in a file beside `out`, and tried again by the next
/// run. `progress` is told how many files are done.
///
/// # Errors
/// When the data set cannot be read or none of its images used, when the system does not read an image that may be there (what is encoded
/// is kept), when `out` cannot be written or holds other things than codes of this VQ-GAN, and while another process encodes to it.
pub fn encode(
    dataset: &Dataset,
    vqgan: &Vqgan,
    origin: &CodeOrigin,
    out: &Path,
    batch: usize,
    progress: &mut dyn FnMut(u64),
) -> Result<Account, EncodeError> {
    let (writer, cache) = CodeWriter::open(out, origin)?;
    let mut encoding = Encoding { vqgan, writer, kept: 0 };
    let mut met: HashSet<[u8; 16]> = HashSet::new();
    let (mut account, mut waiting, mut done) = (Account::default(), Vec::new(), 0u64);
    let damaged = cache.as_ref().map_or(0, CodeCache::damaged);
    if damaged > 0 {
        account.note(format!(
            "{damaged} records of {} were damaged; images whose codes they held are encoded again",
            out.display()
        ));
    }
    let visited = dataset.visit::<EncodeError>(&mut account, &mut |record: Record, account| {
        let Some(path) = record.image else {
            return Ok(());
        };
        if !met.insert(key(&record.id)) {
            // Named by an earlier row with another question.
            return Ok(());
        }
        let before = cache
            .as_ref()
            .and_then(|cache| cache.seen(&record.id).zip(cache.get(&record.id)));
        let stamp = match Stamp::of(&path) {
            Ok(stamp) => stamp,
            Err(fault) if !is_no_file(&fault) => return Err(unread(&record.id, fault)),
            Err(fault) => {
                encoding.kept += u64::from(before.is_some());
                skip(&ImageFault::Io(fault), record.id, account);
                return Ok(());
            }
        };
        if before.is_some_and(|(seen, _)| seen.stamp == stamp) {
            account.used(AS_THEY_WERE);
            return Ok(());
        }
        waiting.push(Waiting {
            known: before.map(|(seen, codes)| (seen.content, codes.to_vec())),
            id: record.id,
            path,
            stamp: stamp.settled(),
        });
        if waiting.len() >= batch.max(1) {
            done += waiting.len() as u64;
            encoding.batch(std::mem::take(&mut waiting), account)?;
            progress(done);
        }
        Ok(())
    });
    let encoded = visited.and_then(|_| {
        done += waiting.len() as u64;
        encoding.batch(waiting, &mut account)
    });
    progress(done);
    let Encoding { writer, kept, .. } = encoding;
    let used = [ENCODED, ENCODED_AGAIN, AS_THEY_WERE].map(|kind| account.count(kind));
    let nothing = kept + used.iter().sum::<u64>() == 0;
    if nothing && cache.as_ref().is_none_or(CodeCache::is_empty) {
        // While it is held: a file without codes would pass for one that is done.
        std::fs::remove_file(out).map_err(|e| EncodeError::io(out, e))?;
    }
    encoded?;
    writer.finish()?;
    account.keep_skipped(&skipped_beside(out))?;
    match nothing {
        true => Err(EncodeError::Nothing(why(&account))),
        false => Ok(account),
    }
}

/// That the system does not read an image: it is no image that is not there.
fn unread(id: &str, reason: std::io::Error) -> EncodeError {
    EncodeError::Unread(DataError::unread("image file", id, reason))
}

/// Counts an image that cannot be read, with what is wrong with this one.
fn skip(fault: &ImageFault, id: String, account: &mut Account) {
    let reason = match fault {
        ImageFault::Io(error) if error.kind() == ErrorKind::NotFound && id.contains('\\') => BACKSLASHES,
        fault => fault.reason(),
    };
    account.skip_for(reason, Some(fault.to_string()), || id);
}

/// Where the images that were skipped are named.
fn skipped_beside(out: &Path) -> PathBuf {
    let mut name = out.file_name().unwrap_or_default().to_owned();
    name.push(".");
    name.push(SKIPPED);
    out.with_file_name(name)
}

/// Why there is nothing to encode, in one line.
fn why(account: &Account) -> String {
    let account = account.to_string();
    let skipped: Vec<&str> = account.lines().skip(1).collect();
    match skipped.is_empty() {
        true => "the data set names none".to_owned(),
        false => skipped.join("; "),
    }
}

struct Encoding<'a> {
    vqgan: &'a Vqgan,
    writer: CodeWriter,
    /// Images that cannot be read and that have codes of an earlier run.
    kept: u64,
}

impl Encoding<'_> {
    fn batch(&mut self, images: Vec<Waiting>, account: &mut Account) -> Result<(), EncodeError> {
        let side = self.vqgan.config().resolution;
        let read: Vec<_> = images
            .into_par_iter()
            .map(|image| {
                let found = look(&image, side);
                (image, found)
            })
            .collect();
        let (mut new, mut pixels) = (Vec::new(), Vec::new());
        for (image, found) in read {
            match found {
                Ok((content, Found::New(image_pixels))) => {
                    new.push((image, content));
                    pixels.push(image_pixels);
                }
                Ok((content, Found::Same(codes))) => {
                    // Its times are other ones: with them it need not be read again by the next run.
                    let seen = Seen {
                        stamp: image.stamp,
                        content,
                    };
                    self.writer.append(&image.id, &seen, &codes)?;
                    account.used(AS_THEY_WERE);
                }
                Err(ImageFault::Io(reason)) if !is_no_file(&reason) => return Err(unread(&image.id, reason)),
                Err(fault) => {
                    self.kept += u64::from(image.known.is_some());
                    skip(&fault, image.id, account);
                }
            }
        }
        let codes = match pixels.is_empty() {
            true => Vec::new(),
            false => tch::no_grad(|| self.vqgan.encode(&pixels))?,
        };
        for ((image, content), codes) in new.iter().zip(&codes) {
            let seen = Seen {
                stamp: image.stamp,
                content: *content,
            };
            self.writer.append(&image.id, &seen, codes)?;
            account.used(if image.known.is_some() { ENCODED_AGAIN } else { ENCODED });
        }
        // A batch that is done stays done.
        self.writer.flush()
    }
}

/// Reads an image file, and decodes it unless it holds what it held before.
fn look(image: &Waiting, side: usize) -> Result<(Content, Found), ImageFault> {
    let bytes = read_file(&image.path)?;
    let content = Content::of(&bytes);
    if let Some((before, codes)) = &image.known
        && *before == content
    {
        return Ok((content, Found::Same(codes.clone())));
    }
    let pixels = decode_image(&bytes, side)?;
    if pixels.are_alike() {
        return Err(ImageFault::OneLevel);
    }
    Ok((content, Found::New(Arc::new(pixels))))
}
