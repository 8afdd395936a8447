//! safetensors files, mapped: what the server loads.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::file::MappedFile;
use super::{CheckpointError, Dtype, TensorInfo};

/// No header is larger: one of the published model's takes 50 kB.
const LONGEST_HEADER: u64 = 8 << 20;

/// The named tensors of one or more safetensors files. Values stay in the files (mapped) until they are asked for.
#[derive(Debug)]
pub struct Weights {
    files: Vec<MappedFile>,
    tensors: BTreeMap<String, Entry>,
}

#[derive(Debug)]
struct Entry {
    file: usize,
    info: TensorInfo,
    /// In the file.
    range: Range<usize>,
}

#[derive(Deserialize)]
struct RawEntry {
    dtype: String,
    shape: Vec<usize>,
    data_offsets: [u64; 2],
}

impl Weights {
    /// Maps the files and checks their headers in full: every tensor lies inside its file, has the length of its type and
    /// shape, and shares no byte with another; no byte is left over; no name comes twice.
    pub fn open(paths: &[PathBuf]) -> Result<Self, CheckpointError> {
        let mut weights = Self {
            files: Vec::new(),
            tensors: BTreeMap::new(),
        };
        for path in paths {
            weights.add(path)?;
        }
        Ok(weights)
    }

    fn add(&mut self, path: &Path) -> Result<(), CheckpointError> {
        let file = MappedFile::open(path)?;
        for (name, info, range) in read_header(&file)? {
            if let Some(first) = self.tensors.get(&name) {
                let first = self.files[first.file].path.clone();
                return Err(CheckpointError::Duplicate {
                    tensor: name,
                    first,
                    second: path.to_owned(),
                });
            }
            self.tensors.insert(
                name,
                Entry {
                    file: self.files.len(),
                    info,
                    range,
                },
            );
        }
        self.files.push(file);
        Ok(())
    }

    /// The names, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// Type and shape of a tensor.
    pub fn info(&self, name: &str) -> Option<&TensorInfo> {
        self.tensors.get(name).map(|entry| &entry.info)
    }

    /// Values of a tensor: little-endian, row-major, without padding. Not aligned to the element type.
    pub fn bytes(&self, name: &str) -> Option<&[u8]> {
        let entry = self.tensors.get(name)?;
        self.files[entry.file].bytes().get(entry.range.clone())
    }

    /// Tells the system that a tensor's pages are no longer needed in this process: they have been copied, and what was
    /// copied should not count twice. Reading them again is allowed and reads the file.
    pub fn release(&self, name: &str) {
        if let Some(entry) = self.tensors.get(name) {
            self.files[entry.file].release(entry.range.clone());
        }
    }

    /// The file that holds a tensor.
    pub fn file_of(&self, name: &str) -> Option<&Path> {
        self.tensors
            .get(name)
            .map(|entry| self.files[entry.file].path.as_path())
    }
}

type Header = Vec<(String, TensorInfo, Range<usize>)>;

