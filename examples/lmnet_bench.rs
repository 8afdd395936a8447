//! throwaway
use llm_cxr::model::neox::NeoxConfig;
use llm_cxr::train::common::{Adamw, AdamwSettings, clip};
use llm_cxr::train::neox::*;
use std::time::Instant;
use tch::{Device, Kind};
fn main() {
    let threads: i32 = std::env::args().nth(1).map_or(2, |s| s.parse().unwrap());
    tch::set_num_threads(threads);
    let c=NeoxConfig::from_json(br#"{"vocab_size":2600,"hidden_size":256,"num_hidden_layers":6,"num_attention_heads":4,"intermediate_size":1024,"max_position_embeddings":1024}"#).unwrap();
    let m = TrainableNeox::fresh(&c, 1, Device::Cpu).unwrap();
    let (rows, length) = (16, 256);
    let ids: Vec<i64> = (0..rows * length).map(|i| (i as i64 * 7919) % 2600).collect();
    let labels: Vec<i64> = ids
        .iter()
        .enumerate()
        .map(|(i, &x)| if i % length < length / 2 { -100 } else { x })
        .collect();
    let b = TokenBatch {
        rows,
        length,
        ids,
        labels,
    };
    let mut opt = Adamw::new(AdamwSettings::default(), m.trainable());
    for kind in [Kind::Float, Kind::BFloat16] {
        for checkpointing in [false, true] {
            let compute = Compute { kind, checkpointing };
            let (mut best, mut bo) = (f64::MAX, f64::MAX);
            let mut all = vec![];
            for _ in 0..8 {
                let t = Instant::now();
                let mut into = m.trainable().zeros();
                let (l, n) = m.accumulate(&b, 1.0 / 2048.0, &compute, &mut into).unwrap();
                let _ = (l.double_value(&[]), n);
                let e = t.elapsed().as_secs_f64();
                best = best.min(e);
                all.push(e);
                let t = Instant::now();
                clip(&mut into, 1.0);
                opt.step(m.trainable(), &into, 1e-4);
                bo = bo.min(t.elapsed().as_secs_f64());
            }
            all.sort_by(f64::total_cmp);
            println!(
                "{kind:?} ckpt {checkpointing}: min {:.0} ms, median {:.0} ms, {:.1} examples/s; clip+adamw {:.0} ms",
                best * 1e3,
                all[4] * 1e3,
                16.0 / best,
                bo * 1e3
            );
        }
    }
}
