//! The parts of an ONNX model that hold weights: the graph's initialisers, and its nodes' names and inputs.

use std::collections::HashMap;
use std::ops::Range;

use half::{bf16, f16};

use super::super::bytes::Bytes;
use super::super::gguf::Quantisation;
use super::super::protobuf::{Broken, Field, Fields, Value};
use super::super::{Stored, WeightsError, elements, usable};

pub(super) struct Graph {
    pub(super) bytes: Bytes,
    pub(super) nodes: Vec<Node>,
    pub(super) initialisers: Vec<Initialiser>,
    /// Name → index into `initialisers`.
    pub(super) by_name: HashMap<String, usize>,
}

#[derive(Default)]
pub(super) struct Node {
    pub(super) name: String,
    pub(super) operator: String,
    pub(super) inputs: Vec<String>,
}

/// A constant tensor of the graph.
#[derive(Default)]
pub(super) struct Initialiser {
    pub(super) name: String,
    pub(super) shape: Vec<usize>,
    /// `TensorProto.DataType`.
    data_type: u64,
    /// Places of values in the file: `raw_data`, or runs of `float_data`.
    raw: Option<Range<usize>>,
    floats: Vec<Range<usize>>,
}

/// Element types of `TensorProto.DataType`, with their bytes.
const FLOAT: u64 = 1;
const FLOAT16: u64 = 10;
const BFLOAT16: u64 = 16;

impl Graph {
    pub(super) fn read(bytes: Bytes) -> Result<Self, WeightsError> {
        let broken = |message: &str| {
            let message = message.to_owned();
            let bytes = &bytes;
            move |broken: Broken| bytes.malformed(message.clone(), broken.to_string())
        };
        let mut nodes = Vec::new();
        let mut initialisers = Vec::new();
        let mut has_graph = false;
        for field in Fields::new(&bytes, 0..bytes.len()) {
            // ModelProto.graph
            let Field { number: 7, value: Value::Bytes(graph) } = field.map_err(broken("model"))? else {
                continue;
            };
            has_graph = true;
            for field in Fields::new(&bytes, graph) {
                match field.map_err(broken("graph"))? {
                    // GraphProto.node
                    Field { number: 1, value: Value::Bytes(at) } => nodes.push(Node::read(&bytes, at)?),
                    // GraphProto.initializer
                    Field { number: 5, value: Value::Bytes(at) } => {
                        initialisers.push(Initialiser::read(&bytes, at, initialisers.len())?);
                    }
                    _ => {}
                }
            }
        }
        if !has_graph {
            return Err(bytes.malformed("model", "has no graph: this is no ONNX file"));
        }
        let by_name =
            initialisers.iter().enumerate().map(|(index, found)| (found.name.clone(), index)).collect();
        Ok(Self { bytes, nodes, initialisers, by_name })
    }
}

impl Node {
    fn read(bytes: &Bytes, at: Range<usize>) -> Result<Self, WeightsError> {
        let mut node = Self::default();
        for field in Fields::new(bytes, at) {
            let field = field.map_err(|broken| bytes.malformed("node", broken.to_string()))?;
            let Field { number, value: Value::Bytes(at) } = field else { continue };
            match number {
                1 => node.inputs.push(text(bytes, at, "node: input")?),
                3 => node.name = text(bytes, at, "node: name")?,
                4 => node.operator = text(bytes, at, "node: op_type")?,
                _ => {}
            }
        }
        Ok(node)
    }
}

