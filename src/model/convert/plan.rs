//! Compares what a checkpoint holds with what the configuration asks for, before anything is written.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use super::ConvertError;
use super::values::TargetDtype;
use crate::model::ExpectedTensor;
use crate::model::checkpoint::{CheckpointReader, Dtype, TensorInfo};
use crate::model::neox::{EMBED_IN, EMBED_OUT, NeoxConfig};
use crate::model::vqgan::VqganConfig;

/// The tensors to be written, in order, with the type they are to have.
pub(super) struct Plan {
    pub(super) tensors: Vec<(String, TensorInfo)>,
}

impl Plan {
    pub(super) fn parameters(&self) -> u64 {
        self.tensors
            .iter()
            .filter_map(|(_, info)| info.elements())
            .sum::<usize>() as u64
    }
}

/// Everything that is wrong with the tensors of a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems {
    /// The checkpoint.
    pub file: PathBuf,
    /// A guess at the one cause of it all.
    pub hint: Option<String>,
    /// Each problem, with its file.
    pub list: Vec<(PathBuf, TensorProblem)>,
}

/// What is wrong with one tensor.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TensorProblem {
    /// The configuration asks for it; the checkpoint does not have it.
    #[error("tensor `{name}` of shape {expected:?} is missing")]
    Missing {
        /// Its name.
        name: String,
        /// Shape by the configuration.
        expected: Vec<usize>,
    },
    /// Under its name stands something else.
    #[error("`{name}` should be a tensor of shape {expected:?} but is {found}")]
    NotATensor {
        /// Its name.
        name: String,
        /// Shape by the configuration.
        expected: Vec<usize>,
        /// What is there.
        found: String,
    },
    /// It has another shape.
    #[error("tensor `{name}` has shape {found:?}, but the configuration asks for {expected:?}")]
    Shape {
        /// Its name.
        name: String,
        /// Shape in the checkpoint.
        found: Vec<usize>,
        /// Shape by the configuration.
        expected: Vec<usize>,
    },
    /// It does not hold floating-point numbers.
    #[error("tensor `{name}` holds {found}; weights are F32, F16, BF16 or F64")]
    Dtype {
        /// Its name.
        name: String,
        /// Type in the checkpoint.
        found: Dtype,
    },
    /// The configuration does not know it.
    #[error("tensor `{name}` of shape {found:?} is in the checkpoint, but the configuration has no place for it")]
    Extra {
        /// Its name.
        name: String,
        /// Shape in the checkpoint.
        found: Vec<usize>,
    },
    /// Embeddings are tied, but the checkpoint has two that differ.
    #[error("tensor `{name}` differs from the embedding, but config.json ties them; set tie_word_embeddings to false")]
    Untied {
        /// Its name.
        name: String,
    },
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 12;
        let (count, file) = (self.list.len(), self.file.display());
        write!(
            f,
            "{file} does not hold the model that its configuration describes ({count} problems)"
        )?;
        if let Some(hint) = &self.hint {
            write!(f, ": {hint}")?;
        }
        for (file, problem) in self.list.iter().take(SHOWN) {
            write!(f, "\n  {}: {problem}", file.display())?;
        }
        if count > SHOWN {
            write!(f, "\n  and {} more", count - SHOWN)?;
        }
        Ok(())
    }
}

/// Plans the language model. Buffers of old state dicts are left out.
pub(super) fn language_model(
    reader: &CheckpointReader,
    config: &NeoxConfig,
    dtype: TargetDtype,
) -> Result<Plan, ConvertError> {
    let mut check = Check::new(reader, &config.expected_tensors(), dtype);
    for name in reader.names() {
        let known = check.expected.contains_key(name) || NeoxConfig::is_ignorable(name);
        if config.tie_word_embeddings && name == EMBED_OUT {
            if reader.read(name)? != reader.read(EMBED_IN)? {
                check.problem(TensorProblem::Untied { name: name.to_owned() });
            }
        } else if !known {
            check.extra(name);
        }
    }
    check.finish(prefix_hint(reader))
}

/// Plans the VQ-GAN: encoder, decoder, quantizer and the convolutions between them; losses and whatever else a training
/// checkpoint holds are left out.
pub(super) fn vqgan(reader: &CheckpointReader, config: &VqganConfig) -> Result<Plan, ConvertError> {
    const KEPT: [&str; 5] = ["encoder.", "decoder.", "quantize.", "quant_conv.", "post_quant_conv."];
    let mut check = Check::new(reader, &config.expected_tensors(), TargetDtype::Keep);
    for name in reader.names() {
        if KEPT.iter().any(|prefix| name.starts_with(prefix)) && !check.expected.contains_key(name) {
            check.extra(name);
        }
    }
    check.finish(vqgan_hint(reader))
}

