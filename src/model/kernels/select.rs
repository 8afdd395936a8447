//! One set of kernels per instruction set; the best that the machine has is chosen once.

use std::sync::OnceLock;

use super::cells::{Cells, Inputs};
use super::group_norm::{PixelKernels, pixels};
use super::grouped::PANEL;
use super::lanes::Lanes;
use super::packed::{PackedProduct, WidenedLines};
use super::panels::{Int4, Int8};
use super::product::{Job, Widened};
use super::quantised::{Quantised, quantised};
use super::{attend, codes, fixed, packed, panels, pointwise, product};

type Product<W, X> = unsafe fn(&Job<W, X>);

/// Values to fixed point, scales and offsets.
type Fix = unsafe fn(&[f32], &mut [i16], &mut [f32], &mut [i32]);

/// bf16 weights meet inputs in bf16 or in f32.
enum Bf16Product {
    #[cfg(target_arch = "x86_64")]
    Pairs(Product<u16, u16>),
    Widened(Product<u16, f32>),
}

/// The kernels of one instruction set. That it is there was checked before anybody got hold of them.
pub struct Kernels {
    name: &'static str,
    product_f32: Product<f32, f32>,
    product_bf16: Bf16Product,
    /// With weights that were packed; none where they are better left as they are.
    pub(super) packed: Option<PackedProduct>,
    pub(super) int8: Quantised,
    pub(super) int4: Quantised,
    pub(super) fix: Fix,
    pub(super) pixels_f32: PixelKernels<f32>,
    pub(super) pixels_bf16: PixelKernels<u16>,
    attend_f32: unsafe fn(&attend::Job<f32>),
    attend_bf16: unsafe fn(&attend::Job<u16>),
    norm: unsafe fn(*const f32, *const f32, *const f32, usize, f32, *mut f32),
    gelu: unsafe fn(*mut f32, usize),
    gelu_tanh: unsafe fn(*mut f32, usize),
    relu: unsafe fn(*mut f32, usize),
    round: unsafe fn(&[f32], &mut [u16]),
}

