//! CIDEr-D (Vedantam et al. 2015) with one reference each, as pycocoevalcap's `Cider` computes it.

use std::collections::HashMap;

use super::bleu::counts;
use super::words::words;

/// Width of the length penalty.
const SIGMA: f64 = 6.0;

/// CIDEr-D averaged over `(generated, reference)` pairs, 0 to 10; tokens are [`words`]. Document frequencies are those of the references
/// given, so that figures of different sets do not compare.
pub fn cider(pairs: &[(String, String)]) -> f64 {
    let tokens: Vec<_> = pairs.iter().map(|(a, b)| (words(a), words(b))).collect();
    let all = (pairs.len().max(1) as f64).ln();
    let mut total = 0.0;
    for order in 1..=4 {
        let mut documents: HashMap<&[String], usize> = HashMap::new();
        for (_, reference) in &tokens {
            counts(reference, order)
                .into_keys()
                .for_each(|gram| *documents.entry(gram).or_insert(0) += 1);
        }
        for (generated, reference) in &tokens {
            let weighted = |tokens| weighted(tokens, order, &documents, all);
            let (ours, theirs): (Vec<_>, Vec<_>) = (weighted(generated), weighted(reference));
            let length = |vector: &[(&[String], f64)]| vector.iter().map(|(_, w)| w * w).sum::<f64>().sqrt();
            let norms = length(&ours) * length(&theirs);
            let lookup: HashMap<_, _> = theirs.iter().copied().collect();
            let product = ours
                .iter()
                .map(|(gram, w)| lookup.get(gram).map_or(0.0, |v| w.min(*v) * v));
            let mut similarity: f64 = product.sum();
            if norms != 0.0 {
                similarity /= norms;
            }
            // pycocoevalcap measures lengths in pairs of words.
            let pairs_of = |tokens: &[String]| tokens.len().saturating_sub(1) as f64;
            let difference = pairs_of(generated) - pairs_of(reference);
            total += similarity * (-difference * difference / (2.0 * SIGMA * SIGMA)).exp();
        }
    }
    total / 4.0 / pairs.len().max(1) as f64 * 10.0
}

/// Each run of `order` words with its count times the logarithm of how rare it is, in a fixed order, so that sums of floats are the same
/// in every run. `all`: the logarithm of the number of documents.
fn weighted<'a>(
    tokens: &'a [String],
    order: usize,
    documents: &HashMap<&[String], usize>,
    all: f64,
) -> Vec<(&'a [String], f64)> {
    let mut counts: Vec<_> = counts(tokens, order).into_iter().collect();
    counts.sort_unstable();
    let each = counts.into_iter().map(|(gram, n)| {
        let seen = documents.get(gram).copied().unwrap_or(0).max(1) as f64;
        (gram, n as f64 * (all - seen.ln()))
    });
    each.collect()
}
