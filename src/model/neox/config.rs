//! `config.json` of a Hugging Face `GPTNeoXForCausalLM` folder, old and new spellings.

use serde::Deserialize;
use serde_json::Value;

use crate::model::{ConfigError, ExpectedTensor};

const FILE: &str = "config.json";

/// The embedding, `[vocab_size, hidden_size]`, by its name in a state dict.
pub const EMBED_IN: &str = "gpt_neox.embed_in.weight";

/// The output matrix, `[vocab_size, hidden_size]`, by its name in a state dict.
pub const EMBED_OUT: &str = "embed_out.weight";

/// More than any side of a matrix.
const LONGEST: usize = 1 << 24;

/// More than any context. No tensor has this size, and memory of a thread follows from it.
const LONGEST_CONTEXT: usize = 1 << 20;

/// More layers than any model has. The names of their tensors are all made before the weights are looked at.
const MOST_LAYERS: usize = 4096;

/// Shape and constants of a GPT-NeoX model.
#[derive(Clone, Debug, PartialEq)]
pub struct NeoxConfig {
    /// Rows of the embedding and of the output matrix.
    pub vocab_size: usize,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Number of layers.
    pub num_hidden_layers: usize,
    /// Attention heads in a layer.
    pub num_attention_heads: usize,
    /// Width of the MLP.
    pub intermediate_size: usize,
    /// Longest sequence in tokens.
    pub max_position_embeddings: usize,
    /// Dimensions of each head that are rotated, as the fraction gives them; an odd number is rotated as the even one above it.
    pub rotary_ndims: usize,
    /// Base of the rotary frequencies.
    pub rotary_base: f64,
    /// Attention and MLP read the same residual (true for Pythia and dolly).
    pub use_parallel_residual: bool,
    /// Epsilon of the LayerNorms.
    pub layer_norm_eps: f64,
    /// The MLP's activation.
    pub hidden_act: Activation,
    /// The output matrix is the embedding.
    pub tie_word_embeddings: bool,
    /// Whether QKV and the attention output have biases.
    pub attention_bias: bool,
}

/// Activation of the MLP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// Exact GELU, `x·Φ(x)` by erf.
    Gelu,
    /// GELU by its tanh approximation.
    GeluTanh,
    /// ReLU.
    Relu,
}

/// The sizes of a model that is in all else what a `config.json` of nothing but sizes means: a quarter of each head rotated, parallel residuals,
/// exact GELU, biases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NeoxSizes {
    /// Rows of the embedding and of the output matrix.
    pub vocab_size: usize,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Number of layers.
    pub num_hidden_layers: usize,
    /// Attention heads in a layer.
    pub num_attention_heads: usize,
    /// Width of the MLP.
    pub intermediate_size: usize,
    /// Longest sequence in tokens.
    pub max_position_embeddings: usize,
    /// The output matrix is the embedding.
    pub tie_word_embeddings: bool,
}

impl NeoxSizes {
    /// The configuration of these sizes.
    ///
    /// # Errors
    /// When no model has them.
    pub fn config(self) -> Result<NeoxConfig, ConfigError> {
        NeoxConfig::check(Raw {
            vocab_size: self.vocab_size,
            hidden_size: self.hidden_size,
            num_hidden_layers: self.num_hidden_layers,
            num_attention_heads: self.num_attention_heads,
            intermediate_size: self.intermediate_size,
            max_position_embeddings: self.max_position_embeddings,
            rotary_pct: None,
            partial_rotary_factor: None,
            rotary_emb_base: None,
            rope_theta: None,
            rope_parameters: None,
            rope_scaling: None,
            use_parallel_residual: yes(),
            layer_norm_eps: default_eps(),
            hidden_act: default_act(),
            tie_word_embeddings: self.tie_word_embeddings,
            attention_bias: yes(),
        })
    }
}

/// What tells the family. Others name their sizes otherwise, so it is read before these.
#[derive(Deserialize)]
struct Family {
    #[serde(default)]
    model_type: Option<String>,
}

#[derive(Deserialize)]
struct Raw {
    vocab_size: usize,
    hidden_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    intermediate_size: usize,
    #[serde(default = "default_context")]
    max_position_embeddings: usize,
    rotary_pct: Option<f64>,
    partial_rotary_factor: Option<f64>,
    rotary_emb_base: Option<f64>,
    rope_theta: Option<f64>,
    rope_parameters: Option<Value>,
    rope_scaling: Option<Value>,
    #[serde(default = "yes")]
    use_parallel_residual: bool,
    #[serde(default = "default_eps")]
    layer_norm_eps: f64,
    #[serde(default = "default_act")]
    hidden_act: String,
    #[serde(default)]
    tie_word_embeddings: bool,
    #[serde(default = "yes")]
    attention_bias: bool,
}

