//! What the context has room for.

use rayon::prelude::*;

use super::Examples;
use crate::train::language_model::Response;
use crate::vocabulary::Input;

impl Examples {
    /// Drops reports, questions and texts that the context has no room for, by the longest wording.
    pub(super) fn drop_long(&mut self) {
        let encoder = &self.encoder;
        let tokens = |text: &str| encoder.vocabulary().encode_text(text).len();
        let blank = vec![0u16; encoder.vocabulary().codes_per_image()];
        let around = |instructions: &[String], input: Input<'_>, response: Response<'_>| {
            let lengths = instructions
                .iter()
                .map(|i| encoder.example(i, input, &blank, response).ids.len());
            lengths.max().unwrap_or(0)
        };
        let report = around(&self.report_instructions, Input::Image(0), Response::Text(""));
        let draw = around(&self.draw_instructions, Input::Text(""), Response::Image(&blank));
        let [question, alone, about] = [Input::Image(0), Input::None, Input::Text("")]
            .map(|input| around(&[String::new()], input, Response::Text("")));
        // Tokens at the borders may merge differently: two more are allowed for.
        let context = self.context.saturating_sub(2);
        // A token has at least one byte: most texts need not be tokenised to know that they fit.
        let fits = |around: usize, texts: &[&str]| {
            let bytes: usize = texts.iter().map(|t| t.len()).sum();
            around + bytes < context || around + texts.iter().map(|t| tokens(t)).sum::<usize>() < context
        };
        let mut dropped: Vec<(&'static str, String)> = Vec::new();
        for set in &mut self.corpus.sets {
            let report_fits = |text: &str| fits(report.max(draw), &[text]);
            for (at, report, questions) in set.retain(report_fits, |q, answer| fits(question, &[q, answer])) {
                let id = set.id(&set.images[at]);
                let questions = (0..questions).map(|_| "question is too long for the model's context");
                let report = report.then_some("report is too long for the model's context");
                dropped.extend(
                    report
                        .into_iter()
                        .chain(questions)
                        .map(|reason| (reason, id.to_owned())),
                );
            }
        }
        for set in &mut self.corpus.texts {
            let keep: Vec<bool> = (set.texts.par_iter())
                .map(|(_, _, plain)| {
                    let around = if plain.context.is_some() { about } else { alone };
                    let context = plain.context.as_deref().unwrap_or_default();
                    fits(around, &[&plain.instruction, context, &plain.response])
                })
                .collect();
            let mut kept = keep.iter();
            set.texts.retain(|(id, _, _)| {
                let keep = kept.next().copied().unwrap_or(true);
                if !keep {
                    dropped.push(("plain instruction is too long for the model's context", id.to_string()));
                }
                keep
            });
        }
        for (reason, id) in dropped {
            self.corpus.account.skip(reason, || id);
        }
    }
}
