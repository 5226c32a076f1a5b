#!/usr/bin/env bash
# Trains every model that ships from nothing, in the order in which they need each other, and measures them as their cards
# say: hours of one GPU, or two days of two cores with --set compile=true. Started again, it goes on where it was stopped.
#
#   checkpoints/train.sh [--set KEY=VALUE]...      in a folder that holds EuroSAT_RGB.zip, see docs/training.md
#
# The models are then in var/runs/NAME/model, and their figures in var/evaluation/NAME; checkpoints/ does not change.
set -euo pipefail
changes=("$@")

train() { difuso train "$1" "${changes[@]}" "${@:2}"; }
evaluate() { # MEASURE NAME ARGUMENT...
  difuso evaluate "$1" --model model --models-dir "var/runs/$2" --out "var/evaluation/$2" "${@:3}"
}
quality() { evaluate quality "$1" --reference "$2" --images 500 --half reporting "${@:3}"; }
conditions() { difuso evaluate conditions model --models-dir "var/runs/$1" --data faces64 --images 1200; }

train faces64
train faces64-distilled
quality faces64-distilled faces64 --references 2000 dpmpp:10 plan:fast
conditions faces64-distilled

drawn_by=var/runs/faces64-distilled/model
train faces64-live --set init=$drawn_by --set data.path=$drawn_by
quality faces64-live faces64 --references 2000 plan:live
conditions faces64-live

train faces64to128

clothes=var/runs/fashion32/model
train fashion32
quality fashion32 fashion32 --references 2000 unipc:12 plan:fast
evaluate neighbours fashion32 --training fashion32
train fashion32-classifier --set guides=$clothes

train satellite64
train satellite64-distilled
quality satellite64-distilled satellite64 unipc:10 plan:fast
evaluate neighbours satellite64-distilled --training satellite64
