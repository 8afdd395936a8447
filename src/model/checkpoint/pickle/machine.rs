//! The pickle machine: a stack, marks, a memo, one instruction after another.

use std::collections::HashMap;

use super::{LONGEST, Node, Object, Pickle, PickleError, Ref};

/// More values than any checkpoint's pickle has (a published one: some 20,000).
const MOST_NODES: usize = 4 << 20;

/// More references to values than any has: on the stack, in the memo, in collections; and marks.
const MOST_REFS: usize = MOST_NODES;

pub(super) fn run(bytes: &[u8]) -> Result<(Pickle<'_>, usize), PickleError> {
    let mut machine = Machine {
        input: &bytes[..bytes.len().min(LONGEST)],
        at: 0,
        nodes: Vec::new(),
        stack: Vec::new(),
        marks: Vec::new(),
        memo: HashMap::new(),
        collected: 0,
    };
    let root = loop {
        match machine.step() {
            Ok(Some(root)) => break root,
            Ok(None) => {}
            Err(PickleError::Truncated { .. }) if bytes.len() > LONGEST => return Err(PickleError::TooLarge),
            Err(error) => return Err(error),
        }
    };
    Ok((
        Pickle {
            nodes: machine.nodes,
            root,
        },
        machine.at,
    ))
}

struct Machine<'a> {
    input: &'a [u8],
    /// Next byte of the input.
    at: usize,
    nodes: Vec<Node<'a>>,
    stack: Vec<Ref>,
    /// Heights of the stack.
    marks: Vec<usize>,
    memo: HashMap<u64, Ref>,
    /// References that have gone from the stack into collections.
    collected: usize,
}

type Step<T> = Result<T, PickleError>;

impl<'a> Machine<'a> {
    /// Runs one instruction; gives the pickled value at STOP.
    fn step(&mut self) -> Step<Option<Ref>> {
        let at = self.at;
        let code = self.byte()?;
        match code {
            b'.' => return self.pop().map(Some),
            // Protocol, frame, read-only buffer: nothing to do here.
            0x80 => drop(self.byte()?),
            0x95 => drop(self.take(8)?),
            0x98 => {}
            // The stack.
            b'(' => self.marks.push(self.stack.len()),
            b'0' => {
                // A POP right after a MARK takes the mark away.
                if self.marks.last() == Some(&self.stack.len()) {
                    self.marks.pop();
                } else {
                    self.pop()?;
                }
            }
            b'1' => drop(self.pop_to_mark()?),
            b'2' => {
                let top = self.top()?;
                self.stack.push(top);
            }
            // The memo.
            b'p' | b'q' | b'r' | 0x94 => {
                let key = match code {
                    b'p' => self.number_line()?,
                    b'q' => self.unsigned(1)?,
                    b'r' => self.unsigned(4)?,
                    _ => self.memo.len() as u64,
                };
                let top = self.top()?;
                self.memo.insert(key, top);
            }
            b'g' | b'h' | b'j' => {
                let key = match code {
                    b'g' => self.number_line()?,
                    b'h' => self.unsigned(1)?,
                    _ => self.unsigned(4)?,
                };
                let value = *self.memo.get(&key).ok_or(PickleError::Memo { at })?;
                self.stack.push(value);
            }
            _ => self.value(code, at)?,
        }
        // One instruction is a byte, but what it leaves may be many.
        match self.stack.len() + self.marks.len() + self.memo.len() + self.collected > MOST_REFS {
            true => Err(PickleError::TooLarge),
            false => Ok(None),
        }
    }

