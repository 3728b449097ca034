#!/usr/bin/env bash
# Fetches the published data that recipes/foveate-135m.toml learns from and is measured on into ./data: easy-VQA (MIT, from
# PyPI) and the emoji drawings of Google (Apache-2.0) and Twitter (CC BY 4.0) (npm). NLVR has no package: its zip is
# copied from the path in FOVEATE_NLVR, where that is set. What is there already stays.
set -euo pipefail
mkdir -p data
parts=$(mktemp -d)
trap 'rm -rf "$parts"' EXIT

if [[ ! -s data/easy-vqa.whl ]]; then
    python3 -m pip download --quiet --no-deps --only-binary :all: --dest "$parts" easy-vqa==1.0
    mv "$parts"/easy_vqa-*.whl data/easy-vqa.whl
fi
for set in google twitter; do
    [[ -s data/emoji-$set/emoji.json ]] && continue
    (cd "$parts" && npm pack --silent "emoji-datasource-$set@16.0.0" > /dev/null)
    tar -xzf "$parts/emoji-datasource-$set-16.0.0.tgz" -C "$parts" \
        package/emoji.json "package/img/$set/sheets/64.png"
    # Renamed as a whole: an interrupted run leaves no half folder under the final name.
    mv "$parts/package" "data/emoji-$set"
done
if [[ -n ${FOVEATE_NLVR:-} && ! -s data/nlvr.zip ]]; then
    cp "$FOVEATE_NLVR" data/.nlvr.part && mv data/.nlvr.part data/nlvr.zip
fi
ls -d data/*
