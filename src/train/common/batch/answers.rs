//! Answers to common questions as labels: what a data set says of its images beyond its table of labels (sides, severities, devices).

use std::collections::{BTreeMap, HashMap};

use rayon::prelude::*;

use super::labels::ANSWER;
use crate::train::data::{Question, Questions};

/// An answer is a label if at least one of so many images has it.
const RAREST: usize = 250;

/// Labels of one image: which answer, and 1 if it was given or 0 if another one was given to its question.
type Known = Vec<(usize, f32)>;

/// Names of answers that are labels (`answer: question answer`), and what is known of each image. `questions` are those of each image; what
/// cannot be read is left out.
pub(super) fn answers(questions: Vec<Vec<Questions>>) -> (Vec<String>, Vec<Known>) {
    let images = questions.len();
    let read = |sources: &Vec<Questions>| -> Vec<Question> {
        let lists = sources.iter().filter_map(|source| source.read().ok());
        lists.flatten().collect()
    };
    let asked: Vec<Vec<Question>> = questions.par_iter().map(read).collect();
    // Sorted, so that the names do not depend on the order of the images.
    let mut counts: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    for pair in asked.iter().flatten() {
        *counts.entry((&pair.question, &pair.answer)).or_default() += 1;
    }
    counts.retain(|_, count| *count * RAREST >= images);
    let mut by_question: HashMap<&str, Vec<(&str, usize)>> = HashMap::new();
    for (number, (question, answer)) in counts.keys().enumerate() {
        by_question.entry(question).or_default().push((answer, number));
    }
    let known = asked.iter().map(|pairs| {
        let labels = pairs.iter().flat_map(|pair| {
            let answers = by_question.get(pair.question.as_str());
            let one = |&(answer, number): &(&str, usize)| (number, f32::from(u8::from(answer == pair.answer)));
            answers.into_iter().flatten().map(one)
        });
        labels.collect()
    });
    let known: Vec<Known> = known.collect();
    let names = counts
        .keys()
        .map(|(question, answer)| format!("{ANSWER}{question} {answer}"));
    (names.collect(), known)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn common_answers_are_labels_and_the_others_to_the_same_question_are_absent() {
        let list = |pairs: &[(&str, &str)]| {
            let pair = |(question, answer): &(&str, &str)| Question {
                question: (*question).to_owned(),
                answer: (*answer).to_owned(),
            };
            vec![Questions::List(pairs.iter().map(pair).collect())]
        };
        let mut images = vec![
            list(&[("Side?", "Left."), ("Odd?", "Once.")]),
            list(&[("Side?", "Right.")]),
            Vec::new(),
        ];
        images.extend((0..500).map(|_| list(&[("Side?", "Left.")])));
        images.push(list(&[("Side?", "Right."), ("View?", "PA.")]));
        images.extend((0..2).map(|_| list(&[("Side?", "Right.")])));
        let (names, known) = answers(images);
        assert_eq!(names, ["answer: Side? Left.", "answer: Side? Right."]);
        assert_eq!(known[0], [(0, 1.0), (1, 0.0)]);
        assert_eq!(known[1], [(0, 0.0), (1, 1.0)]);
        assert!(known[2].is_empty());
    }
}
