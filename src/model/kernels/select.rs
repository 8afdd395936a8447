//! One set of kernels per instruction set; the best that the machine has is chosen once.

use std::sync::OnceLock;

use super::attend;
use super::cells::{Cells, Inputs};
use super::finish::Target;
use super::product::Job;
use super::sets::{self, Bf16Product, Kernels};

/// Every set of kernels this machine can run, the newest instructions last.
fn runnable() -> Vec<&'static Kernels> {
    let mut sets = vec![&sets::portable::KERNELS];
    #[cfg(target_arch = "x86_64")]
    {
        let avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
        let avx512 = avx2
            && is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl");
        if avx2 {
            sets.push(&sets::avx2::KERNELS);
        }
        if avx2 && is_x86_feature_detected!("avxvnni") {
            sets.push(&sets::avx_vnni::KERNELS);
        }
        if avx512 {
            sets.push(&sets::avx512::KERNELS);
        }
        let vnni = avx512 && is_x86_feature_detected!("avx512vnni");
        if vnni {
            sets.push(&sets::avx512_vnni::KERNELS);
        }
        if vnni && is_x86_feature_detected!("avx512bf16") {
            sets.push(&sets::avx512_bf16::KERNELS);
        }
    }
    sets
}

/// Whether the processor takes longer for pairs of bf16 (`vdpbf16ps`) than to widen them and multiply f32. Intel's are taken to: an Emerald Rapids, the
/// only one that was measured, takes four times as long for the one as for the other (docs/performance-notes.md). On an AMD Zen 4 pairs are faster.
fn slow_pairs() -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        // Leaf 0: the vendor's name in EBX, EDX, ECX (Intel's manual, volume 2, CPUID).
        let id = std::arch::x86_64::__cpuid(0);
        [id.ebx, id.edx, id.ecx].map(u32::to_le_bytes).concat() == b"GenuineIntel"
    }
    #[cfg(not(target_arch = "x86_64"))]
    false
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

    /// Every set that this machine can run, from the plainest to the one with the newest instructions.
    pub fn all() -> &'static [&'static Kernels] {
        static ALL: OnceLock<Vec<&'static Kernels>> = OnceLock::new();
        ALL.get_or_init(runnable)
    }

    /// The set that is used: the best, or the one of [`Self::hold_to`]. The same for the life of the process.
    pub fn best() -> &'static Kernels {
        CHOSEN
            .get_or_init(|| Chosen {
                kernels: Self::fastest(),
                held: false,
            })
            .kernels
    }

    fn fastest() -> &'static Kernels {
        let suits = |set: &&&'static Kernels| !(set.rounds_inputs() && slow_pairs());
        Self::all()
            .iter()
            .rfind(suits)
            .copied()
            .unwrap_or(&sets::portable::KERNELS)
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
        !Self::tiles() && self.has_vectors()
    }

    /// Whether its vectors are the processor's, not plain Rust's.
    pub fn has_vectors(&self) -> bool {
        !std::ptr::eq(self, &sets::portable::KERNELS)
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

    /// LayerNorm of `x`, the one row that goes to `to`.
    ///
    /// # Panics
    /// If the lengths differ.
    pub fn norm(&self, x: &[f32], weight: &[f32], bias: &[f32], eps: f32, to: &Target<'_>) {
        let len = x.len();
        let (place, shape, _) = to.parts();
        assert!(weight.len() == len && bias.len() == len && shape == [1, len]);
        // SAFETY: lengths are checked here, the target is the caller's alone, and the instruction set was checked when `self` was given away.
        unsafe { (self.norm)(x.as_ptr(), weight.as_ptr(), bias.as_ptr(), len, eps, place) }
    }
}