fn yes() -> bool {
    true
}

fn default_context() -> usize {
    2048
}

fn default_eps() -> f64 {
    1e-5
}

fn default_act() -> String {
    "gelu".to_owned()
}

impl NeoxConfig {
    /// Reads `config.json`. What stands inside `rope_parameters` wins over `rotary_pct` and `rotary_emb_base`, as transformers resolves them.
    pub fn from_json(bytes: &[u8]) -> Result<Self, ConfigError> {
        let syntax = |e: serde_json::Error| ConfigError::Syntax {
            file: FILE,
            reason: e.to_string(),
        };
        let family: Family = serde_json::from_slice(bytes).map_err(syntax)?;
        if let Some(kind) = family.model_type.filter(|kind| kind != "gpt_neox") {
            return Err(ConfigError::Value {
                file: FILE,
                key: "model_type",
                reason: format!("is `{kind}`; only `gpt_neox` models can be used"),
            });
        }
        Self::check(serde_json::from_slice(bytes).map_err(syntax)?)
    }

    fn check(raw: Raw) -> Result<Self, ConfigError> {
        let value = |key, reason: String| ConfigError::Value {
            file: FILE,
            key,
            reason,
        };
        for (key, n, most) in [
            ("vocab_size", raw.vocab_size, LONGEST),
            ("hidden_size", raw.hidden_size, LONGEST),
            ("num_hidden_layers", raw.num_hidden_layers, MOST_LAYERS),
            ("num_attention_heads", raw.num_attention_heads, LONGEST),
            ("intermediate_size", raw.intermediate_size, LONGEST),
            ("max_position_embeddings", raw.max_position_embeddings, LONGEST_CONTEXT),
        ] {
            if n == 0 || n > most {
                return Err(value(key, format!("is {n}, which no model has")));
            }
        }
        if !raw.hidden_size.is_multiple_of(raw.num_attention_heads) {
            let reason = format!(
                "{} is not a multiple of num_attention_heads {}",
                raw.hidden_size, raw.num_attention_heads
            );
            return Err(value("hidden_size", reason));
        }
        let rope = raw.rope_parameters.as_ref().or(raw.rope_scaling.as_ref());
        let inside = |key: &str| rope.and_then(|r| r.get(key)).and_then(Value::as_f64);
        let rope_type = rope
            .and_then(|r| r.get("rope_type").or_else(|| r.get("type")))
            .and_then(Value::as_str);
        if let Some(kind) = rope_type.filter(|kind| *kind != "default") {
            return Err(value(
                "rope_parameters",
                format!("rotary scaling of type `{kind}` is not supported; only `default` is"),
            ));
        }
        let pct = inside("partial_rotary_factor")
            .or(raw.rotary_pct)
            .or(raw.partial_rotary_factor)
            .unwrap_or(0.25);
        let base = inside("rope_theta")
            .or(raw.rotary_emb_base)
            .or(raw.rope_theta)
            .unwrap_or(10_000.0);
        if !(pct > 0.0 && pct <= 1.0) {
            return Err(value(
                "rotary_pct",
                format!("is {pct}; it must be above 0 and at most 1"),
            ));
        }
        if !(base.is_finite() && base > 1.0) {
            return Err(value("rotary_emb_base", format!("is {base}; it must be above 1")));
        }
        let head_dim = raw.hidden_size / raw.num_attention_heads;
        let rotary_ndims = (head_dim as f64 * pct) as usize;
        // An odd number is rotated in ⌈n/2⌉ pairs, as transformers does.
        if rotary_ndims == 0 || rotary_ndims.next_multiple_of(2) > head_dim {
            let reason = format!(
                "{pct} of a head of {head_dim} rotates {rotary_ndims} dimensions, which is no number of pairs of them"
            );
            return Err(value("rotary_pct", reason));
        }
        let hidden_act = match raw.hidden_act.as_str() {
            "gelu" => Activation::Gelu,
            "gelu_new" | "gelu_fast" | "gelu_pytorch_tanh" => Activation::GeluTanh,
            "relu" => Activation::Relu,
            other => {
                return Err(value(
                    "hidden_act",
                    format!("`{other}` is not known; use gelu, gelu_new or relu"),
                ));
            }
        };
        if !(raw.layer_norm_eps > 0.0 && raw.layer_norm_eps < 1.0) {
            return Err(value(
                "layer_norm_eps",
                format!("is {}; it must lie between 0 and 1", raw.layer_norm_eps),
            ));
        }
        Ok(Self {
            vocab_size: raw.vocab_size,
            hidden_size: raw.hidden_size,
            num_hidden_layers: raw.num_hidden_layers,
            num_attention_heads: raw.num_attention_heads,
            intermediate_size: raw.intermediate_size,
            max_position_embeddings: raw.max_position_embeddings,
            rotary_ndims,
            rotary_base: base,
            use_parallel_residual: raw.use_parallel_residual,
            layer_norm_eps: raw.layer_norm_eps,
            hidden_act,
            tie_word_embeddings: raw.tie_word_embeddings,
            attention_bias: raw.attention_bias,
        })
    }

