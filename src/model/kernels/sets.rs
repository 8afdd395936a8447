//! The kernels of each instruction set, compiled from the same source.

use super::attend_panels::{self, WidenedValues};
use super::cells::FixedMut;
use super::finish::{self, Added, Place};
use super::group_norm::{PixelKernels, pixels};
use super::grouped::PANEL;
use super::lanes::Lanes;
use super::packed::{Packing, WidenedLines};
use super::panels::{Int4, Int8};
use super::product::{Job, Widened};
use super::quantised::{Quantised, quantised};
use super::tiles::{self, Multiply, TileKernels, tiles};
use super::{attend, codes, fixed, packed, panels, pointwise, product};

pub(super) type Product<W, X> = unsafe fn(&Job<W, X>);

/// Values to fixed point.
type Fix = unsafe fn(&[f32], FixedMut<'_>);

/// bf16 weights meet inputs in bf16 or in f32.
#[derive(Clone, Copy)]
pub(super) enum Bf16Product {
    #[cfg(target_arch = "x86_64")]
    Pairs(Product<u16, u16>),
    Widened(Product<u16, f32>),
}

/// The kernels of one instruction set. That it is there was checked before anybody got hold of them.
pub struct Kernels {
    pub(super) name: &'static str,
    pub(super) product_f32: Product<f32, f32>,
    pub(super) product_bf16: Bf16Product,
    /// With weights that were packed; none where they are better left as they are.
    pub(super) packed: Option<Packing>,
    pub(super) int8: Quantised,
    pub(super) int4: Quantised,
    /// Whether quantised weights meet bytes, else words.
    pub(super) bytes: bool,
    pub(super) fix: Fix,
    pub(super) pixels_f32: PixelKernels<f32>,
    pub(super) pixels_bf16: PixelKernels<u16>,
    pub(super) tiles_f32: TileKernels<f32>,
    pub(super) tiles_bf16: TileKernels<u16>,
    /// Transformed tiles with so many columns of weights.
    pub(super) multiply: unsafe fn(&Multiply),
    pub(super) columns: usize,
    pub(super) attend_f32: unsafe fn(&attend::Job<f32>),
    pub(super) attend_bf16: unsafe fn(&attend::Job<u16>),
    pub(super) norm: unsafe fn(*const f32, *const f32, *const f32, usize, f32, Place),
    pub(super) finish: unsafe fn(&finish::Job),
}

/// Compiles every kernel for lanes of one kind with a target feature switched on.
macro_rules! kernels {
    ($module:ident, $lanes:ty, $whole:ty, $levels:ty, $name:literal, $bf16:expr, $packed:expr $(, $feature:literal)?) => {
        pub(super) mod $module {
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
            $(#[target_feature(enable = $feature)])?
            #[allow(dead_code)] // As above.
            unsafe fn attend_panels(job: &attend_panels::Job<f32>) {
                type Lines = WidenedLines<$lanes, { PANEL / <$lanes as Lanes>::WIDTH }>;
                unsafe { attend_panels::attend::<Lines, $lanes, WidenedValues<$lanes>>(job) }
            }
            quantised!(int8, $whole, Int8, codes::int8 $(, $feature)?);
            quantised!(int4, $whole, Int4, codes::int4::<$levels> $(, $feature)?);
            pixels!(pixels_f32, $lanes, f32 $(, $feature)?);
            pixels!(pixels_bf16, $lanes, u16 $(, $feature)?);
            tiles!(tiles_f32, $lanes, f32 $(, $feature)?);
            tiles!(tiles_bf16, $lanes, u16 $(, $feature)?);
            $(#[target_feature(enable = $feature)])?
            unsafe fn multiply(job: &Multiply) {
                // Sums of two vectors for each row fit into registers: 16, or 32 where vectors are as wide.
                const ROWS: usize = <$lanes as Lanes>::WIDTH * 3 / 4;
                unsafe { tiles::multiply::<$lanes, ROWS, { ROWS / 3 }>(job) }
            }
            $(#[target_feature(enable = $feature)])?
            unsafe fn fix(from: &[f32], to: FixedMut<'_>) {
                fixed::fix(from, to.words, to.scales, to.offsets)
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
            unsafe fn norm(x: *const f32, w: *const f32, b: *const f32, len: usize, eps: f32, to: Place) {
                unsafe {
                    match to {
                        Place::Values(to) => pointwise::norm::<$lanes, f32>(x, w, b, len, eps, to),
                        Place::Sums(to) => pointwise::norm::<$lanes, Added>(x, w, b, len, eps, to),
                        Place::Rounded(to) => pointwise::norm::<$lanes, u16>(x, w, b, len, eps, to),
                    }
                }
            }
            $(#[target_feature(enable = $feature)])?
            unsafe fn finish(job: &finish::Job) {
                unsafe { finish::finish::<$lanes>(job) }
            }

            pub(in crate::model::kernels) static KERNELS: Kernels = Kernels {
                name: $name,
                product_f32,
                product_bf16: $bf16,
                packed: $packed,
                int8: int8::QUANTISED,
                int4: int4::QUANTISED,
                bytes: false,
                fix,
                pixels_f32: pixels_f32::KERNELS,
                pixels_bf16: pixels_bf16::KERNELS,
                tiles_f32: tiles_f32::KERNELS,
                tiles_bf16: tiles_bf16::KERNELS,
                multiply,
                columns: 2 * <$lanes as Lanes>::WIDTH,
                attend_f32,
                attend_bf16,
                norm,
                finish,
            };
        }
    };
}

kernels!(
    portable,
    crate::model::kernels::lanes::Portable,
    crate::model::kernels::whole::PortableWhole,
    codes::Compared,
    "portable",
    Bf16Product::Widened(product_bf16),
    None
);

#[cfg(target_arch = "x86_64")]
kernels!(
    avx2,
    crate::model::kernels::avx2::Avx2,
    crate::model::kernels::avx2_whole::Whole256,
    codes::Compared,
    "AVX2",
    Bf16Product::Widened(product_bf16),
    Some(Packing::Widened {
        product: packed,
        attend: attend_panels
    }),
    "avx2,fma"
);

#[cfg(target_arch = "x86_64")]
kernels!(
    avx512,
    crate::model::kernels::avx512::Avx512,
    crate::model::kernels::avx512_whole::Whole512,
    crate::model::kernels::avx512::LookedUp,
    "AVX-512",
    Bf16Product::Widened(product_bf16),
    Some(Packing::Widened {
        product: packed,
        attend: attend_panels
    }),
    "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma"
);

/// Compiles what multiplies bytes for a set of kernels that are else those of `$plain`.
macro_rules! byte_kernels {
    ($module:ident, $plain:ident, $whole:ty, $levels:ty, $name:literal, $feature:literal) => {
        #[cfg(target_arch = "x86_64")]
        pub(super) mod $module {
            use super::*;

            quantised!(int8, $whole, Int8, codes::int8, $feature);
            quantised!(int4, $whole, Int4, codes::int4::<$levels>, $feature);

            #[target_feature(enable = $feature)]
            unsafe fn fix(from: &[f32], to: FixedMut<'_>) {
                fixed::fix(from, to.bytes, to.scales, to.offsets)
            }

            pub(in crate::model::kernels) static KERNELS: Kernels = Kernels {
                name: $name,
                int8: int8::QUANTISED,
                int4: int4::QUANTISED,
                bytes: true,
                fix,
                ..super::$plain::KERNELS
            };
        }
    };
}

byte_kernels!(
    avx_vnni,
    avx2,
    crate::model::kernels::avx2_whole::Vnni256,
    codes::Compared,
    "AVX-VNNI",
    "avx2,fma,avxvnni"
);

byte_kernels!(
    avx512_vnni,
    avx512,
    crate::model::kernels::avx512_whole::Vnni512,
    crate::model::kernels::avx512::LookedUp,
    "AVX-512 VNNI",
    "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma"
);

#[cfg(target_arch = "x86_64")]
pub(super) mod avx512_bf16 {
    use super::*;
    use crate::model::kernels::avx512::Avx512;
    use crate::model::kernels::avx512_pairs::Pairs;

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

    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma")]
    unsafe fn attend_panels(job: &attend_panels::Job<u16>) {
        // SAFETY: the caller has the features, and the same promises hold.
        unsafe { attend_panels::attend::<Pairs, Avx512, Pairs>(job) }
    }

    /// AVX-512 VNNI but for the products of bf16. What has the one instruction has the other.
    pub(in crate::model::kernels) static KERNELS: Kernels = Kernels {
        name: "AVX-512 BF16",
        product_bf16: Bf16Product::Pairs(product_bf16),
        packed: Some(Packing::Pairs {
            product: packed,
            attend: attend_panels,
        }),
        ..super::avx512_vnni::KERNELS
    };
}
