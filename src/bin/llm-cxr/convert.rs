//! `llm-cxr convert`: the published checkpoints become a bundle, or a VQ-GAN alone what a training begins with.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use llm_cxr::model::convert::{ConvertOptions, TargetDtype, VqganOptions, convert, convert_vqgan};

use crate::output_args::OutputArgs;
use crate::{CommandResult, show};

/// Turn a Hugging Face folder and a taming VQ-GAN into a model bundle.
///
/// Pickled files are read without running anything that is in them. Nothing is fetched. `llm-cxr quantise` makes a smaller bundle of it.
///
/// Without --llm the VQ-GAN alone is converted, to a folder with config.yaml and model.safetensors that `llm-cxr-train` takes: vqgan --init,
/// encode --vqgan, finetune --vqgan.
#[derive(Args, Debug)]
pub struct ConvertArgs {
    /// Folder of the language model: config.json, tokenizer.json and weights (safetensors or pytorch_model.bin, whole or sharded).
    #[arg(long, value_name = "DIR")]
    llm: Option<PathBuf>,
    /// Configuration of the VQ-GAN, as taming-transformers writes it.
    #[arg(long, value_name = "YAML")]
    vqgan_config: PathBuf,
    /// Weights of the VQ-GAN: a Lightning checkpoint, or safetensors.
    #[arg(long, value_name = "CKPT")]
    vqgan_checkpoint: PathBuf,
    /// Element type of the language model's weights in the bundle.
    #[arg(long, value_enum, default_value = "keep", requires = "llm")]
    dtype: Dtype,
    /// Name of the bundle, shown in every answer; by default the folder's.
    #[arg(long, requires = "llm")]
    name: Option<String>,
    /// Take weights that are NaN or infinite too. A request that meets such values fails.
    #[arg(long)]
    allow_non_finite: bool,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Dtype {
    /// As in the checkpoint.
    Keep,
    /// bfloat16.
    Bf16,
    /// Single precision.
    F32,
}

/// Runs the command.
pub fn run(args: ConvertArgs) -> CommandResult {
    let Some(llm) = args.llm else {
        let options = VqganOptions {
            config: args.vqgan_config,
            checkpoint: args.vqgan_checkpoint,
            out: args.output.out,
            force: args.output.force,
            allow_non_finite: args.allow_non_finite,
        };
        return show::work(args.output.json, |progress| convert_vqgan(&options, progress));
    };
    let options = ConvertOptions {
        llm,
        vqgan_config: args.vqgan_config,
        vqgan_checkpoint: args.vqgan_checkpoint,
        out: args.output.out,
        dtype: match args.dtype {
            Dtype::Keep => TargetDtype::Keep,
            Dtype::Bf16 => TargetDtype::Bf16,
            Dtype::F32 => TargetDtype::F32,
        },
        name: args.name,
        force: args.output.force,
        allow_non_finite: args.allow_non_finite,
    };
    show::work(args.output.json, |progress| convert(&options, progress))
}