struct Check<'a> {
    reader: &'a CheckpointReader,
    expected: BTreeMap<String, Vec<usize>>,
    tensors: Vec<(String, TensorInfo)>,
    problems: Vec<(PathBuf, TensorProblem)>,
}

impl<'a> Check<'a> {
    /// Looks at every expected tensor.
    fn new(reader: &'a CheckpointReader, expected: &[ExpectedTensor], dtype: TargetDtype) -> Self {
        let index = expected
            .iter()
            .map(|tensor| (tensor.name.clone(), tensor.shape.clone()))
            .collect();
        let mut check = Self {
            reader,
            expected: index,
            tensors: Vec::new(),
            problems: Vec::new(),
        };
        for ExpectedTensor { name, shape } in expected {
            let (name, expected) = (name.clone(), shape.clone());
            match (reader.info(&name), reader.other(&name)) {
                (Some(info), _) if info.shape != expected => {
                    check.problem(TensorProblem::Shape {
                        name,
                        found: info.shape.clone(),
                        expected,
                    });
                }
                (Some(info), _) => match dtype.of(info.dtype) {
                    Some(dtype) => check.tensors.push((name, TensorInfo { dtype, shape: expected })),
                    None => check.problem(TensorProblem::Dtype {
                        name,
                        found: info.dtype,
                    }),
                },
                (None, Some(found)) => {
                    check.problem(TensorProblem::NotATensor {
                        name,
                        expected,
                        found: found.to_owned(),
                    });
                }
                (None, None) => check.problem(TensorProblem::Missing { name, expected }),
            }
        }
        check
    }

    fn problem(&mut self, problem: TensorProblem) {
        let name = match &problem {
            TensorProblem::Missing { name, .. }
            | TensorProblem::NotATensor { name, .. }
            | TensorProblem::Shape { name, .. }
            | TensorProblem::Dtype { name, .. }
            | TensorProblem::Extra { name, .. }
            | TensorProblem::Untied { name } => name,
        };
        let file = self.reader.file_of(name).unwrap_or(self.reader.root()).to_owned();
        self.problems.push((file, problem));
    }

    fn extra(&mut self, name: &str) {
        let found = self
            .reader
            .info(name)
            .map(|info| info.shape.clone())
            .unwrap_or_default();
        self.problem(TensorProblem::Extra {
            name: name.to_owned(),
            found,
        });
    }

    fn finish(self, hint: Option<String>) -> Result<Plan, ConvertError> {
        if self.problems.is_empty() {
            return Ok(Plan { tensors: self.tensors });
        }
        Err(ConvertError::Tensors(Problems {
            file: self.reader.root().to_owned(),
            hint,
            list: self.problems,
        }))
    }
}

/// Recognises a model saved without its head, or inside another module.
fn prefix_hint(reader: &CheckpointReader) -> Option<String> {
    const MARK: &str = "embed_in.weight";
    let name = reader.names().find(|name| name.ends_with(MARK))?;
    let prefix = name.strip_suffix(EMBED_IN).or_else(|| name.strip_suffix(MARK))?;
    match (name, prefix) {
        (EMBED_IN, _) => None,
        (MARK, _) => Some(
            "its names lack `gpt_neox.`, as those of a GPTNeoXModel without output matrix do; save the GPTNeoXForCausalLM".to_owned(),
        ),
        _ => Some(inside(&[prefix])),
    }
}

/// Recognises a VQ-GAN inside another module, and a language model in the place of one.
fn vqgan_hint(reader: &CheckpointReader) -> Option<String> {
    const MARK: &str = "encoder.conv_in.weight";
    let prefixes: Vec<&str> = reader
        .names()
        .filter_map(|name| name.strip_suffix(MARK))
        .filter(|prefix| prefix.is_empty() || prefix.ends_with('.'))
        .collect();
    if prefixes.is_empty() {
        let is_language_model = reader.names().any(|name| name.ends_with("embed_in.weight"));
        return is_language_model.then(|| "it holds a language model; give the checkpoint of the VQ-GAN".to_owned());
    }
    (!prefixes.contains(&"")).then(|| inside(&prefixes))
}

/// What is said of a model inside another module, or of several.
fn inside(prefixes: &[&str]) -> String {
    let prefixes: Vec<String> = prefixes.iter().map(|prefix| format!("`{prefix}`")).collect();
    format!(
        "its names begin with {}; save the model itself, not the module around it",
        prefixes.join(" and ")
    )
}
