//! The tensors of a checkpoint by name.

use super::machine::{Machine, PickleError};
use super::torch::Tensor;
use super::value::{Node, Value};

/// How deep dictionaries may lie in each other: enough for `checkpoint["base_model"]["trunk"]`.
const MAX_DEPTH: usize = 8;

/// The longest name of a tensor.
const MAX_NAME: usize = 512;

/// The tensors in `root` by the keys that lead to them, joined by dots: the tensor `conv1.weight`
/// of the dictionary `state_dict` is `state_dict.conv1.weight`.
pub(crate) fn tensors(
    machine: &mut Machine<'_>,
    root: Value,
) -> Result<Vec<(String, Tensor)>, PickleError> {
    let mut found = Vec::new();
    collect(machine, root, &mut String::new(), 0, &mut found)?;
    Ok(found)
}

fn collect(
    machine: &mut Machine<'_>,
    value: Value,
    name: &mut String,
    depth: usize,
    found: &mut Vec<(String, Tensor)>,
) -> Result<(), PickleError> {
    match machine.node_of(value) {
        Some(Node::Tensor(tensor)) => {
            let tensor = Tensor {
                key: machine.key(&tensor.storage),
                part: tensor.storage.part,
                dtype: tensor.dtype,
                offset: tensor.offset,
                shape: tensor.shape.clone(),
                strides: tensor.strides.clone(),
            };
            machine
                .budget
                .charge(400 + 2 * (name.len() + tensor.key.len()))?;
            found.push((name.clone(), tensor));
        }
        Some(Node::Dict(pairs)) if depth < MAX_DEPTH => {
            let count = pairs.len();
            for index in 0..count {
                // A dictionary that stands in many places is looked through in each.
                machine.budget.charge(8)?;
                let Some(Node::Dict(pairs)) = machine.node_of(value) else {
                    break;
                };
                let (key, item) = pairs[index];
                let length = name.len();
                let key = match key {
                    Value::Int(number) => number.to_string(),
                    key => match machine.text_of(key).map(str::from_utf8) {
                        Some(Ok(text)) => text.to_owned(),
                        _ => continue,
                    },
                };
                if length + key.len() >= MAX_NAME {
                    continue;
                }
                if length > 0 {
                    name.push('.');
                }
                name.push_str(&key);
                collect(machine, item, name, depth + 1, found)?;
                name.truncate(length);
            }
        }
        _ => {}
    }
    Ok(())
}