impl Initialiser {
    fn read(bytes: &Bytes, at: Range<usize>, index: usize) -> Result<Self, WeightsError> {
        // Its name may come after what is wrong with it.
        let unnamed = || format!("initialiser {index}");
        let malformed = |broken: Broken| bytes.malformed(unnamed(), broken.to_string());
        let mut found = Self::default();
        let mut dimensions = Vec::new();
        let mut external = false;
        for field in Fields::new(bytes, at) {
            let Field { number, value } = field.map_err(malformed)?;
            match (number, value) {
                (1, Value::Varint(length)) => dimensions.push(length),
                (1, Value::Bytes(at)) => {
                    let mut packed = Fields::new(bytes, at);
                    while !packed.is_empty() {
                        dimensions.push(packed.varint().map_err(malformed)?);
                    }
                }
                (2, Value::Varint(data_type)) => found.data_type = data_type,
                (4, Value::Bytes(at) | Value::Fixed(at)) => found.floats.push(at),
                (8, Value::Bytes(at)) => found.name = text(bytes, at, &format!("{}: name", unnamed()))?,
                (9, Value::Bytes(at)) => found.raw = Some(at),
                // data_location, of which 1 is "external"; external_data.
                (14, Value::Varint(location)) => external |= location == 1,
                (13, _) => external = true,
                _ => {}
            }
        }
        if external {
            return Err(found.unsupported(bytes, "data in another file", "data in the file itself"));
        }
        let (elements, shape) = (elements(&dimensions), usable(&dimensions));
        let (Some(elements), Some(shape)) = (elements, shape) else {
            let reason = format!("{dimensions:?} are too many elements");
            return Err(bytes.malformed(format!("initialiser `{}`: dims", found.name), reason));
        };
        found.shape = shape;
        found.check_length(bytes, elements)?;
        Ok(found)
    }

    /// The values must be as many as the shape says. Other types than floats, such as shapes, pass unchecked, since
    /// they are never read.
    fn check_length(&self, bytes: &Bytes, elements: u64) -> Result<(), WeightsError> {
        let Some(size) = element_bytes(self.data_type) else { return Ok(()) };
        let held: u64 = match &self.raw {
            Some(raw) => raw.len() as u64,
            None => self.floats.iter().map(|run| run.len() as u64).sum(),
        };
        if elements.checked_mul(size) == Some(held) && self.floats.iter().all(|run| run.len() % 4 == 0) {
            return Ok(());
        }
        // The only values of 16-bit types outside of raw_data are in int32_data, which nobody writes for weights.
        let reason = format!("hold {held} bytes, but the shape {:?} needs {elements} × {size}", self.shape);
        Err(bytes.malformed(format!("initialiser `{}`: values", self.name), reason))
    }

    /// The format of the values and their bytes; integers, such as shapes, count as they lie in `raw_data`.
    pub(super) fn stored(&self) -> Stored {
        let format = match self.data_type {
            FLOAT => Quantisation::F32,
            FLOAT16 => Quantisation::F16,
            BFLOAT16 => Quantisation::BF16,
            _ => return Stored { format: None, bytes: self.raw.as_ref().map_or(0, |raw| raw.len() as u64) },
        };
        Stored::numbers(format, self.shape.iter().product())
    }

    /// The values as f32.
    pub(super) fn values(&self, bytes: &Bytes) -> Result<Vec<f32>, WeightsError> {
        let from_f32 = |bytes: &[u8]| -> Vec<f32> {
            bytes.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
        };
        match (self.data_type, &self.raw) {
            (FLOAT, Some(raw)) => Ok(from_f32(&bytes[raw.clone()])),
            (FLOAT, None) => Ok(self.floats.iter().flat_map(|run| from_f32(&bytes[run.clone()])).collect()),
            (FLOAT16, Some(raw)) => Ok(bytes[raw.clone()]
                .as_chunks()
                .0
                .iter()
                .map(|bytes| f16::from_le_bytes(*bytes).to_f32())
                .collect()),
            (BFLOAT16, Some(raw)) => Ok(bytes[raw.clone()]
                .as_chunks()
                .0
                .iter()
                .map(|bytes| bf16::from_le_bytes(*bytes).to_f32())
                .collect()),
            (other, _) => Err(self.unsupported(
                bytes,
                &format!("data type {other}"),
                "1 (float), 10 (float16), 16 (bfloat16)",
            )),
        }
    }

    fn unsupported(&self, bytes: &Bytes, value: &str, supported: &str) -> WeightsError {
        WeightsError::Unsupported {
            file: bytes.file.clone(),
            field: format!("initialiser `{}`", self.name),
            value: value.to_owned(),
            supported: supported.to_owned(),
        }
    }
}

fn element_bytes(data_type: u64) -> Option<u64> {
    match data_type {
        FLOAT => Some(4),
        FLOAT16 | BFLOAT16 => Some(2),
        _ => None,
    }
}

fn text(bytes: &Bytes, at: Range<usize>, field: &str) -> Result<String, WeightsError> {
    let text = std::str::from_utf8(&bytes[at]);
    text.map(str::to_owned).map_err(|error| bytes.malformed(field, format!("is not UTF-8: {error}")))
}
