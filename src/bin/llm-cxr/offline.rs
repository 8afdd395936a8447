//! `llm-cxr report`, `ask`, `draw`, `encode` and `decode`: single images, with the server's own engine and no server.

mod codes;

use std::fs::File;
use std::io::{IsTerminal as _, Read as _, Write as _};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use clap::Args;
use llm_cxr::RESEARCH_NOTICE;
use llm_cxr::config::{ImageConfig, ModelConfig, ReplyConfig};
use llm_cxr::http::wire::{ModelRef, ReadingsUsed, SamplingUsed, TimingMs, TokenUsage};
use llm_cxr::http::{finish_reason, image_notes};
use llm_cxr::radiograph::{ImageFormat, ImageNote};
use llm_cxr::service::{Assistant, Options, Outcome as Answers, Request, Task, Update};
use serde_json::{Value, json};

use crate::CommandResult;
use crate::assemble::{self, Assembled};
use crate::show::{bar, result, spinner};

pub use codes::{DecodeArgs, EncodeArgs, decode, encode};

/// How replies are drawn. What is not given takes the task's default.
#[derive(Args, Debug)]
pub struct SamplingArgs {
    /// 0 (always the likeliest token) to 2. Not given: 0 for reports and answers, the bundle's own for drawings
    #[arg(long, value_name = "T")]
    temperature: Option<f32>,
    /// Only the likeliest tokens whose probabilities sum up to this, above 0 and at most 1 (off). Not given: the bundle's own, where temperature is
    /// not 0
    #[arg(long, value_name = "P")]
    top_p: Option<f32>,
    /// Only this many of the likeliest tokens; 0, as if not given, is off
    #[arg(long, value_name = "K")]
    top_k: Option<usize>,
    /// The same seed draws the same tokens. Not given: one at random, which `draw` and --json tell
    #[arg(long, value_name = "SEED")]
    seed: Option<u64>,
}

impl SamplingArgs {
    fn options(&self) -> Options {
        Options {
            temperature: self.temperature,
            top_p: self.top_p,
            top_k: self.top_k,
            seed: self.seed,
            ..Options::default()
        }
    }
}

/// An X-ray that is to be read, and how.
#[derive(Args, Debug)]
pub struct ReadingArgs {
    /// PNG, JPEG or DICOM file, or `-` for standard input.
    image: PathBuf,
    /// How often the image is read, 1 to 16, each time moved by a few pixels: of several readings the one that the others agree with most counts.
    /// Not given: for a report the bundle's own number, else once.
    #[arg(long, value_name = "N")]
    readings: Option<usize>,
    /// Most tokens of a reply. Not given: the bundle's own number.
    #[arg(long, value_name = "N")]
    max_tokens: Option<usize>,
    #[command(flatten)]
    sampling: SamplingArgs,
    #[command(flatten)]
    pub model: ModelConfig,
    #[command(flatten)]
    images: ImageConfig,
    #[command(flatten)]
    replies: ReplyConfig,
    /// Print JSON, with tokens, codes and timing.
    #[arg(long)]
    json: bool,
}

impl ReadingArgs {
    /// Runs a task about the image to its end. Text is shown as it comes if `live`, unless JSON was asked for.
    fn run(&self, task: Task, live: bool) -> Result<(Assistant, Answers), Box<dyn std::error::Error>> {
        let assembled = assemble(&self.model, self.images, self.replies)?;
        let options = Options {
            readings: self.readings,
            max_tokens: self.max_tokens,
            ..self.sampling.options()
        };
        run(assembled, task, options, live && !self.json)
    }
}

/// Write the report of an X-ray.
#[derive(Args, Debug)]
pub struct ReportArgs {
    #[command(flatten)]
    pub reading: ReadingArgs,
    /// Instead of the bundle's instruction.
    #[arg(long, value_name = "TEXT")]
    instruction: Option<String>,
}

/// Ask questions about an X-ray.
#[derive(Args, Debug)]
pub struct AskArgs {
    #[command(flatten)]
    pub reading: ReadingArgs,
    /// One or more questions, answered together.
    #[arg(required = true)]
    question: Vec<String>,
}

/// Draw an X-ray from a text. The image is synthetic, and marked so.
#[derive(Args, Debug)]
pub struct DrawArgs {
    /// The report to draw
    text: String,
    /// Where the image goes: .png, .jpg or .jpeg
    #[arg(long, short, value_name = "FILE")]
    output: PathBuf,
    /// How much more the drawing follows the text than it would by itself, 1 (none) to 10; the bundle's own if not given
    #[arg(long, value_name = "G")]
    guidance: Option<f32>,
    #[command(flatten)]
    sampling: SamplingArgs,
    #[command(flatten)]
    pub model: ModelConfig,
    /// Print JSON, with tokens, codes and timing
    #[arg(long)]
    json: bool,
}

