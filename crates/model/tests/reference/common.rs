//! Reading a fixture and comparing with it.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};

/// Max-abs on logits and hidden states, as the fixtures' metadata says.
pub(crate) const TOLERANCE: f32 = 1e-4;

pub(crate) fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/models").join(name)
}

/// The inputs and outputs of a fixture.
pub(crate) struct Expected(HashMap<String, Tensor>);

impl Expected {
    pub(crate) fn of(name: &str) -> Self {
        Self::read(&folder(name).join("expected.safetensors"))
    }

    pub(crate) fn read(path: &Path) -> Self {
        Self(candle_core::safetensors::load(path, &Device::Cpu).unwrap())
    }

    pub(crate) fn contains(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    pub(crate) fn get(&self, name: &str) -> &Tensor {
        self.0.get(name).unwrap_or_else(|| panic!("the fixture has no {name}"))
    }

    pub(crate) fn ids(&self, name: &str) -> Vec<u32> {
        self.get(name).to_dtype(DType::U32).unwrap().flatten_all().unwrap().to_vec1().unwrap()
    }

    /// Asserts that `found` lies within the tolerance of the output `name`.
    #[track_caller]
    pub(crate) fn assert_close(&self, name: &str, found: &Tensor) {
        let apart = apart(found, self.get(name));
        assert!(apart < TOLERANCE, "{name}: {apart} apart");
    }
}

/// The largest difference; NaN counts as infinite.
#[track_caller]
pub(crate) fn apart(a: &Tensor, b: &Tensor) -> f32 {
    assert_eq!(a.dims(), b.dims());
    let values = (a - b).unwrap().abs().unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
    values.into_iter().fold(0.0, |most, value| if value.is_nan() { f32::INFINITY } else { most.max(value) })
}

/// The tensors of a checkpoint, however many shards it has.
pub(crate) fn tensors(name: &str) -> HashMap<String, Tensor> {
    let mut tensors = HashMap::new();
    for file in std::fs::read_dir(folder(name)).unwrap() {
        let path = file.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if name.starts_with("model") && name.ends_with(".safetensors") {
            tensors.extend(candle_core::safetensors::load(&path, &Device::Cpu).unwrap());
        }
    }
    tensors
}

pub(crate) fn config(name: &str) -> String {
    std::fs::read_to_string(folder(name).join("config.json")).unwrap()
}
