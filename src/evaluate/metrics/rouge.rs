//! ROUGE-L (Lin 2004): the longest common subsequence of two texts, as Google's rouge-score has it without stemming.

use super::words::words;

/// F1 of the longest common subsequence of [`words`], averaged over `(generated, reference)` pairs.
pub fn rouge_l(pairs: &[(String, String)]) -> f64 {
    let each = pairs.iter().map(|(generated, reference)| {
        let (a, b) = (words(generated), words(reference));
        let common = common(&a, &b) as f64;
        if common == 0.0 {
            return 0.0;
        }
        let (precision, recall) = (common / a.len() as f64, common / b.len() as f64);
        2.0 * precision * recall / (precision + recall)
    });
    each.sum::<f64>() / pairs.len().max(1) as f64
}

/// Length of the longest common subsequence.
fn common(a: &[String], b: &[String]) -> usize {
    let mut row = vec![0; b.len() + 1];
    for x in a {
        let mut diagonal = 0;
        for (at, y) in b.iter().enumerate() {
            let above = row[at + 1];
            row[at + 1] = if x == y { diagonal + 1 } else { above.max(row[at]) };
            diagonal = above;
        }
    }
    row[b.len()]
}
