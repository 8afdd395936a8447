//! Why a tokenizer cannot serve as this model's vocabulary.

/// A `tokenizer.json` that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum VocabularyError {
    /// Not a tokenizer file.
    #[error("tokenizer.json cannot be read: {0}")]
    Syntax(String),
    /// Not the byte-level BPE of GPT-NeoX.
    #[error("tokenizer.json is not a byte-level BPE tokenizer as GPT-NeoX uses: {0}")]
    NotByteLevel(String),
    /// A token that the prompts need is not among the added tokens.
    #[error(
        "tokenizer.json lacks the control token {token:?}; LLM-CXR tokenizers have it among their added tokens (GPT-NeoX's alone does not)"
    )]
    MissingControl {
        /// Its text.
        token: &'static str,
    },
    /// The ids are not `0 … length − 1`, each once, so image codes would share ids with text.
    #[error(
        "tokenizer.json gives {token:?} the id {id}, which leaves a gap or is taken: {length} tokens must have the ids below {length}, for image codes follow the last one"
    )]
    Ids {
        /// The token.
        token: String,
        /// The id the file gives it.
        id: u64,
        /// Number of tokens.
        length: usize,
    },
    /// `<image>` does not split into `<`, the place of the codes, and `>`.
    #[error("tokenizer.json does not split `<image>` into `<`, `image` and `>`, so there is no place for image codes")]
    NoImagePlace,
    /// The code book is empty, or larger than codes of 16 bits.
    #[error("a code book of {0} codes cannot be used; it must hold between 1 and 65,536")]
    CodeCount(usize),
    /// An image of no codes.
    #[error("an image must have at least one code")]
    CodesPerImage,
}
