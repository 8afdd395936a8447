//! `llm-cxr-train`: makes model bundles.

fn main() {
    println!("{:?}", tch::Tensor::arange(3, (tch::Kind::Float, tch::Device::Cpu)));
}
