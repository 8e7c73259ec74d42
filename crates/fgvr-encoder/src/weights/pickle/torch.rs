//! The names of torch and Python that a state dict is made with.

use super::machine::{Machine, PickleError, VALUE};
use super::value::{Known, Node, Storage, Value};
use crate::weights::tensor::StoredType;

/// The most dimensions a tensor may have.
const MAX_DIMS: usize = 16;

/// The longest name of a storage: torch's are numbers.
pub(super) const MAX_KEY: usize = 256;

/// A tensor as the pickle describes it. Its type may differ from that of the storage.
#[derive(Clone, Debug)]
pub(crate) struct TensorNode {
    pub(crate) storage: Storage,
    pub(crate) dtype: StoredType,
    pub(crate) offset: usize,
    pub(crate) shape: Vec<usize>,
    pub(crate) strides: Vec<usize>,
}

/// The same with the storage's key as text.
pub(crate) struct Tensor {
    pub(crate) key: String,
    /// The part of the storage that it may use: its first value, and how many there are.
    pub(crate) part: Option<(usize, usize)>,
    pub(crate) dtype: StoredType,
    pub(crate) offset: usize,
    pub(crate) shape: Vec<usize>,
    pub(crate) strides: Vec<usize>,
}

/// The value of `module.name`; a name not in this list can do nothing.
pub(crate) fn global(module: &[u8], name: &[u8]) -> Value {
    let known = match (module, name) {
        (b"collections", b"OrderedDict" | b"defaultdict" | b"Counter")
        | (b"builtins" | b"__builtin__", b"dict") => Known::Dict,
        (b"torch._utils", b"_rebuild_tensor" | b"_rebuild_tensor_v2") => Known::Tensor,
        (b"torch._utils", b"_rebuild_tensor_v3") => Known::TypedTensor,
        (b"torch._utils", b"_rebuild_parameter" | b"_rebuild_parameter_with_state") => {
            Known::Parameter
        }
        (b"torch._tensor", b"_rebuild_from_type_v2") => Known::FromType,
        (b"torch", b"Size") => Known::Size,
        (b"torch" | b"torch.storage", name) => match storage(name) {
            Some(dtype) => Known::Storage(dtype),
            None => match dtype(name) {
                Some(dtype) => Known::Type(dtype),
                None => return Value::Opaque,
            },
        },
        _ => return Value::Opaque,
    };
    Value::Known(known)
}

fn storage(name: &[u8]) -> Option<StoredType> {
    Some(match name {
        b"DoubleStorage" => StoredType::F64,
        b"FloatStorage" => StoredType::F32,
        b"HalfStorage" => StoredType::F16,
        b"BFloat16Storage" => StoredType::BF16,
        b"LongStorage" => StoredType::Other("I64", 8),
        b"IntStorage" => StoredType::Other("I32", 4),
        b"ShortStorage" => StoredType::Other("I16", 2),
        b"CharStorage" => StoredType::Other("I8", 1),
        b"ByteStorage" => StoredType::Other("U8", 1),
        b"BoolStorage" => StoredType::Other("BOOL", 1),
        b"QInt8Storage" => StoredType::Other("QI8", 1),
        b"QUInt8Storage" => StoredType::Other("QU8", 1),
        b"QInt32Storage" => StoredType::Other("QI32", 4),
        b"ComplexFloatStorage" => StoredType::Other("C64", 8),
        b"ComplexDoubleStorage" => StoredType::Other("C128", 16),
        // Bytes whose type the tensor itself states.
        b"UntypedStorage" => StoredType::Other("U8", 1),
        _ => return None,
    })
}

fn dtype(name: &[u8]) -> Option<StoredType> {
    Some(match name {
        b"float64" | b"double" => StoredType::F64,
        b"float32" | b"float" => StoredType::F32,
        b"float16" | b"half" => StoredType::F16,
        b"bfloat16" => StoredType::BF16,
        b"int64" => StoredType::Other("I64", 8),
        b"int32" => StoredType::Other("I32", 4),
        b"int16" => StoredType::Other("I16", 2),
        b"int8" => StoredType::Other("I8", 1),
        b"uint8" => StoredType::Other("U8", 1),
        b"uint16" => StoredType::Other("U16", 2),
        b"uint32" => StoredType::Other("U32", 4),
        b"uint64" => StoredType::Other("U64", 8),
        b"bool" => StoredType::Other("BOOL", 1),
        b"float8_e4m3fn" => StoredType::Other("F8_E4M3", 1),
        b"float8_e5m2" => StoredType::Other("F8_E5M2", 1),
        _ => return None,
    })
}

