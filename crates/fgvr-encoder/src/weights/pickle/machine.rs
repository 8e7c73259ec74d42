//! The pickle machine: what it holds, how it reads, and what it may spend. Its instructions are in
//! `opcodes`.

use std::collections::HashMap;
use std::fmt;

use super::value::{Node, Storage, Value};

/// What can be wrong with a pickle.
#[derive(Debug)]
pub(crate) enum PickleError {
    /// It ends too early.
    Truncated,
    /// An instruction that does not exist.
    Opcode { opcode: u8, at: usize },
    /// An instruction that finds the wrong values before it.
    Invalid { what: &'static str, at: usize },
    /// It would make far more values than a file of this size has use for.
    TooLarge,
}

impl fmt::Display for PickleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated => f.write_str("its pickle ends too early"),
            Self::Opcode { opcode, at } => {
                write!(
                    f,
                    "its pickle has an unknown instruction {opcode:#04x} at byte {at}"
                )
            }
            Self::Invalid { what, at } => write!(f, "its pickle is damaged at byte {at}: {what}"),
            Self::TooLarge => f.write_str("its pickle makes more values than its size allows"),
        }
    }
}

/// Bytes that values may still take, an upper bound of what is really allocated.
pub(crate) struct Budget {
    left: u64,
}

impl Budget {
    /// A few times the file, and enough for any small one.
    pub(crate) fn for_file(bytes: u64) -> Self {
        Self {
            left: bytes.saturating_mul(4).saturating_add(4 << 20),
        }
    }

    pub(crate) fn charge(&mut self, bytes: usize) -> Result<(), PickleError> {
        self.left = self
            .left
            .checked_sub(bytes as u64)
            .ok_or(PickleError::TooLarge)?;
        Ok(())
    }
}

/// A value in a growing vector: its size, twice for the doubling, once more while it is copied.
pub(crate) const VALUE: usize = 3 * size_of::<Value>();
/// A node in the arena, likewise, and the shape and strides of a tensor.
const NODE: usize = 3 * size_of::<Node>() + 400;

/// The machine, for protocols 0 to 5, without the power to call anything: the pickle, a stack, marks in it, the memo and the arena.
pub(crate) struct Machine<'a> {
    pub(crate) text: &'a [u8],
    at: usize,
    pub(super) stack: Vec<Value>,
    pub(super) marks: Vec<usize>,
    pub(super) memo: HashMap<u32, Value>,
    pub(crate) nodes: Vec<Node>,
    pub(crate) budget: Budget,
}

impl<'a> Machine<'a> {
    /// A machine for the pickle that begins at byte `at` of `text`.
    pub(crate) fn new(text: &'a [u8], at: usize, budget: Budget) -> Self {
        Self {
            text,
            at,
            stack: Vec::new(),
            marks: Vec::new(),
            memo: HashMap::new(),
            nodes: Vec::new(),
            budget,
        }
    }

    /// Runs to the end and gives the value that the pickle stands for.
    pub(crate) fn run(&mut self) -> Result<Value, PickleError> {
        loop {
            let start = self.at;
            let opcode = self.byte()?;
            if opcode == b'.' {
                return self.pop();
            }
            self.step(opcode, start)?;
        }
    }

    /// A machine for the pickle after this one, with what is left to spend.
    pub(crate) fn next(self) -> Self {
        Self::new(self.text, self.at, self.budget)
    }

    /// The byte of the text after the last one that was read.
    pub(crate) fn end(&self) -> usize {
        self.at
    }

    // Reading.

