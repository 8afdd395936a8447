//! KV memory: one preallocated arena for all sequences, addressed by token position.
//!
//! Who owns which positions is the engine's business ([`super::Span`]); here they are only read and written.

use std::ffi::c_void;
use std::sync::atomic::{AtomicU64, Ordering};

use memmap2::MmapMut;
use tch::{Device, Kind, Tensor};

use super::NeoxConfig;
use super::zeroed::zeroed;
use crate::model::kernels::{Cells, Kernels, KeyPanels, KeyPanelsMut};

/// How keys lie in memory. Values lie in rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum KeyOrder {
    /// One after the other, as libtorch reads them.
    Rows,
    /// In panels, as kernels of our own read bf16 fastest ([`KeyPanels`]).
    Panels,
}

/// Keys and values of every layer: `[heads, tokens, head_dim]` each.
pub struct KvMemory {
    layers: Vec<(Tensor, Tensor)>,
    /// Where they lie, for kernels of our own.
    addresses: Vec<(*mut c_void, *mut c_void)>,
    kind: Kind,
    order: KeyOrder,
    /// Positions, the spare one among them.
    tokens: usize,
    /// Positions of a head: whole panels, where keys lie in panels.
    room: usize,
    heads: usize,
    head_dim: usize,
    device: Device,
    /// No other memory of this process has the same.
    id: u64,
    /// What the tensors lie in on a CPU: behind them, so that it is dropped after them.
    _pages: Option<MmapMut>,
}

// SAFETY: the addresses point into the tensors (or the pages below them), which may be sent, and move with them.
unsafe impl Send for KvMemory {}

impl KvMemory {
    /// Room for `tokens` positions, and a spare one behind them ([`super::Neox::kv_memory`]). On a CPU positions that are never used take no memory
    /// ([`zeroed`]).
    ///
    /// # Panics
    /// If there is no room for it, or keys are to lie in panels that are not bf16 on a CPU, with an even number of dimensions.
    pub(super) fn new(config: &NeoxConfig, tokens: usize, kind: Kind, device: Device, order: KeyOrder) -> Self {
        static MADE: AtomicU64 = AtomicU64::new(0);
        let tokens = tokens + 1;
        let room = match order {
            KeyOrder::Rows => tokens,
            KeyOrder::Panels => {
                assert!((kind, device) == (Kind::BFloat16, Device::Cpu) && config.head_dim().is_multiple_of(2));
                tokens.next_multiple_of(KeyPanels::POSITIONS)
            }
        };
        let shape = [
            config.num_hidden_layers as i64,
            2,
            config.num_attention_heads as i64,
            room as i64,
            config.head_dim() as i64,
        ];
        let (all, pages) = zeroed(&shape, kind, device);
        let layers: Vec<_> = (0..shape[0])
            .map(|layer| (all.get(layer).get(0), all.get(layer).get(1)))
            .collect();
        Self {
            addresses: layers.iter().map(|(k, v)| (k.data_ptr(), v.data_ptr())).collect(),
            layers,
            kind,
            order,
            tokens,
            room,
            heads: config.num_attention_heads,
            head_dim: config.head_dim(),
            device,
            id: MADE.fetch_add(1, Ordering::Relaxed),
            _pages: pages,
        }
    }

    /// # Panics
    /// If it was not made for a network of this shape that computes in `kind` on `device`: kernels of our own would read and write beyond it.
    pub(super) fn assert_fits(&self, config: &NeoxConfig, kind: Kind, device: Device, order: KeyOrder) {
        let own = (
            self.layers.len(),
            self.heads,
            self.head_dim,
            self.kind,
            self.device,
            self.order,
        );
        let (layers, heads) = (config.num_hidden_layers, config.num_attention_heads);
        let wanted = (layers, heads, config.head_dim(), kind, device, order);
        assert!(
            own == wanted,
            "a KV memory of {own:?} (layers, heads, head_dim, kind, device, keys) is given to a network of {wanted:?}"
        );
    }

