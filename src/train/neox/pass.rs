//! One pass over a batch: embedding, layers, head and loss, from weights cast once to the pass's kind.

use tch::{Kind, Reduction, TchError, Tensor};

use super::TrainableNeox;
use super::batch::Prepared;
use crate::model::neox::Activation;
use crate::train::common::TrainError;

/// Up to this length attention in bfloat16 on a CPU goes through plain products, which train twice as fast there as libtorch's fused
/// attention (measured from 144 to 512 tokens); beyond it the scores would take too much memory.
const PLAIN_ATTENTION: i64 = 1024;
/// Queries of a block of plain attention, about.
const BLOCK: i64 = 128;

/// Whether a weight of this name belongs to this layer.
pub(super) fn is_of_layer(name: &str, layer: usize) -> bool {
    name.strip_prefix("gpt_neox.layers.")
        .and_then(|rest| rest.split_once('.'))
        .is_some_and(|(number, _)| number == layer.to_string())
}

/// What all layers of a pass share.
pub(super) struct Pass<'a> {
    model: &'a TrainableNeox,
    kind: Kind,
    /// `[1, length, 1, rotary_pairs]`, in the pass's kind.
    cos: Tensor,
    sin: Tensor,
    /// Added to the scores, `[1, length, length]`: −∞ for what is not yet seen. `None` if attention is libtorch's.
    mask: Option<Tensor>,
}

impl<'a> Pass<'a> {
    pub(super) fn new(model: &'a TrainableNeox, kind: Kind, length: usize) -> Result<Self, TrainError> {
        if !matches!(kind, Kind::Float | Kind::BFloat16) {
            return Err(TrainError::Settings(format!(
                "training computes in f32 or bf16, not in {kind:?}"
            )));
        }
        let length = length as i64;
        let (cos, sin) = model.rotary.tables();
        let rows = |table: &Tensor| {
            let rows = table.f_narrow(0, 0, length)?;
            rows.f_to_kind(kind)?.f_view([1, length, 1, -1])
        };
        let plain = kind == Kind::BFloat16 && !model.device.is_cuda() && length <= PLAIN_ATTENTION;
        let mask = || Tensor::f_full([1, length, length], f64::NEG_INFINITY, (kind, model.device))?.f_triu(1);
        Ok(Self {
            model,
            kind,
            cos: rows(cos)?,
            sin: rows(sin)?,
            mask: plain.then(mask).transpose()?,
        })
    }

    /// The sum of the cross entropies, with its graph.
    pub(super) fn loss(&self, batch: &Prepared) -> Result<Tensor, TrainError> {
        let mut x = self.embed(&batch.ids)?;
        for layer in 0..self.model.config.num_hidden_layers {
            x = self.layer(layer, &x)?;
        }
        self.head(&x, batch)
    }

    /// `ids`: `[rows, length]` → `[rows, length, hidden]`.
    pub(super) fn embed(&self, ids: &Tensor) -> Result<Tensor, TrainError> {
        let table = self.leaf("gpt_neox.embed_in.weight")?;
        Ok(Tensor::f_embedding(table, ids, -1, false, false)?.f_to_kind(self.kind)?)
    }

    /// `x`: `[rows, length, hidden]` → the same after layer `layer`.
    pub(super) fn layer(&self, layer: usize, x: &Tensor) -> Result<Tensor, TrainError> {
        let name = |part: &str| format!("gpt_neox.layers.{layer}.{part}");
        let attended = self.attention(&name("attention"), &self.norm(&name("input_layernorm"), x)?)?;
        let mlp = |x: &Tensor| self.mlp(&name("mlp"), &self.norm(&name("post_attention_layernorm"), x)?);
        if self.model.config.use_parallel_residual {
            Ok(mlp(x)?.f_add(&attended)?.f_add(x)?)
        } else {
            let x = attended.f_add(x)?;
            Ok(mlp(&x)?.f_add(&x)?)
        }
    }

    /// `x`: `[rows, length, hidden]` → the sum of the cross entropies at the positions that have labels.
    pub(super) fn head(&self, x: &Tensor, batch: &Prepared) -> Result<Tensor, TrainError> {
        let config = &self.model.config;
        let x = x.f_reshape([-1, config.hidden_size as i64])?;
        let x = self.norm("gpt_neox.final_layer_norm", &x.f_index_select(0, &batch.from)?)?;
        let matrix = if config.tie_word_embeddings {
            "gpt_neox.embed_in.weight"
        } else {
            "embed_out.weight"
        };
        let logits = x
            .f_linear(&self.cast(matrix)?, None::<&Tensor>)?
            .f_to_kind(Kind::Float)?;
        Ok(logits.f_cross_entropy_loss(&batch.targets, None::<&Tensor>, Reduction::Sum, super::IGNORED, 0.0)?)
    }

