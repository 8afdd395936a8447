//! What can never run is refused at the door, with a sentence that says why.

use super::{EngineError, Facts, Job, Rule, SequenceSpec, TokenRules, image_len};
use crate::model::bundle::GUIDANCE;
use crate::vocabulary::{PromptPart, TokenId};

/// Checks a job against the model: sizes, indices, ranges, context and KV memory.
///
/// # Errors
/// [`EngineError::ContextExceeded`] when prompt and reply are too long together, [`EngineError::Unacceptable`] for all else.
pub(super) fn check(job: &Job, facts: &Facts, rules: &TokenRules) -> Result<(), EngineError> {
    let refuse = |why: String| Err(EngineError::Unacceptable(why));
    if job.images.is_empty() && job.sequences.is_empty() && job.codes.is_empty() {
        return refuse("it asks for nothing".into());
    }
    let side = facts.image_side;
    if job
        .images
        .iter()
        .any(|image| image.width() != side || image.height() != side)
    {
        return refuse(format!("an image is not {side} × {side} pixels"));
    }
    for codes in &job.codes {
        if codes.len() != facts.codes_per_image {
            return refuse(format!(
                "{} codes were given, an image has {}",
                codes.len(),
                facts.codes_per_image
            ));
        }
        if codes.iter().any(|&code| usize::from(code) >= facts.code_count) {
            return refuse(format!(
                "a code lies outside the code book of {} entries",
                facts.code_count
            ));
        }
    }
    job.sequences
        .iter()
        .try_for_each(|spec| check_sequence(spec, job.images.len(), facts, rules))
}

fn check_sequence(spec: &SequenceSpec, images: usize, facts: &Facts, rules: &TokenRules) -> Result<(), EngineError> {
    let refuse = |why: String| Err(EngineError::Unacceptable(why));
    let known = |id: &TokenId| (*id as usize) < facts.vocabulary;
    for part in &spec.prompt.parts {
        match part {
            PromptPart::Image(index) if *index >= images => {
                return refuse(format!("the prompt names image {index} of {images}"));
            }
            PromptPart::Tokens(ids) if !ids.iter().all(known) => {
                return refuse("the prompt holds an id outside the vocabulary".into());
            }
            _ => {}
        }
    }
    let prompt = spec.prompt.len(facts.codes_per_image);
    if prompt == 0 || spec.max_new_tokens == 0 {
        return refuse("prompt and reply need at least one token each".into());
    }
    let sampling = &spec.sampling;
    if !(0.0..=2.0).contains(&sampling.temperature) {
        return refuse("the temperature must lie between 0 and 2".into());
    }
    if !(sampling.top_p > 0.0 && sampling.top_p <= 1.0) {
        return refuse("top_p must be above 0 and at most 1".into());
    }
    if !spec.watch.iter().flatten().all(known) {
        return refuse("a watched id lies outside the vocabulary".into());
    }
    if spec.rule == Rule::Image && spec.max_new_tokens < image_len(facts.codes_per_image) {
        return refuse(format!(
            "an image needs {} new tokens",
            image_len(facts.codes_per_image)
        ));
    }
    let guide = match &spec.guide {
        None if sampling.guidance == 1.0 => 0,
        None => return refuse("guidance needs a prompt to be held against".into()),
        Some(guide) => {
            if !GUIDANCE.contains(&sampling.guidance) || spec.rule != Rule::Image {
                let (least, most) = (GUIDANCE.start(), GUIDANCE.end());
                return refuse(format!(
                    "guidance must lie between {least} and {most}, and is for images alone"
                ));
            }
            let usable = |part: &PromptPart| matches!(part, PromptPart::Tokens(ids) if ids.iter().all(known));
            if !guide.parts.iter().all(usable) || guide.len(0) == 0 {
                return refuse(
                    "the prompt that guidance is held against needs tokens of the vocabulary, and no image".into(),
                );
            }
            guide.len(0)
        }
    };
    let reply = rules.reply_len(spec.rule, spec.max_new_tokens);
    let total = prompt.max(guide).saturating_add(reply);
    if total > facts.context {
        return Err(EngineError::ContextExceeded {
            prompt,
            reply,
            context: facts.context,
        });
    }
    let both = match guide {
        0 => total,
        _ => prompt.saturating_add(guide).saturating_add(2 * reply),
    };
    if both > facts.kv_tokens {
        return refuse(format!(
            "it needs {both} tokens of KV memory, there are {}",
            facts.kv_tokens
        ));
    }
    Ok(())
}

/// Checks that model and vocabulary speak of the same tokens.
///
/// # Errors
/// A sentence that names what differs.
pub(super) fn agree(facts: &Facts, rules: &TokenRules) -> Result<(), String> {
    let differs = |what: &str, model: usize, vocabulary: usize| {
        Err(format!(
            "the model's {what} ({model}) is not that of the vocabulary ({vocabulary})"
        ))
    };
    if facts.code_base != rules.code_base {
        return differs("first code id", facts.code_base as usize, rules.code_base as usize);
    }
    if facts.code_count != rules.code_count {
        return differs("code book size", facts.code_count, rules.code_count);
    }
    if facts.codes_per_image != rules.codes_per_image {
        return differs(
            "number of codes per image",
            facts.codes_per_image,
            rules.codes_per_image,
        );
    }
    if facts.vocabulary < rules.code_base as usize + rules.code_count {
        return differs(
            "vocabulary size",
            facts.vocabulary,
            rules.code_base as usize + rules.code_count,
        );
    }
    let control = [rules.open_image, rules.close_image, rules.end];
    if control.iter().chain(&rules.stops).any(|&id| id >= rules.code_base) {
        return Err("a control id of the vocabulary is not below the image codes".into());
    }
    if facts.vision_batch == 0 || facts.kv_tokens == 0 || facts.codes_per_image == 0 || facts.code_count == 0 {
        return Err("the model says it can hold nothing (KV memory, images or codes)".into());
    }
    Ok(())
}
