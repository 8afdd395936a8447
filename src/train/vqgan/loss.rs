//! Losses of taming's `VQLPIPSWithDiscriminator`.

use tch::{Kind, Tensor};

/// Hinge loss of the discriminator: ½·(mean(relu(1−real)) + mean(relu(1+fake))).
pub fn hinge(real: &Tensor, fake: &Tensor) -> Tensor {
    let real = (real * -1.0 + 1.0).relu().mean(Kind::Float);
    let fake = (fake + 1.0).relu().mean(Kind::Float);
    (real + fake) * 0.5
}

/// Loss of the generator against the discriminator: −mean(logits of drawn images).
pub fn generator(fake: &Tensor) -> Tensor {
    fake.mean(Kind::Float).neg()
}

/// Weight of the generator's adversarial loss: ‖∇ reconstruction‖ / (‖∇ adversarial‖ + 1e-4), at most 1e4, where both gradients are
/// those of the decoder's last layer.
pub fn adaptive_weight(reconstruction: &Tensor, adversarial: &Tensor) -> Tensor {
    (reconstruction.norm() / (adversarial.norm() + 1e-4))
        .clamp(0.0, 1e4)
        .detach()
}