    fn take(&mut self, count: usize) -> Result<&'a [u8], PickleError> {
        let end = self.at.checked_add(count).ok_or(PickleError::Truncated)?;
        let bytes = self.text.get(self.at..end).ok_or(PickleError::Truncated)?;
        self.at = end;
        Ok(bytes)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], PickleError> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    pub(super) fn skip(&mut self, count: usize) -> Result<(), PickleError> {
        self.take(count).map(drop)
    }

    pub(super) fn byte(&mut self) -> Result<u8, PickleError> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(super) fn u32(&mut self) -> Result<u32, PickleError> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn length(&mut self) -> Result<usize, PickleError> {
        let length = u64::from_le_bytes(self.array()?);
        usize::try_from(length).map_err(|_| PickleError::Truncated)
    }

    /// The place of a line, without its end.
    pub(super) fn line(&mut self) -> Result<std::ops::Range<usize>, PickleError> {
        let start = self.at;
        let rest = self.text.get(start..).unwrap_or_default();
        let length = rest.iter().position(|byte| *byte == b'\n');
        let end = start + length.ok_or(PickleError::Truncated)?;
        self.at = end + 1;
        Ok(start..end)
    }

    pub(super) fn index_line(&mut self) -> Result<u32, PickleError> {
        let at = self.at;
        let line = self.line()?;
        match int(&self.text[line]) {
            Value::Int(value) => u32::try_from(value).ok(),
            _ => None,
        }
        .ok_or(PickleError::Invalid {
            what: "expected the number of a memo",
            at,
        })
    }

    /// An integer of `count` bytes, of which only those of at most eight matter here.
    pub(super) fn long(&mut self, count: usize) -> Result<(), PickleError> {
        let bytes = self.take(count)?;
        let value = match bytes {
            [] => Value::Int(0),
            [.., last] if count <= 8 => {
                let fill = if *last < 0x80 { 0 } else { 0xff };
                let mut word = [fill; 8];
                word[..count].copy_from_slice(bytes);
                Value::Int(i64::from_le_bytes(word))
            }
            _ => Value::Opaque,
        };
        self.push(value)
    }

    pub(super) fn text(&mut self, count: usize) -> Result<(), PickleError> {
        let start = self.at;
        self.skip(count)?;
        self.push_text(start..start + count)
    }

    pub(super) fn bytes(&mut self, count: usize) -> Result<(), PickleError> {
        self.skip(count)?;
        self.push(Value::Opaque)
    }

    pub(super) fn extension(&mut self, count: usize) -> Result<(), PickleError> {
        self.skip(count)?;
        self.push(Value::Opaque)
    }

    // The stack.

    pub(super) fn push(&mut self, value: Value) -> Result<(), PickleError> {
        self.budget.charge(VALUE)?;
        self.stack.push(value);
        Ok(())
    }

    pub(super) fn push_text(&mut self, place: std::ops::Range<usize>) -> Result<(), PickleError> {
        let value = match (u32::try_from(place.start), u32::try_from(place.end)) {
            (Ok(start), Ok(end)) => Value::Text { start, end },
            _ => Value::Opaque,
        };
        self.push(value)
    }

    pub(super) fn pop(&mut self) -> Result<Value, PickleError> {
        let floor = self.marks.last().copied().unwrap_or(0);
        if self.stack.len() <= floor {
            return Err(self.invalid("the stack is empty"));
        }
        self.stack.pop().ok_or(PickleError::Truncated)
    }

    pub(super) fn top(&self) -> Result<Value, PickleError> {
        let top = self.stack.last().copied();
        top.ok_or_else(|| self.invalid("the stack is empty"))
    }

    pub(super) fn mark(&mut self) -> Result<usize, PickleError> {
        let mark = self.marks.pop();
        mark.filter(|mark| *mark <= self.stack.len())
            .ok_or_else(|| self.invalid("no mark"))
    }

    /// The place of the lowest of the `count` topmost values.
    pub(super) fn below(&self, count: usize, at: usize) -> Result<usize, PickleError> {
        let floor = self.marks.last().copied().unwrap_or(0);
        let first = self.stack.len().checked_sub(count);
        first.filter(|first| *first >= floor).ok_or({
            let what = "the stack is empty";
            PickleError::Invalid { what, at }
        })
    }

    pub(super) fn put(&mut self, index: u32) -> Result<(), PickleError> {
        self.budget.charge(2 * VALUE)?;
        let top = self.top()?;
        self.memo.insert(index, top);
        Ok(())
    }

    pub(super) fn get(&mut self, index: u32) -> Result<(), PickleError> {
        let value = self.memo.get(&index).copied();
        let value = value.ok_or_else(|| self.invalid("an empty memo"))?;
        self.push(value)
    }

    // What holds other values.

    /// Adds `node` to the arena.
    pub(crate) fn new_node(&mut self, node: Node) -> Result<Value, PickleError> {
        self.budget.charge(NODE)?;
        let index = u32::try_from(self.nodes.len()).map_err(|_| PickleError::TooLarge)?;
        self.nodes.push(node);
        Ok(Value::Node(index))
    }

    pub(super) fn node(&mut self, node: Node) -> Result<(), PickleError> {
        let value = self.new_node(node)?;
        self.push(value)
    }

    pub(super) fn tuple(&mut self, first: usize) -> Result<(), PickleError> {
        let items = self.stack.split_off(first);
        self.budget.charge(items.len() * VALUE)?;
        self.node(Node::Tuple(items.into()))
    }

    pub(super) fn append(&mut self, items: &[Value]) -> Result<(), PickleError> {
        self.budget.charge(items.len() * VALUE)?;
        if let Value::Node(index) = self.top()?
            && let Some(Node::List(list)) = self.nodes.get_mut(index as usize)
        {
            list.extend_from_slice(items);
        }
        Ok(())
    }

    pub(super) fn set_items(&mut self, items: &[Value], at: usize) -> Result<(), PickleError> {
        let (pairs, rest) = items.as_chunks::<2>();
        if !rest.is_empty() {
            let what = "a key without a value";
            return Err(PickleError::Invalid { what, at });
        }
        self.budget.charge(items.len() * VALUE)?;
        if let Value::Node(index) = self.top()?
            && let Some(Node::Dict(dict)) = self.nodes.get_mut(index as usize)
        {
            dict.extend(pairs.iter().map(|[key, value]| (*key, *value)));
        }
        Ok(())
    }

    // Looking.

    pub(crate) fn invalid(&self, what: &'static str) -> PickleError {
        PickleError::Invalid { what, at: self.at }
    }

    /// The node that `value` stands for.
    pub(crate) fn node_of(&self, value: Value) -> Option<&Node> {
        match value {
            Value::Node(index) => self.nodes.get(index as usize),
            _ => None,
        }
    }

    /// The items of a tuple or list.
    pub(crate) fn items(&self, value: Value) -> Option<&[Value]> {
        match self.node_of(value)? {
            Node::Tuple(items) => Some(items),
            Node::List(items) => Some(items),
            _ => None,
        }
    }

    /// The value under `key` of a dictionary.
    pub(crate) fn entry(&self, dictionary: Value, key: &[u8]) -> Option<Value> {
        let Node::Dict(pairs) = self.node_of(dictionary)? else {
            return None;
        };
        let mut found = pairs.iter().rev();
        found.find_map(|(name, value)| (self.text_of(*name) == Some(key)).then_some(*value))
    }

    /// The name of a storage.
    pub(crate) fn key(&self, storage: &Storage) -> String {
        let place = storage.key.start as usize..storage.key.end as usize;
        let bytes = self.text.get(place).unwrap_or_default();
        String::from_utf8_lossy(bytes).into_owned()
    }

    /// The bytes of a text.
    pub(crate) fn text_of(&self, value: Value) -> Option<&'a [u8]> {
        match value {
            Value::Text { start, end } => self.text.get(start as usize..end as usize),
            _ => None,
        }
    }
}

/// A decimal number; too large a one is opaque.
pub(super) fn int(digits: &[u8]) -> Value {
    let number = str::from_utf8(digits)
        .ok()
        .and_then(|text| text.parse().ok());
    number.map_or(Value::Opaque, Value::Int)
}
