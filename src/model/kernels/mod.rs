//! Kernels of a step with few rows on a CPU: matrix products that stream each weight once, attention over the KV memory,
//! LayerNorm, activations, and the team of threads that runs them.
//!
//! With one to a few rows a step's time is the time to read the weights, so the kernels read each once, as it was packed (or, in f32,
//! where libtorch holds it), and keep all sums in registers. No tensors here: plain slices.
//!
//! # Batch invariance
//! Every number is computed by one order of additions that depends on its own row alone: not on how many rows there are,
//! nor on which thread computes it. A request therefore gets the same bits alone and in any company. Bits may differ between
//! instruction sets, of which one is chosen for the life of the process.
//!
//! | file | what |
//! | --- | --- |
//! | `cells` | what products read |
//! | `lanes` | the vector of f32 that kernels are written in; its portable form |
//! | `whole` | the vector of whole numbers, likewise |
//! | `avx2`, `avx512`, `avx2_whole`, `avx512_whole` | their forms on x86-64, and products of bytes |
//! | `avx512_pairs` | products of pairs of bf16 |
//! | `product` | rows of weights times rows of inputs |
//! | `packed` | bf16 weights in the order in which they are read, times rows of inputs |
//! | `grouped`, `codes` | weights in 8 or 4 bits, and how they are made |
//! | `stored` | the same in a file |
//! | `fixed` | inputs in fixed point, which quantised weights are multiplied with |
//! | `panels` | panels of quantised weights times rows of inputs |
//! | `quantised` | what a set of kernels does with quantised weights |
//! | `group_norm` | GroupNorm and swish over images |
//! | `winograd`, `tiles` | convolutions of 3 × 3 over images |
//! | `attend` | queries over the keys and values of their sequence |
//! | `attend_panels` | the same over keys in panels |
//! | `finish` | what becomes of a product: bias, activation, and where its rows go |
//! | `pointwise` | LayerNorm, activations, rounding to bf16 |
//! | `sets` | one set of kernels per instruction set |
//! | `select` | which of them is used, chosen at run time |
//! | `pages` | memory in large pages, for weights |
//! | `team` | threads that go through a step together |

mod attend;
mod attend_panels;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx2_whole;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "x86_64")]
mod avx512_pairs;
#[cfg(target_arch = "x86_64")]
mod avx512_whole;
mod cells;
mod codes;
mod finish;
mod fixed;
mod group_norm;
mod grouped;
mod lanes;
mod packed;
mod pages;
mod panels;
mod pointwise;
mod product;
mod quantised;
mod select;
mod sets;
mod stored;
mod team;
mod tiles;
mod whole;
mod winograd;

#[cfg(test)]
mod attend_panels_tests;
#[cfg(test)]
mod finish_tests;
#[cfg(test)]
mod quantised_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod winograd_tests;

pub use attend_panels::{KeyPanels, KeyPanelsMut};
pub use cells::{Cells, Fixed, FixedMut, Inputs};
pub use finish::{Function, Target};
pub use group_norm::{GroupNorm, PixelKernels, Value};
pub use grouped::{Format, Grouped, PANEL};
pub use packed::Packed;
pub use pages::in_large_pages;
pub use pointwise::round_to_bf16;
pub use quantised::WideMut;
pub use sets::Kernels;
pub use stored::{Stored, to_store};
pub use team::{Columns, Shared, Team, Worker};
pub use winograd::{Images, Winograd};
