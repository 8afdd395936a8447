//! `llm-cxr bench`: speed of the language model at a shape, on random weights; and of a VQ-GAN.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use llm_cxr::model::bench::vqgan::{self, VqganPlan, VqganReport};
use llm_cxr::model::bench::{self, Plan, Report, Shape};
use llm_cxr::model::cpu::CpuKernels;
use llm_cxr::model::device::{self, DeviceChoice, WeightsChoice};
use llm_cxr::train::data::read_image;
use llm_cxr::train::vqgan::VqganFiles;

use crate::CommandResult;
use crate::show::{self, spinner};

/// Measure prefill and decode of a model shape with random weights, and the memory bandwidth they reach; with --vqgan, how fast a VQ-GAN
/// encodes and decodes images.
#[derive(Args, Debug)]
pub struct BenchArgs {
    /// Shape of the GPT-NeoX
    #[arg(
        long,
        default_value = "hidden=2560,layers=32,heads=32,intermediate=10240,vocab=51305"
    )]
    shape: Shape,
    /// Times a VQ-GAN instead: that of a bundle, of a run or in a folder of its own, or `published` for random weights of the published shape
    #[arg(long, value_name = "DIR|published", conflicts_with_all = ["shape", "weights", "prompt", "new", "beside"])]
    vqgan: Option<String>,
    /// X-rays that it encodes (noise if none is given)
    #[arg(long, value_name = "FILE", requires = "vqgan")]
    image: Vec<PathBuf>,
    /// Compute type; with --vqgan, of the language model that it stands beside: it is loaded as the server loads it then
    #[arg(long, default_value = "bf16", value_parser = ["bf16", "f32"])]
    dtype: String,
    /// How matrices are held
    #[arg(long, value_enum, default_value_t)]
    weights: WeightsChoice,
    /// Tokens of the prompt
    #[arg(long, default_value_t = 340, value_parser = clap::value_parser!(u32).range(1..=65536))]
    prompt: u32,
    /// Tokens decoded after it
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=65536))]
    new: u32,
    /// Numbers of streams decoded together; with --vqgan, of images
    #[arg(long, default_value = "1,8", value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..=1024))]
    batch: Vec<u32>,
    /// Also time steps that run this many prompt tokens beside the streams (0: do not): how long an arriving prompt holds them up
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=65536))]
    beside: u32,
    /// How often prefill and read are measured, or a VQ-GAN's passes
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1000))]
    repeat: u32,
    /// auto, cpu, cuda or cuda:N
    #[arg(long, default_value = "auto")]
    device: DeviceChoice,
    /// Threads of libtorch on a CPU (0: one per core)
    #[arg(long, default_value_t = 0)]
    threads: u16,
    /// Instructions that products are held to on a CPU
    #[arg(long, value_enum, default_value_t)]
    pub cpu_kernels: CpuKernels,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub fn run(args: BenchArgs) -> CommandResult {
    if args.threads > 0 {
        tch::set_num_threads(i32::from(args.threads));
    }
    if let Some(which) = &args.vqgan {
        return time_vqgan(&args, which);
    }
    let plan = Plan {
        shape: args.shape,
        bf16: args.dtype == "bf16",
        weights: args.weights,
        prompt: args.prompt as usize,
        new: args.new as usize,
        batches: args.batch.iter().map(|&b| b as usize).collect(),
        beside: args.beside as usize,
        repeat: args.repeat as usize,
        device: device::resolve(args.device)?,
    };
    let spinner = spinner("starting");
    let report = bench::run(&plan, &|what| spinner.set_message(what.to_owned()))?;
    spinner.finish_and_clear();
    match args.json {
        true => show::result(&serde_json::to_string_pretty(&report)?)?,
        false => print(&report)?,
    }
    Ok(())
}

