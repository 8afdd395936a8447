//! What Winograd's convolution does with a tile: into the transform's domain, products there, and out of it.
//!
//! The transform is F(4×4, 3×3) of Lavin & Gray 2015 (arXiv 1509.09308) with the points 0, ±√½, ±√2 and ∞ instead of 0, ±1, ±2 and ∞: with them the
//! roundings are half as large (1.0e-6 of the result beside 2.2e-6, 128 channels; a sum in order has 0.6e-6).

use super::lanes::{Element, Lanes};

/// Outputs of a tile, in each direction.
pub(super) const OUT: usize = 4;
/// Inputs of a tile, in each direction.
pub(super) const IN: usize = 6;
/// Points of a transformed tile.
pub(super) const POINTS: usize = IN * IN;
/// Channels of inputs that lie side by side.
pub(super) const LINE: usize = 16;

/// Tiles that go through the products together; a multiple of the rows of every instruction set.
pub(super) const BLOCK: usize = 24;

/// √½, √2, and the cubes of both.
const A: f32 = std::f32::consts::FRAC_1_SQRT_2;
const B: f32 = std::f32::consts::SQRT_2;
const A3: f32 = A / 2.0;
const B3: f32 = 2.0 * B;

/// What kernels do with images whose values are of one kind.
#[derive(Clone, Copy)]
pub struct TileKernels<E> {
    /// Transforms one tile of inputs.
    pub(super) gather: unsafe fn(&Gather<E>),
    /// Transforms one tile of products to outputs.
    pub(super) scatter: unsafe fn(&Scatter<E>),
}

/// One tile of inputs.
pub(super) struct Gather<E> {
    /// Its pixels, each of `channels` values.
    pub(super) pixels: [*const E; POINTS],
    pub(super) channels: usize,
    /// Where the first [`LINE`] channels of its first point go.
    pub(super) to: *mut f32,
    /// From one point to the next, and from some channels to the next.
    pub(super) point: usize,
    pub(super) line: usize,
}

/// Products of one block of tiles with all weights of some outputs.
pub(super) struct Multiply {
    /// `[POINTS, inputs / LINE, BLOCK, LINE]`, the points [`Self::point`] apart.
    pub(super) tiles: *const f32,
    pub(super) point: usize,
    /// `[POINTS, inputs, columns]`
    pub(super) weights: *const f32,
    pub(super) inputs: usize,
    /// Tiles that there are.
    pub(super) count: usize,
    /// `[POINTS, BLOCK, columns]`
    pub(super) out: *mut f32,
}

/// One tile of products.
pub(super) struct Scatter<E> {
    /// Its first point, `columns` values.
    pub(super) from: *const f32,
    /// From one point to the next.
    pub(super) point: usize,
    pub(super) columns: usize,
    /// Added to each, `columns` values.
    pub(super) bias: *const f32,
    /// Its pixels, each with room for `columns` values; null for those outside of the image.
    pub(super) pixels: [*mut E; OUT * OUT],
    /// What is added to each pixel.
    pub(super) onto: Option<[*const E; OUT * OUT]>,
}

/// `Bᵀx`
#[inline(always)]
unsafe fn into<L: Lanes>(x: [L; IN]) -> [L; IN] {
    // SAFETY: only arithmetic; the caller has the instruction set.
    unsafe {
        let [x0, x1, x2, x3, x4, x5] = x;
        let middle = L::splat(-2.5);
        let even_a = x2.mul_add(L::splat(-2.0), x4);
        let odd_a = x3.mul_add(L::splat(A), x1.mul(L::splat(-B)));
        let even_b = x2.mul_add(L::splat(-0.5), x4);
        let odd_b = x3.mul_add(L::splat(B), x1.mul(L::splat(-A)));
        [
            x2.mul_add(middle, x0.add(x4)),
            even_a.add(odd_a),
            even_a.sub(odd_a),
            even_b.add(odd_b),
            even_b.sub(odd_b),
            x3.mul_add(middle, x1.add(x5)),
        ]
    }
}

/// `Aᵀm`
#[inline(always)]
unsafe fn out_of<L: Lanes>(m: [L; IN]) -> [L; OUT] {
    // SAFETY: only arithmetic; the caller has the instruction set.
    unsafe {
        let [m0, m1, m2, m3, m4, m5] = m;
        let (sum_a, difference_a) = (m1.add(m2), m1.sub(m2));
        let (sum_b, difference_b) = (m3.add(m4), m3.sub(m4));
        [
            m0.add(sum_a).add(sum_b),
            difference_a.mul_add(L::splat(A), difference_b.mul(L::splat(B))),
            sum_a.mul_add(L::splat(0.5), sum_b.mul(L::splat(2.0))),
            difference_a.mul_add(L::splat(A3), difference_b.mul_add(L::splat(B3), m5)),
        ]
    }
}

