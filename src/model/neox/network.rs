//! The network: embedding, layers, final norm, output matrix; one pass over the segments of a step.

use tch::{Device, Kind, Tensor};

use super::NeoxConfig;
use super::attention::AttentionPlan;
use super::buffer::Form;
use super::config::{Activation, EMBED_IN};
use super::kv::{KeyOrder, KvMemory};
use super::projection::{Projection, RowOrder};
use super::replay::{Recorded, Replays};
use super::rotary::RotaryTable;
use super::rows::{FEW, RowPath};
use super::step::{Segment, wanted};
use crate::model::checkpoint::{Dtype, Weights};
use crate::model::cuda::attention_of_any_length;
use crate::model::device::WeightsChoice;
use crate::model::kernels::{Format, Kernels};
use crate::model::source::{Linear, LoadError, TensorSource};

/// How the output matrix is held where the others are in 8 or 4 bits: it is read once where these follow each other.
pub(in crate::model) const OUTPUT_FORMAT: Format = Format::Int8;

/// On a GPU an output matrix that is not the embedding, too, has a multiple of so many rows.
const OUTPUT_ROWS: usize = 8;

/// A GPT-NeoX with its weights on a device, for inference.
pub struct Neox {
    config: NeoxConfig,
    kind: Kind,
    device: Device,
    pub(super) embed_in: Tensor,
    pub(super) layers: Vec<Layer>,
    pub(super) final_norm: Norm,
    pub(super) embed_out: Projection,
    pub(super) rotary: RotaryTable,
    /// The way of few rows, on a CPU. It holds the same weights.
    rows: Option<RowPath>,
    /// The way of few rows, on a GPU.
    replays: Option<Replays>,
}

pub(super) struct Layer {
    pub(super) input_norm: Norm,
    pub(super) post_attention_norm: Norm,
    pub(super) qkv: Projection,
    pub(super) dense: Projection,
    pub(super) up: Projection,
    pub(super) down: Projection,
}

pub(super) struct Norm {
    pub(super) weight: Tensor,
    pub(super) bias: Tensor,
    eps: f64,
}

impl Norm {
    fn load(
        source: &dyn TensorSource,
        prefix: &str,
        config: &NeoxConfig,
        to: (Kind, Device),
    ) -> Result<Self, LoadError> {
        let part = |name: &str| source.tensor(&format!("{prefix}.{name}"), &[config.hidden_size], to.0, to.1);
        Ok(Self {
            weight: part("weight")?,
            bias: part("bias")?,
            eps: config.layer_norm_eps,
        })
    }

    fn forward(&self, x: &Tensor) -> Tensor {
        x.layer_norm(self.weight.size(), Some(&self.weight), Some(&self.bias), self.eps, true)
    }
}

impl Layer {
    fn load(
        source: &dyn TensorSource,
        index: usize,
        config: &NeoxConfig,
        held: Option<Format>,
        to: (Kind, Device),
    ) -> Result<Self, LoadError> {
        let (h, m, bias) = (config.hidden_size, config.intermediate_size, config.attention_bias);
        let name = |part: &str| format!("gpt_neox.layers.{index}.{part}");
        let by_head = RowOrder::ByHead {
            heads: config.num_attention_heads,
            dim: config.head_dim(),
        };
        let load = |part: &str, shape, bias, order| Projection::load(source, &name(part), shape, bias, order, held, to);
        Ok(Self {
            input_norm: Norm::load(source, &name("input_layernorm"), config, to)?,
            post_attention_norm: Norm::load(source, &name("post_attention_layernorm"), config, to)?,
            qkv: load("attention.query_key_value", [3 * h, h], bias, by_head)?,
            dense: load("attention.dense", [h, h], bias, RowOrder::Own)?,
            up: load("mlp.dense_h_to_4h", [m, h], true, RowOrder::Own)?,
            down: load("mlp.dense_4h_to_h", [h, m], true, RowOrder::Own)?,
        })
    }
}

impl Neox {
    /// Loads every tensor from `source`, one at a time, as `kind` (float or bfloat16) on `device`.
    ///
    /// # Errors
    /// When the source cannot give a tensor.
    pub fn load(config: &NeoxConfig, source: &dyn TensorSource, kind: Kind, device: Device) -> Result<Self, LoadError> {
        Self::load_as(config, source, WeightsChoice::Native, kind, device)
    }

