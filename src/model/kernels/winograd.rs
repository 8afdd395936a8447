//! Convolutions of 3 × 3 by Winograd's minimal filtering: a quarter of the multiplications.
//!
//! 4 × 4 outputs come from 6 × 6 inputs by 36 products instead of 144, in f32 throughout; roundings are less than twice those of a sum in order, beside the
//! largest values around ([`super::tiles`]), and what is no number spreads over its tile. In memory: images with their channels innermost. A thread
//! transforms a block of tiles, multiplies it with the weights of some outputs, and transforms these back while they are in its cache. No number
//! depends on the number of threads or images.

use std::cell::RefCell;

use super::group_norm::Value;
use super::pages::roomy;
use super::sets::Kernels;
use super::team::{Shared, Team, Worker};
use super::tiles::{BLOCK, Gather, IN, LINE, Multiply, OUT, POINTS, Scatter, TileKernels};

/// Between points, so that they do not all meet in one set of the cache.
const SKEW: usize = LINE;

/// Outputs are a multiple of this: two vectors of every instruction set.
const COLUMNS: usize = 32;

/// Transformed weights are four times as large in f32 as the weights: none beyond this many pairs of channels, which is 19 MB.
const MOST: usize = 512 * 256;

/// A convolution of 3 × 3 with stride 1, and a border of nought around each image.
pub struct Winograd {
    kernels: &'static Kernels,
    inputs: usize,
    /// `[outputs / columns, POINTS, inputs, columns]`
    weights: Vec<f32>,
    /// One per output.
    bias: Vec<f32>,
}

/// What comes out: images side by side, `[images, rows, columns, channels]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Images {
    /// Images.
    pub count: usize,
    /// Pixels from top to bottom.
    pub rows: usize,
    /// Pixels from left to right.
    pub columns: usize,
    /// What comes in is half as high and wide, and each of its pixels is taken for four.
    pub doubled: bool,
}

impl Images {
    /// Pixels of all of them.
    pub(super) fn pixels(self) -> usize {
        self.count * self.rows * self.columns
    }

    /// Of what comes in: pixels of an image from top to bottom, and from left to right.
    fn given(self) -> [usize; 2] {
        let part = if self.doubled { 2 } else { 1 };
        [self.rows / part, self.columns / part]
    }

    /// Tiles of an image: from top to bottom, and from left to right.
    fn tiles(self) -> [usize; 2] {
        [self.rows.div_ceil(OUT), self.columns.div_ceil(OUT)]
    }
}

impl Winograd {
    /// Whether it is for convolutions of so many channels with these kernels.
    pub fn takes(kernels: &Kernels, inputs: usize, outputs: usize) -> bool {
        let suits = |channels: usize| channels > 0 && channels.is_multiple_of(COLUMNS);
        kernels.has_vectors() && suits(inputs) && suits(outputs) && inputs * outputs <= MOST
    }

    /// Transforms `weights`: `[outputs, inputs, 3, 3]`; `bias`: `[outputs]`.
    ///
    /// # Panics
    /// If the lengths do not agree, or [`Self::takes`] says no.
    pub fn new(kernels: &'static Kernels, team: &Team, weights: &[f32], bias: Vec<f32>) -> Self {
        let outputs = bias.len();
        let inputs = weights.len() / 9 / outputs.max(1);
        assert!(weights.len() == inputs * outputs * 9 && Self::takes(kernels, inputs, outputs));
        let columns = kernels.columns;
        let part = POINTS * inputs * columns;
        let mut made = roomy(outputs / columns * part);
        made.resize(outputs / columns * part, 0f32);
        let shared = Shared::new(&mut made);
        team.run(|worker| {
            while let Some(taken) = worker.take(outputs / columns, 1) {
                for block in taken {
                    // SAFETY: each block of columns is one thread's alone.
                    let to = unsafe { shared.part_mut(block * part, part) };
                    for column in 0..columns {
                        let filters = &weights[(block * columns + column) * inputs * 9..][..inputs * 9];
                        for (input, filter) in filters.chunks_exact(9).enumerate() {
                            for (point, value) in transformed(filter).into_iter().enumerate() {
                                to[(point * inputs + input) * columns + column] = value;
                            }
                        }
                    }
                }
            }
        });
        Self {
            kernels,
            inputs,
            weights: made,
            bias,
        }
    }

