# make demo   build, and run the whole pipeline on an embedded network and drawn images
# make test   make sure that a Vulkan driver and ONNX Runtime are there, build, run every test
# make test-reference   every combination of options on the trained models of REPQUANT_TEST_DATA, of which make test tries a few
# make check  formatting, lints, docs
# make test-networks   fetch and export networks that others made (gigabytes of torch), and try each: docs/networks.md
# make bench  every bench, and the comparison with ONNX Runtime: see benches/README.md

.PHONY: demo test test-reference test-networks check bench

demo:
	cargo run --release -- demo

# The first line sees to it that there is an adapter, so a test that finds none fails instead of being skipped; the second
# that there is a Python with ONNX Runtime. The kernels run twice: as shipped, and with the runtime's bounds checks on.
test:
	./scripts/ensure-vulkan.sh
	python=$$(./scripts/test-python.sh) && REPQUANT_PYTHON=$$python REPQUANT_REQUIRE_ADAPTER=1 cargo test
	REPQUANT_REQUIRE_ADAPTER=1 REPQUANT_SHADER_CHECKS=1 cargo test --lib kernels_agree_with_their_twins

test-reference:
	test -n "$$REPQUANT_TEST_DATA"
	python=$$(./scripts/test-python.sh) && REPQUANT_PYTHON=$$python REPQUANT_THOROUGH=1 \
		cargo test --release --test main --test onnx -- accuracy:: reference_models:: --nocapture

# Into NETWORKS; what is there already is not made again. REPQUANT_TEST_DATA names a folder with photographs in data/photos.
NETWORKS ?= target/networks
test-networks:
	python=$$(./scripts/test-python.sh tests/networks/requirements.txt networks-python) && $$python tests/networks/networks.py $(NETWORKS)
	python=$$(./scripts/test-python.sh) && REPQUANT_PYTHON=$$python REPQUANT_NETWORKS=$(abspath $(NETWORKS)) \
		cargo test --release --test onnx networks_of_others -- --nocapture

check:
	cargo fmt --check
	cargo clippy --all-targets -- -D warnings
	cargo clippy --no-default-features --lib -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --no-deps --quiet

bench:
	./scripts/bench.sh
