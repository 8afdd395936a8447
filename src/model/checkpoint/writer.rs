//! Writes a safetensors file one tensor after another, so that memory holds one at a time.

use std::borrow::Cow;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use serde_json::{Map, json};

use super::{CheckpointError, TensorInfo};

/// A safetensors file being written: the header, laid out from names, types and shapes, then the values in the same order.
pub struct SafetensorsWriter {
    path: PathBuf,
    out: BufWriter<File>,
    /// What is still to come, the next one last.
    pending: Vec<(String, usize)>,
}

impl SafetensorsWriter {
    /// Creates the file and writes its header. The values must follow in the order of `tensors`.
    pub fn create(path: &Path, tensors: &[(String, TensorInfo)]) -> Result<Self, CheckpointError> {
        let mut header = Map::new();
        header.insert("__metadata__".to_owned(), json!({"format": "pt"}));
        let (mut start, mut pending) = (0usize, Vec::with_capacity(tensors.len()));
        for (name, info) in tensors {
            let too_large = || CheckpointError::tensor(path, name, format!("shape {:?} fits no file", info.shape));
            let length = info.bytes().ok_or_else(too_large)?;
            let end = start.checked_add(length).ok_or_else(too_large)?;
            let entry = json!({"dtype": info.dtype.name(), "shape": info.shape, "data_offsets": [start, end]});
            if header.insert(name.clone(), entry).is_some() {
                return Err(CheckpointError::tensor(path, name, "is to be written twice"));
            }
            pending.push((name.clone(), length));
            start = end;
        }
        pending.reverse();
        let mut header = serde_json::Value::Object(header).to_string().into_bytes();
        // Values begin at a multiple of 8 bytes.
        header.resize(header.len().next_multiple_of(8), b' ');
        let io = |reason| CheckpointError::io(path, reason);
        let mut out = BufWriter::with_capacity(1 << 20, File::create(path).map_err(io)?);
        out.write_all(&(header.len() as u64).to_le_bytes()).map_err(io)?;
        out.write_all(&header).map_err(io)?;
        Ok(Self {
            path: path.to_owned(),
            out,
            pending,
        })
    }

    /// Writes the values of the next tensor, which must be `name`: little-endian, row-major.
    pub fn write(&mut self, name: &str, bytes: &[u8]) -> Result<(), CheckpointError> {
        self.write_chunks(name, std::iter::once(Cow::Borrowed(bytes)))
    }

    /// Writes the values of the next tensor piece by piece, so that a large one need not be in memory as a whole.
    pub fn write_chunks<'c>(
        &mut self,
        name: &str,
        chunks: impl Iterator<Item = Cow<'c, [u8]>>,
    ) -> Result<(), CheckpointError> {
        let announced = self.pending.pop().filter(|(next, _)| next == name);
        let mut written = 0;
        for chunk in chunks {
            self.out
                .write_all(&chunk)
                .map_err(|reason| CheckpointError::io(&self.path, reason))?;
            written += chunk.len();
        }
        if announced.is_none_or(|(_, length)| length != written) {
            let reason = "does not come next, or has another length than announced";
            return Err(CheckpointError::tensor(&self.path, name, reason));
        }
        Ok(())
    }

    /// Ends the file and waits until it is on disk.
    pub fn finish(self) -> Result<(), CheckpointError> {
        if let Some((name, _)) = self.pending.last() {
            return Err(CheckpointError::tensor(
                &self.path,
                name,
                "was announced but not written",
            ));
        }
        let file = self
            .out
            .into_inner()
            .map_err(|e| CheckpointError::io(&self.path, e.into_error()))?;
        file.sync_all()
            .map_err(|reason| CheckpointError::io(&self.path, reason))
    }
}
