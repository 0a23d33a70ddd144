#!/bin/sh
# Runs every bench: all of them on the Cpu device, the shorter ones on an adapter (a GPU where there is one, else software
# Vulkan), then the comparison with ONNX Runtime (and PyTorch on CUDA machines). Prints tables in Markdown and leaves them
# all in bench-tables.md of the target folder, with the machine, drivers, commands and date: what benches/README.md holds.
set -eu
cd "$(dirname "$0")/.."

target=${CARGO_TARGET_DIR:-target}
case "$target" in /*) ;; *) target=$PWD/$target ;; esac
tables=$target/bench-tables.md
sections=$target/bench-sections.md
targets=$target/bench-targets.md

cargo build --release --bin repquant --example forward --example draw_images
benches="--bench peaks --bench kernels --bench networks --bench stages"
# shellcheck disable=SC2086
cargo bench --no-run $benches
python=$(./scripts/test-python.sh benches/peers/requirements.txt bench-python)

# The first line of a file that starts with this, without it.
field() { sed -n "s/^$1[[:space:]]*:[[:space:]]*//p" "$2" 2>/dev/null | head -n 1; }

processor=$(field 'model name' /proc/cpuinfo)
[ -n "$processor" ] || processor=$(sysctl -n machdep.cpu.brand_string 2>/dev/null || uname -m)
memory=$(awk '/^MemTotal/ { printf "%.0f GiB", $2 / 1048576 }' /proc/meminfo 2>/dev/null || true)
cores=$(getconf _NPROCESSORS_ONLN)
data="none: drawn images, random weights"
[ -z "${REPQUANT_TEST_DATA:-}" ] || data="reference data"

{
    echo "Made by \`make bench\` on $(date -u +%Y-%m-%d), revision $(git describe --always --dirty 2>/dev/null || echo unknown)."
    echo
    echo "| | |"
    echo "| --- | --- |"
    echo "| machine | $processor, $cores cores${memory:+, $memory}, $(uname -sm) |"
    "$target/release/repquant" devices --json | "$python" -c '
import json, sys
for adapter in json.load(sys.stdin)["adapters"]:
    print("| adapter |", adapter["name"] + ",", adapter["backend"] + ",", adapter["driver"], "|")'
    echo "| compiler | $(rustc --version) |"
    echo "| peer | ONNX Runtime $("$python" -c 'import onnxruntime; print(onnxruntime.__version__)') |"
    echo "| \`REPQUANT_TEST_DATA\` | $data |"
    echo "| load before | $(uptime | sed 's/.*load average[s]*: //') |"
} >"$tables"

: >"$sections"
: >"$targets"
section() { printf '\n### %s\n' "$1" >>"$sections"; }
export REPQUANT_BENCH_TABLES="$sections" REPQUANT_BENCH_TARGETS="$targets"

section "Cpu device: \`cargo bench\`"
# shellcheck disable=SC2086
REPQUANT_BENCH_DEVICE=cpu cargo bench $benches
section "Adapter: \`REPQUANT_BENCH_DEVICE=adapter cargo bench\`"
# shellcheck disable=SC2086
REPQUANT_BENCH_DEVICE=adapter cargo bench $benches
section "Peers: \`benches/peers/compare.py\`"
"$python" benches/peers/compare.py --bin "$target/release"

{
    printf '\n### Figures that have a target\n\n| what | where | target | measured | met |\n| --- | --- | ---: | ---: | --- |\n'
    cat "$targets" "$sections"
} >>"$tables"
rm -f "$targets" "$sections"
echo "All tables are in $tables."
