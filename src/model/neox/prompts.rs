//! Prompts on a GPU: by kernels of our own around libtorch's products, where these give what libtorch's alone give.

use std::sync::{Mutex, PoisonError};

use tch::Tensor;

use super::attention::AttentionPlan;
use super::fused::Fused;
use super::kv::KvMemory;
use super::network::Neox;
use super::replay::{agree, table, unless_refused};
use super::step::{Segment, wanted};
use crate::model::cuda::CudaError;

/// Whether the first prompt came out alike both ways; unknown before it.
#[derive(Default)]
pub(super) struct Prompts {
    trusted: Mutex<Option<bool>>,
}

impl Prompts {
    /// Whether they run by kernels of our own.
    pub(super) fn trusted(&self) -> bool {
        *self.trusted.lock().unwrap_or_else(PoisonError::into_inner) == Some(true)
    }
}

impl Neox {
    /// As [`Self::pass`], by `fused` where that agrees.
    pub(super) fn pass_prompts(
        &self,
        fused: Option<&Fused>,
        prompts: &Prompts,
        kv: &mut KvMemory,
        segments: &[Segment<'_>],
    ) -> Option<Tensor> {
        let Some(fused) = fused else {
            return self.pass(kv, segments);
        };
        let mut trusted = prompts.trusted.lock().unwrap_or_else(PoisonError::into_inner);
        if !*trusted.get_or_insert_with(|| self.try_prompts(fused, kv, segments)) {
            return self.pass(kv, segments);
        }
        let rows = match self.normed_by(fused, kv, segments) {
            Ok(rows) => rows,
            Err(error) => {
                tracing::warn!(%error, "prompts are run by libtorch's kernels from here on");
                *trusted = Some(false);
                return self.pass(kv, segments);
            }
        };
        let wanted = wanted(segments);
        let wanted = (!wanted.is_empty()).then(|| Tensor::from_slice(&wanted).to_device(self.device()))?;
        Some(fused.logits(&rows.index_select(0, &wanted)))
    }

    /// What the output matrix reads after each token, bf16: `[tokens, hidden_size]`.
    fn normed_by(&self, fused: &Fused, kv: &mut KvMemory, segments: &[Segment<'_>]) -> Result<Tensor, CudaError> {
        let input = table(segments, 0, kv.spare()).to_device(self.device());
        let plan = AttentionPlan::new(segments, self.kind(), self.device());
        fused.pass_prompts(kv, &input, &plan)
    }

    /// Whether both ways give the same.
    fn try_prompts(&self, fused: &Fused, kv: &mut KvMemory, segments: &[Segment<'_>]) -> bool {
        let agreed = unless_refused(|| {
            let rows = self.normed_by(fused, kv, segments).map_err(|error| error.to_string())?;
            agree(&rows, &self.normed(kv, segments), self.kind())
        });
        match agreed {
            Ok(()) => true,
            Err(reason) => {
                tracing::warn!(%reason, "prompts are run by libtorch's kernels");
                false
            }
        }
    }
}
