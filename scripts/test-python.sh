#!/bin/sh
# test-python.sh [REQUIREMENTS NAME]
#
# Prints the path of a Python that has the packages of REQUIREMENTS (default: tests/onnx/requirements.txt, which ONNX Runtime
# must be among). Makes it (a virtual environment called NAME, default test-python, under the target folder) where there is
# none yet; REPQUANT_PYTHON names another one. Needs Python 3.11 or newer.
set -eu
cd "$(dirname "$0")/.."

if [ -n "${REPQUANT_PYTHON:-}" ]; then
    echo "$REPQUANT_PYTHON"
    exit 0
fi
wanted=${1:-tests/onnx/requirements.txt}
folder=${CARGO_TARGET_DIR:-target}/${2:-test-python}
case "$folder" in /*) ;; *) folder=$PWD/$folder ;; esac

if cmp -s "$wanted" "$folder/requirements.txt" && "$folder/bin/python" -c "import onnx, onnxruntime" 2>/dev/null; then
    echo "$folder/bin/python"
    exit 0
fi

fail() {
    for line in "$@"; do echo "$line" >&2; done
    echo "Without ONNX Runtime there are: cargo test, cargo bench" >&2
    exit 1
}

# The first one that is new enough: systems keep newer ones under their own names.
find_python() {
    for python in python3 python3.14 python3.13 python3.12 python3.11; do
        if "$python" -c "import sys; sys.exit(sys.version_info < (3, 11))" 2>/dev/null; then
            echo "$python"
            return 0
        fi
    done
    return 1
}

make_environment() {
    rm -rf "$folder"
    mkdir -p "$(dirname "$folder")"
    python=$(find_python) && "$python" -m venv "$folder" >"$folder.log" 2>&1
}

if ! make_environment; then
    # Debian and Ubuntu keep venv in a package of its own.
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
        echo "No Python 3.11 with venv was found; installing python3-venv (apt-get)" >&2
        { apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends python3-venv; } >&2 ||
            fail "python3-venv could not be installed."
    fi
    make_environment || fail "ONNX Runtime needs Python 3.11 or newer with venv (Debian, Ubuntu: python3-venv)." \
        "$(cat "$folder.log" 2>/dev/null || true)"
fi
echo "Installing the packages of $wanted into $folder" >&2
"$folder/bin/python" -m pip --disable-pip-version-check install --quiet --only-binary :all: -r "$wanted" >&2 ||
    fail "The packages of $wanted could not be installed."
cp "$wanted" "$folder/requirements.txt"
echo "$folder/bin/python"