pub fn report(args: ReportArgs) -> CommandResult {
    let task = Task::Report {
        image: read(&args.reading.image)?,
        instruction: args.instruction,
    };
    let (assistant, answers) = args.reading.run(task, true)?;
    if args.reading.json {
        let mut out = account(&assistant, &answers);
        let answer = answers.answers.first().ok_or("no report came")?;
        if let Some(readings) = ReadingsUsed::of(&answers) {
            out["readings"] = json!(readings);
        }
        out["report"] = answer.text.as_str().into();
        out["finish_reason"] = finish_reason(answer.finish).into();
        out["token_ids"] = answer.token_ids.clone().into();
        out["codes"] = json!(answers.input_codes.as_deref());
        return print_json(&out);
    }
    notice(&assistant, &answers.image_notes);
    Ok(())
}

pub fn ask(args: AskArgs) -> CommandResult {
    let task = Task::Vqa {
        image: read(&args.reading.image)?,
        questions: args.question.clone(),
    };
    // Several answers come at once; they are shown when they are whole.
    let one = args.question.len() == 1;
    let (assistant, answers) = args.reading.run(task, one)?;
    let pairs = args.question.iter().zip(&answers.answers);
    if args.reading.json {
        let mut out = account(&assistant, &answers);
        out["answers"] = pairs
            .map(|(question, a)| {
                json!({"question": question, "answer": a.text, "finish_reason": finish_reason(a.finish), "p_yes": a.p_yes, "token_ids": a.token_ids})
            })
            .collect();
        for (at, told) in answers.consensus.iter().enumerate() {
            out["answers"][at]["agreement"] = told.same.into();
        }
        out["codes"] = json!(answers.input_codes.as_deref());
        return print_json(&out);
    }
    if !one {
        for (question, answer) in pairs {
            result(&format!("{question}\n  {}", answer.text))?;
        }
    }
    notice(&assistant, &answers.image_notes);
    Ok(())
}

pub fn draw(args: DrawArgs) -> CommandResult {
    let format = drawing_at(&args.output)?;
    let task = Task::Draw {
        text: args.text,
        n: 1,
        format,
    };
    let options = Options {
        guidance: args.guidance,
        ..args.sampling.options()
    };
    // No image is read for it, and the tokens of one are never drafted.
    let assembled = assemble(&args.model, ImageConfig::default(), ReplyConfig::default())?;
    let (assistant, answers) = run(assembled, task, options, false)?;
    let answer = answers.answers.first().ok_or("no image came")?;
    let drawing = answer.image.as_ref().ok_or("no image came")?;
    write(&args.output, &drawing.file)?;
    if args.json {
        let mut out = account(&assistant, &answers);
        out["file"] = args.output.display().to_string().into();
        out["synthetic"] = true.into();
        out["seed"] = answer.seed.into();
        out["codes"] = json!(drawing.codes);
        out["token_ids"] = answer.token_ids.clone().into();
        return print_json(&out);
    }
    result(&format!("{} (synthetic, seed {})", args.output.display(), answer.seed))?;
    notice(&assistant, &answers.image_notes);
    Ok(())
}

/// Loads the bundle, with a spinner meanwhile.
fn assemble(
    config: &ModelConfig,
    images: ImageConfig,
    replies: ReplyConfig,
) -> Result<Assembled, Box<dyn std::error::Error>> {
    let spinner = spinner("loading the model");
    let assembled = assemble::offline(config, images, replies);
    spinner.finish_and_clear();
    assembled
}

/// Runs a task to its end. Text is shown as it comes if `live`.
fn run(
    assembled: Assembled,
    task: Task,
    options: Options,
    live: bool,
) -> Result<(Assistant, Answers), Box<dyn std::error::Error>> {
    let request = Request {
        task,
        options,
        deadline: None,
    };
    let answers = assembled.runtime.block_on(async {
        let mut reply = assembled.assistant.start(request).await?;
        let mut progress = None;
        let mut stdout = std::io::stdout();
        while let Some(update) = reply.next().await {
            match update? {
                Update::Text { text, .. } if live => {
                    stdout.write_all(text.as_bytes())?;
                    stdout.flush()?;
                }
                Update::Codes { done, total, .. } => {
                    progress
                        .get_or_insert_with(|| bar(total as u64, "drawing"))
                        .set_position(done as u64);
                }
                Update::Done(outcome) => {
                    if live {
                        writeln!(stdout)?;
                    }
                    return Ok::<_, Box<dyn std::error::Error>>(*outcome);
                }
                Update::Text { .. } => {}
            }
        }
        Err("the engine ended without an answer".into())
    })?;
    Ok((assembled.assistant, answers))
}

