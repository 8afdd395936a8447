//! One pass over a batch: embedding, layers, head and loss, from weights cast once to the pass's kind.

use tch::{Kind, Reduction, TchError, Tensor};

use super::TrainableNeox;
use super::batch::Prepared;
use crate::model::neox::{Activation, EMBED_IN, EMBED_OUT};
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
        self.head(&self.output(batch)?, batch)
    }

    /// What leaves the last layer, `[labels, hidden]`.
    fn output(&self, batch: &Prepared) -> Result<Tensor, TrainError> {
        let mut x = self.embed(&batch.ids)?;
        for layer in 0..self.model.config.num_hidden_layers {
            x = self.layer(layer, &x, batch)?;
        }
        Ok(x)
    }

    /// `ids`: `[rows, length]` → the residual stream, `[rows, length, hidden]`, f32.
    pub(super) fn embed(&self, ids: &Tensor) -> Result<Tensor, TrainError> {
        let table = self.leaf(EMBED_IN)?;
        let mut x = Tensor::f_embedding(&table, ids, -1, false, false)?;
        if let Some((rows, from)) = self.rows_of(EMBED_IN) {
            let place = ids.f_sub_scalar(from)?;
            let new = Tensor::f_embedding(rows, &place.f_clamp_min(0)?, -1, false, false)?;
            x = new.f_where_self(&place.f_ge(0)?.f_unsqueeze(-1)?, &x)?;
        }
        Ok(x)
    }

    /// `x`: the residual stream, `[rows, length, hidden]` → the same after layer `layer`; after the last, only the positions that
    /// stand before a label, `[labels, hidden]`.
    pub(super) fn layer(&self, layer: usize, x: &Tensor, batch: &Prepared) -> Result<Tensor, TrainError> {
        let name = |part: &str| format!("gpt_neox.layers.{layer}.{part}");
        let mut seen = self.attention(&name("attention"), &self.norm(&name("input_layernorm"), x)?)?;
        let mut x = x.shallow_clone();
        if layer + 1 == self.model.config.num_hidden_layers {
            let wanted = |x: &Tensor| x.f_flatten(0, 1)?.f_index_select(0, &batch.from);
            (seen, x) = (wanted(&seen)?, wanted(&x)?);
        }
        let attended = self.linear(&name("attention.dense"), &seen, self.model.config.attention_bias)?;
        // Sums of f32 and bf16 are f32.
        let after = x.f_add(&attended)?;
        let before_mlp = if self.model.config.use_parallel_residual {
            &x
        } else {
            &after
        };
        let mlp = self.mlp(&name("mlp"), &self.norm(&name("post_attention_layernorm"), before_mlp)?)?;
        Ok(after.f_add(&mlp)?)
    }

    /// `x`: `[labels, hidden]`, f32 → the sum of the cross entropies.
    pub(super) fn head(&self, x: &Tensor, batch: &Prepared) -> Result<Tensor, TrainError> {
        cross_entropy(&self.logits(x)?, batch)
    }

    /// Without a graph: the sum of the cross entropies, and at how many labels theirs is the highest logit.
    pub(super) fn measure(&self, batch: &Prepared) -> Result<(f64, u64), TrainError> {
        tch::no_grad(|| {
            let logits = self.logits(&self.output(batch)?)?;
            let loss = cross_entropy(&logits, batch)?.f_double_value(&[])?;
            let hits = logits
                .f_argmax(-1, false)?
                .f_eq_tensor(&batch.targets)?
                .f_sum(Kind::Int64)?;
            Ok((loss, hits.f_int64_value(&[])? as u64))
        })
    }

    /// `x`: what leaves the last layer at the labelled positions, `[labels, hidden]` → f32 `[labels, vocab_size]`.
    fn logits(&self, x: &Tensor) -> Result<Tensor, TrainError> {
        let config = &self.model.config;
        let x = self.norm("gpt_neox.final_layer_norm", x)?;
        let name = if config.tie_word_embeddings {
            EMBED_IN
        } else {
            EMBED_OUT
        };
        let (matrix, none) = (self.cast(name)?, None::<&Tensor>);
        let logits = match self.rows_of(name) {
            None => x.f_linear(&matrix, none)?,
            Some((rows, from)) => {
                let old = x.f_linear(&matrix.f_narrow(0, 0, from)?, none)?;
                Tensor::f_cat(&[old, x.f_linear(&rows.f_to_kind(self.kind)?, none)?], -1)?
            }
        };
        Ok(logits.f_to_kind(Kind::Float)?)
    }

    /// What each position sees of those before it, `[rows, length, hidden]`.
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
        Ok(seen.f_transpose(1, 2)?.f_reshape([rows, length, hidden])?)
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

    /// The norm of the residual stream, computed in f32, in the pass's kind.
    fn norm(&self, name: &str, x: &Tensor) -> Result<Tensor, TrainError> {
        let (weight, bias) = (
            self.leaf(&format!("{name}.weight"))?,
            self.leaf(&format!("{name}.bias"))?,
        );
        let config = &self.model.config;
        let width = [config.hidden_size as i64];
        let normed = x.f_layer_norm(width, Some(weight), Some(bias), config.layer_norm_eps, true)?;
        Ok(normed.f_to_kind(self.kind)?)
    }

    fn linear(&self, name: &str, x: &Tensor, bias: bool) -> Result<Tensor, TrainError> {
        let weight = self.cast(&format!("{name}.weight"))?;
        let bias = bias.then(|| self.cast(&format!("{name}.bias"))).transpose()?;
        let y = x.f_linear(&weight, bias)?;
        let Some((a, b, scale)) = self.model.adapters.as_ref().and_then(|adapters| adapters.of(name)) else {
            return Ok(y);
        };
        // x·Aᵀ·Bᵀ from the left: the change of the matrix is never made.
        let none = None::<&Tensor>;
        let low = x.f_linear(&a.f_to_kind(self.kind)?, none)?;
        let change = low.f_linear(&b.f_to_kind(self.kind)?, none)?;
        Ok(y.f_add(&change.f_mul_scalar(scale)?)?)
    }

    /// The weight, with gradients unless adapters are trained in its place.
    fn leaf(&self, name: &str) -> Result<Tensor, TrainError> {
        let missing = || TrainError::Settings(format!("the model has no weight `{name}`"));
        let leaf = self.model.weights.leaf(name).ok_or_else(missing)?;
        Ok(match self.model.adapters {
            Some(_) => leaf.detach(),
            None => leaf.shallow_clone(),
        })
    }

    /// The last rows of an embedding matrix, where they are trained beside adapters, and the token of the first.
    fn rows_of(&self, name: &str) -> Option<(&'a Tensor, i64)> {
        self.model.adapters.as_ref()?.rows_of(name)
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

/// The sum of the cross entropies of f32 logits, `[labels, vocab_size]`, each times its weight.
fn cross_entropy(logits: &Tensor, batch: &Prepared) -> Result<Tensor, TrainError> {
    let of = |reduction| logits.f_cross_entropy_loss(&batch.targets, None::<&Tensor>, reduction, super::IGNORED, 0.0);
    Ok(match &batch.weights {
        None => of(Reduction::Sum)?,
        Some(weights) => of(Reduction::None)?.f_mul(weights)?.f_sum(Kind::Float)?,
    })
}
