//! Which instructions of a CPU are used: ours and libtorch's.
//!
//! Results differ in their last bits from one instruction set to another. Where nodes of a cluster are to answer alike, all of them are held to what
//! the oldest has.

use clap::ValueEnum;

use crate::model::kernels::Kernels;

/// An instruction set that products, attention and convolutions are held to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum CpuKernels {
    /// The fastest that the processor has.
    #[default]
    Auto,
    /// None in particular: slow, and the same on every processor.
    Portable,
    /// AVX2 and FMA.
    Avx2,
    /// The same and AVX-VNNI.
    AvxVnni,
    /// AVX-512 F, BW, DQ and VL.
    Avx512,
    /// The same and VNNI.
    Avx512Vnni,
    /// The same, VNNI and BF16.
    Avx512Bf16,
}

/// A set of instructions that cannot be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("--cpu-kernels {asked}: this processor has {there} only; choose one of these, or auto")]
pub struct NoSuchKernels {
    asked: String,
    there: String,
}

impl CpuKernels {
    /// The name of our kernels, and what libtorch, oneDNN and MKL call these instructions in their environment variables.
    fn names(self) -> Option<(&'static str, [(&'static str, &'static str); 3])> {
        let (own, aten, onednn, mkl) = match self {
            Self::Auto => return None,
            Self::Portable => ("portable", "default", "SSE41", "SSE4_2"),
            Self::Avx2 => ("AVX2", "avx2", "AVX2", "AVX2"),
            Self::AvxVnni => ("AVX-VNNI", "avx2", "AVX2_VNNI", "AVX2"),
            Self::Avx512 => ("AVX-512", "avx512", "AVX512_CORE", "AVX512"),
            Self::Avx512Vnni => ("AVX-512 VNNI", "avx512", "AVX512_CORE_VNNI", "AVX512"),
            Self::Avx512Bf16 => ("AVX-512 BF16", "avx512", "AVX512_CORE_BF16", "AVX512"),
        };
        let variables = [
            ("ATEN_CPU_CAPABILITY", aten),
            ("ONEDNN_MAX_CPU_ISA", onednn),
            ("MKL_ENABLE_INSTRUCTIONS", mkl),
        ];
        Some((own, variables))
    }

    fn flag(self) -> String {
        self.to_possible_value()
            .map_or_else(String::new, |value| value.get_name().to_owned())
    }

    /// Holds this process to these instructions.
    ///
    /// # Errors
    /// If the processor lacks them, or other kernels are in use already.
    ///
    /// # Safety
    /// No other thread of the process is running: environment variables are set. libtorch, oneDNN and MKL read them when they first compute.
    pub unsafe fn hold(self) -> Result<(), NoSuchKernels> {
        let Some((own, variables)) = self.names() else {
            return Ok(());
        };
        if !Kernels::hold_to(own) {
            let has = |choice: &Self| {
                choice
                    .names()
                    .is_some_and(|(own, _)| Kernels::all().iter().any(|set| set.name() == own))
            };
            let there: Vec<String> = Self::value_variants()
                .iter()
                .filter(|choice| has(choice))
                .map(|choice| choice.flag())
                .collect();
            return Err(NoSuchKernels {
                asked: self.flag(),
                there: there.join(", "),
            });
        }
        for (variable, value) in variables {
            // These libraries can be told in no other way.
            #[allow(clippy::disallowed_methods)]
            // SAFETY: the caller's promise.
            unsafe {
                std::env::set_var(variable, value);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_set_of_kernels_can_be_asked_for_and_no_other_is_held() {
        let named: Vec<_> = CpuKernels::value_variants()
            .iter()
            .filter_map(|choice| choice.names())
            .collect();
        for set in Kernels::all() {
            assert!(named.iter().any(|(own, _)| *own == set.name()), "{}", set.name());
        }
        assert!(!Kernels::hold_to("abacus"));
    }
}