    /// A number of its own: an address may be another memory's later.
    pub(super) fn id(&self) -> u64 {
        self.id
    }

    /// Positions that sequences may have.
    pub(super) fn positions(&self) -> usize {
        self.tokens - 1
    }

    /// A position that belongs to no sequence: rows that a step has too many may write to it.
    pub(super) fn spare(&self) -> usize {
        self.tokens - 1
    }

    /// # Panics
    /// If keys do not lie in rows.
    fn assert_rows(&self) {
        assert!(self.order == KeyOrder::Rows, "libtorch is given keys in panels");
    }

    /// Where keys and values of a layer lie (`[heads, tokens, head_dim]` each, on this memory's device), and the positions a head has there.
    pub(super) fn place(&mut self, layer: usize) -> (*mut c_void, *mut c_void, usize) {
        let (keys, values) = self.addresses[layer];
        (keys, values, self.room)
    }

    /// Elements from the keys of a layer to those of the next; values likewise.
    pub(super) fn layer_stride(&self) -> usize {
        2 * self.layers.first().map_or(0, |(keys, _)| keys.numel())
    }

    /// Bytes one position takes in all layers.
    pub fn bytes_per_token(config: &NeoxConfig, kind: Kind) -> usize {
        2 * config.num_hidden_layers * config.hidden_size * kind.elt_size_in_bytes()
    }

    /// Writes `keys` and `values` (`[n, heads, head_dim]`) to `positions` (`[n]`, i64) of `layer`.
    pub(super) fn write(&mut self, layer: usize, positions: &Tensor, keys: &Tensor, values: &Tensor) {
        self.assert_rows();
        let (k, v) = &mut self.layers[layer];
        let _ = k.index_copy_(1, positions, &keys.transpose(0, 1));
        let _ = v.index_copy_(1, positions, &values.transpose(0, 1));
    }

    /// Copies `len` positions from one place to another in every layer. The two do not overlap.
    pub fn copy(&mut self, from: usize, to: usize, len: usize) {
        let copy = |tensor: &Tensor| {
            let cut = |start: usize| tensor.narrow(1, start as i64, len as i64);
            cut(to).copy_(&cut(from));
        };
        self.layers.iter().for_each(|(_, values)| copy(values));
        match self.order {
            KeyOrder::Rows => self.layers.iter().for_each(|(keys, _)| copy(keys)),
            KeyOrder::Panels => {
                let numbers = self.room * self.head_dim;
                for (keys, _) in &self.addresses {
                    // SAFETY: so many numbers of bf16 on the CPU, which are borrowed alone.
                    let keys = unsafe { std::slice::from_raw_parts_mut(keys.cast::<u16>(), self.heads * numbers) };
                    for head in keys.chunks_exact_mut(numbers) {
                        KeyPanelsMut::new(head, self.head_dim).copy(from, to, len);
                    }
                }
            }
        }
    }

    /// Views of `len` positions from `start`: keys and values, `[1, heads, len, head_dim]`, no copy. They must not outlive the memory.
    pub(super) fn view(&self, layer: usize, start: usize, len: usize) -> (Tensor, Tensor) {
        self.assert_rows();
        let (k, v) = &self.layers[layer];
        let cut = |t: &Tensor| t.narrow(1, start as i64, len as i64).unsqueeze(0);
        (cut(k), cut(v))
    }

    /// Copies of `rows × len` positions (`[rows·len]`, i64): keys and values, `[rows, heads, len, head_dim]`.
    pub(super) fn gather(&self, layer: usize, positions: &Tensor, rows: i64, len: i64) -> (Tensor, Tensor) {
        self.assert_rows();
        let (k, v) = &self.layers[layer];
        let pick = |t: &Tensor| {
            let (heads, dim) = (t.size()[0], t.size()[2]);
            t.index_select(1, positions)
                .view([heads, rows, len, dim])
                .transpose(0, 1)
        };
        (pick(k), pick(v))
    }

    /// For the threads of a team, which read and write different heads. Only for memory on a CPU, in f32 or bf16.
    pub(super) fn heads(&mut self) -> KvHeads<'_> {
        KvHeads { memory: self }
    }
}

