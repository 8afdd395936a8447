//! Files of `torch.save`: the zip archive (since PyTorch 1.6) and the run of pickles before it.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Cursor;
use std::ops::Range;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use zip::{CompressionMethod, ZipArchive};

use super::file::MappedFile;
use super::pickle::{self, Node, Pickle};
use super::torch::{StateDict, state_dict, storage_ref};
use super::{CheckpointError, TensorInfo};

const RESAVE: &str =
    "load it with a current PyTorch and save it again: torch.save(torch.load(file, map_location='cpu'), file)";

const BIG_ENDIAN: &str = "was written on a big-endian machine; save it again on a little-endian one";

/// A `.bin`, `.pt`, `.pth` or `.ckpt`: a state dict, alone or in a Lightning checkpoint. Its pickle is read, never run.
pub(super) struct TorchFile {
    file: MappedFile,
    state: StateDict,
    storages: BTreeMap<String, Storage>,
    /// Storages whose checksum has been found right.
    checked: Mutex<BTreeSet<String>>,
}

struct Storage {
    range: Range<u64>,
    /// `None` where none was written.
    crc32: Option<u32>,
}

impl TorchFile {
    pub(super) fn open(path: &Path) -> Result<Self, CheckpointError> {
        let file = MappedFile::open(path)?;
        let bytes = file.bytes();
        let (state, storages) = if bytes.starts_with(b"PK\x03\x04") {
            read_zip(&file)?
        } else if bytes.starts_with(b"\x80") {
            read_legacy(&file)?
        } else if bytes.is_empty() {
            return Err(CheckpointError::format(path, "is empty; copy or download it again"));
        } else {
            return Err(CheckpointError::format(
                path,
                format!("is not a file that torch.save writes today; download it again, or {RESAVE}"),
            ));
        };
        Ok(Self {
            file,
            state,
            storages,
            checked: Mutex::default(),
        })
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.state.tensors.keys().map(String::as_str)
    }

    pub(super) fn info(&self, name: &str) -> Option<&TensorInfo> {
        self.state.tensors.get(name).map(|tensor| &tensor.info)
    }

    /// Names in the state dict that are not plain tensors, and what they are.
    pub(super) fn others(&self) -> &BTreeMap<String, String> {
        &self.state.others
    }

    pub(super) fn path(&self) -> &Path {
        &self.file.path
    }

    /// Values of a tensor, row-major; its storage's checksum is verified the first time.
    pub(super) fn read(&self, name: &str) -> Result<Cow<'_, [u8]>, CheckpointError> {
        let wrong = |reason: String| CheckpointError::tensor(&self.file.path, name, reason);
        let missing = || CheckpointError::Missing {
            file: self.file.path.clone(),
            tensor: name.to_owned(),
        };
        let tensor = self.state.tensors.get(name).ok_or_else(missing)?;
        let key = &tensor.storage;
        let storage = self
            .storages
            .get(key)
            .ok_or_else(|| wrong(format!("its storage `{key}` is not in the file, which is damaged")))?;
        let bytes = self.file.slice(storage.range.clone(), &format!("tensor `{name}`"))?;
        if let Some(crc32) = storage.crc32 {
            let mut checked = self.checked.lock().unwrap_or_else(PoisonError::into_inner);
            if !checked.contains(key) {
                if crc32fast::hash(bytes) != crc32 {
                    return Err(wrong(
                        "its values do not match their checksum; copy or download the file again".to_owned(),
                    ));
                }
                checked.insert(key.clone());
            }
        }
        tensor.values(bytes).map_err(wrong)
    }
}

type Contents = (StateDict, BTreeMap<String, Storage>);

