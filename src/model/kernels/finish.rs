//! What becomes of a product: bias and a function of each number, and its rows go where they belong.
//!
//! A product leaves its rows one after the other in a thread's own memory, near it; from there each number is read once and written once.

use super::lanes::{Element, Lanes};
use super::pointwise::{Gelu, GeluTanh, Map, Relu, Same};
use super::sets::Kernels;
use super::team::Columns;

/// A function of each number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Function {
    /// As it is.
    Same,
    /// Exact GELU.
    Gelu,
    /// GELU by tanh.
    GeluTanh,
    /// ReLU.
    Relu,
}

/// Where rows go.
pub enum Target<'a> {
    /// Written, in f32.
    Values(Columns<'a, f32>),
    /// Added to what is there, in f32.
    Sums(Columns<'a, f32>),
    /// Written, as the bits of the nearest bf16.
    Rounded(Columns<'a, u16>),
}

/// Where the first row goes.
#[derive(Clone, Copy)]
pub(super) enum Place {
    Values(*mut f32),
    Sums(*mut f32),
    Rounded(*mut u16),
}

impl Target<'_> {
    /// The place; how many rows of how many elements, and from one to the next.
    pub(super) fn parts(&self) -> (Place, [usize; 2], usize) {
        match self {
            Self::Values(to) => (Place::Values(to.data()), to.shape(), to.stride()),
            Self::Sums(to) => (Place::Sums(to.data()), to.shape(), to.stride()),
            Self::Rounded(to) => (Place::Rounded(to.data()), to.shape(), to.stride()),
        }
    }
}

/// How numbers come to a place.
///
/// # Safety
/// As for [`Lanes`].
pub(super) trait Put {
    type Cell;
    unsafe fn put<L: Lanes>(values: L, to: *mut Self::Cell);
    /// The first `count` alone.
    unsafe fn put_some<L: Lanes>(values: L, to: *mut Self::Cell, count: usize);
}

/// Written over what was there.
impl<E: Element> Put for E {
    type Cell = E;

    #[inline(always)]
    unsafe fn put<L: Lanes>(values: L, to: *mut E) {
        // SAFETY: the caller's promise is the same.
        unsafe { E::store(values, to) }
    }

    #[inline(always)]
    unsafe fn put_some<L: Lanes>(values: L, to: *mut E, count: usize) {
        // SAFETY: the caller's promise is the same.
        unsafe { E::store_some(values, to, count) }
    }
}

/// Added to what is there.
pub(super) struct Added;

impl Put for Added {
    type Cell = f32;

    #[inline(always)]
    unsafe fn put<L: Lanes>(values: L, to: *mut f32) {
        // SAFETY: the caller's promise is the same.
        unsafe { L::load(to).add(values).store(to) }
    }

    #[inline(always)]
    unsafe fn put_some<L: Lanes>(values: L, to: *mut f32, count: usize) {
        // SAFETY: the caller's promise is the same.
        unsafe { L::load_some(to, count).add(values).store_some(to, count) }
    }
}

/// What is to be done.
pub(super) struct Job {
    /// `[count, len]`, row after row.
    pub from: *const f32,
    /// Rows.
    pub count: usize,
    /// Numbers of a row.
    pub len: usize,
    /// `[len]`, or null.
    pub bias: *const f32,
    /// Of the numbers with their bias.
    pub function: Function,
    /// Where the first row goes.
    pub to: Place,
    /// From there to the next, in elements.
    pub stride: usize,
}

/// Does it.
///
/// # Safety
/// The instruction set of `L` is there, and the job's pointers are good for what its fields say.
#[inline(always)]
pub(super) unsafe fn finish<L: Lanes>(job: &Job) {
    // SAFETY: the caller's promise is the same.
    unsafe {
        match job.function {
            Function::Same => mapped::<L, Same>(job),
            Function::Gelu => mapped::<L, Gelu>(job),
            Function::GeluTanh => mapped::<L, GeluTanh>(job),
            Function::Relu => mapped::<L, Relu>(job),
        }
    }
}

#[inline(always)]
unsafe fn mapped<L: Lanes, F: Map>(job: &Job) {
    // SAFETY: the caller's promise is the same.
    unsafe {
        match job.to {
            Place::Values(to) => rows::<L, F, f32>(job, to),
            Place::Sums(to) => rows::<L, F, Added>(job, to),
            Place::Rounded(to) => rows::<L, F, u16>(job, to),
        }
    }
}

#[inline(always)]
unsafe fn rows<L: Lanes, F: Map, P: Put>(job: &Job, to: *mut P::Cell) {
    let (whole, tail) = (job.len / L::WIDTH * L::WIDTH, job.len % L::WIDTH);
    let biased = !job.bias.is_null();
    // SAFETY: whole vectors and the tail stay inside the rows.
    unsafe {
        for row in 0..job.count {
            let (from, to) = (job.from.add(row * job.len), to.add(row * job.stride));
            for i in (0..whole).step_by(L::WIDTH) {
                let mut x = L::load(from.add(i));
                if biased {
                    x = x.add(L::load(job.bias.add(i)));
                }
                P::put(F::map(x), to.add(i));
            }
            if tail > 0 {
                let mut x = L::load_some(from.add(whole), tail);
                if biased {
                    x = x.add(L::load_some(job.bias.add(whole), tail));
                }
                P::put_some(F::map(x), to.add(whole), tail);
            }
        }
    }
}

impl Kernels {
    /// Brings the rows of `product` to where they belong: `function` of each number with its `bias` (one for each number of a row, or empty).
    ///
    /// # Panics
    /// If the lengths do not agree.
    pub fn finish(&self, product: &[f32], bias: &[f32], function: Function, to: &Target<'_>) {
        let (place, [count, len], stride) = to.parts();
        assert!(product.len() == count * len && (bias.is_empty() || bias.len() == len));
        let job = Job {
            from: product.as_ptr(),
            count,
            len,
            bias: match bias {
                [] => std::ptr::null(),
                bias => bias.as_ptr(),
            },
            function,
            to: place,
            stride,
        };
        // SAFETY: lengths are checked here, the target is the caller's alone, and the instruction set was checked when `self` was given away.
        unsafe { (self.finish)(&job) }
    }

    /// Rounds to bf16, ties to even.
    ///
    /// # Panics
    /// If the lengths differ.
    pub fn round(&self, from: &[f32], to: &mut [u16]) {
        let len = from.len();
        assert!(to.len() == len);
        let job = Job {
            from: from.as_ptr(),
            count: 1,
            len,
            bias: std::ptr::null(),
            function: Function::Same,
            to: Place::Rounded(to.as_mut_ptr()),
            stride: len,
        };
        // SAFETY: as above.
        unsafe { (self.finish)(&job) }
    }
}
