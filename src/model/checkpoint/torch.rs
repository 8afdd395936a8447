//! What torch pickles: tensors as views of storages, and the state dict they are in.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::pickle::{Pickle, Ref};
use super::{Dtype, TensorInfo};

/// A tensor of a state dict: a strided view of a storage that lies elsewhere in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TorchTensor {
    /// Name of the storage.
    pub(super) storage: String,
    pub(super) info: TensorInfo,
    /// First element, counted in elements from the beginning of the storage.
    offset: u64,
    /// Elements from one index to the next, for each dimension.
    strides: Vec<u64>,
}

/// The tensors of a checkpoint by name, and what else its state dict holds (name and kind, for messages).
#[derive(Debug, Default)]
pub(super) struct StateDict {
    pub(super) tensors: BTreeMap<String, TorchTensor>,
    pub(super) others: BTreeMap<String, String>,
}

/// A storage that a pickle refers to.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct StorageRef<'a> {
    pub(super) key: &'a str,
    pub(super) dtype: Dtype,
    /// Where a legacy file's view of the storage begins, in elements.
    view: u64,
}

/// Finds the state dict: the dictionary `state_dict` of a Lightning checkpoint, or the pickled dictionary itself.
/// Everything else (optimizers, callbacks, whatever classes) is left alone. An error is a sentence without its subject.
pub(super) fn state_dict(pickle: &Pickle<'_>) -> Result<StateDict, String> {
    let root = pickle.root();
    let Some(items) = pickle.items(root) else {
        let what = pickle.describe(root);
        return Err(format!(
            "holds {what}, not a state dict; save `model.state_dict()` instead"
        ));
    };
    let inner = items
        .iter()
        .rev()
        .find(|(key, _)| pickle.str(*key) == Some("state_dict"));
    let items = match inner {
        Some((_, value)) => pickle.items(*value).ok_or_else(|| {
            let what = pickle.describe(*value);
            format!("has {what} where its state_dict should be")
        })?,
        None => items,
    };
    let mut out = StateDict::default();
    for (key, value) in items {
        let Some(name) = pickle.str(key) else { continue };
        match tensor(pickle, value) {
            Some(tensor) => drop(out.tensors.insert(name.to_owned(), tensor)),
            None => drop(out.others.insert(name.to_owned(), pickle.describe(value))),
        }
    }
    Ok(out)
}

/// Recognises `torch._utils._rebuild_tensor_v2(storage, offset, size, stride, …)`, also within a parameter.
fn tensor(pickle: &Pickle<'_>, mut at: Ref) -> Option<TorchTensor> {
    // A parameter holds a tensor; a few levels are more than torch writes.
    for _ in 0..4 {
        match pickle.call(at)? {
            (("torch._utils", "_rebuild_tensor_v2" | "_rebuild_tensor"), [storage, offset, size, stride, ..]) => {
                let storage = match pickle.node(*storage) {
                    super::pickle::Node::Persistent(id) => storage_ref(pickle, *id)?,
                    _ => return None,
                };
                let shape = counts(pickle, *size)?;
                let strides = counts(pickle, *stride)?;
                if shape.len() != strides.len() {
                    return None;
                }
                let shape = shape
                    .into_iter()
                    .map(|n| usize::try_from(n).ok())
                    .collect::<Option<_>>()?;
                return Some(TorchTensor {
                    storage: storage.key.to_owned(),
                    info: TensorInfo {
                        dtype: storage.dtype,
                        shape,
                    },
                    offset: pickle.count(*offset)?.checked_add(storage.view)?,
                    strides,
                });
            }
            (("torch._utils", "_rebuild_parameter" | "_rebuild_parameter_with_state"), [data, ..]) => at = *data,
            // Subclasses and tensors with attributes: (function, type, arguments, state).
            (("torch._tensor", "_rebuild_from_type_v2"), [function, _, args, ..])
                if pickle.global(*function) == Some(("torch._utils", "_rebuild_parameter")) =>
            {
                at = *pickle.sequence(*args)?.first()?;
            }
            _ => return None,
        }
    }
    None
}

/// A tuple of counts, plain or as `torch.Size`.
fn counts(pickle: &Pickle<'_>, at: Ref) -> Option<Vec<u64>> {
    let elements = match pickle.call(at) {
        Some((("torch", "Size"), [inner])) => pickle.sequence(*inner)?,
        _ => pickle.sequence(at)?,
    };
    elements.iter().map(|n| pickle.count(*n)).collect()
}

/// Reads the persistent id `("storage", class, key, device, elements[, view])`.
pub(super) fn storage_ref<'a>(pickle: &Pickle<'a>, id: Ref) -> Option<StorageRef<'a>> {
    let [tag, class, key, _device, _elements, rest @ ..] = pickle.sequence(id)? else {
        return None;
    };
    let ("torch" | "torch.storage" | "torch.cuda", class) = pickle.global(*class)? else {
        return None;
    };
    if pickle.str(*tag) != Some("storage") {
        return None;
    }
    let view = match rest.first().and_then(|view| pickle.sequence(*view)) {
        Some([_key, offset, _length]) => pickle.count(*offset)?,
        _ => 0,
    };
    Some(StorageRef {
        key: pickle.str(*key)?,
        dtype: storage_dtype(class)?,
        view,
    })
}