    /// `config.json` as transformers and [`Self::from_json`] read it, for weights that are stored as `dtype` (`float32`, `bfloat16`). Its text ends
    /// with a line break.
    pub fn to_json(&self, dtype: &str) -> String {
        let head = self.head_dim() as f64;
        let activation = match self.hidden_act {
            Activation::Gelu => "gelu",
            Activation::GeluTanh => "gelu_new",
            Activation::Relu => "relu",
        };
        // Whoever reads it rounds down.
        let exact = self.rotary_ndims as f64 / head;
        let rotary_pct = match (head * exact) as usize == self.rotary_ndims {
            true => exact,
            false => (self.rotary_ndims as f64 + 0.5) / head,
        };
        let value = serde_json::json!({
            "architectures": ["GPTNeoXForCausalLM"],
            "model_type": "gpt_neox",
            "vocab_size": self.vocab_size,
            "hidden_size": self.hidden_size,
            "num_hidden_layers": self.num_hidden_layers,
            "num_attention_heads": self.num_attention_heads,
            "intermediate_size": self.intermediate_size,
            "max_position_embeddings": self.max_position_embeddings,
            "rotary_pct": rotary_pct,
            "rotary_emb_base": self.rotary_base,
            "use_parallel_residual": self.use_parallel_residual,
            "layer_norm_eps": self.layer_norm_eps,
            "hidden_act": activation,
            "tie_word_embeddings": self.tie_word_embeddings,
            "attention_bias": self.attention_bias,
            "torch_dtype": dtype,
            "bos_token_id": 0,
            "eos_token_id": 0,
        });
        format!("{value:#}\n")
    }

    /// Dimensions of one attention head.
    pub fn head_dim(&self) -> usize {
        self.hidden_size / self.num_attention_heads
    }

    /// Pairs of dimensions that are rotated in each head: half of `rotary_ndims`, rounded up.
    pub fn rotary_pairs(&self) -> usize {
        self.rotary_ndims.div_ceil(2)
    }

    /// Every tensor of the state dict, by its Hugging Face name. With tied embeddings [`EMBED_OUT`] is not among them
    /// (a checkpoint may hold it all the same, equal to the embedding).
    pub fn expected_tensors(&self) -> Vec<ExpectedTensor> {
        let (h, m, v) = (self.hidden_size, self.intermediate_size, self.vocab_size);
        let mut out = vec![ExpectedTensor::new(EMBED_IN, &[v, h])];
        for layer in 0..self.num_hidden_layers {
            let name = |part: &str| format!("gpt_neox.layers.{layer}.{part}");
            for norm in ["input_layernorm", "post_attention_layernorm"] {
                out.push(ExpectedTensor::new(name(&format!("{norm}.weight")), &[h]));
                out.push(ExpectedTensor::new(name(&format!("{norm}.bias")), &[h]));
            }
            let linears = [
                ("attention.query_key_value", 3 * h, h, self.attention_bias),
                ("attention.dense", h, h, self.attention_bias),
                ("mlp.dense_h_to_4h", m, h, true),
                ("mlp.dense_4h_to_h", h, m, true),
            ];
            for (linear, rows, columns, bias) in linears {
                out.push(ExpectedTensor::new(name(&format!("{linear}.weight")), &[rows, columns]));
                if bias {
                    out.push(ExpectedTensor::new(name(&format!("{linear}.bias")), &[rows]));
                }
            }
        }
        out.push(ExpectedTensor::new("gpt_neox.final_layer_norm.weight", &[h]));
        out.push(ExpectedTensor::new("gpt_neox.final_layer_norm.bias", &[h]));
        if !self.tie_word_embeddings {
            out.push(ExpectedTensor::new(EMBED_OUT, &[v, h]));
        }
        out
    }

    /// Whether a tensor of an old state dict is a buffer that is computed anew and may be ignored.
    pub fn is_ignorable(name: &str) -> bool {
        [
            "attention.bias",
            "attention.masked_bias",
            "attention.rotary_emb.inv_freq",
            "rotary_emb.inv_freq",
        ]
        .iter()
        .any(|suffix| name.ends_with(suffix))
    }

    /// Number of parameters.
    pub fn parameters(&self) -> usize {
        self.expected_tensors()
            .iter()
            .map(|t| t.shape.iter().product::<usize>())
            .sum()
    }
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