fn read_header(file: &MappedFile) -> Result<Header, CheckpointError> {
    let path = file.path.as_path();
    let prefix = file.slice(0..8, "the header's length")?;
    let length = prefix.iter().rev().fold(0u64, |n, byte| n << 8 | u64::from(*byte));
    if length > LONGEST_HEADER {
        let reason =
            format!("is not a safetensors file, or its beginning is damaged: its header would have {length} bytes");
        return Err(CheckpointError::format(path, reason));
    }
    let header = file.slice(8..8 + length, "the header")?;
    let damaged =
        |reason: String| CheckpointError::format(path, format!("its safetensors header is damaged: {reason}"));
    let mut header: BTreeMap<String, serde_json::Value> =
        serde_json::from_slice(header).map_err(|e| damaged(e.to_string()))?;
    header.remove("__metadata__");

    let base = 8 + length;
    let mut tensors = Vec::with_capacity(header.len());
    for (name, value) in header {
        let wrong = |reason: String| CheckpointError::tensor(path, &name, reason);
        let raw: RawEntry =
            serde_json::from_value(value).map_err(|e| wrong(format!("its header entry is damaged: {e}")))?;
        let dtype = Dtype::from_name(&raw.dtype).ok_or_else(|| {
            wrong(format!(
                "type {} cannot be read; save it as F32, F16 or BF16",
                raw.dtype
            ))
        })?;
        let info = TensorInfo {
            dtype,
            shape: raw.shape,
        };
        let [start, end] = raw.data_offsets;
        let expected = info
            .bytes()
            .ok_or_else(|| wrong(format!("shape {:?} fits no memory", info.shape)))?;
        if end.checked_sub(start) != Some(expected as u64) {
            let (shape, bytes) = (&info.shape, end.saturating_sub(start));
            return Err(wrong(format!(
                "{dtype} of shape {shape:?} takes {expected} bytes, but the header gives it {bytes}"
            )));
        }
        let (start, end) = (base.saturating_add(start), base.saturating_add(end));
        file.slice(start..end, &format!("tensor `{name}`"))?;
        tensors.push((name, info, start as usize..end as usize));
    }
    tensors.sort_by_key(|(_, _, range)| (range.start, range.end));
    let mut end = base as usize;
    for (name, _, range) in &tensors {
        if range.start != end {
            let what = if range.start < end {
                "overlaps the tensor before it"
            } else {
                "leaves a gap before it"
            };
            return Err(CheckpointError::tensor(
                path,
                name,
                format!("{what}: the header is damaged"),
            ));
        }
        end = range.end;
    }
    if end != file.bytes().len() {
        return Err(damaged(format!(
            "the file has {} bytes after the last tensor",
            file.bytes().len() - end
        )));
    }
    Ok(tensors)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::SafetensorsWriter;
    use super::*;

    fn info(dtype: Dtype, shape: &[usize]) -> TensorInfo {
        TensorInfo {
            dtype,
            shape: shape.to_vec(),
        }
    }

    /// A file of two tensors, `a` (F32, 2 × 3) and `b` (BF16, 4).
    fn written(path: &Path) -> Vec<u8> {
        let tensors = [
            ("b".to_owned(), info(Dtype::BF16, &[4])),
            ("a".to_owned(), info(Dtype::F32, &[2, 3])),
        ];
        let mut writer = SafetensorsWriter::create(path, &tensors).unwrap();
        writer.write("b", &[7; 8]).unwrap();
        writer.write("a", &[1; 24]).unwrap();
        writer.finish().unwrap();
        std::fs::read(path).unwrap()
    }

    fn open(bytes: &[u8]) -> Result<Weights, CheckpointError> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        Weights::open(&[file.path().to_owned()])
    }

    fn with_header(header: &str, data: usize) -> Result<Weights, CheckpointError> {
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header.as_bytes());
        bytes.extend(std::iter::repeat_n(0, data));
        open(&bytes)
    }

    #[test]
    fn what_is_written_is_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("model.safetensors");
        let bytes = written(&path);
        let reference = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        assert_eq!(reference.tensor("a").unwrap().shape(), [2, 3]);
        let weights = Weights::open(std::slice::from_ref(&path)).unwrap();
        assert_eq!(weights.names().collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(weights.info("b"), Some(&info(Dtype::BF16, &[4])));
        assert_eq!(weights.bytes("a"), Some(&[1u8; 24][..]));
        assert_eq!(weights.bytes("b"), Some(&[7u8; 8][..]));
        assert_eq!(weights.file_of("a"), Some(path.as_path()));
        assert_eq!(
            (weights.info("c"), weights.bytes("c"), weights.file_of("c")),
            (None, None, None)
        );
    }

    #[test]
    fn a_tensor_in_two_files_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let paths = [dir.path().join("1"), dir.path().join("2")];
        paths.iter().for_each(|path| drop(written(path)));
        let error = Weights::open(&paths).unwrap_err();
        assert!(
            matches!(&error, CheckpointError::Duplicate { tensor, .. } if tensor == "b"),
            "{error}"
        );
    }

    #[test]
    fn a_truncated_file_is_refused_at_every_length() {
        let dir = tempfile::tempdir().unwrap();
        let bytes = written(&dir.path().join("model.safetensors"));
        for length in 0..bytes.len() {
            assert!(open(&bytes[..length]).is_err(), "{length} bytes");
        }
        let error = open(&bytes[..bytes.len() - 1]).unwrap_err();
        assert!(
            matches!(&error, CheckpointError::Truncated { what, .. } if what == "tensor `a`"),
            "{error}"
        );
    }

    #[test]
    fn a_header_that_contradicts_itself_names_the_tensor() {
        let cases = [
            (
                r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}}"#,
                4,
                "takes 8 bytes",
            ),
            (
                r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[8,4]}}"#,
                8,
                "takes 4 bytes",
            ),
            (
                r#"{"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,4]}}"#,
                4,
                "fits no memory",
            ),
            (
                r#"{"a":{"dtype":"F8_E4M3","shape":[4],"data_offsets":[0,4]}}"#,
                4,
                "F8_E4M3",
            ),
            (r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}"#, 8, "gap"),
            (r#"{"a":{"shape":[1],"data_offsets":[4,8]}}"#, 8, "dtype"),
            (
                r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[1],"data_offsets":[2,6]}}"#,
                6,
                "overlaps",
            ),
        ];
        for (header, data, said) in cases {
            let error = with_header(header, data).unwrap_err();
            assert!(matches!(error, CheckpointError::Tensor { .. }), "{error}");
            assert!(error.to_string().contains(said), "{error}");
        }
        let error = with_header(r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#, 5).unwrap_err();
        assert!(error.to_string().contains("after the last tensor"), "{error}");
    }

    #[test]
    fn a_file_of_another_format_is_refused() {
        assert!(
            open(b"PK\x03\x04 this is a zip archive")
                .unwrap_err()
                .to_string()
                .contains("not a safetensors file")
        );
        assert!(matches!(open(b"").unwrap_err(), CheckpointError::Truncated { .. }));
        let pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n";
        let error = open(pointer).unwrap_err().to_string();
        assert!(error.contains("git lfs pull"), "{error}");
        let error = open(b"<!DOCTYPE html><html></html>").unwrap_err().to_string();
        assert!(error.contains("web page"), "{error}");
    }

    proptest! {
        #[test]
        fn damaged_files_are_refused_or_read_but_never_panic(changes in proptest::collection::vec((0usize..400, any::<u8>()), 1..4)) {
            static WHOLE: std::sync::OnceLock<Vec<u8>> = std::sync::OnceLock::new();
            let mut bytes = WHOLE.get_or_init(|| written(&tempfile::tempdir().unwrap().path().join("model"))).clone();
            for (at, byte) in changes {
                let at = at % bytes.len();
                bytes[at] = byte;
            }
            if let Ok(weights) = open(&bytes) {
                for name in weights.names() {
                    let length = weights.info(name).and_then(TensorInfo::bytes);
                    prop_assert_eq!(weights.bytes(name).map(<[u8]>::len), length);
                }
            }
        }
    }
}