    /// [`Self::load`] with the matrices held as `weights` says. The embedding, of which a step reads a row per token, stays as it is; so do
    /// norms and biases. The output matrix is in 8 bits under 4 bits too.
    ///
    /// # Errors
    /// When the source cannot give a tensor, or for quantised weights on another device than a CPU.
    pub fn load_as(
        config: &NeoxConfig,
        source: &dyn TensorSource,
        weights: WeightsChoice,
        kind: Kind,
        device: Device,
    ) -> Result<Self, LoadError> {
        let held = weights.on(device, source.stored_format()).format();
        if held.is_some() && device != Device::Cpu {
            let reason = "weights in 8 or 4 bits are for the CPU; use --weights native on a GPU, or --device cpu";
            return Err(LoadError::Source(reason.to_owned()));
        }
        if device.is_cuda()
            && let Err(reason) = attention_of_any_length()
        {
            tracing::warn!(%reason, "prompts of lengths that were not there before may take a second longer");
        }
        let to = (kind, device);
        let (v, h) = (config.vocab_size, config.hidden_size);
        let embed_in = source.tensor(EMBED_IN, &[v, h], kind, device)?;
        // Before the layers: while it is quantised it takes more memory than it will.
        let last = held.map(|_| OUTPUT_FORMAT);
        let tied = || Linear {
            weight: embed_in.shallow_clone(),
            bias: None,
        };
        let embed_out = match (config.tie_word_embeddings, held) {
            // Packed, it would be there twice.
            (true, None) => Projection::Native(tied()),
            (true, Some(_)) => Projection::new(tied(), last, kind),
            (false, _) => {
                let own = Projection::load(source, "embed_out", [v, h], false, RowOrder::Own, last, to)?;
                if device.is_cuda() { own.padded(OUTPUT_ROWS) } else { own }
            }
        };
        let layers = (0..config.num_hidden_layers)
            .map(|index| Layer::load(source, index, config, held, to))
            .collect::<Result<Vec<_>, _>>()?;
        let final_norm = Norm::load(source, "gpt_neox.final_layer_norm", config, to)?;
        let rotary = RotaryTable::new(config, device);
        let mut model = Self {
            config: config.clone(),
            kind,
            device,
            embed_in,
            layers,
            final_norm,
            embed_out,
            rotary,
            rows: None,
            replays: None,
        };
        model.replays = Replays::new(device, || model.fused());
        let form = Form::of(kind, held.is_some());
        model.rows = model.row_weights().map(|weights| {
            let threads = tch::get_num_threads().max(1) as usize;
            let longest = if weights.are_in_panels() && Kernels::best().takes_prompts() {
                usize::MAX
            } else {
                FEW
            };
            RowPath::new(config, weights, threads, form, longest)
        });
        Ok(model)
    }

    /// What a checkpoint's matrices are stored in, by its embedding; f32 where it has none.
    pub fn stored(weights: &Weights) -> Dtype {
        weights.info(EMBED_IN).map_or(Dtype::F32, |info| info.dtype)
    }

    /// How the matrices of the layers are held.
    pub fn held(&self) -> WeightsChoice {
        match self.layers.first().and_then(|layer| layer.qkv.format()) {
            None => WeightsChoice::Native,
            Some(Format::Int8) => WeightsChoice::Int8,
            Some(Format::Int4) => WeightsChoice::Int4,
        }
    }

    /// Numbers of rows, of which a step is the first of its kind and takes longer: those that are recorded on a GPU.
    pub fn step_sizes(&self) -> Vec<usize> {
        match self.replays {
            Some(_) => Replays::sizes().collect(),
            None => vec![1],
        }
    }

    /// Whether the numbers of a token are the same bits wherever its prompt is cut into segments.
    pub fn cuts_freely(&self) -> bool {
        self.rows.as_ref().is_some_and(|rows| rows.longest() == usize::MAX)
    }

    /// Tokens of a prompt that hold up a step of eight other rows by about its own time, or not much more.
    pub fn prompt_rows(&self) -> usize {
        let kernels = Kernels::best();
        // Reading these hides much arithmetic, where that is fast.
        let reads_fast = |qkv: &Projection| match qkv.format() {
            None => kernels.rounds_inputs(),
            Some(_) => kernels.multiplies_bytes(),
        };
        match self.layers.first().map(|layer| &layer.qkv) {
            Some(qkv) if self.cuts_freely() && reads_fast(qkv) => 24,
            _ if self.cuts_freely() => 16,
            Some(Projection::Panels(_)) if self.kind == Kind::BFloat16 && Kernels::tiles() => 128,
            _ => 256,
        }
    }

