//! Queries of one head over keys that lie in panels: sixteen positions side by side, one pair of dimensions after the other.
//!
//! Scores of sixteen positions grow in the lanes of a vector, as the outputs of a product with packed weights do, and it is that product which
//! computes them: no sum is gathered from lanes. A panel begins at every sixteenth position of the memory, whoever has it, so the first and the last
//! panel of a sequence may hold positions of others; what these give is never read. Values lie row after row.

use super::attend::{self, exponentials};
use super::cells::Inputs;
use super::grouped::PANEL;
use super::lanes::Lanes;
use super::packed::{self, INPUTS, Line, Packing, Pair};
use super::sets::Kernels;

/// The keys of one head in a memory of many positions, in panels.
#[derive(Clone, Copy)]
pub struct KeyPanels<'a> {
    lines: &'a [Line],
    dim: usize,
    /// The first position.
    start: usize,
}

/// Room for keys that are written one by one.
pub struct KeyPanelsMut<'a> {
    lines: &'a mut [Line],
    dim: usize,
}

/// Lines in `cells`, which are whole panels and begin a line of memory.
fn lines(cells: &[u16], dim: usize) -> usize {
    assert!(dim > 0 && dim.is_multiple_of(2) && cells.len().is_multiple_of(dim * PANEL));
    assert!(cells.as_ptr().cast::<Line>().is_aligned());
    cells.len() / (2 * PANEL)
}

impl<'a> KeyPanels<'a> {
    /// Positions of a panel.
    pub const POSITIONS: usize = PANEL;

    /// The keys from position `start` on in `cells`, which are whole panels.
    ///
    /// # Panics
    /// If they are not, or do not begin a line of memory (64 bytes), or `dim` is odd.
    pub fn new(cells: &'a [u16], dim: usize, start: usize) -> Self {
        let len = lines(cells, dim);
        Self {
            // SAFETY: a line is so many u16, aligned; any bits are a line.
            lines: unsafe { std::slice::from_raw_parts(cells.as_ptr().cast(), len) },
            dim,
            start,
        }
    }
}

impl<'a> KeyPanelsMut<'a> {
    /// As [`KeyPanels::new`], from the first position on.
    ///
    /// # Panics
    /// As there.
    pub fn new(cells: &'a mut [u16], dim: usize) -> Self {
        let len = lines(cells, dim);
        Self {
            // SAFETY: as there; borrowed alone.
            lines: unsafe { std::slice::from_raw_parts_mut(cells.as_mut_ptr().cast(), len) },
            dim,
        }
    }

    /// Writes the bits of a key.
    ///
    /// # Panics
    /// If `position` is not inside, or the key has another length.
    pub fn write(&mut self, position: usize, key: &[u16]) {
        assert!(key.len() == self.dim);
        let (first, lane) = (position / PANEL * (self.dim / 2), position % PANEL);
        // Two by two: of a length known late, each copy would be a call.
        let lines = &mut self.lines[first..][..self.dim / 2];
        for (line, pair) in lines.iter_mut().zip(key.as_chunks::<2>().0) {
            line.0.as_chunks_mut::<2>().0[lane] = *pair;
        }
    }

    /// Copies `len` keys from one place to another. The two do not overlap.
    ///
    /// # Panics
    /// If a place is not inside.
    pub fn copy(&mut self, from: usize, to: usize, len: usize) {
        let pairs = self.dim / 2;
        for (from, to) in (from..from + len).zip(to..to + len) {
            let (first, second) = (from / PANEL * pairs, to / PANEL * pairs);
            for pair in 0..pairs {
                let key = self.lines[first + pair].0.as_chunks::<2>().0[from % PANEL];
                self.lines[second + pair].0.as_chunks_mut::<2>().0[to % PANEL] = key;
            }
        }
    }
}

/// What queries work on.
pub(super) struct Job<X> {
    /// The queries, scaled; each is good for `2 · pairs`.
    queries: *const X,
    /// From one to the next, in elements.
    stride: usize,
    /// Positions that each attends to, at least one.
    lens: *const usize,
    /// Queries, at most [`MOST_QUERIES`].
    count: usize,
    /// The panel of the first position.
    keys: *const Line,
    /// Positions of that panel before the first.
    lead: usize,
    /// Pairs of dimensions.
    pairs: usize,
    /// Values: `[longest, dim]`.
    values: *const u16,
    /// Dimensions of the head.
    dim: usize,
    /// Scratch, `[count, room]`.
    scores: *mut f32,
    /// Positions of whole panels that hold all.
    room: usize,
    /// `[count, dim]`.
    out: *mut f32,
}

/// What is left once there are scores: means of values.
pub(super) struct Mixing {
    /// `e^(score − largest)` for each position; may be written over.
    pub weights: *mut f32,
    /// From one query's to the next.
    pub stride: usize,
    /// One over the sum of a query's weights.
    pub scales: *const f32,
    /// Positions of each query.
    pub lens: *const usize,
    /// Queries.
    pub count: usize,
    /// Values: `[longest, dim]`.
    pub values: *const u16,
    /// Dimensions of the head.
    pub dim: usize,
    /// `[count, dim]`.
    pub out: *mut f32,
}

