//! The token space itself: which id is text, control or image code.

use std::sync::Arc;

use tokenizers::{AddedToken, Model, ModelWrapper, Tokenizer};

use super::bytes::{ByteAlphabet, occurs_in_utf8};
use super::spaces::clean_up;
use super::{TokenId, VocabularyError};

const END: &str = "### End";
const INSTRUCTION: &str = "### Instruction:";
const RESPONSE: &str = "### Response:\n";
const END_OF_TEXT: &str = "<|endoftext|>";

/// The one token space of a model: text ids, then image codes. Cheap to clone.
///
/// Ids below [`code_base`](Self::code_base) are the tokenizer's, control tokens among them; id `code_base + c` is image code `c`.
#[derive(Clone)]
pub struct Vocabulary(Arc<Space>);

struct Space {
    tokenizer: Tokenizer,
    /// What each text id adds to a decoded text; `None` for special tokens, which add nothing.
    pieces: Vec<Option<Box<[u8]>>>,
    /// The token of each single byte.
    byte_tokens: [TokenId; 256],
    control: Control,
    code_count: usize,
    codes_per_image: usize,
    yes_no: (Vec<TokenId>, Vec<TokenId>),
}

/// The ids that give a prompt and a reply their structure.
#[derive(Clone, Copy)]
pub(super) struct Control {
    end: TokenId,
    end_of_text: TokenId,
    pub(super) instruction: TokenId,
    pub(super) response: TokenId,
    open_image: TokenId,
    close_image: TokenId,
}

impl std::fmt::Debug for Vocabulary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (text, codes) = (self.text_len(), self.code_count());
        f.debug_struct("Vocabulary")
            .field("text_len", &text)
            .field("code_count", &codes)
            .finish_non_exhaustive()
    }
}

impl Vocabulary {
    /// Reads a `tokenizer.json` and puts the codes of a VQ-GAN after its last id.
    ///
    /// Control tokens are found by their text, not by their number. A tokenizer without them, or one that is not a byte-level
    /// BPE, is an error.
    pub fn from_bytes(
        tokenizer_json: &[u8],
        code_count: usize,
        codes_per_image: usize,
    ) -> Result<Self, VocabularyError> {
        if code_count == 0 || code_count > 1 << 16 {
            return Err(VocabularyError::CodeCount(code_count));
        }
        if codes_per_image == 0 {
            return Err(VocabularyError::CodesPerImage);
        }
        let (mut tokenizer, listed) = read(tokenizer_json)?;
        // A truncating or padding tokenizer.json (a leftover of training) must not cut prompts.
        tokenizer
            .with_truncation(None)
            .map_err(|e| VocabularyError::Syntax(e.to_string()))?;
        tokenizer.with_padding(None);
        let alphabet = ByteAlphabet::new();
        let byte_tokens = byte_tokens(&tokenizer, &alphabet)?;

        let mut named = [0; 4];
        for (id, token) in named.iter_mut().zip([END, INSTRUCTION, RESPONSE, END_OF_TEXT]) {
            *id = special(&mut tokenizer, token)?;
        }
        let [end, instruction, response, end_of_text] = named;
        // From here on control tokens in a text are text. They enter a prompt by their ids alone.
        tokenizer.set_encode_special_tokens(true);

        let ids = tokenizer.get_vocab(true);
        let length = ids.len();
        let misplaced = |token: &str, id: u64| VocabularyError::Ids {
            token: token.to_owned(),
            id,
            length,
        };
        for (token, id) in listed {
            // The tokenizers crate counts added tokens on from the last id, whatever id the file gives.
            if ids.get(&token).is_none_or(|read| u64::from(*read) != id) {
                return Err(misplaced(&token, id));
            }
        }
        let added = tokenizer.get_added_tokens_decoder();
        let mut taken = vec![false; length];
        let mut pieces = vec![None; length];
        for (token, id) in &ids {
            match taken.get_mut(*id as usize) {
                Some(taken) if !*taken => *taken = true,
                _ => return Err(misplaced(token, u64::from(*id))),
            }
            if !added.get(id).is_some_and(|t| t.special) {
                pieces[*id as usize] = Some(alphabet.bytes(token));
            }
        }

        let control = Control {
            end,
            end_of_text,
            instruction,
            response,
            open_image: 0,
            close_image: 0,
        };
        let space = Space {
            tokenizer,
            pieces,
            byte_tokens,
            control,
            code_count,
            codes_per_image,
            yes_no: Default::default(),
        };
        space.complete()
    }