/// What every JSON answer holds, as the HTTP API words it.
fn account(assistant: &Assistant, a: &Answers) -> Value {
    let card = assistant.card();
    let mut out = json!({
        "model": ModelRef::from(card),
        "sampling": SamplingUsed::from(&a.sampling),
        "usage": TokenUsage::from(a.usage),
        "timing_ms": TimingMs::from(a.phases),
        "disclaimer": RESEARCH_NOTICE,
    });
    if let Some(warning) = card.warning() {
        out["warning"] = warning.into();
    }
    if let Some(notes) = image_notes(a) {
        out["image_notes"] = notes.into();
    }
    out
}

/// On stderr, so that stdout holds the result alone.
fn notice(assistant: &Assistant, notes: &[ImageNote]) {
    notes.iter().for_each(llm_cxr::basics::tell);
    if let Some(warning) = assistant.card().warning() {
        llm_cxr::basics::tell(warning);
    }
    llm_cxr::basics::tell(RESEARCH_NOTICE);
}

fn print_json(value: &Value) -> CommandResult {
    let text = match std::io::stdout().is_terminal() {
        true => serde_json::to_string_pretty(value)?,
        false => value.to_string(),
    };
    result(&text)
}

/// The image's file; `-` is standard input.
fn read(path: &Path) -> Result<Bytes, String> {
    if path == Path::new("-") {
        let mut bytes = Vec::new();
        let read = std::io::stdin().lock().read_to_end(&mut bytes);
        return read.map(|_| bytes.into()).map_err(|e| format!("standard input: {e}"));
    }
    std::fs::read(path)
        .map(Bytes::from)
        .map_err(|e| format!("{}: {e}", path.display()))
}

/// Writes a drawing; half of one is not left.
fn write(path: &Path, file: &[u8]) -> Result<(), String> {
    File::create(path)
        .and_then(|mut to| {
            to.write_all(file)
                .inspect_err(|_| std::fs::remove_file(path).unwrap_or_default())
        })
        .map_err(|e| format!("{}: {e}", path.display()))
}

/// The format of the drawing that goes to `path`. What would only show once it is drawn is refused here.
fn drawing_at(path: &Path) -> Result<ImageFormat, String> {
    let format = format_of(path)?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    if let Some(folder) = folder.filter(|folder| !folder.is_dir()) {
        return Err(format!(
            "{}: there is no folder {}; make it first",
            path.display(),
            folder.display()
        ));
    }
    match path.is_dir() {
        true => Err(format!("{} is a folder; give a file in it", path.display())),
        false => Ok(format),
    }
}

fn format_of(path: &Path) -> Result<ImageFormat, String> {
    match path
        .extension()
        .and_then(|e| e.to_str())
        .map(str::to_ascii_lowercase)
        .as_deref()
    {
        Some("png") => Ok(ImageFormat::Png),
        Some("jpg" | "jpeg") => Ok(ImageFormat::Jpeg),
        _ => Err(format!("{}: the name must end in .png, .jpg or .jpeg", path.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_the_file_says_its_format() {
        assert_eq!(format_of(Path::new("a/b.PNG")), Ok(ImageFormat::Png));
        assert_eq!(format_of(Path::new("x.jpeg")), Ok(ImageFormat::Jpeg));
        assert!(format_of(Path::new("x.gif")).is_err() && format_of(Path::new("png")).is_err());
    }

    #[test]
    fn a_drawing_that_has_nowhere_to_go_is_refused_before_it_is_made() {
        let folder = tempfile::tempdir().expect("a folder");
        let within = |name: &str| drawing_at(&folder.path().join(name));
        assert_eq!(within("a.png"), Ok(ImageFormat::Png));
        assert_eq!(drawing_at(Path::new("a.jpg")), Ok(ImageFormat::Jpeg));
        assert!(within("no/a.png").is_err_and(|told| told.contains("there is no folder")));
        std::fs::create_dir(folder.path().join("b.png")).expect("a folder");
        assert!(within("b.png").is_err_and(|told| told.contains("is a folder")));
    }

    #[test]
    fn half_a_drawing_is_not_left() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.png");
        assert_eq!(write(&path, b"whole"), Ok(()));
        assert_eq!(std::fs::read(&path).expect("a file"), b"whole");
        // A name that leads to a full disk.
        std::fs::remove_file(&path).expect("removed");
        std::os::unix::fs::symlink("/dev/full", &path).expect("a link");
        assert!(write(&path, b"half").is_err_and(|told| told.contains("a.png: ")));
        assert!(std::fs::symlink_metadata(&path).is_err(), "the name is gone");
    }
}
