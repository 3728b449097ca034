//! One step: the same for any number of threads and any cut into parts, and none of it in name only.

use std::collections::BTreeMap;
use std::sync::Arc;

use candle_core::Tensor;
use foveate_train::feed::{Feed, FeedState, Prepared};
use foveate_train::gradients::check;
use foveate_train::recipe::{Group, Recipe};
use foveate_train::student::Student;
use foveate_train::trainer::{Computed, Kept, gradients};

use crate::halves;

fn computed(recipe: &Recipe, student: &Student, threads: usize) -> (Prepared, Computed) {
    let groups: Vec<Group> = recipe.stages[0].rates.keys().copied().collect();
    let vlm = student.vlm(&groups).unwrap();
    let mut feed = Feed::new(Arc::new(recipe.clone()), student, FeedState::new()).unwrap();
    let prepared = feed.prepare(0).unwrap();
    let visual = vec![1; prepared.parts.len()];
    let computed =
        gradients(&vlm, student.parameters(), Kept::default(), &prepared.parts, &visual, threads).unwrap();
    (prepared, computed)
}

fn values(gradients: &BTreeMap<String, Tensor>) -> BTreeMap<&str, Vec<f32>> {
    let values = |tensor: &Tensor| tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    gradients.iter().map(|(name, gradient)| (name.as_str(), values(gradient))).collect()
}

#[test]
fn threads_change_no_bit() {
    let folder = tempfile::tempdir().unwrap();
    let recipe = halves::recipe(folder.path(), &["stages.0.accumulation=4"]);
    let student = halves::student(&recipe);
    let one = computed(&recipe, &student, 1).1;
    for threads in [2, 3, 16] {
        let other = computed(&recipe, &student, threads).1;
        assert_eq!(one.loss.to_bits(), other.loss.to_bits());
        assert_eq!(values(&one.gradients), values(&other.gradients));
    }
}

#[test]
fn parts_add_up_to_the_whole() {
    let folder = tempfile::tempdir().unwrap();
    let whole = halves::recipe(folder.path(), &["stages.0.accumulation=1"]);
    let student = halves::student(&whole);
    let (_, one) = computed(&whole, &student, 1);
    for accumulation in [2, 8] {
        let cut = format!("stages.0.accumulation={accumulation}");
        let cut = halves::recipe(folder.path(), &[&cut]);
        let (prepared, parts) = computed(&cut, &student, 1);
        assert_eq!(prepared.parts.len(), accumulation);
        assert!((one.loss - parts.loss).abs() < 1e-5, "{} {}", one.loss, parts.loss);
        let parts = values(&parts.gradients);
        for (name, gradient) in values(&one.gradients) {
            let apart = gradient.iter().zip(&parts[name]);
            let apart = apart.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(apart < 1e-5, "{name}: {apart}");
        }
    }
}

#[test]
fn groups_without_a_rate_are_frozen() {
    let folder = tempfile::tempdir().unwrap();
    let recipe = halves::recipe(folder.path(), &["stages.0.rates={ compressor = 1e-3, projector = 1e-3 }"]);
    let student = halves::student(&recipe);
    let (_, computed) = computed(&recipe, &student, 1);
    assert!(
        computed
            .gradients
            .keys()
            .all(|name| name.starts_with("compressor.") || name.starts_with("multi_modal_projector."))
    );
    assert!(student.parameters().values().all(|parameter| parameter.group != Group::Language));
    let largest = check(&recipe, &student).unwrap();
    assert!(largest.len() >= 15, "{largest:?}");
}

#[test]
fn every_trained_tensor_has_a_gradient_with_adapters_as_well() {
    let folder = tempfile::tempdir().unwrap();
    let recipe = halves::recipe(folder.path(), &[]);
    check(&recipe, &halves::student(&recipe)).unwrap();
    let adapted = [
        "lora.rank=2",
        "lora.alpha=4.0",
        "lora.projections=['query', 'value', 'down']",
        "stages.0.rates={ adapters = 1e-3, projector = 1e-3 }",
    ];
    let recipe = halves::recipe(folder.path(), &adapted);
    let largest = check(&recipe, &halves::student(&recipe)).unwrap();
    assert_eq!(largest.keys().filter(|name| name.contains("lora_")).count(), 2 * 2 * 3);
    assert!(!largest.keys().any(|name| name.ends_with("q_proj.weight") && name.starts_with("language")));
}

#[test]
fn a_tensor_without_a_gradient_is_named() {
    // QueCC reads state 1 alone, so that the second block of the tower has no use.
    let folder = tempfile::tempdir().unwrap();
    let recipe =
        halves::recipe(folder.path(), &["parts.compressor.states=[1]", "parts.compressor.query_state=1"]);
    let error = check(&recipe, &halves::student(&recipe)).unwrap_err().to_string();
    assert!(error.contains("encoder.layers.1.mlp.fc1.weight (none)"), "{error}");
    assert!(!error.contains("encoder.layers.0"), "{error}");
}