    pub(super) fn control(&self) -> Control {
        self.0.control
    }

    /// Length of the tokenizer, added tokens included: the number of text ids.
    pub fn text_len(&self) -> usize {
        self.0.pieces.len()
    }

    /// Text ids and codes together: the rows of the model's embedding.
    #[expect(clippy::len_without_is_empty, reason = "a vocabulary is never empty")]
    pub fn len(&self) -> usize {
        self.text_len() + self.code_count()
    }

    /// The id of image code 0.
    pub fn code_base(&self) -> TokenId {
        self.text_len() as TokenId
    }

    /// Size of the code book.
    pub fn code_count(&self) -> usize {
        self.0.code_count
    }

    /// How many codes make an image.
    pub fn codes_per_image(&self) -> usize {
        self.0.codes_per_image
    }

    /// `### End`, with which a reply ends.
    pub fn end(&self) -> TokenId {
        self.0.control.end
    }

    /// `<|endoftext|>`.
    pub fn end_of_text(&self) -> TokenId {
        self.0.control.end_of_text
    }

    /// `<`, before the codes of an image.
    pub fn open_image(&self) -> TokenId {
        self.0.control.open_image
    }

    /// `>`, after the codes of an image.
    pub fn close_image(&self) -> TokenId {
        self.0.control.close_image
    }

    /// The ids that end a reply: `### End` alone, as the original generates.
    pub fn stops(&self) -> Vec<TokenId> {
        vec![self.end()]
    }

    /// The first ids of "yes" and "Yes", and those of "no" and "No".
    pub fn yes_no(&self) -> (Vec<TokenId>, Vec<TokenId>) {
        self.0.yes_no.clone()
    }

    /// The code that an id stands for, if it is an image code.
    pub fn code(&self, id: TokenId) -> Option<u16> {
        let code = id.checked_sub(self.code_base())?;
        ((code as usize) < self.code_count()).then_some(code as u16)
    }

    /// The image codes among generated ids, in order, contiguous or not.
    pub fn codes_in(&self, ids: &[TokenId]) -> Vec<u16> {
        ids.iter().filter_map(|id| self.code(*id)).collect()
    }

    /// Tokenises a text. Never gives a control token or an image code, whatever the text holds.
    pub fn encode_text(&self, text: &str) -> Vec<TokenId> {
        self.0.encode(text)
    }

    /// The text of generated ids, as transformers 4.28 decodes it: without codes and special tokens, bytes that are not UTF-8
    /// replaced, tokenizer spaces cleaned up.
    pub fn decode_text(&self, ids: &[TokenId]) -> String {
        let bytes: Vec<u8> = ids.iter().flat_map(|id| self.piece(*id)).copied().collect();
        clean_up(&String::from_utf8_lossy(&bytes))
    }

    /// The bytes that an id adds to a text; none for codes, special tokens and unknown ids.
    pub(super) fn piece(&self, id: TokenId) -> &[u8] {
        self.0
            .pieces
            .get(id as usize)
            .and_then(|piece| piece.as_deref())
            .unwrap_or(&[])
    }
}

impl Space {
    /// Fills in what is found by encoding.
    fn complete(mut self) -> Result<Vocabulary, VocabularyError> {
        let whole = self.encode("\nx\n\nInput:\n<image>\n\n");
        let (before, after) = (self.encode("\nx\n\nInput:\n<"), self.encode(">\n\n"));
        let (open, close) = (self.encode("<"), self.encode(">"));
        let ([open], [close]) = (&*open, &*close) else {
            return Err(VocabularyError::NoImagePlace);
        };
        let apart = [&*before, &self.encode("image"), &*after].concat();
        if whole != apart || before.last() != Some(open) || after.first() != Some(close) {
            return Err(VocabularyError::NoImagePlace);
        }
        (self.control.open_image, self.control.close_image) = (*open, *close);
        let firsts = |words: [&str; 2]| {
            let mut ids: Vec<TokenId> = words.iter().filter_map(|w| self.encode(w).first().copied()).collect();
            ids.dedup();
            ids
        };
        self.yes_no = (firsts(["yes", "Yes"]), firsts(["no", "No"]));
        Ok(Vocabulary(Arc::new(self)))
    }