/// The memory of a CPU head by head.
pub(super) struct KvHeads<'a> {
    memory: &'a mut KvMemory,
}

// SAFETY: through a shared reference only plain memory is touched, under the promises of `write` and `read`; never a tensor.
unsafe impl Sync for KvHeads<'_> {}

/// Keys of one head, from a sequence's first on.
pub(super) enum Keys<'a> {
    /// `[len, head_dim]`.
    Rows(Cells<'a>),
    /// In panels.
    Panels(KeyPanels<'a>),
}

impl KvHeads<'_> {
    /// Where `position` of `head` starts, in elements; `len` positions from there are inside a head.
    fn offset(&self, head: usize, position: usize, len: usize) -> usize {
        let memory = &*self.memory;
        assert!(position < memory.tokens && len <= memory.tokens - position);
        (head * memory.room + position) * memory.head_dim
    }

    /// Writes one position of one head. `rounded` is scratch of a head's width.
    ///
    /// # Safety
    /// `head` is one of the model's, and no other thread reads or writes it before the next barrier.
    pub(super) unsafe fn write(
        &self,
        kernels: &Kernels,
        (layer, head, position): (usize, usize, usize),
        [key, value]: [&[f32]; 2],
        rounded: &mut [u16],
    ) {
        let offset = self.offset(head, position, 1);
        let dim = self.memory.head_dim;
        assert!(key.len() == dim && value.len() == dim);
        let (keys, values) = self.memory.addresses[layer];
        let put = |to: *mut c_void, from: &[f32]| {
            // SAFETY: one position of a head, by the checks above; nobody else's, by the caller's promise.
            unsafe {
                if self.memory.kind == Kind::BFloat16 {
                    let to = to.cast::<u16>().add(offset);
                    kernels.round(from, std::slice::from_raw_parts_mut(to, dim));
                } else {
                    let to = to.cast::<f32>().add(offset);
                    to.copy_from_nonoverlapping(from.as_ptr(), dim);
                }
            }
        };
        put(values, value);
        match self.memory.order {
            KeyOrder::Rows => put(keys, key),
            KeyOrder::Panels => {
                kernels.round(key, rounded);
                let lane = position % KeyPanels::POSITIONS;
                // SAFETY: the panel of the position, which is inside the head as this has whole panels; nobody else's, by the caller's promise.
                let panel = unsafe {
                    let start = keys.cast::<u16>().add(offset - lane * dim);
                    std::slice::from_raw_parts_mut(start, KeyPanels::POSITIONS * dim)
                };
                KeyPanelsMut::new(panel, dim).write(lane, rounded);
            }
        }
    }

    /// Keys and values of `len` positions from `start` of one head; values are `[len, head_dim]`.
    ///
    /// # Safety
    /// `head` is one of the model's, and no thread writes to it while the cells are in use.
    pub(super) unsafe fn read(&self, layer: usize, head: usize, start: usize, len: usize) -> (Keys<'_>, Cells<'_>) {
        let offset = self.offset(head, start, len);
        let (dim, room) = (self.memory.head_dim, self.memory.room);
        let (keys, values) = self.memory.addresses[layer];
        // SAFETY: inside the head by the check in `offset`; not written, by the caller's promise.
        unsafe {
            let rows = |from: *mut c_void| match self.memory.kind {
                Kind::BFloat16 => Cells::Bf16(std::slice::from_raw_parts(from.cast::<u16>().add(offset), len * dim)),
                _ => Cells::F32(std::slice::from_raw_parts(from.cast::<f32>().add(offset), len * dim)),
            };
            let keys = match self.memory.order {
                KeyOrder::Rows => Keys::Rows(rows(keys)),
                KeyOrder::Panels => {
                    let whole = std::slice::from_raw_parts(keys.cast::<u16>().add(head * room * dim), room * dim);
                    Keys::Panels(KeyPanels::new(whole, dim, start))
                }
            };
            (keys, rows(values))
        }
    }
}