    /// Instructions that make or change a value.
    fn value(&mut self, code: u8, at: usize) -> Step<()> {
        let node = match code {
            b'N' => Node::None,
            0x88 => Node::Bool(true),
            0x89 => Node::Bool(false),
            b'K' => Node::Int(self.unsigned(1)? as i64),
            b'M' => Node::Int(self.unsigned(2)? as i64),
            b'J' => Node::Int(i64::from(self.unsigned(4)? as u32 as i32)),
            0x8A | 0x8B => {
                let length = self.unsigned(if code == 0x8A { 1 } else { 4 })?;
                integer(self.take(length)?)
            }
            b'I' | b'L' => self.integer_line(at)?,
            b'G' => {
                self.take(8)?;
                Node::Float
            }
            b'F' => {
                self.text_line()?;
                Node::Float
            }
            // Texts and bytes. Python 2 wrote texts as byte strings.
            b'X' | 0x8C | 0x8D | b'T' | b'U' => {
                let width = match code {
                    0x8C | b'U' => 1,
                    0x8D => 8,
                    _ => 4,
                };
                let length = self.unsigned(width)?;
                let bytes = self.take(length)?;
                std::str::from_utf8(bytes).map_or(Node::Bytes, Node::Str)
            }
            b'V' => Node::Str(self.text_line()?),
            b'S' => Node::Str(self.text_line()?.trim_matches(['\'', '"'])),
            b'B' | b'C' | 0x8E | 0x96 => {
                let width = match code {
                    b'C' => 1,
                    b'B' => 4,
                    _ => 8,
                };
                let length = self.unsigned(width)?;
                self.take(length)?;
                Node::Bytes
            }
            // Collections.
            b')' => Node::Tuple(Vec::new()),
            b']' => Node::List(Vec::new()),
            b'}' => Node::Dict(Vec::new()),
            0x8F => Node::Set(Vec::new()),
            b't' => Node::Tuple(self.pop_to_mark()?),
            b'l' => Node::List(self.pop_to_mark()?),
            0x91 => Node::Set(self.pop_to_mark()?),
            b'd' => Node::Dict(pairs(&self.pop_to_mark()?, at)?),
            0x85..=0x87 => {
                let mut elements = Vec::with_capacity(3);
                for _ in 0x85..=code {
                    elements.push(self.pop()?);
                }
                elements.reverse();
                Node::Tuple(elements)
            }
            b'a' | b'e' | 0x90 | b's' | b'u' | b'b' => return self.change(code, at),
            _ => self.global_or_call(code, at)?,
        };
        self.push(node)
    }

