#![allow(clippy::unwrap_used)]
use super::*;
use crate::weights::shards::Shards;
use crate::weights::{Source as _, Weights};
use proptest::prelude::*;

fn file(header: &str, data: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), data].concat()
}

fn read(bytes: Vec<u8>) -> Result<Shards, WeightsError> {
    super::read(Bytes::held("tiny.safetensors", bytes)).and_then(Shards::single)
}

fn error(header: &str, data: usize) -> String {
    read(file(header, &vec![0; data])).err().unwrap().to_string()
}

const GOOD: &str = r#"{"__metadata__":{"format":"pt"},
    "a":{"dtype":"F16","shape":[2],"data_offsets":[0,4]},
    "b":{"dtype":"BF16","shape":[1,2],"data_offsets":[4,8]},
    "c":{"dtype":"F32","shape":[],"data_offsets":[8,12]},
    "ids":{"dtype":"I64","shape":[1],"data_offsets":[12,20]}}"#;

#[test]
fn three_dtypes_become_f32() {
    let mut data = vec![0x00, 0x38, 0x00, 0xC0, 0x80, 0x3F, 0x40, 0xC0];
    data.extend(1e-30f32.to_le_bytes());
    data.extend([0; 8]);
    let tensors = read(file(GOOD, &data)).unwrap();
    assert_eq!(tensors.read("a").unwrap().to_vec1::<f32>().unwrap(), [0.5, -2.0]);
    assert_eq!(tensors.read("b").unwrap().to_vec2::<f32>().unwrap(), [[1.0, -3.0]]);
    assert_eq!(tensors.read("c").unwrap().to_scalar::<f32>().unwrap(), 1e-30);
    let refused = tensors.read("ids").unwrap_err().to_string();
    assert!(
        refused.contains("tensor `ids`: dtype I64 is not supported; supported: F32, F16, BF16"),
        "{refused}"
    );
}

#[test]
fn hostile_lengths_are_named() {
    let error = |bytes: Vec<u8>| read(bytes).err().unwrap().to_string();
    assert_eq!(error(vec![0; 7]), "tiny.safetensors: header length: takes 8 bytes, but the file has 7");
    for length in [1u64 << 63, u64::MAX, 100_000_001] {
        let expected = format!("tiny.safetensors: header length: is {length}, expected at most 100000000");
        assert!(error(length.to_le_bytes().to_vec()).starts_with(&expected));
    }
    assert_eq!(
        error(9u64.to_le_bytes().to_vec()),
        "tiny.safetensors: header length: is 9, but the file has 8 bytes"
    );
}

