//! What products read: weights as they lie in memory, and rows of inputs in the forms that kernels want.

/// Weights, keys or values as they lie in memory.
#[derive(Clone, Copy, Debug)]
pub enum Cells<'a> {
    /// f32.
    F32(&'a [f32]),
    /// The bits of bf16.
    Bf16(&'a [u16]),
}

impl<'a> Cells<'a> {
    /// How many.
    pub fn len(&self) -> usize {
        match self {
            Cells::F32(cells) => cells.len(),
            Cells::Bf16(cells) => cells.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Writes them to `out` as f32.
    ///
    /// # Panics
    /// If `out` is not as long.
    pub fn widen(&self, out: &mut [f32]) {
        assert!(out.len() == self.len());
        match self {
            Cells::F32(cells) => out.copy_from_slice(cells),
            Cells::Bf16(cells) => {
                for (to, &bits) in out.iter_mut().zip(*cells) {
                    *to = f32::from_bits(u32::from(bits) << 16);
                }
            }
        }
    }

    /// `len` of them from `start`.
    ///
    /// # Panics
    /// If that is not inside.
    pub fn part(&self, start: usize, len: usize) -> Cells<'a> {
        match self {
            Cells::F32(cells) => Cells::F32(&cells[start..start + len]),
            Cells::Bf16(cells) => Cells::Bf16(&cells[start..start + len]),
        }
    }
}

/// Rows of inputs of a product: each `stride` long, a multiple of [`super::Kernels::PADDING`], zero beyond the matrix's columns.
/// A product reads one of the three forms; the others may be empty.
#[derive(Clone, Copy, Debug)]
pub struct Inputs<'a> {
    /// The rows in f32.
    pub values: &'a [f32],
    /// The same rows rounded to bf16. Read instead of `values` where [`super::Kernels::rounds_inputs`].
    pub rounded: &'a [u16],
    /// The same rows in 8-bit fixed point, for quantised weights.
    pub fixed: Fixed<'a>,
    /// From one row to the next.
    pub stride: usize,
    /// Rows.
    pub count: usize,
}

/// Rows in 8-bit fixed point ([`super::Kernels::fix`]): each [`Fixed::GROUP`] of a row's values has a scale of its own.
#[derive(Clone, Copy, Debug, Default)]
pub struct Fixed<'a> {
    /// `[count, stride]`: value over scale, rounded, −127..=127. Read where [`super::Kernels::multiplies_bytes`].
    pub bytes: &'a [i8],
    /// The same numbers in 16 bits, of every four the second and the third in each other's place. Read elsewhere.
    pub words: &'a [i16],
    /// `[count, stride / GROUP]`.
    pub scales: &'a [f32],
    /// `[count, stride / GROUP]`: −128 times the group's sum of rounded values, which takes the offset of unsigned codes away.
    pub offsets: &'a [i32],
}

impl Fixed<'_> {
    /// Values that share a scale.
    pub const GROUP: usize = 32;
}

/// Where rows in fixed point go; as [`Fixed`].
#[derive(Debug)]
pub struct FixedMut<'a> {
    /// Written where [`super::Kernels::multiplies_bytes`].
    pub bytes: &'a mut [i8],
    /// Written elsewhere.
    pub words: &'a mut [i16],
    /// Scales.
    pub scales: &'a mut [f32],
    /// Offsets.
    pub offsets: &'a mut [i32],
}