    /// Names, and calls that are not made.
    fn global_or_call(&mut self, code: u8, at: usize) -> Step<Node<'a>> {
        Ok(match code {
            b'c' => self.global_lines()?,
            0x93 => {
                let (name, module) = (self.pop()?, self.pop()?);
                match (&self.nodes[module.0 as usize], &self.nodes[name.0 as usize]) {
                    (Node::Str(module), Node::Str(name)) => Node::Global { module, name },
                    _ => return Err(PickleError::Stack { at }),
                }
            }
            0x82..=0x84 => {
                self.take([1, 2, 4][usize::from(code - 0x82)])?;
                Node::Global {
                    module: "copyreg",
                    name: "extension",
                }
            }
            b'R' | 0x81 => {
                let (args, callable) = (self.pop()?, self.pop()?);
                object(callable, args)
            }
            0x92 => {
                let (_keywords, args, callable) = (self.pop()?, self.pop()?, self.pop()?);
                object(callable, args)
            }
            b'i' => {
                let class = self.global_lines()?;
                let args = self.pop_to_mark()?;
                object(self.add(class)?, self.add(Node::Tuple(args))?)
            }
            b'o' => {
                let elements = self.pop_to_mark()?;
                let (class, args) = elements.split_first().ok_or(PickleError::Stack { at })?;
                object(*class, self.add(Node::Tuple(args.to_vec()))?)
            }
            b'P' => {
                let id = self.text_line()?;
                Node::Persistent(self.add(Node::Str(id))?)
            }
            b'Q' => Node::Persistent(self.pop()?),
            code => return Err(PickleError::Opcode { code, at }),
        })
    }

    /// Instructions that put something into what lies below on the stack.
    fn change(&mut self, code: u8, at: usize) -> Step<()> {
        let elements = match code {
            b'a' | b'b' => {
                self.collected += 1;
                vec![self.pop()?]
            }
            b's' => {
                let (value, key) = (self.pop()?, self.pop()?);
                self.collected += 2;
                vec![key, value]
            }
            _ => self.pop_to_mark()?,
        };
        let target = self.top()?;
        match (code, &mut self.nodes[target.0 as usize]) {
            (b'a' | b'e', Node::List(list)) => list.extend(elements),
            (0x90, Node::Set(set)) => set.extend(elements),
            (b's' | b'u', Node::Dict(items)) => items.extend(pairs(&elements, at)?),
            (b's' | b'u', Node::Object(object)) => object.items.extend(pairs(&elements, at)?),
            // What an unknown object would be given is of no use: its state (BUILD), its elements.
            (b'b', _) | (b'a' | b'e' | 0x90, Node::Object(_)) => {}
            _ => return Err(PickleError::Stack { at }),
        }
        Ok(())
    }

    fn add(&mut self, node: Node<'a>) -> Step<Ref> {
        if self.nodes.len() >= MOST_NODES {
            return Err(PickleError::TooLarge);
        }
        self.nodes.push(node);
        Ok(Ref((self.nodes.len() - 1) as u32))
    }

    fn push(&mut self, node: Node<'a>) -> Step<()> {
        let at = self.add(node)?;
        self.stack.push(at);
        Ok(())
    }

    fn top(&self) -> Step<Ref> {
        let fence = self.marks.last().copied().unwrap_or(0);
        match self.stack.last() {
            Some(top) if self.stack.len() > fence => Ok(*top),
            _ => Err(PickleError::Stack { at: self.at }),
        }
    }

    fn pop(&mut self) -> Step<Ref> {
        let top = self.top()?;
        self.stack.pop();
        Ok(top)
    }

    fn pop_to_mark(&mut self) -> Step<Vec<Ref>> {
        let mark = self.marks.pop().ok_or(PickleError::Stack { at: self.at })?;
        let taken = self.stack.split_off(mark);
        self.collected += taken.len();
        Ok(taken)
    }

    fn byte(&mut self) -> Step<u8> {
        Ok(self.take(1)?[0])
    }

    fn take(&mut self, length: u64) -> Step<&'a [u8]> {
        let rest = &self.input[self.at..];
        let taken = usize::try_from(length).ok().and_then(|length| rest.get(..length));
        let taken = taken.ok_or(PickleError::Truncated { at: self.at })?;
        self.at += taken.len();
        Ok(taken)
    }

    /// A little-endian number of up to eight bytes.
    fn unsigned(&mut self, width: u64) -> Step<u64> {
        Ok(self
            .take(width)?
            .iter()
            .rev()
            .fold(0, |n, byte| n << 8 | u64::from(*byte)))
    }

    fn text_line(&mut self) -> Step<&'a str> {
        let at = self.at;
        let rest = &self.input[at..];
        let length = rest
            .iter()
            .position(|byte| *byte == b'\n')
            .ok_or(PickleError::Truncated { at })?;
        self.at += length + 1;
        let line = std::str::from_utf8(&rest[..length]).map_err(|_| PickleError::Text { at })?;
        Ok(line.trim_end_matches('\r'))
    }

    fn number_line(&mut self) -> Step<u64> {
        let at = self.at;
        self.text_line()?.parse().map_err(|_| PickleError::Text { at })
    }

    fn integer_line(&mut self, at: usize) -> Step<Node<'a>> {
        Ok(match self.text_line()? {
            "00" => Node::Bool(false),
            "01" => Node::Bool(true),
            line => line
                .trim_end_matches('L')
                .parse()
                .map(Node::Int)
                .map_err(|_| PickleError::Text { at })?,
        })
    }

    fn global_lines(&mut self) -> Step<Node<'a>> {
        let (module, name) = (self.text_line()?, self.text_line()?);
        Ok(Node::Global { module, name })
    }
}

fn object<'a>(callable: Ref, args: Ref) -> Node<'a> {
    Node::Object(Box::new(Object {
        callable,
        args,
        items: Vec::new(),
    }))
}

fn pairs(elements: &[Ref], at: usize) -> Step<Vec<(Ref, Ref)>> {
    let (pairs, rest) = elements.as_chunks::<2>();
    if !rest.is_empty() {
        return Err(PickleError::Stack { at });
    }
    Ok(pairs.iter().map(|[key, value]| (*key, *value)).collect())
}

/// A little-endian two's complement integer.
fn integer(bytes: &[u8]) -> Node<'_> {
    if bytes.len() > 8 {
        return Node::LongInt(bytes);
    }
    let fill = if bytes.last().is_some_and(|top| *top >= 0x80) {
        0xFF
    } else {
        0
    };
    let mut whole = [fill; 8];
    whole[..bytes.len()].copy_from_slice(bytes);
    Node::Int(i64::from_le_bytes(whole))
}