#[test]
fn hostile_headers_are_named() {
    let one = |dtype: &str, shape: &str, offsets: &str| {
        error(&format!(r#"{{"t":{{"dtype":"{dtype}","shape":{shape},"data_offsets":{offsets}}}}}"#), 8)
    };
    assert!(
        one("F32", "[2]", "[0,16]")
            .ends_with("tensor `t`: data_offsets: are 0 to 16, but the data has 8 bytes")
    );
    assert!(one("F32", "[2]", "[8,0]").ends_with("data_offsets: are 8 to 0, but the data has 8 bytes"));
    assert!(one("F32", "[1]", "[4,8]").ends_with("data_offsets: start at 4, expected 0: leaves a gap"));
    assert!(one("F32", "[1]", "[0,4]").ends_with("data: has 8 bytes, but the tensors cover 4"));
    assert!(
        one("F32", "[3]", "[0,8]").ends_with("tensor `t`: shape: [3] of dtype F32 does not fit its 8 bytes")
    );
    let wide = one("F32", "[4294967296,4294967296]", "[0,8]");
    assert!(
        wide.ends_with("tensor `t`: shape: [4294967296, 4294967296] is more than this machine can address")
    );
    let empty = one("F32", "[0,4294967296,4294967296]", "[0,8]");
    assert!(empty.ends_with("shape: [0, 4294967296, 4294967296] is more than this machine can address"));
    assert!(one("Q9", "[2]", "[0,8]").contains("tensor `t`: dtype: `Q9` is not supported"));
    assert!(one("F32", "[-2]", "[0,8]").contains("header: tensor `t`: invalid value: integer `-2`"));
    assert!(one("F32", "[2]", "[0]").contains("header: tensor `t`: invalid length 1"));
    assert!(error("[]", 0).contains("header: invalid type"));
    let twice = r#"{"t":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"t":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}"#;
    assert!(error(twice, 2).contains("tensor `t` is given twice"));
    let overlap = r#"{"t":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"u":{"dtype":"U8","shape":[2],"data_offsets":[1,3]}}"#;
    assert!(
        error(overlap, 3)
            .ends_with("tensor `u`: data_offsets: start at 1, expected 2: overlaps the tensor before it")
    );
}

#[test]
fn offsets_that_add_up_past_the_word_are_refused() {
    // Eight tensors that each pass for themselves and end eight bytes before 2^64.
    let length = (1u64 << 61) - 1;
    let tensors = (0..8).map(|i| {
        let (start, end) = (i * length, (i + 1) * length);
        format!(r#""t{i}":{{"dtype":"U8","shape":[{length}],"data_offsets":[{start},{end}]}}"#)
    });
    let header = format!("{{{}}}", tensors.collect::<Vec<_>>().join(","));
    assert!(
        error(&header, 0)
            .ends_with("tensor `t0`: data_offsets: are 0 to 2305843009213693951, but the data has 0 bytes")
    );
}

#[test]
fn an_index_joins_its_files_and_stays_in_its_folder() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| std::fs::write(folder.path().join(name), bytes).unwrap();
    let shard = |name: &str| {
        file(&format!(r#"{{"{name}":{{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}}}"#), &[0; 4])
    };
    let open = || Weights::open(folder.path()).map(|weights| weights.names());
    let index = |map: &str| {
        write("model.safetensors.index.json", format!(r#"{{"metadata":{{}},"weight_map":{map}}}"#).as_bytes())
    };

    assert!(open().unwrap_err().to_string().contains(
        "the folder has none of model.safetensors, model.safetensors.index.json, pytorch_model.bin"
    ));
    write("one.safetensors", &shard("a"));
    write("two.safetensors", &shard("b"));
    index(r#"{"a":"one.safetensors","b":"two.safetensors"}"#);
    assert_eq!(open().unwrap(), ["a", "b"]);
    let wrong = Weights::open(folder.path()).unwrap().get(2, "b").unwrap_err().to_string();
    assert!(wrong.contains("two.safetensors: tensor `b` has shape [1], expected [2]"), "{wrong}");

    index(r#"{"a":"one.safetensors","c":"two.safetensors"}"#);
    assert!(open().unwrap_err().to_string().ends_with("two.safetensors: no tensor `c`"));
    index(r#"{"a":"../one.safetensors"}"#);
    assert!(
        open()
            .unwrap_err()
            .to_string()
            .contains("weight_map: `a`: is `../one.safetensors`, expected the plain name")
    );
    index(r#"{"b":"two.safetensors"}"#);
    write("two.safetensors", &file(GOOD, &[0; 20]));
    assert_eq!(open().unwrap(), ["a", "b", "c", "ids"]);
    index(r#"{"b":7}"#);
    assert!(open().unwrap_err().to_string().contains("index.json: index: invalid type: integer `7`"));
}

/// Reads with both implementations. What we accept, the reference crate must accept with the same shapes; what it accepts
/// beyond that must be a dtype that we do not know.
fn compare(bytes: Vec<u8>) {
    let reference = safetensors::SafeTensors::deserialize(&bytes).map(|tensors| {
        let mut shapes: Vec<_> =
            tensors.tensors().into_iter().map(|(name, view)| (name, view.shape().to_vec())).collect();
        shapes.sort();
        shapes
    });
    match read(bytes.clone()) {
        Ok(ours) => {
            let shapes: Vec<_> = ours
                .names()
                .into_iter()
                .map(|name| (name.clone(), ours.shape(&name).unwrap().into_dims()))
                .collect();
            for name in ours.names() {
                _ = ours.read(&name);
            }
            assert_eq!(reference.unwrap(), shapes);
        }
        Err(WeightsError::Unsupported { .. }) => {}
        Err(error) => {
            // It lets later duplicates win.
            let duplicate = error.to_string().contains("is given twice");
            assert!(duplicate || reference.is_err(), "only we refuse: {error}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn random_bytes_never_panic(length in 0u64..64, tail in proptest::collection::vec(any::<u8>(), 0..96)) {
        compare([&length.to_le_bytes()[..], &tail].concat());
    }

    #[test]
    fn mutated_files_are_judged_as_the_reference_crate_judges(
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>(), any::<bool>()), 1..6),
    ) {
        let mut bytes = file(GOOD, &[0; 20]);
        for (at, value, digit) in changes {
            // Digits keep the header a header more often than bytes do.
            let at = at.index(bytes.len());
            bytes[at] = if digit { b'0' + value % 10 } else { value };
        }
        compare(bytes);
    }
}
