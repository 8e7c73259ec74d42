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

/// A storage as the pickle names it.
#[derive(Clone, Debug)]
pub(crate) struct Storage {
    pub(crate) dtype: StoredType,
    /// Its name, as a place in the pickle.
    pub(crate) key: Range<u32>,
    /// Values in the whole of it, where the pickle says a number that can be.
    pub(crate) count: Option<usize>,
    /// Where only a part of it is meant: the part's first value, and how many there are.
    pub(crate) part: Option<(usize, usize)>,
}

/// A value that holds others.
#[derive(Debug)]
pub(crate) enum Node {
    Tuple(Box<[Value]>),
    List(Vec<Value>),
    Dict(Vec<(Value, Value)>),
    Storage(Box<Storage>),
    Tensor(Box<super::torch::TensorNode>),
}
