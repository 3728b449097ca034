#![allow(clippy::unwrap_used)]
use super::*;
use crate::weights::Weights;
use proptest::prelude::*;
use std::sync::Arc;

fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

fn field(number: u64, content: impl AsRef<[u8]>) -> Vec<u8> {
    let content = content.as_ref();
    [varint(number << 3 | 2), varint(content.len() as u64), content.to_vec()].concat()
}

fn number(number: u64, value: u64) -> Vec<u8> {
    [varint(number << 3), varint(value)].concat()
}

/// An f32 initialiser with values 0, 1, 2, …
fn initialiser(name: &str, shape: &[u64]) -> Vec<u8> {
    let dimensions = shape.iter().flat_map(|length| number(1, *length)).collect::<Vec<_>>();
    let values =
        (0..shape.iter().product()).flat_map(|value: u64| (value as f32).to_le_bytes()).collect::<Vec<_>>();
    field(5, [dimensions, number(2, 1), field(8, name), field(9, values)].concat())
}

fn node(name: &str, operator: &str, inputs: &[&str]) -> Vec<u8> {
    let inputs = inputs.iter().flat_map(|input| field(1, input)).collect::<Vec<_>>();
    field(1, [inputs, field(3, name), field(4, operator)].concat())
}

fn model(parts: &[Vec<u8>]) -> Vec<u8> {
    field(7, parts.concat())
}

fn example() -> Vec<u8> {
    model(&[
        initialiser("onnx::MatMul_7", &[2, 3]),
        initialiser("tower.layer.0.fc1.bias", &[3]),
        initialiser("onnx::Concat_1", &[1, 1, 2]),
        initialiser("onnx::Reshape_2", &[1, 4, 2]),
        initialiser("onnx::Mul_9", &[1]),
        node("/tower/layer.0/fc1/MatMul", "MatMul", &["x", "onnx::MatMul_7"]),
        node("/tower/embeddings/Reshape_1", "Reshape", &["onnx::Reshape_2", "shape"]),
        node("/tower/embeddings/Concat_6", "Concat", &["onnx::Concat_1", "y"]),
    ])
}

fn open(bytes: Vec<u8>) -> Result<Weights, WeightsError> {
    Ok(Weights::from_source(Arc::new(Onnx::from_bytes(Bytes::held("tiny.onnx", bytes))?)))
}

fn error(parts: &[Vec<u8>]) -> String {
    open(model(parts)).unwrap_err().to_string()
}

#[test]
fn anonymous_constants_get_their_layers_names_back() {
    let weights = open(example()).unwrap();
    assert_eq!(
        weights.names(),
        [
            "onnx::Mul_9",
            "tower.embeddings.position_embeddings",
            "tower.layer.0.fc1.bias",
            "tower.layer.0.fc1.weight"
        ]
    );
    let weight = weights.pp("tower.layer.0.fc1").get((3, 2), "weight").unwrap();
    assert_eq!(weight.to_vec2::<f32>().unwrap(), [[0.0, 3.0], [1.0, 4.0], [2.0, 5.0]]);
    let positions = weights.pp("tower.embeddings").get((1, 5, 2), "position_embeddings").unwrap();
    let positions = positions.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    assert_eq!(positions, [0.0, 1.0, 0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]);
}

#[test]
fn values_may_be_half_precision_or_a_list_of_floats() {
    let half =
        field(5, [number(1, 2), number(2, 10), field(8, "h"), field(9, [0x00, 0x38, 0x00, 0xC0])].concat());
    // The dimensions packed, the floats one packed and one alone.
    let alone = [varint(4 << 3 | 5), 2.5f32.to_le_bytes().to_vec()].concat();
    let floats =
        [field(1, varint(2)), number(2, 1), field(8, "f"), field(4, 1.5f32.to_le_bytes()), alone].concat();
    let weights = open(model(&[half, field(5, floats)])).unwrap();
    assert_eq!(weights.get(2, "h").unwrap().to_vec1::<f32>().unwrap(), [0.5, -2.0]);
    assert_eq!(weights.get(2, "f").unwrap().to_vec1::<f32>().unwrap(), [1.5, 2.5]);
}

#[test]
fn a_taken_name_stays_with_its_owner() {
    let weights = open(model(&[
        initialiser("fc.weight", &[3, 2]),
        initialiser("onnx::MatMul_7", &[2, 3]),
        node("/fc/MatMul", "MatMul", &["x", "onnx::MatMul_7"]),
    ]));
    assert_eq!(weights.unwrap().names(), ["fc.weight", "onnx::MatMul_7"]);
}

#[test]
fn broken_files_are_named() {
    assert_eq!(
        open(Vec::new()).unwrap_err().to_string(),
        "tiny.onnx: model: has no graph: this is no ONNX file"
    );
    assert!(open(b"\x89PNG".to_vec()).unwrap_err().to_string().starts_with("tiny.onnx: model: "));
    let tensor = |parts: &[Vec<u8>]| error(&[field(5, parts.concat())]);
    let name = field(8, "w");
    let short = tensor(&[number(1, 3), number(2, 1), name.clone(), field(9, [0; 8])]);
    assert_eq!(short, "tiny.onnx: initialiser `w`: values: hold 8 bytes, but the shape [3] needs 3 × 4");
    let huge = tensor(&[number(1, 1 << 40), number(1, 1 << 40), number(2, 1), name.clone()]);
    assert!(huge.contains("initialiser `w`: dims: [1099511627776, 1099511627776] are too many elements"));
    assert!(
        tensor(&[number(14, 1), name]).contains("initialiser `w`: data in another file is not supported")
    );
    assert!(
        error(&[initialiser("w", &[1]), initialiser("w", &[1])]).contains("initialiser `w`: is given twice")
    );
    assert!(error(&[field(1, field(3, [0xC3, 0x28]))]).contains("node: name: is not UTF-8"));
    let shapes = open(model(&[field(5, [number(2, 7), field(8, "s"), field(9, [0; 8])].concat())])).unwrap();
    let refused = shapes.get((), "s").unwrap_err().to_string();
    assert!(
        refused.contains("initialiser `s`: data type 7 is not supported; supported: 1 (float)"),
        "{refused}"
    );
}

fn exercise(bytes: Vec<u8>) {
    let Ok(weights) = open(bytes) else { return };
    for name in weights.names() {
        _ = weights.get(weights.shape(&name).unwrap(), &name);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..256)) {
        exercise(field(7, &bytes));
        exercise(field(7, field(5, &bytes)));
        exercise(bytes);
    }

    #[test]
    fn mutated_files_never_panic(
        cut in any::<prop::sample::Index>(),
        keep in prop::bool::weighted(0.7),
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let mut bytes = example();
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if !keep {
            bytes.truncate(cut.index(bytes.len()));
        }
        exercise(bytes);
    }
}