fn storage_dtype(class: &str) -> Option<Dtype> {
    Some(match class {
        "DoubleStorage" => Dtype::F64,
        "FloatStorage" => Dtype::F32,
        "HalfStorage" => Dtype::F16,
        "BFloat16Storage" => Dtype::BF16,
        "LongStorage" => Dtype::I64,
        "IntStorage" => Dtype::I32,
        "ShortStorage" => Dtype::I16,
        "CharStorage" => Dtype::I8,
        "ByteStorage" => Dtype::U8,
        "BoolStorage" => Dtype::Bool,
        _ => return None,
    })
}

impl TorchTensor {
    /// The values, row-major, from the bytes of the storage: borrowed if they lie so already. An error is a sentence
    /// without its subject.
    pub(super) fn values<'s>(&self, storage: &'s [u8]) -> Result<Cow<'s, [u8]>, String> {
        let shape = &self.info.shape;
        let size = self.info.dtype.size();
        let elements = self
            .info
            .elements()
            .ok_or_else(|| format!("shape {shape:?} fits no memory"))?;
        if elements == 0 {
            return Ok(Cow::Borrowed(&[]));
        }
        let held = (storage.len() / size) as u64;
        let last = shape
            .iter()
            .zip(&self.strides)
            .try_fold(self.offset, |at, (side, stride)| {
                at.checked_add(stride.checked_mul(*side as u64 - 1)?)
            });
        if last.is_none_or(|last| last >= held) || elements as u64 > held {
            let (dtype, offset) = (self.info.dtype, self.offset);
            return Err(format!(
                "{dtype} of shape {shape:?} at {offset} reaches beyond its storage of {held} elements: the file is truncated or damaged"
            ));
        }
        let offset = self.offset as usize;
        if self.is_contiguous() {
            return Ok(Cow::Borrowed(&storage[offset * size..(offset + elements) * size]));
        }
        let mut values = Vec::with_capacity(elements * size);
        let mut index = vec![0usize; shape.len()];
        for _ in 0..elements {
            let at: usize = index
                .iter()
                .zip(&self.strides)
                .map(|(i, stride)| i * *stride as usize)
                .sum();
            let start = (offset + at) * size;
            values.extend_from_slice(&storage[start..start + size]);
            for (i, side) in index.iter_mut().zip(shape).rev() {
                *i += 1;
                if *i < *side {
                    break;
                }
                *i = 0;
            }
        }
        Ok(Cow::Owned(values))
    }

    fn is_contiguous(&self) -> bool {
        let mut expected = 1;
        self.info.shape.iter().zip(&self.strides).rev().all(|(side, stride)| {
            let fits = *side == 1 || *stride == expected;
            expected *= *side as u64;
            fits
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn view(shape: &[usize], strides: &[u64], offset: u64) -> TorchTensor {
        let info = TensorInfo {
            dtype: Dtype::U8,
            shape: shape.to_vec(),
        };
        TorchTensor {
            storage: "0".to_owned(),
            info,
            offset,
            strides: strides.to_vec(),
        }
    }

    #[test]
    fn a_transposed_view_is_put_in_order() {
        let storage = [0, 1, 2, 3, 4, 5];
        assert_eq!(
            &*view(&[2, 3], &[3, 1], 0).values(&storage).unwrap(),
            [0, 1, 2, 3, 4, 5]
        );
        assert_eq!(
            &*view(&[3, 2], &[1, 3], 0).values(&storage).unwrap(),
            [0, 3, 1, 4, 2, 5]
        );
        assert_eq!(&*view(&[2], &[2], 1).values(&storage).unwrap(), [1, 3]);
        assert_eq!(&*view(&[], &[], 5).values(&storage).unwrap(), [5]);
        assert!(view(&[0, 3], &[3, 1], 99).values(&storage).unwrap().is_empty());
    }

    #[test]
    fn a_view_beyond_its_storage_is_refused() {
        for (shape, strides, offset) in [
            (&[2, 3][..], &[3, 1][..], 1),
            (&[7], &[1], 0),
            (&[1], &[1], 6),
            (&[2], &[u64::MAX], 1),
            (&[1], &[1], u64::MAX),
            (&[usize::MAX, 2], &[0, 0], 0),
            (&[1 << 40], &[0], 0),
        ] {
            assert!(
                view(shape, strides, offset).values(&[0; 6]).is_err(),
                "{shape:?} {strides:?} {offset}"
            );
        }
    }

    proptest! {
        #[test]
        fn any_view_is_read_or_refused(
            dims in proptest::collection::vec((0usize..5, 0u64..9), 0..4), offset in 0u64..20, length in 0usize..40
        ) {
            let (shape, strides): (Vec<_>, Vec<_>) = dims.into_iter().unzip();
            let tensor = view(&shape, &strides, offset);
            if let Ok(values) = tensor.values(&vec![0; length]) {
                prop_assert_eq!(Some(values.len()), tensor.info.bytes());
            }
        }
    }
}