    /// Bytes of weights that one decode step reads: all but the embedding.
    pub fn step_bytes(&self) -> usize {
        let norm = |norm: &Norm| 2 * norm.weight.numel() * self.kind.elt_size_in_bytes();
        let layer = |layer: &Layer| {
            let matrices = [&layer.qkv, &layer.dense, &layer.up, &layer.down];
            let norms = norm(&layer.input_norm) + norm(&layer.post_attention_norm);
            matrices.iter().map(|matrix| matrix.bytes()).sum::<usize>() + norms
        };
        self.layers.iter().map(layer).sum::<usize>() + norm(&self.final_norm) + self.embed_out.bytes()
    }

    /// What has been recorded of its steps on a GPU; `None` elsewhere.
    pub fn recorded(&self) -> Option<Recorded> {
        self.replays.as_ref().map(Replays::recorded)
    }

    /// The configuration it was loaded with.
    pub fn config(&self) -> &NeoxConfig {
        &self.config
    }

    /// The type it computes in.
    pub(super) fn kind(&self) -> Kind {
        self.kind
    }

    /// Where its weights are.
    pub(super) fn device(&self) -> Device {
        self.device
    }

    fn key_order(&self) -> KeyOrder {
        let rows = self.rows.as_ref();
        rows.map_or(KeyOrder::Rows, |rows| rows.key_order(self.kind))
    }

    /// KV memory of `tokens` positions that fits this network.
    pub fn kv_memory(&self, tokens: usize) -> KvMemory {
        KvMemory::new(&self.config, tokens, self.kind, self.device, self.key_order())
    }

