//! The instructions of the pickle machine.

use std::ops::Range;

use super::machine::{Machine, PickleError, VALUE, int};
use super::torch;
use super::value::{Node, Value};

impl Machine<'_> {
    /// Carries out `opcode`, which stands at byte `start`.
    pub(super) fn step(&mut self, opcode: u8, start: usize) -> Result<(), PickleError> {
        match opcode {
            // protocol, frames, marks and the stack itself
            0x80 => self.skip(1),
            0x95 => self.skip(8),
            b'(' => {
                self.budget.charge(3 * size_of::<usize>())?;
                self.marks.push(self.stack.len());
                Ok(())
            }
            b'0' => {
                // At a mark, POP takes the mark.
                if self.marks.last() == Some(&self.stack.len()) {
                    self.marks.pop();
                    return Ok(());
                }
                self.pop().map(drop)
            }
            b'1' => {
                let mark = self.mark()?;
                self.stack.truncate(mark);
                Ok(())
            }
            b'2' => {
                let top = self.top()?;
                self.push(top)
            }
            // the memo
            b'p' => {
                let index = self.index_line()?;
                self.put(index)
            }
            b'q' => {
                let index = self.byte()?;
                self.put(index.into())
            }
            b'r' => {
                let index = self.u32()?;
                self.put(index)
            }
            0x94 => {
                let index = u32::try_from(self.memo.len()).map_err(|_| PickleError::TooLarge)?;
                self.put(index)
            }
            b'g' => {
                let index = self.index_line()?;
                self.get(index)
            }
            b'h' => {
                let index = self.byte()?;
                self.get(index.into())
            }
            b'j' => {
                let index = self.u32()?;
                self.get(index)
            }
            // plain values
            b'N' => self.push(Value::None),
            0x88 => self.push(Value::Bool(true)),
            0x89 => self.push(Value::Bool(false)),
            b'J' => {
                let value = self.u32()?.cast_signed();
                self.push(Value::Int(value.into()))
            }
            b'K' => {
                let value = self.byte()?;
                self.push(Value::Int(value.into()))
            }
            b'M' => {
                let value = u16::from_le_bytes(self.array()?);
                self.push(Value::Int(value.into()))
            }
            b'I' => {
                let line = self.line()?;
                let value = match &self.text[line] {
                    b"00" => Value::Bool(false),
                    b"01" => Value::Bool(true),
                    digits => int(digits),
                };
                self.push(value)
            }
            b'L' => {
                let line = self.line()?;
                let digits = &self.text[line];
                self.push(int(digits.strip_suffix(b"L").unwrap_or(digits)))
            }
            0x8a => {
                let count = self.byte()?;
                self.long(count.into())
            }
            0x8b => {
                let count = self.u32()? as usize;
                self.long(count)
            }
            b'G' => {
                self.skip(8)?;
                self.push(Value::Opaque)
            }
            b'F' => {
                self.line()?;
                self.push(Value::Opaque)
            }
            // text and bytes
            b'S' => {
                let line = self.line()?;
                self.push_text(unquoted(self.text, line))
            }
            b'V' => {
                let line = self.line()?;
                self.push_text(line)
            }
            b'T' | b'X' => {
                let count = self.u32()? as usize;
                self.text(count)
            }
            b'U' | 0x8c => {
                let count = self.byte()?;
                self.text(count.into())
            }
            0x8d => {
                let count = self.length()?;
                self.text(count)
            }
            b'C' => {
                let count = self.byte()?;
                self.bytes(count.into())
            }
            b'B' => {
                let count = self.u32()? as usize;
                self.bytes(count)
            }
            0x8e | 0x96 => {
                let count = self.length()?;
                self.bytes(count)
            }
            // what holds other values
            b')' => self.tuple(self.stack.len()),
            b't' => {
                let mark = self.mark()?;
                self.tuple(mark)
            }
            0x85..=0x87 => {
                let count = usize::from(opcode - 0x84);
                let first = self.below(count, start)?;
                self.tuple(first)
            }
            b']' => self.node(Node::List(Vec::new())),
            b'}' => self.node(Node::Dict(Vec::new())),
            // A set matters to no state dict, but must take its items.
            0x8f => self.push(Value::Opaque),
            b'l' => {
                let mark = self.mark()?;
                let items = self.stack.split_off(mark);
                self.budget.charge(items.len() * VALUE)?;
                self.node(Node::List(items))
            }
            b'd' => {
                let mark = self.mark()?;
                let items = self.stack.split_off(mark);
                self.node(Node::Dict(Vec::new()))?;
                self.set_items(&items, start)
            }
            0x91 => {
                let mark = self.mark()?;
                self.stack.truncate(mark);
                self.push(Value::Opaque)
            }
            b'a' => {
                let item = self.pop()?;
                self.append(&[item])
            }
            b'e' => {
                let mark = self.mark()?;
                let items = self.stack.split_off(mark);
                self.append(&items)
            }
            0x90 => {
                let mark = self.mark()?;
                self.stack.truncate(mark);
                self.top().map(drop)
            }
            b's' => {
                let first = self.below(2, start)?;
                let items = self.stack.split_off(first);
                self.set_items(&items, start)
            }
            b'u' => {
                let mark = self.mark()?;
                let items = self.stack.split_off(mark);
                self.set_items(&items, start)
            }
            // names and calls
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                let value = torch::global(&self.text[module], &self.text[name]);
                self.push(value)
            }
            0x93 => {
                let (name, module) = (self.pop()?, self.pop()?);
                let value = match (self.text_of(module), self.text_of(name)) {
                    (Some(module), Some(name)) => torch::global(module, name),
                    _ => Value::Opaque,
                };
                self.push(value)
            }
            b'R' | 0x81 => {
                let (arguments, callable) = (self.pop()?, self.pop()?);
                let value = torch::call(self, callable, arguments)?;
                self.push(value)
            }
            0x92 => {
                let (_keywords, arguments, callable) = (self.pop()?, self.pop()?, self.pop()?);
                let value = torch::call(self, callable, arguments)?;
                self.push(value)
            }
            // An object's own state says nothing of tensors that have names.
            b'b' => {
                self.pop()?;
                self.top().map(drop)
            }
            b'i' => {
                self.line()?;
                self.line()?;
                let mark = self.mark()?;
                self.stack.truncate(mark);
                self.push(Value::Opaque)
            }
            b'o' => {
                let mark = self.mark()?;
                self.stack.truncate(mark);
                self.push(Value::Opaque)
            }
            b'Q' => {
                let id = self.pop()?;
                let value = torch::persistent(self, id)?;
                self.push(value)
            }
            b'P' => {
                self.line()?;
                self.push(Value::Opaque)
            }
            0x82 => self.extension(1),
            0x83 => self.extension(2),
            0x84 => self.extension(4),
            0x97 => self.push(Value::Opaque),
            0x98 => Ok(()),
            opcode => Err(PickleError::Opcode { opcode, at: start }),
        }
    }
}

/// The place of a Python string literal within its quotes.
fn unquoted(text: &[u8], line: Range<usize>) -> Range<usize> {
    match &text[line.clone()] {
        [b'\'', .., b'\''] | [b'"', .., b'"'] => line.start + 1..line.end - 1,
        _ => line,
    }
}
