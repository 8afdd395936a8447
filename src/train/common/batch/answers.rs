//! Answers to common questions as labels: what a data set says of its images beyond its table of labels (sides, severities, devices).

use std::collections::{BTreeMap, HashMap};
use std::io;

use rayon::prelude::*;

use super::labels::ANSWER;
use crate::train::data::{Question, Questions};

/// An answer is a label if at least one of so many images has it.
const RAREST: usize = 250;

/// Labels of one image: which answer, and 1 if it was given or 0 if another one was given to its question.
type Known = Vec<(usize, f32)>;

/// Names of answers that are labels (`answer: question answer`), and what is known of each image. `questions` are those of each image; what
/// cannot be used is left out.
///
/// # Errors
/// When the system does not read a file that may be there: the image's number, and what it said.
pub(super) fn answers(questions: Vec<Vec<Questions>>) -> Result<(Vec<String>, Vec<Known>), (usize, io::Error)> {
    let images = questions.len();
    let read = |(image, sources): (usize, &Vec<Questions>)| -> Result<Vec<Question>, (usize, io::Error)> {
        let lists: io::Result<Vec<_>> = sources.iter().map(Questions::read).collect();
        let lists = lists.map_err(|reason| (image, reason))?;
        Ok(lists.into_iter().filter_map(Result::ok).flatten().collect())
    };
    let asked: Vec<Vec<Question>> = questions.par_iter().enumerate().map(read).collect::<Result<_, _>>()?;
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
    Ok((names.collect(), known))
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
        let (names, known) = answers(images).unwrap();
        assert_eq!(names, ["answer: Side? Left.", "answer: Side? Right."]);
        assert_eq!(known[0], [(0, 1.0), (1, 0.0)]);
        assert_eq!(known[1], [(0, 0.0), (1, 1.0)]);
        assert!(known[2].is_empty());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn questions_that_the_system_does_not_read_are_an_error_and_no_image_without_answers() {
        let dir = tempfile::tempdir().unwrap();
        let (gone, held) = (dir.path().join("gone"), dir.path().join("held"));
        std::os::unix::fs::symlink("/proc/self/mem", &held).unwrap();
        let of = |path| answers(vec![Vec::new(), vec![Questions::File(path)]]).map(|(names, _)| names.len());
        assert_eq!(of(gone).unwrap(), 0);
        let (image, reason) = of(held).unwrap_err();
        assert!(image == 1 && !crate::train::data::is_no_file(&reason), "{reason}");
    }
}
