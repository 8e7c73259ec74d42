//! The names of torch and Python that a state dict is made with.

use std::ops::Range;

use super::machine::{Machine, PickleError, VALUE};
use super::value::{Known, Node, Value};
use crate::weights::tensor::StoredType;

/// The most dimensions a tensor may have.
const MAX_DIMS: usize = 16;

/// A tensor as the pickle describes it; the key is a place in the pickle.
#[derive(Clone, Debug)]
pub(crate) struct TensorNode {
    pub(crate) key: Range<u32>,
    pub(crate) dtype: StoredType,
    pub(crate) offset: usize,
    pub(crate) shape: Vec<usize>,
    pub(crate) strides: Vec<usize>,
}

/// The same with the key as text.
pub(crate) struct Tensor {
    pub(crate) key: String,
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
        Known::Tensor => tensor(machine, items, None),
        Known::TypedTensor => match items.get(6) {
            Some(Value::Known(Known::Type(dtype))) => tensor(machine, items, Some(*dtype)),
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

/// `_rebuild_tensor*(storage, offset, shape, strides, ...)`. A tensor that is not of this kind,
/// such as a quantised one, is opaque.
fn tensor(machine: &Machine<'_>, items: &[Value], stated: Option<StoredType>) -> Option<Node> {
    let [storage, offset, shape, strides, ..] = *items else {
        return None;
    };
    let Node::Storage { dtype, key } = machine.node_of(storage)? else {
        return None;
    };
    Some(Node::Tensor(Box::new(TensorNode {
        key: key.clone(),
        dtype: stated.unwrap_or(*dtype),
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

/// `('storage', type, key, location, count)`.
pub(crate) fn persistent(machine: &mut Machine<'_>, id: Value) -> Result<Value, PickleError> {
    let place = match machine.items(id) {
        Some(
            &[
                kind,
                Value::Known(Known::Storage(dtype)),
                Value::Text { start, end },
                ..,
            ],
        ) if machine.text_of(kind) == Some(b"storage") => Some((dtype, start..end)),
        _ => None,
    };
    match place {
        Some((dtype, key)) => machine.new_node(Node::Storage { dtype, key }),
        None => Ok(Value::Opaque),
    }
}