/// What torch makes of `callable(*arguments)`.
pub(crate) fn call(
    machine: &mut Machine<'_>,
    callable: Value,
    arguments: Value,
) -> Result<Value, PickleError> {
    let Value::Known(known) = callable else {
        return Ok(Value::Opaque);
    };
    let Some(items) = machine.items(arguments) else {
        return Err(machine.invalid("a call without arguments"));
    };
    let first = items.first().copied();
    let node = match known {
        Known::Dict => {
            let pairs = pairs(machine, first);
            machine.budget.charge(pairs.len() * 2 * VALUE)?;
            Some(Node::Dict(pairs))
        }
        Known::Size | Known::Parameter => return Ok(first.unwrap_or(Value::Opaque)),
        Known::FromType => match *items {
            // Only once: the callable within may not be this one again, and so on without end.
            [inner, _, arguments, ..] if inner != callable => {
                return call(machine, inner, arguments);
            }
            _ => None,
        },
        Known::Tensor => tensor(machine, items, None, items.get(6)),
        Known::TypedTensor => match items.get(6) {
            Some(Value::Known(Known::Type(dtype))) => {
                tensor(machine, items, Some(*dtype), items.get(7))
            }
            _ => None,
        },
        Known::Storage(_) | Known::Type(_) => None,
    };
    match node {
        Some(node) => machine.new_node(node),
        None => Ok(Value::Opaque),
    }
}

/// The pairs that `dict(argument)` would begin with.
fn pairs(machine: &Machine<'_>, argument: Option<Value>) -> Vec<(Value, Value)> {
    let items = argument.and_then(|argument| machine.items(argument));
    let pair = |item: &Value| match machine.items(*item) {
        Some(&[key, value]) => Some((key, value)),
        _ => None,
    };
    items.unwrap_or_default().iter().filter_map(pair).collect()
}

/// `_rebuild_tensor*(storage, offset, shape, strides, ...)`. A tensor that is not of this kind is
/// opaque: a quantised one, or one with `flags`, whose values are to be negated or conjugated.
fn tensor(
    machine: &Machine<'_>,
    items: &[Value],
    stated: Option<StoredType>,
    flags: Option<&Value>,
) -> Option<Node> {
    let [storage, offset, shape, strides, ..] = *items else {
        return None;
    };
    let Node::Storage(storage) = machine.node_of(storage)? else {
        return None;
    };
    if flags.is_some_and(|flags| *flags != Value::None) {
        return None;
    }
    Some(Node::Tensor(Box::new(TensorNode {
        storage: Storage::clone(storage),
        dtype: stated.unwrap_or(storage.dtype),
        offset: size(offset)?,
        shape: sizes(machine, shape)?,
        strides: sizes(machine, strides)?,
    })))
}

fn size(value: Value) -> Option<usize> {
    match value {
        Value::Int(value) => usize::try_from(value).ok(),
        _ => None,
    }
}

fn sizes(machine: &Machine<'_>, value: Value) -> Option<Vec<usize>> {
    let items = machine.items(value)?;
    // Shared lists could otherwise be copied again and again.
    if items.len() > MAX_DIMS {
        return None;
    }
    items.iter().map(|item| size(*item)).collect()
}

/// `('storage', type, key, location, count)`, and in the format of before 1.6 `(key, first, count)`
/// of a part, or None.
pub(crate) fn persistent(machine: &mut Machine<'_>, id: Value) -> Result<Value, PickleError> {
    match storage_of(machine, id) {
        Some(storage) => machine.new_node(Node::Storage(Box::new(storage))),
        None => Ok(Value::Opaque),
    }
}

fn storage_of(machine: &Machine<'_>, id: Value) -> Option<Storage> {
    let [
        kind,
        Value::Known(Known::Storage(dtype)),
        Value::Text { start, end },
        ref rest @ ..,
    ] = *machine.items(id)?
    else {
        return None;
    };
    let length = end.saturating_sub(start) as usize;
    if machine.text_of(kind) != Some(b"storage") || length > MAX_KEY {
        return None;
    }
    let part = match rest.get(2) {
        None | Some(Value::None) => None,
        Some(part) => match *machine.items(*part)? {
            [_, first, count] => Some((size(first)?, size(count)?)),
            _ => return None,
        },
    };
    Some(Storage {
        dtype,
        key: start..end,
        count: rest.get(1).copied().and_then(size),
        part,
    })
}
