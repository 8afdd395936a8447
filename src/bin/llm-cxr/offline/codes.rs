//! `llm-cxr encode` and `decode`: an X-ray's VQ-GAN codes, and an image of codes.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use llm_cxr::config::{ImageConfig, ModelConfig, ReplyConfig};
use llm_cxr::engine::{Event, Job};
use serde_json::{Value, json};

use super::{assemble, drawing_at, notice, print_json, read, write};
use crate::CommandResult;
use crate::assemble::Assembled;
use crate::show::result;

/// Print the VQ-GAN codes of an X-ray as JSON.
#[derive(Args, Debug)]
pub struct EncodeArgs {
    /// PNG, JPEG or DICOM file, or `-` for standard input
    image: PathBuf,
    #[command(flatten)]
    images: ImageConfig,
    #[command(flatten)]
    pub model: ModelConfig,
}

/// Draw VQ-GAN codes. The image is synthetic, and marked so.
#[derive(Args, Debug)]
pub struct DecodeArgs {
    /// What `encode` printed, or a plain JSON list of codes: a file with it, the JSON itself, or `-` for standard input
    #[arg(value_name = "CODES")]
    codes: String,
    /// Where the image goes: .png, .jpg or .jpeg
    #[arg(long, short, value_name = "FILE")]
    output: PathBuf,
    #[command(flatten)]
    pub model: ModelConfig,
    /// Print JSON, with the file and its size
    #[arg(long)]
    json: bool,
}

pub fn encode(args: EncodeArgs) -> CommandResult {
    let file = read(&args.image)?;
    let assembled = assemble(&args.model, args.images, ReplyConfig::default())?;
    let seen = assembled.runtime.block_on(assembled.assistant.desk().read(file))?;
    seen.notes.iter().for_each(llm_cxr::basics::tell);
    let job = Job {
        images: vec![seen.pixels],
        sequences: Vec::new(),
        codes: Vec::new(),
        deadline: None,
    };
    for event in run_job(&assembled, job)? {
        if let Event::Encoded { codes, .. } = event {
            let side = codes.len().isqrt();
            return print_json(&json!({"codes": *codes, "rows": side, "columns": codes.len() / side.max(1)}));
        }
    }
    Err("no codes came".into())
}

pub fn decode(args: DecodeArgs) -> CommandResult {
    let format = drawing_at(&args.output)?;
    let codes = read_codes(&args.codes)?;
    let assembled = assemble(&args.model, ImageConfig::default(), ReplyConfig::default())?;
    let job = Job {
        images: Vec::new(),
        sequences: Vec::new(),
        codes: vec![codes],
        deadline: None,
    };
    for event in run_job(&assembled, job)? {
        if let Event::Drawn { pixels, .. } = event {
            let file = assembled
                .runtime
                .block_on(assembled.assistant.desk().write_synthetic(Arc::clone(&pixels), format))?;
            write(&args.output, &file)?;
            if args.json {
                let file = args.output.display().to_string();
                return print_json(
                    &json!({"file": file, "synthetic": true, "width": pixels.width(), "height": pixels.height()}),
                );
            }
            result(&format!("{} (synthetic)", args.output.display()))?;
            notice(&assembled.assistant, &[]);
            return Ok(());
        }
    }
    Err("no image came".into())
}

/// Runs a job that has no text, and gives its events.
fn run_job(assembled: &Assembled, job: Job) -> Result<Vec<Event>, Box<dyn std::error::Error>> {
    let mut events = assembled.assistant.engine().submit(job)?;
    assembled.runtime.block_on(async {
        let mut seen = Vec::new();
        while let Some(event) = events.next().await {
            match event {
                Event::Failed(error) => return Err(error.into()),
                Event::Done => break,
                other => seen.push(other),
            }
        }
        Ok(seen)
    })
}

fn read_codes(codes: &str) -> Result<Vec<u16>, String> {
    let (name, text) = if codes.trim_start().starts_with(['[', '{']) {
        ("CODES", Ok(codes.to_owned()))
    } else if codes == "-" {
        ("standard input", std::io::read_to_string(std::io::stdin()))
    } else {
        (codes, std::fs::read_to_string(codes))
    };
    let text = text.map_err(|e| format!("{name}: {e}"))?;
    parse_codes(&text).ok_or_else(|| {
        format!("{name}: holds no list of codes (whole numbers from 0 to 65535), plain or under \"codes\"")
    })
}

fn parse_codes(text: &str) -> Option<Vec<u16>> {
    let value: Value = serde_json::from_str(text).ok()?;
    let list = value.get("codes").unwrap_or(&value).as_array()?;
    list.iter()
        .map(|code| code.as_u64().and_then(|c| u16::try_from(c).ok()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_read_plain_and_as_encode_prints_them() {
        assert_eq!(parse_codes("[1, 2, 1023]"), Some(vec![1, 2, 1023]));
        assert_eq!(parse_codes(r#"{"codes": [7], "rows": 1}"#), Some(vec![7]));
        for wrong in ["", "{}", "[1.5]", "[-1]", "[65536]", "\"codes\""] {
            assert_eq!(parse_codes(wrong), None, "{wrong}");
        }
        assert_eq!(read_codes(" [3, 4]"), Ok(vec![3, 4]));
        assert!(read_codes("[65536]").is_err_and(|said| said.contains("0 to 65535")));
        assert!(read_codes("no/such/file").is_err_and(|said| said.starts_with("no/such/file: ")));
    }
}