    /// Channels of its outputs.
    pub fn outputs(&self) -> usize {
        self.bias.len()
    }

    /// Convolves `x`, of as many channels as it has inputs, into `out`, of [`Self::outputs`]. What is in `onto`, as long as `out`, is added.
    ///
    /// # Panics
    /// If the lengths do not agree, or images of odd sides are to be doubled ones.
    pub fn run<E: Value>(&self, team: &Team, images: Images, x: &[E], onto: Option<&[E]>, out: &mut [E]) {
        let outputs = self.bias.len();
        let [rows, columns] = images.given();
        assert!(!images.doubled || rows * 2 == images.rows && columns * 2 == images.columns);
        assert!(x.len() == images.count * rows * columns * self.inputs && out.len() == images.pixels() * outputs);
        assert!(onto.is_none_or(|onto| onto.len() == out.len()));
        let [down, across] = images.tiles();
        let tiles = images.count * down * across;
        if tiles == 0 {
            return;
        }
        // As many blocks for each thread; where there are few, threads share them by outputs, and each transforms the inputs for itself.
        let (threads, most) = (team.threads(), tiles.div_ceil(BLOCK));
        let blocks = if most > threads / 2 {
            most.next_multiple_of(threads).min(tiles)
        } else {
            most
        };
        let parts = outputs / self.kernels.columns;
        let shares = threads.div_ceil(blocks).min(parts);
        let zeros = vec![E::ZERO; self.inputs];
        let call = Call {
            convolution: self,
            tiles: E::tile_kernels(self.kernels),
            images,
            x,
            onto,
            zeros: &zeros,
            out: Shared::new(out),
            point: self.inputs * BLOCK + SKEW,
        };
        team.run(|worker| call.work(worker, tiles, blocks, shares));
    }
}

thread_local! {
    /// A thread's transformed inputs, and their products. They are kept: to set them to noughts for each convolution took longer than some of its parts.
    static SPACE: RefCell<[Vec<f32>; 2]> = const { RefCell::new([Vec::new(), Vec::new()]) };
}

/// Makes it no shorter than this. What was in it stays.
fn grow(space: &mut Vec<f32>, len: usize) {
    if space.len() < len {
        space.resize(len, 0.0);
    }
}

/// One convolution under way.
struct Call<'a, E> {
    convolution: &'a Winograd,
    tiles: &'a TileKernels<E>,
    images: Images,
    x: &'a [E],
    onto: Option<&'a [E]>,
    /// A pixel of the border.
    zeros: &'a [E],
    out: Shared<'a, E>,
    /// From one point of the transformed inputs to the next.
    point: usize,
}

