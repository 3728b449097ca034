//! Published weights, in the folder that `scripts/fetch-test-weights.sh` fills and `FOVEATE_TEST_WEIGHTS` names.

use std::io::Write as _;
use std::path::{Path, PathBuf};

pub(crate) const SMOLLM2: &str = "SmolLM2-135M-Instruct.Q4_1.gguf";
pub(crate) const DINOV2: &str = "vit_s_focus.onnx";

/// The published file, or `None` after saying on the terminal that `test` is skipped. A folder without the file is a
/// mistake, and not a machine without the weights: the test fails.
pub(crate) fn published(test: &str, file: &str) -> Option<PathBuf> {
    const FOLDER: &str = "FOVEATE_TEST_WEIGHTS";
    let Some(folder) = std::env::var_os(FOLDER) else {
        // Not `eprintln!`, which the test runner hides when a test passes.
        let reason = format!("{FOLDER} is not set; run scripts/fetch-test-weights.sh");
        _ = writeln!(std::io::stderr(), "SKIPPED {test}: {reason}");
        return None;
    };
    let path = Path::new(&folder).join(file);
    assert!(path.is_file(), "{} does not exist; run scripts/fetch-test-weights.sh", path.display());
    Some(path)
}
