//! The engine's meters, by name, all in one place. Recorded through the `metrics` facade; without a recorder they cost nothing.
//! No label ever holds what a client sent.

use std::time::Duration;

use metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};

use super::Stats;
use super::scheduler::Observation;

const BATCH_SIZE: &str = "llm_cxr_batch_size";
const STEP_SECONDS: &str = "llm_cxr_step_seconds";
const TIME_TO_FIRST_TOKEN: &str = "llm_cxr_time_to_first_token_seconds";
const TIME_PER_TOKEN: &str = "llm_cxr_time_per_token_seconds";
const QUEUE_SECONDS: &str = "llm_cxr_queue_seconds";
const QUEUE_JOBS: &str = "llm_cxr_queue_jobs";
const QUEUE_BYTES: &str = "llm_cxr_queue_bytes";
const RUNNING_SEQUENCES: &str = "llm_cxr_running_sequences";
const KV_USED: &str = "llm_cxr_kv_tokens_used";
const KV_CAPACITY: &str = "llm_cxr_kv_tokens_capacity";
const PROMPT_TOKENS: &str = "llm_cxr_prompt_tokens_total";
const GENERATED_TOKENS: &str = "llm_cxr_generated_tokens_total";
const DRAFTED_TOKENS: &str = "llm_cxr_drafted_tokens_total";
const ACCEPTED_TOKENS: &str = "llm_cxr_accepted_tokens_total";
const IMAGES_ENCODED: &str = "llm_cxr_images_encoded_total";
const IMAGES_DRAWN: &str = "llm_cxr_images_drawn_total";
const STEP_FAULTS: &str = "llm_cxr_step_faults_total";
const JOBS: &str = "llm_cxr_jobs_total";

/// Gives every meter its unit and meaning. Call it once the recorder is installed.
pub fn describe() {
    describe_histogram!(BATCH_SIZE, Unit::Count, "Sequences in a token step");
    describe_histogram!(STEP_SECONDS, Unit::Seconds, "Time of a token step, sampling included");
    describe_histogram!(
        TIME_TO_FIRST_TOKEN,
        Unit::Seconds,
        "From submission to a reply's first token"
    );
    describe_histogram!(TIME_PER_TOKEN, Unit::Seconds, "From one token of a reply to the next");
    describe_histogram!(QUEUE_SECONDS, Unit::Seconds, "From submission to a reply's first work");
    describe_gauge!(
        QUEUE_JOBS,
        Unit::Count,
        "Jobs that wait for admission into the running set"
    );
    describe_gauge!(QUEUE_BYTES, Unit::Bytes, "Bytes that waiting jobs hold");
    describe_gauge!(RUNNING_SEQUENCES, Unit::Count, "Sequences with KV memory");
    describe_gauge!(KV_USED, Unit::Count, "KV token positions reserved");
    describe_gauge!(KV_CAPACITY, Unit::Count, "KV token positions there are");
    describe_counter!(PROMPT_TOKENS, Unit::Count, "Prompt tokens run");
    describe_counter!(GENERATED_TOKENS, Unit::Count, "Tokens generated");
    describe_counter!(DRAFTED_TOKENS, Unit::Count, "Tokens drafted ahead of the model");
    describe_counter!(ACCEPTED_TOKENS, Unit::Count, "Drafted tokens that the model gave too");
    describe_counter!(IMAGES_ENCODED, Unit::Count, "Images encoded by the VQ-GAN");
    describe_counter!(IMAGES_DRAWN, Unit::Count, "Images drawn by the VQ-GAN");
    describe_counter!(STEP_FAULTS, Unit::Count, "Token steps and VQ-GAN passes that failed");
    describe_counter!(JOBS, Unit::Count, "Jobs by outcome: done, failed, cancelled, refused");
}

/// One token step has been run.
pub(super) fn step(sequences: usize, took: Duration) {
    histogram!(BATCH_SIZE).record(sequences as f64);
    histogram!(STEP_SECONDS).record(took.as_secs_f64());
}

/// The scheduler has measured something.
pub(super) fn observe(observation: Observation) {
    match observation {
        Observation::Queue(took) => histogram!(QUEUE_SECONDS).record(took.as_secs_f64()),
        Observation::FirstToken(took) => histogram!(TIME_TO_FIRST_TOKEN).record(took.as_secs_f64()),
        Observation::NextToken(took) => histogram!(TIME_PER_TOKEN).record(took.as_secs_f64()),
    }
}

/// Brings gauges and counters to where the engine stands.
pub(super) fn publish(stats: &Stats) {
    gauge!(QUEUE_JOBS).set(stats.queued_jobs as f64);
    gauge!(QUEUE_BYTES).set(stats.queued_bytes as f64);
    gauge!(RUNNING_SEQUENCES).set(stats.running_sequences as f64);
    gauge!(KV_USED).set(stats.kv_tokens_used as f64);
    gauge!(KV_CAPACITY).set(stats.kv_tokens_total as f64);
    counter!(PROMPT_TOKENS).absolute(stats.prompt_tokens);
    counter!(GENERATED_TOKENS).absolute(stats.tokens_generated);
    counter!(DRAFTED_TOKENS).absolute(stats.drafted_tokens);
    counter!(ACCEPTED_TOKENS).absolute(stats.accepted_tokens);
    counter!(IMAGES_ENCODED).absolute(stats.images_encoded);
    counter!(IMAGES_DRAWN).absolute(stats.images_drawn);
    counter!(STEP_FAULTS).absolute(stats.step_faults);
    counter!(JOBS, "outcome" => "done").absolute(stats.jobs_done);
    counter!(JOBS, "outcome" => "failed").absolute(stats.jobs_failed);
    counter!(JOBS, "outcome" => "cancelled").absolute(stats.jobs_cancelled);
    counter!(JOBS, "outcome" => "refused").absolute(stats.jobs_refused);
}