    /// Runs the segments in one pass: their keys and values are written to `kv`, and the logits (f32, `[wanted, vocab_size]`) after those
    /// tokens that they are wanted of come back, in order; `None` if of none.
    ///
    /// On a CPU a segment's numbers depend on itself alone, bit for bit, not on the others of the step: segments of few tokens go
    /// through kernels that promise it (of any length, where weights lie in panels and libtorch is no faster), and each longer one makes
    /// a pass of its own (whose products are large enough to gain nothing from company).
    ///
    /// # Panics
    /// If `kv` was made for a network of another shape, kind or device, or a segment wants logits after more tokens than it has.
    pub fn step(&self, kv: &mut KvMemory, segments: &[Segment<'_>]) -> Option<Tensor> {
        kv.assert_fits(&self.config, self.kind, self.device, self.key_order());
        assert!(segments.iter().all(|segment| segment.logits <= segment.tokens.len()));
        let Some(rows) = &self.rows else {
            return match &self.replays {
                Some(replays) => self.step_recorded(replays, kv, segments),
                None => self.pass(kv, segments),
            };
        };
        let long = |segment: &Segment<'_>| segment.tokens.len() > rows.longest();
        if let [one] = segments
            && long(one)
        {
            return self.pass(kv, segments);
        }
        let wanted = segments.iter().map(|segment| segment.logits).sum::<usize>();
        let shape = [wanted as i64, self.config.vocab_size as i64];
        let logits = Tensor::zeros(shape, (Kind::Float, Device::Cpu));
        let numbers = logits.numel();
        let memory = match numbers {
            0 => &mut [][..],
            // SAFETY: a contiguous tensor of so many f32 that was made here and that nobody else holds or touches while the slice lives.
            _ => unsafe { std::slice::from_raw_parts_mut(logits.data_ptr().cast::<f32>(), numbers) },
        };
        rows.step(kv, segments, memory);
        let mut output = 0;
        for segment in segments {
            if long(segment)
                && let Some(rows) = self.pass(kv, std::slice::from_ref(segment))
            {
                logits.narrow(0, output, segment.logits as i64).copy_(&rows);
            }
            output += segment.logits as i64;
        }
        (wanted > 0).then_some(logits)
    }

    /// All segments in one pass of libtorch.
    pub(super) fn pass(&self, kv: &mut KvMemory, segments: &[Segment<'_>]) -> Option<Tensor> {
        let wanted = wanted(segments);
        let x = self.hidden_of(kv, segments, Some(&Tensor::from_slice(&wanted).to_device(self.device)));
        (!wanted.is_empty()).then(|| self.logits(&x))
    }

    /// What the output matrix reads after each token, by libtorch: `[tokens, hidden_size]`.
    pub(super) fn normed(&self, kv: &mut KvMemory, segments: &[Segment<'_>]) -> Tensor {
        self.final_norm.forward(&self.hidden_of(kv, segments, None))
    }

    /// What the layers make of the segments' tokens, `[tokens, hidden_size]`, or only of those in the rows `wanted` (i64, `[n]`).
    fn hidden_of(&self, kv: &mut KvMemory, segments: &[Segment<'_>], wanted: Option<&Tensor>) -> Tensor {
        let index = |values: Vec<i64>| Tensor::from_slice(&values).to_device(self.device);
        let (mut ids, mut positions, mut places) = (Vec::new(), Vec::new(), Vec::new());
        for segment in segments {
            for (i, &token) in segment.tokens.iter().enumerate() {
                ids.push(i64::from(token));
                positions.push((segment.position + i) as i64);
                places.push((segment.span.start + segment.position + i) as i64);
            }
        }
        let attention = AttentionPlan::new(segments, self.kind, self.device);
        self.hidden(kv, [&index(ids), &index(positions), &index(places)], &attention, wanted)
    }

    /// One pass over rows that are each a token: `input` is `[3, rows]`, i64, on the device: the tokens, where their sequences begin in the KV memory, and their
    /// positions there, which are below `keys`. Gives the logits of every row, f32, `[rows, vocab_size]`.
    ///
    /// Which kernels run depends on `rows` and `keys` alone and nothing is read back, so that the pass can be recorded.
    pub(super) fn pass_rows(&self, kv: &mut KvMemory, input: &Tensor, keys: i64) -> Tensor {
        let (ids, starts, positions) = (input.get(0), input.get(1), input.get(2));
        let attention = AttentionPlan::of_rows(&starts, &positions, keys, self.kind);
        let x = self.hidden(kv, [&ids, &positions, &(&starts + &positions)], &attention, None);
        self.logits(&x)
    }

    /// What the layers make of tokens: ids, their positions in their sequences and their places in the KV memory are i64, `[n]`; `[n, hidden_size]`, or
    /// `[wanted, hidden_size]` where not all are wanted. All leave their keys and values.
    fn hidden(
        &self,
        kv: &mut KvMemory,
        [ids, positions, places]: [&Tensor; 3],
        attention: &AttentionPlan,
        wanted: Option<&Tensor>,
    ) -> Tensor {
        let (count, heads, dim) = (
            ids.size()[0],
            self.config.num_attention_heads as i64,
            self.config.head_dim() as i64,
        );
        let rotary = self.rotary.rows(positions);
        let mut x = self.embed_in.index_select(0, ids);
        for (number, layer) in self.layers.iter().enumerate() {
            let qkv = layer
                .qkv
                .forward(&layer.input_norm.forward(&x))
                .view([count, 3, heads, dim]);
            let turned = rotary.rotate(&qkv.narrow(1, 0, 2));
            let (q, k, v) = (turned.select(1, 0), turned.select(1, 1), qkv.select(1, 2));
            kv.write(number, places, &k, &v);
            // Nobody reads the others of the last layer.
            let wanted = wanted.filter(|_| number + 1 == self.layers.len());
            if wanted.is_some_and(|wanted| wanted.numel() == 0) {
                return x.narrow(0, 0, 0);
            }
            let mut attended = attention.run(&q, kv, number);
            if let Some(wanted) = wanted {
                (x, attended) = (x.index_select(0, wanted), attended.index_select(0, wanted));
            }
            let attended = layer.dense.forward(&attended);
            if self.config.use_parallel_residual {
                let mlp = self.mlp(layer, &layer.post_attention_norm.forward(&x));
                x = mlp + attended + x;
            } else {
                x = attended + x;
                x = self.mlp(layer, &layer.post_attention_norm.forward(&x)) + x;
            }
        }
        x
    }

    /// `x`: `[n, hidden_size]` → logits, f32, `[n, vocab_size]`.
    fn logits(&self, x: &Tensor) -> Tensor {
        let logits = self.embed_out.forward(&self.final_norm.forward(x));
        logits.narrow(1, 0, self.config.vocab_size as i64).to_kind(Kind::Float)
    }

    fn mlp(&self, layer: &Layer, x: &Tensor) -> Tensor {
        let wide = layer.up.forward(x);
        let active = match self.config.hidden_act {
            Activation::Gelu => wide.gelu("none"),
            Activation::GeluTanh => wide.gelu("tanh"),
            Activation::Relu => wide.relu(),
        };
        layer.down.forward(&active)
    }
}

#[cfg(test)]
#[path = "network_tests.rs"]
mod tests;
