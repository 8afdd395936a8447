//! BLEU (Papineni et al. 2002) over a corpus with one reference each, as sacrebleu counts it, lower case and without smoothing.

use std::collections::HashMap;

use super::words::tokens_13a;

/// BLEU-1 to BLEU-4, each 0 to 1: the geometric mean of the precisions up to that order times the brevity penalty.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize)]
pub struct Bleu {
    /// Words alone.
    pub bleu_1: f64,
    /// Up to pairs.
    pub bleu_2: f64,
    /// Up to triples.
    pub bleu_3: f64,
    /// Up to runs of four.
    pub bleu_4: f64,
}

/// BLEU of `(generated, reference)` pairs, counts summed over the corpus. Tokens: [`tokens_13a`].
pub fn bleu(pairs: &[(String, String)]) -> Bleu {
    let (mut hits, mut totals, mut lengths) = ([0usize; 4], [0usize; 4], (0usize, 0usize));
    for (generated, reference) in pairs {
        let (a, b) = (tokens_13a(generated), tokens_13a(reference));
        lengths = (lengths.0 + a.len(), lengths.1 + b.len());
        for order in 1..=4 {
            let (ours, theirs) = (counts(&a, order), counts(&b, order));
            totals[order - 1] += ours.values().sum::<usize>();
            let clipped = ours
                .iter()
                .map(|(gram, &n)| n.min(theirs.get(gram).copied().unwrap_or(0)));
            hits[order - 1] += clipped.sum::<usize>();
        }
    }
    let brevity = match lengths {
        (0, _) => 0.0,
        (ours, theirs) if ours < theirs => (1.0 - theirs as f64 / ours as f64).exp(),
        _ => 1.0,
    };
    let up_to = |order: usize| {
        let logs = (0..order).map(|i| (hits[i] as f64 / totals[i].max(1) as f64).ln());
        brevity * (logs.sum::<f64>() / order as f64).exp()
    };
    Bleu {
        bleu_1: up_to(1),
        bleu_2: up_to(2),
        bleu_3: up_to(3),
        bleu_4: up_to(4),
    }
}

/// How often each run of `order` tokens occurs.
pub(super) fn counts(tokens: &[String], order: usize) -> HashMap<&[String], usize> {
    let mut counts = HashMap::new();
    tokens
        .windows(order)
        .for_each(|gram| *counts.entry(gram).or_insert(0) += 1);
    counts
}
