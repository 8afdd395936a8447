//! GPT-NeoX, VQ-GAN, KV memory, checkpoint reading and the bundle.