/// How means of values are taken.
pub(super) trait Mix {
    /// # Safety
    /// The instruction set is there, and the job's pointers are good for what its fields say.
    unsafe fn mix(job: &Mixing);
}

/// With values widened to f32.
pub(super) struct WidenedValues<L>(std::marker::PhantomData<L>);

impl<L: Lanes> Mix for WidenedValues<L> {
    #[inline(always)]
    unsafe fn mix(job: &Mixing) {
        // SAFETY: the caller's promise is the same.
        unsafe {
            attend::mix_all::<L, u16>(
                &attend::Job {
                    queries: std::ptr::null(),
                    lens: job.lens,
                    count: job.count,
                    keys: std::ptr::null(),
                    values: job.values,
                    dim: job.dim,
                    scores: job.weights,
                    longest: job.stride,
                    out: job.out,
                },
                job.scales,
            );
        }
    }
}

/// Most queries that go over keys together: those of a pass of the product.
pub(super) const MOST_QUERIES: usize = INPUTS;

/// `out = softmax(query · keysᵀ) · values` for each query. The bits of each depend on itself alone, and not on where in the memory its keys lie.
///
/// # Safety
/// The instruction sets of `P`, `L` and `M` are there, and the job's pointers are good for what its fields say.
#[inline(always)]
pub(super) unsafe fn attend<P: Pair, L: Lanes, M: Mix>(job: &Job<P::Input>) {
    // SAFETY: the caller's promise; panels are whole.
    unsafe {
        packed::product::<P>(&packed::Job {
            lines: job.keys,
            pairs: job.pairs,
            rows: job.room,
            inputs: job.queries,
            stride: job.stride,
            count: job.count,
            out: job.scores,
        });
        let mut scales = [0.0; MOST_QUERIES];
        let weights = job.scores.add(job.lead);
        for (query, scale) in scales.iter_mut().enumerate().take(job.count) {
            *scale = 1.0 / exponentials::<L>(weights.add(query * job.room), *job.lens.add(query));
        }
        M::mix(&Mixing {
            weights,
            stride: job.room,
            scales: scales.as_ptr(),
            lens: job.lens,
            count: job.count,
            values: job.values,
            dim: job.dim,
            out: job.out,
        });
    }
}

impl Kernels {
    /// Most queries of [`Self::attend_panels`].
    pub const QUERIES: usize = MOST_QUERIES;

    /// Scratch that [`Self::attend_panels`] needs for so many queries and positions.
    pub fn room_to_attend(queries: usize, positions: usize) -> usize {
        queries * (positions + PANEL).next_multiple_of(PANEL)
    }

    /// [`Self::attend`] over keys in panels: `queries` are scaled, in the form that products with packed weights read, as many as `lens`, at
    /// most [`Self::QUERIES`]; `values` are `[longest, dim]`, `out` is `[count, dim]`. What the keys' first and last panel hold of others does not
    /// matter.
    ///
    /// # Panics
    /// If the lengths do not agree, `scores` is shorter than [`Self::room_to_attend`] says, or the set does not pack.
    pub fn attend_panels(
        &self,
        queries: Inputs<'_>,
        lens: &[usize],
        keys: KeyPanels<'_>,
        values: &[u16],
        scores: &mut [f32],
        out: &mut [f32],
    ) {
        let (count, dim) = (lens.len(), keys.dim);
        let (longest, pairs) = (values.len() / dim, dim / 2);
        let (first, lead) = (keys.start / PANEL, keys.start % PANEL);
        let panels = (lead + longest).div_ceil(PANEL);
        assert!(count == queries.count && count <= Self::QUERIES && dim <= queries.stride);
        assert!(out.len() == count * dim && values.len() == longest * dim && scores.len() >= count * panels * PANEL);
        assert!(lens.iter().all(|len| (1..=longest).contains(len)));
        let lines = &keys.lines[first * pairs..(first + panels) * pairs];
        macro_rules! job {
            ($queries:expr) => {{
                assert!($queries.len() >= count * queries.stride);
                Job {
                    queries: $queries.as_ptr(),
                    stride: queries.stride,
                    lens: lens.as_ptr(),
                    count,
                    keys: lines.as_ptr(),
                    lead,
                    pairs,
                    values: values.as_ptr(),
                    dim,
                    scores: scores.as_mut_ptr(),
                    room: panels * PANEL,
                    out: out.as_mut_ptr(),
                }
            }};
        }
        // SAFETY: lengths are checked here, and the instruction set when `self` was given away.
        unsafe {
            match self.packed {
                #[cfg(target_arch = "x86_64")]
                Some(Packing::Pairs { attend, .. }) => attend(&job!(queries.rounded)),
                #[cfg(target_arch = "x86_64")]
                Some(Packing::Widened { attend, .. }) => attend(&job!(queries.values)),
                None => panic!("these kernels do not read keys in panels"),
            }
        }
    }
}