impl<E: Value> Call<'_, E> {
    fn work(&self, worker: &Worker<'_>, tiles: usize, blocks: usize, shares: usize) {
        let columns = self.convolution.kernels.columns;
        let parts = self.convolution.bias.len() / columns;
        while let Some(taken) = worker.take(blocks * shares, 1) {
            SPACE.with_borrow_mut(|[inputs, products]| {
                grow(inputs, POINTS * self.point);
                grow(products, POINTS * BLOCK * columns);
                for number in taken {
                    let (block, share) = (number / shares, number % shares);
                    let [first, next] = [block, block + 1].map(|block| block * tiles / blocks);
                    let count = next - first;
                    for tile in 0..count {
                        self.gather(first + tile, inputs[tile * LINE..].as_mut_ptr());
                    }
                    for part in share * parts / shares..(share + 1) * parts / shares {
                        self.multiply(part, count, inputs, products);
                        for tile in 0..count {
                            self.scatter(first + tile, part, &products[tile * columns..]);
                        }
                    }
                }
            });
        }
    }

    /// Image, row and column of a tile's first output.
    fn place(&self, tile: usize) -> [usize; 3] {
        let [down, across] = self.images.tiles();
        let (image, tile) = (tile / (down * across), tile % (down * across));
        [image, tile / across * OUT, tile % across * OUT]
    }

    fn gather(&self, tile: usize, to: *mut f32) {
        let Images {
            rows, columns, doubled, ..
        } = self.images;
        let [down, across] = self.images.given();
        let channels = self.convolution.inputs;
        let [image, top, left] = self.place(tile);
        let mut pixels = [self.zeros.as_ptr(); POINTS];
        // One row above and one column to the left: the border.
        for row in (top.max(1) - 1)..rows.min(top + IN - 1) {
            for column in (left.max(1) - 1)..columns.min(left + IN - 1) {
                let [from_top, from_left] = [row, column].map(|at| if doubled { at / 2 } else { at });
                let at = ((image * down + from_top) * across + from_left) * channels;
                pixels[(row + 1 - top) * IN + column + 1 - left] = self.x[at..at + channels].as_ptr();
            }
        }
        let job = Gather {
            pixels,
            channels,
            to,
            point: self.point,
            line: BLOCK * LINE,
        };
        // SAFETY: every pixel has its channels; `to` is of a vector with room for a block, which is this thread's. The instruction set was checked when
        // `kernels` was given away.
        unsafe { (self.tiles.gather)(&job) }
    }

    fn multiply(&self, part: usize, count: usize, inputs: &[f32], products: &mut [f32]) {
        let kernels = self.convolution.kernels;
        let length = POINTS * self.convolution.inputs * kernels.columns;
        let job = Multiply {
            tiles: inputs.as_ptr(),
            point: self.point,
            weights: self.convolution.weights[part * length..][..length].as_ptr(),
            inputs: self.convolution.inputs,
            count,
            out: products.as_mut_ptr(),
        };
        // SAFETY: both vectors hold a whole block; the instruction set as above.
        unsafe { (kernels.multiply)(&job) }
    }

    fn scatter(&self, tile: usize, part: usize, from: &[f32]) {
        let Images { rows, columns, .. } = self.images;
        let (outputs, width) = (self.convolution.bias.len(), self.convolution.kernels.columns);
        let [image, top, left] = self.place(tile);
        let mut pixels = [std::ptr::null_mut(); OUT * OUT];
        let mut onto = [self.zeros.as_ptr(); OUT * OUT];
        for row in top..rows.min(top + OUT) {
            for column in left..columns.min(left + OUT) {
                let at = ((image * rows + row) * columns + column) * outputs + part * width;
                let pixel = (row - top) * OUT + column - left;
                // SAFETY: these outputs of this tile are one thread's alone.
                pixels[pixel] = unsafe { self.out.part_mut(at, width) }.as_mut_ptr();
                if let Some(values) = self.onto {
                    onto[pixel] = values[at..at + width].as_ptr();
                }
            }
        }
        let job = Scatter {
            from: from.as_ptr(),
            point: BLOCK * width,
            columns: width,
            bias: self.convolution.bias[part * width..][..width].as_ptr(),
            pixels,
            onto: self.onto.is_some().then_some(onto),
        };
        // SAFETY: products of a whole block follow `from` in steps of a point; pixels have room for the part's outputs; the instruction set as above.
        unsafe { (self.tiles.scatter)(&job) }
    }
}

/// `G·g·Gᵀ` of a filter of 3 × 3, in f64 and rounded once.
fn transformed(filter: &[f32]) -> [f32; POINTS] {
    let side = |g: [f64; 3]| {
        let (even_a, odd_a) = (g[0] + g[2] / 2.0, g[1] * std::f64::consts::FRAC_1_SQRT_2);
        let (even_b, odd_b) = (g[0] + g[2] * 2.0, g[1] * std::f64::consts::SQRT_2);
        [
            g[0],
            (even_a + odd_a) / -1.5,
            (even_a - odd_a) / -1.5,
            (even_b + odd_b) / 6.0,
            (even_b - odd_b) / 6.0,
            g[2],
        ]
    };
    let column = |column: usize| side([0, 1, 2].map(|row| f64::from(filter[row * 3 + column])));
    let columns = [column(0), column(1), column(2)];
    let mut out = [0f32; POINTS];
    for (row, out) in out.chunks_exact_mut(IN).enumerate() {
        for (out, value) in out.iter_mut().zip(side(columns.map(|column| column[row]))) {
            *out = value as f32;
        }
    }
    out
}
