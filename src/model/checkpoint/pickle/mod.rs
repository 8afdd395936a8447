//! An inert reader of Python pickles (protocols 0 to 5).
//!
//! A pickle is a program: it may name any class or function of the machine that loads it and have it called. This reader
//! follows the program's data flow and calls nothing: a global stays a pair of names, a call stays the pair of what would be
//! called and its arguments. What a caller recognises it interprets; all else lies there and does no harm.
//!
//! Values live in one arena and refer to each other by index, so sharing costs nothing, cycles and deep nesting harm
//! nothing, and memory is bounded by the length of the pickle, which is limited itself.

mod machine;
#[cfg(test)]
mod tests;

/// A longer pickle is refused. Pickles of checkpoints hold names and shapes, not values: some 100 kB for the published model.
pub(super) const LONGEST: usize = 64 << 20;

/// Index of a value in its [`Pickle`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ref(u32);

/// A value. Strings stay where they lie in the file; what nobody asks for (floats, bytes) keeps only its kind.
#[derive(Debug)]
pub(super) enum Node<'a> {
    None,
    Bool(bool),
    Int(i64),
    /// An integer of more than 64 bits, little-endian two's complement.
    LongInt(&'a [u8]),
    Float,
    Str(&'a str),
    Bytes,
    Tuple(Vec<Ref>),
    List(Vec<Ref>),
    Set(Vec<Ref>),
    Dict(Vec<(Ref, Ref)>),
    /// A class or function by its names.
    Global {
        module: &'a str,
        name: &'a str,
    },
    /// What would come of calling something.
    Object(Box<Object>),
    /// What the program that loads the pickle is to supply; torch: a storage.
    Persistent(Ref),
}

/// A call that is never made, and what would be done to its result.
#[derive(Debug)]
pub(super) struct Object {
    pub(super) callable: Ref,
    /// A tuple, if the pickle is sound.
    pub(super) args: Ref,
    /// Items that would be set in it.
    pub(super) items: Vec<(Ref, Ref)>,
}

/// What is wrong with a pickle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum PickleError {
    /// It ends before its STOP.
    #[error("the pickle is truncated (at byte {at})")]
    Truncated { at: usize },
    /// A byte that is no instruction of protocols 0 to 5, or one that needs data from outside.
    #[error("the pickle is damaged: no instruction 0x{code:02X} (at byte {at})")]
    Opcode { code: u8, at: usize },
    /// An instruction found too little on the stack, or the wrong thing.
    #[error("the pickle is damaged: an instruction finds the wrong values (at byte {at})")]
    Stack { at: usize },
    /// A reference to something never stored.
    #[error("the pickle is damaged: it refers to a value it has not stored (at byte {at})")]
    Memo { at: usize },
    /// A number or text that is none.
    #[error("the pickle is damaged: unreadable number or text (at byte {at})")]
    Text { at: usize },
    /// More than any checkpoint needs.
    #[error("the pickle is larger than any checkpoint's (limit: {} MiB)", LONGEST >> 20)]
    TooLarge,
}

/// A pickle that has been read.
#[derive(Debug)]
pub(super) struct Pickle<'a> {
    nodes: Vec<Node<'a>>,
    root: Ref,
}

impl<'a> Pickle<'a> {
    /// Reads the pickle at the beginning of `bytes`; gives it and its length in bytes.
    pub(super) fn read(bytes: &'a [u8]) -> Result<(Self, usize), PickleError> {
        machine::run(bytes)
    }

    /// The pickled value.
    pub(super) fn root(&self) -> Ref {
        self.root
    }

    pub(super) fn node(&self, at: Ref) -> &Node<'a> {
        // A Ref is only made together with its node.
        &self.nodes[at.0 as usize]
    }

    /// What the pickle wants supplied from outside, in order.
    pub(super) fn persistent(&self) -> impl Iterator<Item = Ref> {
        self.nodes.iter().filter_map(|node| match node {
            Node::Persistent(id) => Some(*id),
            _ => None,
        })
    }

    pub(super) fn str(&self, at: Ref) -> Option<&'a str> {
        match self.node(at) {
            Node::Str(text) => Some(text),
            _ => None,
        }
    }

    /// An integer that counts something.
    pub(super) fn count(&self, at: Ref) -> Option<u64> {
        match self.node(at) {
            Node::Int(n) => u64::try_from(*n).ok(),
            _ => None,
        }
    }

    /// The elements of a tuple or list.
    pub(super) fn sequence(&self, at: Ref) -> Option<&[Ref]> {
        match self.node(at) {
            Node::Tuple(elements) | Node::List(elements) => Some(elements),
            _ => None,
        }
    }

    /// The names of a global.
    pub(super) fn global(&self, at: Ref) -> Option<(&'a str, &'a str)> {
        match self.node(at) {
            Node::Global { module, name } => Some((module, name)),
            _ => None,
        }
    }

    /// The names of what would be called, and the arguments.
    pub(super) fn call(&self, at: Ref) -> Option<((&'a str, &'a str), &[Ref])> {
        match self.node(at) {
            Node::Object(object) => Some((self.global(object.callable)?, self.sequence(object.args)?)),
            _ => None,
        }
    }

    /// The items of a dictionary, or of an object that items would be set in (an OrderedDict is one).
    pub(super) fn items(&self, at: Ref) -> Option<Vec<(Ref, Ref)>> {
        match self.node(at) {
            Node::Dict(items) => Some(items.clone()),
            Node::Object(object) => {
                let mut items = Vec::new();
                // Python 2 gave OrderedDict its items as an argument.
                if let Some((("collections", "OrderedDict"), [pairs])) = self.call(at) {
                    for pair in self.sequence(*pairs).unwrap_or_default() {
                        if let Some([key, value]) = self.sequence(*pair) {
                            items.push((*key, *value));
                        }
                    }
                }
                items.extend(&object.items);
                let ordered = self.global(object.callable) == Some(("collections", "OrderedDict"));
                (ordered || !items.is_empty()).then_some(items)
            }
            _ => None,
        }
    }

    /// What a value is, for messages.
    pub(super) fn describe(&self, at: Ref) -> String {
        match self.node(at) {
            Node::None => "None".to_owned(),
            Node::Bool(_) => "a truth value".to_owned(),
            Node::Int(_) | Node::LongInt(_) | Node::Float => "a number".to_owned(),
            Node::Str(_) => "a text".to_owned(),
            Node::Bytes => "bytes".to_owned(),
            Node::Tuple(_) | Node::List(_) | Node::Set(_) => "a list".to_owned(),
            Node::Dict(_) => "a dictionary".to_owned(),
            Node::Global { module, name } => format!("the name {module}.{name}"),
            Node::Object(object) => match self.global(object.callable) {
                Some((module, name)) => format!("an object of {module}.{name}"),
                None => "an object of unknown class".to_owned(),
            },
            Node::Persistent(_) => "a bare storage".to_owned(),
        }
    }
}
