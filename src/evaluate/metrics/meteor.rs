//! METEOR (Banerjee & Lavie 2005) with exact and stem matches, as nltk has it; synonyms (WordNet) are left out.

use super::stem::stem;
use super::words::words;

/// Weight of precision, power and height of the penalty: nltk's defaults.
const ALPHA: f64 = 0.9;
const BETA: f64 = 3.0;
const GAMMA: f64 = 0.5;

/// METEOR averaged over `(generated, reference)` pairs; tokens are [`words`].
pub fn meteor(pairs: &[(String, String)]) -> f64 {
    let each = pairs
        .iter()
        .map(|(generated, reference)| single(&words(generated), &words(reference)));
    each.sum::<f64>() / pairs.len().max(1) as f64
}

fn single(generated: &[String], reference: &[String]) -> f64 {
    let numbered = |words: &[String]| words.iter().cloned().enumerate().collect::<Vec<_>>();
    let (mut ours, mut theirs) = (numbered(generated), numbered(reference));
    let mut matches = matched(&mut ours, &mut theirs);
    let stemmed = |words: Vec<(usize, String)>| {
        words
            .into_iter()
            .map(|(at, word)| (at, stem(&word)))
            .collect::<Vec<_>>()
    };
    let (mut ours, mut theirs) = (stemmed(ours), stemmed(theirs));
    matches.extend(matched(&mut ours, &mut theirs));
    matches.sort_unstable();
    let count = matches.len() as f64;
    if count == 0.0 {
        return 0.0;
    }
    let (precision, recall) = (count / generated.len() as f64, count / reference.len() as f64);
    let mean = precision * recall / (ALPHA * precision + (1.0 - ALPHA) * recall);
    let breaks = matches.windows(2).filter(|m| (m[0].0 + 1, m[0].1 + 1) != m[1]).count();
    let fragmentation = (breaks + 1) as f64 / count;
    (1.0 - GAMMA * fragmentation.powf(BETA)) * mean
}

/// Takes equal words out of both lists, the last first, and gives their places.
fn matched(ours: &mut Vec<(usize, String)>, theirs: &mut Vec<(usize, String)>) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    for i in (0..ours.len()).rev() {
        if let Some(j) = theirs.iter().rposition(|(_, word)| *word == ours[i].1) {
            found.push((ours[i].0, theirs[j].0));
            ours.remove(i);
            theirs.remove(j);
        }
    }
    found
}
