//! The ways in which a report or an image is asked for in training.

use crate::model::bundle::DefaultInstructions;

/// Wordings for "write the report for this image", beside the bundle's own.
const REPORT: [&str; 9] = [
    "Write the radiology report for this chest X-ray.",
    "Describe the findings in the given chest radiograph.",
    "Read this chest X-ray and report what you see.",
    "What does this chest X-ray show? Answer with a radiology report.",
    "Compose a free-text report of the chest X-ray image below.",
    "Act as a radiologist and dictate the report of this image.",
    "Please interpret the chest radiograph and write down your findings.",
    "Provide a radiologist's report for the image.",
    "Summarise the appearance of this chest X-ray in a report.",
];

/// Wordings for "draw the image for this report", beside the bundle's own.
const DRAW: [&str; 9] = [
    "Draw the chest X-ray that this report describes.",
    "Create a chest radiograph with the findings given below.",
    "Make a chest X-ray image to go with the following report.",
    "Show what the chest X-ray of this report looks like.",
    "Produce a chest radiograph that fits the report.",
    "From the report, synthesise the chest X-ray image.",
    "Please draw a chest X-ray with the findings in this text.",
    "Turn this radiology report into a chest X-ray image.",
    "Render the chest radiograph on which this report was written.",
];

/// Ten ways to ask for a report; the first is the one that bundles ask with.
pub fn report() -> Vec<String> {
    ways(DefaultInstructions::default().report, &REPORT)
}

/// Ten ways to ask for an image; the first is the one that bundles ask with.
pub fn draw() -> Vec<String> {
    ways(DefaultInstructions::default().draw, &DRAW)
}

fn ways(first: String, others: &[&str]) -> Vec<String> {
    std::iter::once(first)
        .chain(others.iter().map(|&w| w.to_owned()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_ten_different_ways_to_ask_and_the_bundles_own_comes_first() {
        let own = DefaultInstructions::default();
        for (mut ways, own) in [(report(), own.report), (draw(), own.draw)] {
            assert_eq!(ways[0], own);
            ways.sort();
            ways.dedup();
            assert_eq!(ways.len(), 10);
        }
    }
}