/// Times the VQ-GAN of a folder, or one of the published shape.
fn time_vqgan(args: &BenchArgs, which: &str) -> CommandResult {
    let (config, weights) = match which {
        "published" => (vqgan::published(), None),
        folder => {
            let files = VqganFiles::find(Path::new(folder))?;
            (files.config, Some(files.weights))
        }
    };
    let (side, batches) = (config.resolution, args.batch.iter().map(|&b| b as usize));
    let read = |path: &PathBuf| {
        let pixels = read_image(path, side).map_err(|e| format!("{}: {e}", path.display()));
        pixels.map(Arc::new)
    };
    let images = match args.image.is_empty() {
        true => vqgan::noise(side, batches.clone().max().unwrap_or(1)),
        false => args.image.iter().map(read).collect::<Result<Vec<_>, String>>()?,
    };
    let plan = VqganPlan {
        config,
        weights,
        bf16: args.dtype == "bf16",
        images,
        batches: batches.collect(),
        repeat: args.repeat as usize,
        device: device::resolve(args.device)?,
    };
    let spinner = spinner("starting");
    let report = vqgan::run(&plan, &|what| spinner.set_message(what.to_owned()))?;
    spinner.finish_and_clear();
    match args.json {
        true => show::result(&serde_json::to_string_pretty(&report)?)?,
        false => print_vqgan(&report)?,
    }
    Ok(())
}

fn print_vqgan(r: &VqganReport) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(
        out,
        "VQ-GAN {:.1} M parameters, {} of {} codes for an image of {} pixels, {} weights",
        r.parameters as f64 / 1e6,
        r.codes_per_image,
        r.code_count,
        r.image_side,
        if r.random { "random" } else { "its own" }
    )?;
    let kernels = r.kernels.map_or_else(String::new, |kernels| format!(" ({kernels})"));
    writeln!(
        out,
        "encoder f32, decoder {}, on {}{kernels}, {} threads; loaded in {:.1} s",
        r.decoder_dtype, r.device, r.threads, r.load_seconds
    )?;
    for p in &r.passes {
        writeln!(
            out,
            "encode, {:3} images {:8.2} images/s  ({:.1} ms)",
            p.images, p.encode_images_per_s, p.encode_ms
        )?;
        writeln!(
            out,
            "decode, {:3} images {:8.2} images/s  ({:.1} ms)",
            p.images, p.decode_images_per_s, p.decode_ms
        )?;
    }
    writeln!(
        out,
        "codes equal to those in f32 on a CPU: {:.3} % of {}",
        r.codes_equal * 100.0,
        r.codes_compared
    )?;
    if let Some(peak) = r.peak_memory_bytes {
        writeln!(out, "peak memory         {:8.2} GB", peak as f64 / 1e9)?;
    }
    Ok(())
}

fn print(r: &Report) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let s = &r.shape;
    writeln!(
        out,
        "GPT-NeoX {:.2} B parameters, hidden {}, {} layers, {} heads, vocabulary {}",
        r.parameters as f64 / 1e9,
        s.hidden,
        s.layers,
        s.heads,
        s.vocab
    )?;
    let kernels = r.kernels.map_or_else(String::new, |kernels| format!(" ({kernels})"));
    writeln!(
        out,
        "{}, {} weights, on {}{kernels}, {} threads; weights made in {:.1} s",
        r.dtype, r.weights, r.device, r.threads, r.load_seconds
    )?;
    writeln!(out, "plain memory read   {:8.1} GB/s", r.read_gb_per_s)?;
    writeln!(
        out,
        "prefill of {:<5}    {:8.1} tokens/s",
        r.prompt, r.prefill_tokens_per_s
    )?;
    for d in &r.decode {
        writeln!(
            out,
            "decode, {:3} streams {:8.1} tokens/s  ({:.2} ms a step; weights read at {:.1} GB/s, {:.0} % of the plain read)",
            d.batch,
            d.tokens_per_s,
            d.step_ms,
            d.weights_gb_per_s,
            d.of_read * 100.0
        )?;
        if let Some(beside) = d.beside_ms {
            writeln!(
                out,
                "  with a piece of a prompt beside them {beside:.1} ms, which holds them up by {:.1} steps' time",
                beside / d.step_ms - 1.0
            )?;
        }
    }
    if !r.recorded_rows.is_empty() {
        let kernels = if r.fused { "fused" } else { "libtorch's" };
        writeln!(
            out,
            "recorded (CUDA graphs) for {:?} rows, {kernels} kernels; one kernel for {:?}",
            r.recorded_rows, r.one_kernel_rows
        )?;
    }
    if let Some(peak) = r.peak_memory_bytes {
        writeln!(
            out,
            "peak memory         {:8.2} GB (weights {:.2} GB)",
            peak as f64 / 1e9,
            r.weight_bytes as f64 / 1e9
        )?;
    }
    Ok(())
}