/// # Safety
/// The instruction set of `L` is there, and the job's pointers are good for what their docs say.
#[inline(always)]
#[allow(clippy::needless_range_loop)] // Twice as fast as with columns in the outer array.
pub(super) unsafe fn gather<L: Lanes, E: Element>(job: &Gather<E>) {
    // SAFETY: whole vectors inside each pixel and each line.
    unsafe {
        for channel in (0..job.channels).step_by(L::WIDTH) {
            let zero = L::splat(0.0);
            let mut half = [[zero; IN]; IN];
            for column in 0..IN {
                let mut x = [zero; IN];
                for (row, x) in x.iter_mut().enumerate() {
                    *x = E::load::<L>(job.pixels[row * IN + column].add(channel));
                }
                for (row, value) in into(x).into_iter().enumerate() {
                    half[row][column] = value;
                }
            }
            let to = job.to.add(channel / LINE * job.line + channel % LINE);
            for (row, half) in half.into_iter().enumerate() {
                for (column, value) in into(half).into_iter().enumerate() {
                    value.store(to.add((row * IN + column) * job.point));
                }
            }
        }
    }
}

/// # Safety
/// As [`gather`].
#[inline(always)]
#[allow(clippy::needless_range_loop)] // Twice as fast as with columns in the outer array.
pub(super) unsafe fn scatter<L: Lanes, E: Element>(job: &Scatter<E>) {
    // SAFETY: whole vectors inside each point and each pixel.
    unsafe {
        for channel in (0..job.columns).step_by(L::WIDTH) {
            let zero = L::splat(0.0);
            let from = job.from.add(channel);
            let mut half = [[zero; IN]; OUT];
            for column in 0..IN {
                let mut m = [zero; IN];
                for (row, m) in m.iter_mut().enumerate() {
                    *m = L::load(from.add((row * IN + column) * job.point));
                }
                for (row, value) in out_of(m).into_iter().enumerate() {
                    half[row][column] = value;
                }
            }
            let bias = L::load(job.bias.add(channel));
            for (row, half) in half.into_iter().enumerate() {
                for (column, value) in out_of(half).into_iter().enumerate() {
                    let pixel = job.pixels[row * OUT + column];
                    if pixel.is_null() {
                        continue;
                    }
                    let mut value = value.add(bias);
                    if let Some(onto) = &job.onto {
                        value = value.add(E::load::<L>(onto[row * OUT + column].add(channel)));
                    }
                    E::store(value, pixel.add(channel));
                }
            }
        }
    }
}

/// All points, `ROWS` tiles at a time, and the last ones by `FEW`. Two vectors of columns. Each sum runs over the inputs in order, whatever else there is.
///
/// # Safety
/// As [`gather`].
#[inline(always)]
pub(super) unsafe fn multiply<L: Lanes, const ROWS: usize, const FEW: usize>(job: &Multiply) {
    // So that rows beyond the last tile are still within the block.
    const { assert!(BLOCK.is_multiple_of(ROWS) && ROWS.is_multiple_of(FEW)) };
    let columns = 2 * L::WIDTH;
    // SAFETY: rows are within the block, as was just asserted.
    unsafe {
        for point in 0..POINTS {
            let tiles = job.tiles.add(point * job.point);
            let weights = job.weights.add(point * job.inputs * columns);
            let out = job.out.add(point * BLOCK * columns);
            let mut row = 0;
            while row < job.count {
                let (tiles, out) = (tiles.add(row * LINE), out.add(row * columns));
                if job.count - row > ROWS - FEW {
                    rows::<L, ROWS>(tiles, weights, job.inputs, out);
                    row += ROWS;
                } else {
                    rows::<L, FEW>(tiles, weights, job.inputs, out);
                    row += FEW;
                }
            }
        }
    }
}

#[inline(always)]
unsafe fn rows<L: Lanes, const ROWS: usize>(tiles: *const f32, mut weights: *const f32, inputs: usize, out: *mut f32) {
    // SAFETY: as `multiply`.
    unsafe {
        let mut sums = [[L::splat(0.0); 2]; ROWS];
        for line in 0..inputs / LINE {
            let tiles = tiles.add(line * BLOCK * LINE);
            for lane in 0..LINE {
                let pair = [L::load(weights), L::load(weights.add(L::WIDTH))];
                weights = weights.add(2 * L::WIDTH);
                for (row, sums) in sums.iter_mut().enumerate() {
                    let input = L::splat(*tiles.add(row * LINE + lane));
                    *sums = [input.mul_add(pair[0], sums[0]), input.mul_add(pair[1], sums[1])];
                }
            }
        }
        for (row, sums) in sums.into_iter().enumerate() {
            sums[0].store(out.add(row * 2 * L::WIDTH));
            sums[1].store(out.add((row * 2 + 1) * L::WIDTH));
        }
    }
}

/// Compiles the kernels of one instruction set for values of one kind.
macro_rules! tiles {
    ($module:ident, $lanes:ty, $value:ty $(, $feature:literal)?) => {
        mod $module {
            use crate::model::kernels::tiles::{self, Gather, Scatter, TileKernels};

            // SAFETY (of every block below): the caller has the feature, and the same promises hold.
            $(#[target_feature(enable = $feature)])?
            unsafe fn gather(job: &Gather<$value>) {
                unsafe { tiles::gather::<$lanes, $value>(job) }
            }
            $(#[target_feature(enable = $feature)])?
            unsafe fn scatter(job: &Scatter<$value>) {
                unsafe { tiles::scatter::<$lanes, $value>(job) }
            }

            pub(super) const KERNELS: TileKernels<$value> = TileKernels { gather, scatter };
        }
    };
}
pub(super) use tiles;
