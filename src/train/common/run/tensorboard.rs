//! TensorBoard event files with scalars: TFRecord framing (length, masked CRC-32C, data, masked CRC-32C) around the `Event` message.
//!
//! The few fields needed are encoded by hand: `Event { double wall_time = 1; int64 step = 2; string file_version = 3; Summary summary
//! = 5; SessionLog session_log = 7 }`, `Summary { Value value = 1 }`, `Value { string tag = 1; float simple_value = 2 }`.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

/// An event file being written.
pub struct EventFile {
    file: File,
}

impl EventFile {
    /// A new file in `folder`. Events of an earlier file with steps from `step` on are superseded.
    pub fn create(folder: &Path, step: u64) -> io::Result<Self> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let name = format!(
            "events.out.tfevents.{}.{}.llm-cxr-train",
            now.as_secs(),
            std::process::id()
        );
        let file = OpenOptions::new().create(true).append(true).open(folder.join(name))?;
        let mut events = Self { file };
        events.event(0, |out| bytes(out, 3, b"brain.Event:2"))?;
        // SessionLog.status = START.
        events.event(step, |out| bytes(out, 7, &[0x08, 1]))?;
        Ok(events)
    }

    /// Writes scalars of a step.
    pub fn scalars(&mut self, step: u64, values: &[(String, f64)]) -> io::Result<()> {
        let mut summary = Vec::new();
        for (tag, value) in values {
            let mut message = Vec::new();
            bytes(&mut message, 1, tag.as_bytes());
            message.push(2 << 3 | 5);
            message.extend_from_slice(&(*value as f32).to_le_bytes());
            bytes(&mut summary, 1, &message);
        }
        self.event(step, |out| bytes(out, 5, &summary))
    }

    fn event(&mut self, step: u64, rest: impl FnOnce(&mut Vec<u8>)) -> io::Result<()> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let mut message = vec![1 << 3 | 1];
        message.extend_from_slice(&now.as_secs_f64().to_le_bytes());
        message.push(2 << 3);
        varint(&mut message, step);
        rest(&mut message);
        self.file.write_all(&record(&message))
    }
}

/// A TFRecord.
fn record(data: &[u8]) -> Vec<u8> {
    let length = (data.len() as u64).to_le_bytes();
    let mut out = Vec::with_capacity(data.len() + 16);
    out.extend_from_slice(&length);
    out.extend_from_slice(&masked(crc32c(&length)).to_le_bytes());
    out.extend_from_slice(data);
    out.extend_from_slice(&masked(crc32c(data)).to_le_bytes());
    out
}

fn masked(crc: u32) -> u32 {
    crc.rotate_right(15).wrapping_add(0xa282_ead8)
}

/// CRC-32C (Castagnoli), bit by bit: a record is a few hundred bytes.
fn crc32c(data: &[u8]) -> u32 {
    let step = |crc: u32, _| (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg());
    !data
        .iter()
        .fold(!0u32, |crc, &byte| (0..8).fold(crc ^ u32::from(byte), step))
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn bytes(out: &mut Vec<u8>, field: u8, value: &[u8]) {
    out.push(field << 3 | 2);
    varint(out, value.len() as u64);
    out.extend_from_slice(value);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_crc_32c_of_rfc_3720() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
    }

    #[test]
    fn every_record_of_a_file_is_framed_and_checked() {
        let dir = tempfile::tempdir().unwrap();
        let mut events = EventFile::create(dir.path(), 300).unwrap();
        events.scalars(300, &[("loss".to_owned(), 0.5)]).unwrap();
        let path = std::fs::read_dir(dir.path()).unwrap().next().unwrap().unwrap().path();
        let data = std::fs::read(path).unwrap();
        let (mut at, mut messages) = (0, Vec::new());
        while at < data.len() {
            let length = u64::from_le_bytes(data[at..at + 8].try_into().unwrap()) as usize;
            let crc = |range: std::ops::Range<usize>| u32::from_le_bytes(data[range].try_into().unwrap());
            assert_eq!(crc(at + 8..at + 12), masked(crc32c(&data[at..at + 8])));
            let message = &data[at + 12..at + 12 + length];
            assert_eq!(crc(at + 12 + length..at + 16 + length), masked(crc32c(message)));
            messages.push(message.to_vec());
            at += 16 + length;
        }
        assert_eq!(messages.len(), 3);
        let scalar = &messages[2];
        // step 300, then the summary with tag and value.
        assert_eq!(scalar[9..12], [0x10, 0xac, 0x02]);
        let summary = [
            &[0x2a, 13, 0x0a, 11, 0x0a, 4][..],
            b"loss",
            &[0x15],
            &0.5f32.to_le_bytes(),
        ]
        .concat();
        assert_eq!(scalar[12..], summary);
    }
}