    fn encode(&self, text: &str) -> Vec<TokenId> {
        match self.tokenizer.encode(text, false) {
            Ok(encoding) => encoding.get_ids().to_vec(),
            // Byte-level BPE has a token for every text; should the tokenizer fail all the same, single bytes say the same.
            Err(_) => text.bytes().map(|byte| self.byte_tokens[usize::from(byte)]).collect(),
        }
    }
}

/// Refuses what is JSON and makes the tokenizers crate panic when it reads it; to be asked before. The crate must then be given `value`, and
/// not the file: of a key that stands twice it reads each value, and only the last is looked at here.
///
/// # Errors
/// With the reason.
pub(crate) fn check_tokenizer(value: &serde_json::Value) -> Result<(), &'static str> {
    if !value["model"].is_object() {
        return Err("it holds no `model`");
    }
    // One whose table is damaged is no error there. A byte-level BPE has none: they are for SentencePiece.
    match holds_precompiled(&value["normalizer"]) {
        true => Err("it has a normalizer of the type Precompiled, which a byte-level BPE does not use"),
        false => Ok(()),
    }
}

/// Whether a normalizer is precompiled, or one of those in it.
fn holds_precompiled(normalizer: &serde_json::Value) -> bool {
    use serde_json::Value;

    match normalizer {
        Value::Array(inner) => inner.iter().any(holds_precompiled),
        Value::Object(fields) => {
            // A name without a value may be written as an object of one field, too.
            let named = |kind: &Value| kind == "Precompiled" || kind.get("Precompiled").is_some();
            fields.get("type").is_some_and(named) || fields.values().any(holds_precompiled)
        }
        _ => false,
    }
}

/// Parses the file; gives its added tokens with their ids as written, too. That it is JSON with a byte-level decoder is seen to
/// first: the tokenizers crate panics on some files that are not.
fn read(json: &[u8]) -> Result<(Tokenizer, Vec<(String, u64)>), VocabularyError> {
    let value: serde_json::Value = serde_json::from_slice(json).map_err(|e| VocabularyError::Syntax(e.to_string()))?;
    check_tokenizer(&value).map_err(|reason| VocabularyError::Syntax(reason.to_owned()))?;
    if value["decoder"]["type"] != "ByteLevel" {
        return Err(VocabularyError::NotByteLevel("its decoder is not ByteLevel".to_owned()));
    }
    let tokenizer = Tokenizer::from_bytes(value.to_string()).map_err(|e| VocabularyError::Syntax(e.to_string()))?;
    let token = |t: &serde_json::Value| Some((t["content"].as_str()?.to_owned(), t["id"].as_u64()?));
    let listed = value["added_tokens"]
        .as_array()
        .map(|tokens| tokens.iter().filter_map(token).collect());
    Ok((tokenizer, listed.unwrap_or_default()))
}

/// The id of a control token, which is made special if the file does not say so: only special tokens can be told apart from
/// the same characters in a user's text.
fn special(tokenizer: &mut Tokenizer, token: &'static str) -> Result<TokenId, VocabularyError> {
    let missing = || VocabularyError::MissingControl { token };
    let added: AddedToken = tokenizer
        .get_added_tokens_decoder()
        .into_values()
        .find(|t| t.content == token)
        .ok_or_else(missing)?;
    if !added.special {
        tokenizer
            .add_special_tokens([added.special(true)])
            .map_err(|e| VocabularyError::Syntax(e.to_string()))?;
    }
    tokenizer.token_to_id(token).ok_or_else(missing)
}

/// Checks that the tokenizer is a byte-level BPE that can write every text, and gives the token of each byte.
fn byte_tokens(tokenizer: &Tokenizer, alphabet: &ByteAlphabet) -> Result<[TokenId; 256], VocabularyError> {
    let not = |reason: &str| Err(VocabularyError::NotByteLevel(reason.to_owned()));
    let ModelWrapper::BPE(model) = tokenizer.get_model() else {
        return not("its model is not BPE");
    };
    if tokenizer.encode("", true).is_ok_and(|encoding| !encoding.is_empty()) {
        return not("it adds tokens around every text");
    }
    let mut tokens = [0; 256];
    for (byte, char) in alphabet.iter() {
        match model.token_to_id(char.encode_utf8(&mut [0; 4])) {
            Some(id) => tokens[usize::from(byte)] = id,
            None if occurs_in_utf8(byte) => return not(&format!("it has no token for the byte 0x{byte:02X}")),
            None => {}
        }
    }
    Ok(tokens)
}