/// Compiles every kernel for lanes of one kind with a target feature switched on.
macro_rules! kernels {
    ($module:ident, $lanes:ty, $whole:ty, $levels:ty, $name:literal, $bf16:expr, $packed:expr $(, $feature:literal)?) => {
        mod $module {
            use super::*;

            // SAFETY (of every block below): the caller has the feature, and the same promises hold.
            $(#[target_feature(enable = $feature)])?
            unsafe fn product_f32(job: &Job<f32, f32>) {
                unsafe { product::product::<Widened<$lanes, f32>>(job) }
            }
            $(#[target_feature(enable = $feature)])?
            pub(super) unsafe fn product_bf16(job: &Job<u16, f32>) {
                unsafe { product::product::<Widened<$lanes, u16>>(job) }
            }
            $(#[target_feature(enable = $feature)])?
            #[allow(dead_code)] // Plain Rust is no faster with it.
            unsafe fn packed(job: &packed::Job<f32>) {
                unsafe { packed::product::<WidenedLines<$lanes, { PANEL / <$lanes as Lanes>::WIDTH }>>(job) }
            }
            quantised!(int8, $whole, Int8, codes::int8 $(, $feature)?);
            quantised!(int4, $whole, Int4, codes::int4::<$levels> $(, $feature)?);
            pixels!(pixels_f32, $lanes, f32 $(, $feature)?);
            pixels!(pixels_bf16, $lanes, u16 $(, $feature)?);
            $(#[target_feature(enable = $feature)])?
            unsafe fn fix(from: &[f32], to: &mut [i16], scales: &mut [f32], offsets: &mut [i32]) {
                fixed::fix(from, to, scales, offsets)
            }
            $(#[target_feature(enable = $feature)])?
            unsafe fn attend_f32(job: &attend::Job<f32>) {
                unsafe { attend::attend::<$lanes, f32>(job) }
            }
            $(#[target_feature(enable = $feature)])?
            unsafe fn attend_bf16(job: &attend::Job<u16>) {
                unsafe { attend::attend::<$lanes, u16>(job) }
            }
            $(#[target_feature(enable = $feature)])?
            unsafe fn norm(x: *const f32, w: *const f32, b: *const f32, len: usize, eps: f32, out: *mut f32) {
                unsafe { pointwise::norm::<$lanes>(x, w, b, len, eps, out) }
            }
            $(#[target_feature(enable = $feature)])?
            unsafe fn gelu(x: *mut f32, len: usize) {
                unsafe { pointwise::each::<$lanes, pointwise::Gelu>(x, len) }
            }
            $(#[target_feature(enable = $feature)])?
            unsafe fn gelu_tanh(x: *mut f32, len: usize) {
                unsafe { pointwise::each::<$lanes, pointwise::GeluTanh>(x, len) }
            }
            $(#[target_feature(enable = $feature)])?
            unsafe fn relu(x: *mut f32, len: usize) {
                unsafe { pointwise::each::<$lanes, pointwise::Relu>(x, len) }
            }
            $(#[target_feature(enable = $feature)])?
            unsafe fn round(from: &[f32], to: &mut [u16]) {
                pointwise::round(from, to)
            }

            pub(super) static KERNELS: Kernels = Kernels {
                name: $name,
                product_f32,
                product_bf16: $bf16,
                packed: $packed,
                int8: int8::QUANTISED,
                int4: int4::QUANTISED,
                fix,
                pixels_f32: pixels_f32::KERNELS,
                pixels_bf16: pixels_bf16::KERNELS,
                attend_f32,
                attend_bf16,
                norm,
                gelu,
                gelu_tanh,
                relu,
                round,
            };
        }
    };
}

kernels!(
    portable,
    crate::model::kernels::lanes::Portable,
    crate::model::kernels::lanes::PortableWhole,
    codes::Compared,
    "portable",
    Bf16Product::Widened(product_bf16),
    None
);

#[cfg(target_arch = "x86_64")]
kernels!(
    avx2,
    crate::model::kernels::avx2::Avx2,
    crate::model::kernels::avx2::Whole256,
    codes::Compared,
    "AVX2",
    Bf16Product::Widened(product_bf16),
    Some(PackedProduct::Widened(packed)),
    "avx2,fma"
);

#[cfg(target_arch = "x86_64")]
kernels!(
    avx512,
    crate::model::kernels::avx512::Avx512,
    crate::model::kernels::avx512::Whole512<false>,
    crate::model::kernels::avx512::LookedUp,
    "AVX-512",
    Bf16Product::Widened(product_bf16),
    Some(PackedProduct::Widened(packed)),
    "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma"
);

#[cfg(target_arch = "x86_64")]
mod avx512_bf16 {
    use super::*;
    use crate::model::kernels::avx512::{LookedUp, Pairs, Whole512};

    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma")]
    unsafe fn product_bf16(job: &Job<u16, u16>) {
        // SAFETY: the caller has the features, and the same promises hold.
        unsafe { product::product::<Pairs>(job) }
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma")]
    unsafe fn packed(job: &packed::Job<u16>) {
        // SAFETY: the caller has the features, and the same promises hold.
        unsafe { packed::product::<Pairs>(job) }
    }

    quantised!(
        int8,
        Whole512<true>,
        Int8,
        codes::int8,
        "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma"
    );
    quantised!(
        int4,
        Whole512<true>,
        Int4,
        codes::int4::<LookedUp>,
        "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma"
    );

    /// AVX-512 but for the products of bf16 and of whole numbers. What has the one instruction has the other.
    pub(super) static KERNELS: Kernels = Kernels {
        name: "AVX-512 BF16",
        product_bf16: Bf16Product::Pairs(product_bf16),
        packed: Some(PackedProduct::Pairs(packed)),
        int8: int8::QUANTISED,
        int4: int4::QUANTISED,
        ..super::avx512::KERNELS
    };
}

/// Every set of kernels this machine can run, the best last.
fn runnable() -> Vec<&'static Kernels> {
    let mut sets = vec![&portable::KERNELS];
    #[cfg(target_arch = "x86_64")]
    {
        let avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
        let avx512 = avx2
            && is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl");
        if avx2 {
            sets.push(&avx2::KERNELS);
        }
        if avx512 {
            sets.push(&avx512::KERNELS);
        }
        if avx512 && is_x86_feature_detected!("avx512bf16") && is_x86_feature_detected!("avx512vnni") {
            sets.push(&avx512_bf16::KERNELS);
        }
    }
    sets
}

/// The set of this process.
struct Chosen {
    kernels: &'static Kernels,
    /// Whether it was asked for by name.
    held: bool,
}

static CHOSEN: OnceLock<Chosen> = OnceLock::new();

impl Kernels {
    /// Rows of inputs are padded to a multiple of so many elements.
    pub const PADDING: usize = 64;

    /// Every set that this machine can run, from the plainest to the best.
    pub fn all() -> &'static [&'static Kernels] {
        static ALL: OnceLock<Vec<&'static Kernels>> = OnceLock::new();
        ALL.get_or_init(runnable)
    }

    /// The set that is used: the best, or the one of [`Self::hold_to`]. The same for the life of the process.
    pub fn best() -> &'static Kernels {
        CHOSEN
            .get_or_init(|| Chosen {
                kernels: Self::newest(),
                held: false,
            })
            .kernels
    }

    fn newest() -> &'static Kernels {
        Self::all().last().copied().unwrap_or(&portable::KERNELS)
    }

    /// Makes the set of this [`Self::name`] the one that is used. To be called before any is: `false` if this machine lacks it, or another is in use.
    pub fn hold_to(name: &str) -> bool {
        let Some(kernels) = Self::all().iter().find(|kernels| kernels.name == name) else {
            return false;
        };
        let chosen = CHOSEN.get_or_init(|| Chosen { kernels, held: true });
        chosen.held && std::ptr::eq(chosen.kernels, *kernels)
    }

    /// Whether the processor multiplies tiles of bf16 (Intel's AMX), which libtorch uses and these kernels do not: its products of many rows
    /// are faster then. Not where a set was asked for by name: libtorch is held to it too.
    pub fn tiles() -> bool {
        if CHOSEN.get().is_some_and(|chosen| chosen.held) {
            return false;
        }
        #[cfg(target_arch = "x86_64")]
        {
            // Leaf 7: EDX bit 22 is AMX-BF16 (Intel's manual, volume 2, CPUID).
            let leaves = std::arch::x86_64::__cpuid(0).eax;
            leaves >= 7 && std::arch::x86_64::__cpuid_count(7, 0).edx >> 22 & 1 == 1
        }
        #[cfg(not(target_arch = "x86_64"))]
        false
    }

    /// Whether products of many rows with weights in panels are no slower than libtorch's.
    pub fn takes_prompts(&self) -> bool {
        !Self::tiles() && !std::ptr::eq(self, &portable::KERNELS)
    }

    /// The instruction set.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Whether the product with bf16 weights reads [`Inputs::rounded`].
    pub fn rounds_inputs(&self) -> bool {
        !matches!(self.product_bf16, Bf16Product::Widened(_))
    }

    /// `out[i][r] = Σ_c weights[r][c] · inputs[i][c]`: `weights` are rows of `columns`, `out` is `[inputs.count, rows]`.
    ///
    /// # Panics
    /// If the lengths do not agree.
    pub fn product(&self, weights: Cells<'_>, columns: usize, inputs: Inputs<'_>, out: &mut [f32]) {
        let count = inputs.count;
        let rows = weights.len() / columns.max(1);
        assert!(weights.len() == rows * columns && out.len() == rows * count);
        assert!(columns <= inputs.stride && inputs.stride.is_multiple_of(Self::PADDING));
        let out = out.as_mut_ptr();
        let stride = inputs.stride;
        // SAFETY: lengths are checked here, and the instruction set when `self` was given away.
        unsafe {
            match weights {
                Cells::F32(weights) => {
                    assert!(inputs.values.len() >= count * stride);
                    (self.product_f32)(&Job {
                        weights: weights.as_ptr(),
                        columns,
                        rows,
                        inputs: inputs.values.as_ptr(),
                        stride,
                        count,
                        out,
                    });
                }
                Cells::Bf16(weights) => {
                    let weights = weights.as_ptr();
                    match self.product_bf16 {
                        #[cfg(target_arch = "x86_64")]
                        Bf16Product::Pairs(product) => {
                            assert!(inputs.rounded.len() >= count * stride);
                            product(&Job {
                                weights,
                                columns,
                                rows,
                                inputs: inputs.rounded.as_ptr(),
                                stride,
                                count,
                                out,
                            });
                        }
                        Bf16Product::Widened(product) => {
                            assert!(inputs.values.len() >= count * stride);
                            product(&Job {
                                weights,
                                columns,
                                rows,
                                inputs: inputs.values.as_ptr(),
                                stride,
                                count,
                                out,
                            });
                        }
                    }
                }
            }
        }
    }

    /// `out = softmax(query · keysᵀ) · values` for each of `queries` (scaled): these and `out` are `[count, dim]`, `keys` and `values` `[longest, dim]`.
    /// Each query attends to as many positions as `lens` says; `scores` is scratch of at least `count · longest`.
    ///
    /// # Panics
    /// If the lengths or kinds do not agree.
    pub fn attend(
        &self,
        queries: &[f32],
        lens: &[usize],
        keys: Cells<'_>,
        values: Cells<'_>,
        scores: &mut [f32],
        out: &mut [f32],
    ) {
        let count = lens.len();
        let dim = queries.len() / count.max(1);
        let longest = keys.len() / dim.max(1);
        assert!(dim > 0 && queries.len() == count * dim && out.len() == queries.len());
        assert!(keys.len() == longest * dim && values.len() == keys.len() && scores.len() >= count * longest);
        assert!(lens.iter().all(|len| (1..=longest).contains(len)));
        macro_rules! job {
            ($keys:expr, $values:expr) => {
                attend::Job {
                    queries: queries.as_ptr(),
                    lens: lens.as_ptr(),
                    count,
                    keys: $keys.as_ptr(),
                    values: $values.as_ptr(),
                    dim,
                    scores: scores.as_mut_ptr(),
                    longest,
                    out: out.as_mut_ptr(),
                }
            };
        }
        // SAFETY: lengths are checked here, and the instruction set when `self` was given away.
        unsafe {
            match (keys, values) {
                (Cells::F32(keys), Cells::F32(values)) => (self.attend_f32)(&job!(keys, values)),
                (Cells::Bf16(keys), Cells::Bf16(values)) => (self.attend_bf16)(&job!(keys, values)),
                _ => panic!("keys and values are of one kind"),
            }
        }
    }

    /// `out` = LayerNorm of `x`.
    ///
    /// # Panics
    /// If the lengths differ.
    pub fn norm(&self, x: &[f32], weight: &[f32], bias: &[f32], eps: f32, out: &mut [f32]) {
        let len = x.len();
        assert!(weight.len() == len && bias.len() == len && out.len() == len);
        // SAFETY: lengths are checked here, and the instruction set when `self` was given away.
        unsafe { (self.norm)(x.as_ptr(), weight.as_ptr(), bias.as_ptr(), len, eps, out.as_mut_ptr()) }
    }

    /// Exact GELU in place.
    pub fn gelu(&self, x: &mut [f32]) {
        // SAFETY: the slice is its own bound; the instruction set was checked when `self` was given away.
        unsafe { (self.gelu)(x.as_mut_ptr(), x.len()) }
    }

    /// GELU by tanh in place.
    pub fn gelu_tanh(&self, x: &mut [f32]) {
        // SAFETY: as for `gelu`.
        unsafe { (self.gelu_tanh)(x.as_mut_ptr(), x.len()) }
    }

    /// ReLU in place.
    pub fn relu(&self, x: &mut [f32]) {
        // SAFETY: as for `gelu`.
        unsafe { (self.relu)(x.as_mut_ptr(), x.len()) }
    }

    /// Rounds to bf16, ties to even.
    ///
    /// # Panics
    /// If the lengths differ.
    pub fn round(&self, from: &[f32], to: &mut [u16]) {
        assert!(from.len() == to.len());
        // SAFETY: the instruction set was checked when `self` was given away.
        unsafe { (self.round)(from, to) }
    }
}
