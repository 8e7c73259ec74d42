//! What a pickle's values are, as far as they matter here.

use std::ops::Range;

use crate::weights::tensor::StoredType;

/// A value. Small and without ownership: what holds other values lies in the machine's arena, so
/// that shared and cyclic values cost nothing more and dropping them needs no recursion.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Value {
    None,
    Bool(bool),
    Int(i64),
    /// Text, as a place in the pickle.
    Text {
        start: u32,
        end: u32,
    },
    /// A callable that state dicts are made with.
    Known(Known),
    /// A node of the arena.
    Node(u32),
    /// Anything else: never looked into, never run.
    Opaque,
}

/// The callables that are understood.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Known {
    /// `collections.OrderedDict` and its like.
    Dict,
    /// `torch._utils._rebuild_tensor` and `_rebuild_tensor_v2`.
    Tensor,
    /// `torch._utils._rebuild_tensor_v3`: the type is an argument.
    TypedTensor,
    /// `torch._utils._rebuild_parameter`.
    Parameter,
    /// `torch._tensor._rebuild_from_type_v2`: calls its first argument with its third.
    FromType,
    /// `torch.Size`.
    Size,
    /// `torch.FloatStorage` and its like.
    Storage(StoredType),
    /// `torch.float32` and its like.
    Type(StoredType),
}

/// A value that holds others.
#[derive(Debug)]
pub(crate) enum Node {
    Tuple(Box<[Value]>),
    List(Vec<Value>),
    Dict(Vec<(Value, Value)>),
    /// A record of the zip; the key is text.
    Storage {
        dtype: StoredType,
        key: Range<u32>,
    },
    Tensor(Box<super::torch::TensorNode>),
}