/// `NAME/data.pkl`, the state dict; `NAME/data/KEY`, the storages; all stored, not compressed.
fn read_zip(file: &MappedFile) -> Result<Contents, CheckpointError> {
    let path = file.path.as_path();
    let broken = |reason: String| CheckpointError::format(path, reason);
    let mut archive = ZipArchive::new(Cursor::new(file.bytes())).map_err(|e| {
        broken(format!(
            "is truncated or damaged: its zip directory cannot be read ({e}); copy or download it again"
        ))
    })?;
    let mut entries = BTreeMap::new();
    for index in 0..archive.len() {
        let entry = archive
            .by_index_raw(index)
            .map_err(|e| broken(format!("is damaged: {e}; copy or download it again")))?;
        let name = entry.name().to_owned();
        if entry.compression() != CompressionMethod::Stored || entry.encrypted() {
            return Err(broken(format!(
                "entry `{name}` is compressed or encrypted, which torch.save never does; {RESAVE}"
            )));
        }
        let start = entry.data_start();
        let range = start..start.saturating_add(entry.size());
        entries.insert(
            name,
            Storage {
                range,
                crc32: Some(entry.crc32()),
            },
        );
    }
    // After `torch.serialization.set_crc32_options(False)` torch writes 0 for every checksum.
    if entries
        .values()
        .all(|entry| entry.range.is_empty() || entry.crc32 == Some(0))
    {
        entries.values_mut().for_each(|entry| entry.crc32 = None);
    }
    let Some(main) = entries.keys().find(|name| name.ends_with("/data.pkl")) else {
        return Err(broken(format!(
            "is a zip archive without data.pkl, not a file of torch.save; {RESAVE}"
        )));
    };
    let folder = main.trim_end_matches("data.pkl").to_owned();
    if let Some(order) = entries.get(&format!("{folder}byteorder"))
        && file.slice(order.range.clone(), "the byte order")? != b"little"
    {
        return Err(broken(BIG_ENDIAN.to_owned()));
    }
    let main = &entries[main];
    let bytes = file.slice(main.range.clone(), "the pickled state dict")?;
    if bytes.len() <= pickle::LONGEST && main.crc32.is_some_and(|crc32| crc32fast::hash(bytes) != crc32) {
        let reason = "its state dict (data.pkl) does not match its checksum; copy or download the file again";
        return Err(broken(reason.to_owned()));
    }
    let (pickle, _) = Pickle::read(bytes).map_err(|e| broken(format!("cannot be read: {e}")))?;
    let state = state_dict(&pickle).map_err(broken)?;
    let data = format!("{folder}data/");
    let storages = entries
        .into_iter()
        .filter_map(|(name, storage)| Some((name.strip_prefix(&data)?.to_owned(), storage)))
        .collect();
    Ok((state, storages))
}

/// Five pickles (magic number, protocol, machine, state dict, keys of the storages), then each storage after its length.
fn read_legacy(file: &MappedFile) -> Result<Contents, CheckpointError> {
    /// 0x1950a86a20f9469cfc6c, little-endian.
    const MAGIC: &[u8] = &[0x6C, 0xFC, 0x9C, 0x46, 0xF9, 0x20, 0x6A, 0xA8, 0x50, 0x19];
    let path = file.path.as_path();
    let mut at = 0;
    let mut next = || -> Result<Pickle<'_>, CheckpointError> {
        let rest = file.bytes().get(at..).unwrap_or_default();
        let (pickle, length) =
            Pickle::read(rest).map_err(|e| CheckpointError::format(path, format!("cannot be read: {e}")))?;
        at += length;
        Ok(pickle)
    };
    let magic = next()?;
    if !matches!(magic.node(magic.root()), Node::LongInt(number) if *number == MAGIC) {
        let reason = format!("is a pickle, but not one of torch.save; {RESAVE}");
        return Err(CheckpointError::format(path, reason));
    }
    let (_protocol, machine, dict, keys) = (next()?, next()?, next()?, next()?);
    let big_endian = machine
        .items(machine.root())
        .unwrap_or_default()
        .into_iter()
        .any(|(key, value)| {
            machine.str(key) == Some("little_endian") && matches!(machine.node(value), Node::Bool(false))
        });
    if big_endian {
        return Err(CheckpointError::format(path, BIG_ENDIAN));
    }
    let state = state_dict(&dict).map_err(|reason| CheckpointError::format(path, reason))?;
    let dtypes: BTreeMap<_, _> = dict
        .persistent()
        .filter_map(|id| storage_ref(&dict, id))
        .map(|storage| (storage.key, storage.dtype))
        .collect();

    let mut storages = BTreeMap::new();
    let mut at = at as u64;
    for key in keys.sequence(keys.root()).unwrap_or_default() {
        let unknown =
            || CheckpointError::format(path, format!("has a storage of a type that cannot be read; {RESAVE}"));
        let key = keys.str(*key).ok_or_else(unknown)?;
        let dtype = dtypes.get(key).ok_or_else(unknown)?;
        let what = format!("storage `{key}`");
        let count = file.slice(at..at.saturating_add(8), &what)?;
        let count = count.iter().rev().fold(0u64, |n, byte| n << 8 | u64::from(*byte));
        let start = at + 8;
        at = start.saturating_add(count.saturating_mul(dtype.size() as u64));
        file.slice(start..at, &what)?;
        storages.insert(
            key.to_owned(),
            Storage {
                range: start..at,
                crc32: None,
            },
        );
    }
    Ok((state, storages))
}