    fn attention(&self, name: &str, x: &Tensor) -> Result<Tensor, TrainError> {
        let config = &self.model.config;
        let (rows, length, hidden) = x.size3()?;
        let (heads, dim) = (config.num_attention_heads as i64, config.head_dim() as i64);
        let qkv = self.linear(&format!("{name}.query_key_value"), x, config.attention_bias)?;
        let qkv = qkv.f_view([rows, length, heads, 3, dim])?.f_unbind(3)?;
        let [q, k, v] = qkv.as_slice() else {
            return Err(TrainError::Torch("QKV has no three parts".to_owned()));
        };
        let turned = |x: &Tensor| x.f_transpose(1, 2);
        let (q, k, v) = (turned(&self.rotate(q)?)?, turned(&self.rotate(k)?)?, turned(v)?);
        let seen = match &self.mask {
            Some(mask) => plain_attention(&q, &k, &v, mask)?,
            None => Tensor::f_scaled_dot_product_attention(&q, &k, &v, None::<&Tensor>, 0.0, true, None, false)?,
        };
        let seen = seen.f_transpose(1, 2)?.f_reshape([rows, length, hidden])?;
        self.linear(&format!("{name}.dense"), &seen, config.attention_bias)
    }

    /// Rotates the first dimensions of each head in halves: `[rows, length, heads, head_dim]`.
    fn rotate(&self, x: &Tensor) -> Result<Tensor, TchError> {
        let dim = self.model.config.head_dim() as i64;
        let half = self.model.config.rotary_pairs() as i64;
        let parts = x.f_split_with_sizes([half, half, dim - 2 * half], -1)?;
        let [first, second, rest] = parts.as_slice() else {
            return Err(TchError::Kind("a head has no three parts".to_owned()));
        };
        let a = first.f_mul(&self.cos)?.f_sub(&second.f_mul(&self.sin)?)?;
        let b = second.f_mul(&self.cos)?.f_add(&first.f_mul(&self.sin)?)?;
        Tensor::f_cat(&[&a, &b, rest], -1)
    }

    fn mlp(&self, name: &str, x: &Tensor) -> Result<Tensor, TrainError> {
        let wide = self.linear(&format!("{name}.dense_h_to_4h"), x, true)?;
        let active = match self.model.config.hidden_act {
            Activation::Gelu => wide.f_gelu("none")?,
            Activation::GeluTanh => wide.f_gelu("tanh")?,
            Activation::Relu => wide.f_relu()?,
        };
        self.linear(&format!("{name}.dense_4h_to_h"), &active, true)
    }

    fn norm(&self, name: &str, x: &Tensor) -> Result<Tensor, TrainError> {
        let (weight, bias) = (
            self.cast(&format!("{name}.weight"))?,
            self.cast(&format!("{name}.bias"))?,
        );
        let config = &self.model.config;
        let width = [config.hidden_size as i64];
        Ok(x.f_layer_norm(width, Some(weight), Some(bias), config.layer_norm_eps, true)?)
    }

    fn linear(&self, name: &str, x: &Tensor, bias: bool) -> Result<Tensor, TrainError> {
        let weight = self.cast(&format!("{name}.weight"))?;
        let bias = bias.then(|| self.cast(&format!("{name}.bias"))).transpose()?;
        Ok(x.f_linear(&weight, bias)?)
    }

    fn leaf(&self, name: &str) -> Result<&'a Tensor, TrainError> {
        let missing = || TrainError::Settings(format!("the model has no weight `{name}`"));
        self.model.weights.leaf(name).ok_or_else(missing)
    }

    /// The weight in the pass's kind; gradients flow through the cast.
    fn cast(&self, name: &str) -> Result<Tensor, TrainError> {
        Ok(self.leaf(name)?.f_to_kind(self.kind)?)
    }
}

/// softmax(q·kᵀ/√d + mask)·v by batched products; `q`, `k`, `v`: `[rows, heads, length, head_dim]`. Queries go in blocks, each over the
/// keys up to its end, so that about half of what the mask hides is never computed.
fn plain_attention(q: &Tensor, k: &Tensor, v: &Tensor, mask: &Tensor) -> Result<Tensor, TchError> {
    let (rows, heads, length, dim) = q.size4()?;
    let flat = |x: &Tensor| x.f_reshape([rows * heads, length, dim]);
    let (q, k, v) = (flat(q)?, flat(k)?, flat(v)?);
    let scale = (dim as f64).sqrt().recip();
    let blocks = ((length + BLOCK / 2) / BLOCK).max(1);
    let mut seen = Vec::new();
    let mut start = 0;
    for q in q.f_split((length + blocks - 1) / blocks, 1)? {
        let size = q.size()[1];
        let end = start + size;
        let (k, v) = (k.f_narrow(1, 0, end)?, v.f_narrow(1, 0, end)?);
        let mask = mask.f_narrow(1, start, size)?.f_narrow(2, 0, end)?;
        let scores = mask.f_baddbmm(&q, &k.f_transpose(1, 2)?, 1.0, scale)?;
        seen.push(scores.f_softmax(-1, scores.kind())?.f_bmm(&v)?);
        start = end;
    }
    Tensor::f_cat(&seen, 1)?.f_view([rows, heads, length, dim])
}
